"""`Sandbox`: a child process that reads patients' files, seen from the process that uses it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from typing import Any, BinaryIO

from lungct.dicom.discovery import find_files
from lungct.dicom.options import NO_OPTIONS, SeriesOptions
from lungct.errors import KilledError, LungCTError, SeriesError
from lungct.sandbox.messages import Answer, Location, Ready, Request, frame, read_frame, read_reply, write_frame
from lungct.sandbox.preparing import Prepared, prepare, read_prepared

# Private memory of the child. A series of 1,000 slices needs a quarter of it.
MEMORY_BYTES = 1792 << 20
# Time for one patient: what a slow disk and a busy machine take for a small one, and a share for each MiB of its files.
# What costs the most time per byte is JPEG 2000 with loss: 20 ms on a free core for a slice of 50 KiB, that is 0.4 s
# per MiB. The rest of the share is for cores that ten processes want, and for disks that deliver less than 1 MiB/s.
# Deflated files may be short and hold much, but what they are inflated to is limited, and the base covers it.
BASE_SECONDS = 120.0
SECONDS_PER_MIB = 4.0
# A file counts as at least this long: opening one on a network takes as long as reading this much of another.
_LEAST_FILE_BYTES = 4 << 10
# Time for importing the readers on a machine whose cores are all busy.
START_SECONDS = 120.0
START_TRIES = 3
# Attempts at one patient: whose decoder crashes or exceeds its time, and whose process is killed from outside.
CRASHES = 2
KILLS = 3
# Pauses after the first and the second kill, in which other processes may release the memory that was missing.
KILL_PAUSES_S = (1.0, 4.0)
MORE_MEMORY = "give the machine more memory, or lungct fewer of its cores (taskset)"
"""What to do about killed processes: each core decodes one patient at a time."""
# Signals that a process raises by its own doing; any other is sent to it by somebody else.
_OWN_SIGNALS = frozenset(
    {
        *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE),
        *(signal.SIGILL, signal.SIGTRAP, signal.SIGSYS),
    }
)


class Sandbox:
    """One child process, kept from patient to patient; to be used from one thread at a time.

    The child has a limit on its memory (RLIMIT_DATA) and on the time that a patient may take. If it crashes or exceeds
    its time, a new one tries the patient once more; if that fails, too, it is the patient's `SeriesError`. If it is
    killed from outside, the patient is tried three times; then it is a `KilledError`.

    Parameters
    ----------
    memory_bytes
        Limit on the child's private memory.
    base_seconds, seconds_per_mib
        Limit on the time that a patient may take: the base, and a share for each MiB of its files.

    """

    def __init__(
        self,
        *,
        memory_bytes: int = MEMORY_BYTES,
        base_seconds: float = BASE_SECONDS,
        seconds_per_mib: float = SECONDS_PER_MIB,
    ) -> None:
        self._memory = memory_bytes
        self._base, self._per_mib = base_seconds, seconds_per_mib
        self._child: subprocess.Popen[bytes] | None = None
        self._replies: BinaryIO | None = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id; None if no child is ready."""
        child = self._child
        return None if child is None else child.pid

    def prepare(
        self,
        location: Location,
        preset: str,
        options: SeriesOptions = NO_OPTIONS,
        *,
        archive: str | None = None,
    ) -> Prepared:
        """Read a patient's series and prepare its triplets, in the child.

        Parameters
        ----------
        location
            The patient's directory or volume file, or a list of the patient's files.
        preset
            One of `lungct.preprocess.PRESETS`.
        options
            What the user says about which series is the scan.
        archive
            The directory in which other patients are; None: the one above the patient's.

        Raises
        ------
        LungCTError
            As `call`.

        """
        answer = self.call(prepare, location, preset=preset, options=options.as_dict(), archive=archive)
        return read_prepared(*answer)

    def call(
        self, function: Callable[..., Answer], location: Location, **arguments: Any
    ) -> tuple[dict[str, Any], bytearray]:
        """Call a function on a patient's files, in the child.

        Parameters
        ----------
        function
            A function at the top level of one of lungct's modules.
        location
            Its first argument: the patient's directory or single file, or a list of the patient's files.
        **arguments
            Its other arguments: what JSON can write.

        Returns
        -------
        text
            The answer's text.
        arrays
            The bytes of the answer's arrays, one after another. A hostile file may have written all of this: check it.

        Raises
        ------
        SeriesError
            If the patient's files contain no usable series, or the child crashed or exceeded its time twice.
        StorageError
            If the files cannot be read.
        UsageError
            If the directory does not exist.
        KilledError
            If the child was killed three times.
        LungCTError
            If the child does not start; then the installation is at fault.

        """
        names = location if isinstance(location, str) else list(location)
        request = Request(f"{function.__module__}:{function.__name__}", names, arguments)
        crashes = kills = 0
        while True:
            try:
                return self._attempt(request)
            except _CrashError as crash:
                self.close()
                crashes += 1
                if crashes == CRASHES:
                    raise SeriesError(f"{crash}, twice", code=crash.code) from None
            except _KillError:
                self.close()
                kills += 1
                if kills == KILLS:
                    raise _killed_error() from None
                time.sleep(KILL_PAUSES_S[kills - 1])

    def start(self) -> None:
        """Start the child, unless it is running.

        Raises
        ------
        KilledError
            If the child was killed each time before it was ready.
        LungCTError
            If the child does not start.

        """
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        kills = 0
        for _ in range(START_TRIES):
            child = self._spawn()
            problem = self._await_ready(child)
            if problem is None:
                self._child = child
                return
            kills += _was_killed(child.poll())
            self._end(child)
        if kills == START_TRIES:
            raise _killed_error()
        raise LungCTError(f"the decoding process did not start ({problem})")

    def close(self) -> None:
        """End the child, even in the middle of a patient."""
        child, self._child = self._child, None
        if child is not None:
            self._end(child)

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        if self._replies is not None:
            self._replies.close()
            self._replies = None
        child.kill()
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()
        child.wait()

    def _attempt(self, request: Request) -> tuple[dict[str, Any], bytearray]:
        self.start()
        child = self._child
        assert child is not None
        assert child.stdin is not None
        allowance = _Allowance(self._base, self._per_mib, request.location)
        try:
            write_frame(child.stdin.fileno(), frame(asdict(request)))
            text, arrays = read_frame(lambda length: self._receive(length, allowance))
        except (BrokenPipeError, EOFError):
            status = child.wait()
            if _was_killed(status):
                raise _KillError from None
            raise _CrashError(f"the process that decoded the files {_end_text(status)}", "undecodable") from None
        except TimeoutError:
            limit = f"{self._base:g} s and {self._per_mib:g} s per MiB"
            raise _CrashError(f"reading the files took more than {limit}", "limits") from None
        return read_reply(text), bytearray(arrays)

    def _spawn(self) -> subprocess.Popen[bytes]:
        here, there = os.pipe()
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        numbers = (there, self._memory, os.getpid())
        try:
            # The child's output is discarded, because warnings of readers may quote what files contain about a person.
            child = subprocess.Popen(
                [sys.executable, "-m", "lungct.sandbox.child", *map(str, numbers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("LUNGCT_DEBUG") else subprocess.DEVNULL,
                pass_fds=(there,),
                env=environment,
            )
        except OSError as error:
            os.close(here)
            raise LungCTError(f"the decoding process cannot be started ({error.strerror})") from error
        finally:
            os.close(there)
        self._replies = os.fdopen(here, "rb", buffering=0)
        return child

    def _await_ready(self, child: subprocess.Popen[bytes]) -> str | None:
        """Wait until the child has imported what it needs; return why it has not, which is no patient's fault."""
        allowance = _Allowance(START_SECONDS)
        try:
            text, _ = read_frame(lambda length: self._receive(length, allowance))
        except EOFError:
            return f"it {_end_text(child.wait())}"
        except TimeoutError:
            return f"it did not respond within {START_SECONDS:g} s"
        return Ready(**text).problem

    def _receive(self, length: int, allowance: _Allowance) -> bytearray:
        """Receive ``length`` bytes from the child; raise TimeoutError when the time is over, EOFError if the child has
        ended."""
        assert self._replies is not None
        data = bytearray(length)
        view, have = memoryview(data), 0
        while have < length:
            left = allowance.seconds_left()
            if left <= 0:
                raise TimeoutError
            if not select.select([self._replies], [], [], left)[0]:
                continue
            received = os.readv(self._replies.fileno(), [view[have:]])
            if received == 0:
                raise EOFError
            have += received
        return data


@cache
def process_sandbox() -> Sandbox:
    """Return the sandbox of this process, a Ray worker, whose child outlives the task."""
    return Sandbox()


class _Allowance:
    """Time that the child may take: a base and, once that is used up, a share for each MiB of a patient's files."""

    def __init__(self, base: float, per_mib: float = 0.0, location: Location = ()) -> None:
        self._end = time.monotonic() + base
        self._per_mib, self._location = per_mib, location
        self._extended = False

    def seconds_left(self) -> float:
        """Return how much is left."""
        left = self._end - time.monotonic()
        if left <= 0 and not self._extended:
            self._extended = True
            self._end += self._per_mib * _counted_bytes(self._location) / 2**20
            left = self._end - time.monotonic()
        return left


class _CrashError(Exception):
    """The child ended by its own doing, or exceeded its time."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


class _KillError(Exception):
    """The child was killed from outside."""


def _killed_error() -> KilledError:
    return KilledError(f"the process that decoded the files was killed {KILLS} times (out of memory?)", fix=MORE_MEMORY)


def _was_killed(status: int | None) -> bool:
    """Return whether a process was ended by a signal that somebody else sent; None: it is still running."""
    return status is not None and status < 0 and -status not in _OWN_SIGNALS


def _end_text(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _counted_bytes(location: Location) -> int:
    """Return the length of a patient's files, each counted as `_LEAST_FILE_BYTES` or longer."""
    files = location
    if isinstance(location, str):
        try:
            files = find_files(location).files
        except LungCTError:
            return 0
    total = 0
    for name in files:
        with contextlib.suppress(OSError):
            total += max(os.path.getsize(name), _LEAST_FILE_BYTES)
    return total
