"""`Sandbox`: a child process that prepares patients, seen from the process that uses it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import BinaryIO

from lungct.dicom.options import NO_OPTIONS, SeriesOptions
from lungct.errors import LungCTError, SeriesError
from lungct.sandbox.messages import Prepared, Ready, Request, frame, read_answer, read_frame, write_frame

# Private memory of the child. A series of 1,000 slices needs a quarter of it.
MEMORY_BYTES = 1792 << 20
# Time for one patient: what a slow disk and a busy machine take for a small one, and a share for each file (JPEG 2000
# decodes at 20 ms per slice on a free core). Of a file with many images, each `_BYTES_PER_SHARE` count as a file.
BASE_SECONDS = 120.0
SECONDS_PER_FILE = 0.5
_BYTES_PER_SHARE = 256 << 10
# Time for importing the readers on a machine whose cores are all busy.
START_SECONDS = 120.0
START_TRIES = 3


class Sandbox:
    """One child process, kept from patient to patient; to be used from one thread at a time.

    The child has a limit on its memory (RLIMIT_DATA) and on the time that a patient may take. If it dies or exceeds its
    time, a new one tries the patient once more; if that fails, too, it is the patient's `SeriesError`.

    Parameters
    ----------
    memory_bytes
        Limit on the child's private memory.
    base_seconds, seconds_per_file
        Limit on the time that a patient may take: the base, and a share for each of its files.

    """

    def __init__(
        self,
        *,
        memory_bytes: int = MEMORY_BYTES,
        base_seconds: float = BASE_SECONDS,
        seconds_per_file: float = SECONDS_PER_FILE,
    ) -> None:
        self._memory = memory_bytes
        self._base, self._per_file = base_seconds, seconds_per_file
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
        location: str | Sequence[str],
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
            What a person says about which series is the scan.
        archive
            The directory in which other patients are, as for `lungct.dicom.series_choices`.

        Raises
        ------
        SeriesError
            If the patient's files contain no usable series, or the child died or exceeded its time twice.
        StorageError
            If the files cannot be read.
        LungCTError
            If the child does not start; then the installation is at fault.

        """
        single = isinstance(location, str)
        names = [location] if isinstance(location, str) else list(location)
        request = Request(names, single, preset, options.as_dict(), archive)
        try:
            return self._attempt(request)
        except _ChildLostError:
            self.close()
        try:
            return self._attempt(request)
        except _ChildLostError as lost:
            self.close()
            raise SeriesError(f"{lost}, twice", code=lost.code) from None

    def start(self) -> None:
        """Start the child, unless it is running.

        Raises
        ------
        LungCTError
            If the child does not start.

        """
        if self._child is not None and self._child.poll() is None:
            return
        self.close()
        for _ in range(START_TRIES):  # the system may kill a child for lack of memory
            child = self._spawn()
            problem = self._await_ready()
            if problem is None:
                self._child = child
                return
            self._end(child)
        raise LungCTError(f"the decoding process does not start ({problem})")

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

    def _attempt(self, request: Request) -> Prepared:
        self.start()
        child = self._child
        assert child is not None
        assert child.stdin is not None
        deadline = time.monotonic() + self._base + self._per_file * _count_files(request.names)
        try:
            write_frame(child.stdin.fileno(), frame(asdict(request)))
            text, arrays = read_frame(partial(self._receive, deadline=deadline))
        except (BrokenPipeError, EOFError):
            raise _ChildLostError(
                f"the process that decoded the files {_end_text(child.wait())}", "undecodable"
            ) from None
        except TimeoutError:
            limit = f"{self._base:g} s and {self._per_file:g} s for each file"
            raise _ChildLostError(f"decoding the files exceeded its time ({limit})", "limits") from None
        return read_answer(text, arrays)

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

    def _await_ready(self) -> str | None:
        """Wait until the child has imported what it needs; return why it has not, which is no patient's fault."""
        try:
            text, _ = read_frame(partial(self._receive, deadline=time.monotonic() + START_SECONDS))
        except EOFError:
            return "it ended at once"
        except TimeoutError:
            return f"it did not respond within {START_SECONDS:g} s"
        return Ready(**text).problem

    def _receive(self, length: int, *, deadline: float) -> bytearray:
        """Receive ``length`` bytes from the child; raise TimeoutError at the deadline, EOFError if the child has
        ended."""
        assert self._replies is not None
        data = bytearray(length)
        view, have = memoryview(data), 0
        while have < length:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._replies], [], [], left)[0]:
                raise TimeoutError
            received = os.readv(self._replies.fileno(), [view[have:]])
            if received == 0:
                raise EOFError
            have += received
        return data


class _ChildLostError(Exception):
    """The child ended, or did not answer in time."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


def _end_text(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _count_files(names: Sequence[str]) -> int:
    """Return the number of files that a patient's time limit counts."""
    count = 0
    for name in names:
        if os.path.isdir(name):
            count += sum(len(files) for _, _, files in os.walk(name))
        else:
            with contextlib.suppress(OSError):
                count += 1 + os.path.getsize(name) // _BYTES_PER_SHARE
    return count
