"""A child process that decodes strangers' bytes, so that a decoder's death is one patient's error and nobody else's.

`Sandbox.prepare` sends a patient's location to the child and gets the patient's triplets back. The child lives on from
patient to patient, under a limit on its memory (RLIMIT_DATA) and on the time that one patient may take. One that dies
or runs past its time is started anew and the patient tried once more, alone; then it is a `SeriesError`. Without
this, Ray would start a task that kills its process again and again, for ever.

The two speak over pipes, in frames of JSON and raw arrays: nothing that the child says is ever unpickled, because a
decoder that was taken over by a hostile file must not take its parent too. ``python -m lungct.sandbox`` is the child.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lungct.dicom.scan import Scan
from lungct.errors import LungCTError, SeriesError, StorageError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Private memory that one patient may take in the child. A 1,000-slice series needs a quarter of it.
MEMORY_BYTES = 1792 << 20
# A patient's time: what a slow disk and a busy machine take for a small one, and a share for each file (JPEG 2000
# decodes at 20 ms a slice on a free core). DICOM volumes in one file are allowed their size below.
BASE_SECONDS = 120.0
SECONDS_PER_FILE = 0.5
# Importing the readers on a machine whose cores are all taken.
START_SECONDS = 120.0
START_TRIES = 3

_HEADER = struct.Struct("<QQ")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Prepared:
    """A patient ready for the network.

    Attributes
    ----------
    pixels
        uint8 (T, 3, 224, 224).
    positions_mm
        float64 (T,).
    scan
        What is known of the scan.

    """

    pixels: NDArray[np.uint8]
    positions_mm: NDArray[np.float64]
    scan: Scan


class Sandbox:
    """One child process, kept from patient to patient; use it from one thread at a time.

    Parameters
    ----------
    memory_bytes
        The child's limit on private memory.
    base_seconds, seconds_per_file
        The time that a patient may take: the base and a share for each of its files.

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

    def prepare(self, location: str | Sequence[str], preset: str) -> Prepared:
        """Read a patient's series and prepare its triplets, in the child.

        Parameters
        ----------
        location
            The patient's directory or volume file, or a list of its files.
        preset
            One of `lungct.preprocess.PRESETS`.

        Raises
        ------
        SeriesError
            If the patient's bytes give no series; also if decoding them dies or runs past its time twice.
        StorageError
            If they cannot be read.
        LungCTError
            If the child does not start: an installation's fault.

        """
        names = [location] if isinstance(location, str) else list(location)
        for last in (False, True):
            try:
                return self._attempt(names, isinstance(location, str), preset)
            except _Died as death:
                self.close()
                if last:
                    raise SeriesError(death.sentence, code=death.code) from None
        raise AssertionError("the second attempt returns or raises")

    def close(self) -> None:
        """End the child, whatever it is doing."""
        child, self._child = self._child, None
        if self._replies is not None:
            self._replies.close()
            self._replies = None
        if child is not None:
            child.kill()
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
            child.wait()

    def _attempt(self, names: list[str], single: bool, preset: str) -> Prepared:
        child = self._start()
        request = json.dumps({"names": names, "single": single, "preset": preset}).encode()
        deadline = time.monotonic() + self._base + self._per_file * _files(names)
        try:
            assert child.stdin is not None
            child.stdin.write(_HEADER.pack(len(request), 0) + request)
            child.stdin.flush()
            head = self._receive(_HEADER.size, deadline)
            head_length, body_length = _HEADER.unpack(head)
            reply = json.loads(bytes(self._receive(head_length, deadline)))
            body = self._receive(body_length, deadline)
        except (BrokenPipeError, EOFError):
            raise _Died.from_exit(child.wait()) from None
        return _read_reply(reply, body)

    def _start(self) -> subprocess.Popen[bytes]:
        """Give the child, started anew where there is none; being killed on the way is tried again."""
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        for _ in range(START_TRIES):
            child = self._spawn()
            problem = self._await_ready()
            if problem is None:
                self._child = child
                return child
            child.kill()
            child.wait()
            self.close()
        raise LungCTError(f"the process for decoding does not start here: {problem}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        theirs, ours = os.pipe()
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        numbers = (ours, self._memory, os.getpid())
        try:
            # Silent on purpose: readers' warnings quote what the files say about a person.
            child = subprocess.Popen(
                [sys.executable, "-m", "lungct.sandbox", *map(str, numbers)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("LUNGCT_DEBUG") else subprocess.DEVNULL,
                pass_fds=(ours,),
                env=environment,
            )
        except OSError as error:
            os.close(theirs)
            raise LungCTError(f"no process for decoding could be started: {error.strerror}") from error
        finally:
            os.close(ours)
        self._replies = os.fdopen(theirs, "rb", buffering=0)
        return child

    def _await_ready(self) -> str | None:
        """Wait until the child has imported what it needs, or say why not: no patient is to blame for that."""
        deadline = time.monotonic() + START_SECONDS
        try:
            length, _ = _HEADER.unpack(self._receive(_HEADER.size, deadline))
            problem = json.loads(bytes(self._receive(length, deadline)))["problem"]
        except EOFError:
            return "it was ended"
        except _Died:
            return f"it said nothing for {START_SECONDS:g} s"
        return None if problem is None else str(problem)

    def _receive(self, length: int, deadline: float) -> bytearray:
        assert self._replies is not None
        data = bytearray(length)
        view, have = memoryview(data), 0
        while have < length:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._replies], [], [], left)[0]:
                raise _Died.from_time(self._base)
            got = os.readv(self._replies.fileno(), [view[have:]])
            if got == 0:
                raise EOFError
            have += got
        return data


class _Died(Exception):
    """The child ended, or did not answer in time."""

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code

    @classmethod
    def from_exit(cls, status: int) -> _Died:
        how = f"by signal {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return cls(f"decoding the files ended its process ({how}), twice", "undecodable")

    @classmethod
    def from_time(cls, base: float) -> _Died:
        return cls(
            f"decoding the files ran past its time ({base:g} s and a share for each file), twice",
            "limits",
        )


def _files(names: list[str]) -> int:
    """Count a patient's files, for its time limit; a volume counts for each 256 KiB of it."""
    count = 0
    for name in names:
        if os.path.isdir(name):
            count += sum(len(files) for _, _, files in os.walk(name))
        else:
            with contextlib.suppress(OSError):
                count += 1 + os.path.getsize(name) // (256 << 10)
    return count


def _read_reply(reply: dict[str, Any], body: bytearray) -> Prepared:
    if "series_error" in reply:
        raise SeriesError(reply["series_error"], code=reply["code"])
    if "fault" in reply:
        raise LungCTError(f"the process for decoding lacks something: {reply['fault']}")
    if "storage_error" in reply:
        raise StorageError(reply["storage_error"])
    triplets = int(reply["triplets"])
    positions = np.frombuffer(body, np.float64, triplets)
    pixels = np.frombuffer(body, np.uint8, offset=8 * triplets).reshape(triplets, 3, 224, 224)
    return Prepared(pixels=pixels, positions_mm=positions, scan=Scan.from_dict(reply["scan"]))


# --- the child ---


def _serve(replies: int, requests: BinaryIO) -> None:
    """Say whether the readers are here, then answer requests until the parent closes its end."""
    _reply(replies, {"problem": _import_readers()})
    while True:
        head = requests.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return
        request = json.loads(requests.read(_HEADER.unpack(head)[0]))
        reply, parts = _answer(request)
        _reply(replies, reply, *parts)


def _import_readers() -> str | None:
    try:
        for name in ("cv2", "imagecodecs", "pydicom", "lungct.dicom", "lungct.preprocess.lung"):
            import_module(name)
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _reply(replies: int, reply: dict[str, Any], *parts: NDArray[Any]) -> None:
    text = json.dumps(reply).encode()
    size = sum(part.nbytes for part in parts)
    _write_all(replies, memoryview(_HEADER.pack(len(text), size) + text))
    for part in parts:
        if part.size:
            _write_all(replies, part.data.cast("B"))


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], list[NDArray[Any]]]:
    from lungct.dicom import read_series, read_series_files
    from lungct.preprocess import prepare

    try:
        names = request["names"]
        series = read_series(names[0]) if request["single"] else read_series_files(names)
        triplets = prepare(series, request["preset"])
        scan = replace(
            triplets.scan,
            pixel_hash=triplets.pixel_hash,
            identified=request["single"] and series.names_person(os.path.basename(names[0])),
        )
        reply = {"triplets": len(triplets), "scan": scan.as_dict()}
        pixels = np.ascontiguousarray(triplets.pixels)
        return reply, [triplets.positions_mm.astype(np.float64), pixels]
    except SeriesError as error:
        return {"series_error": str(error), "code": error.code}, []
    except StorageError as error:
        return {"storage_error": str(error)}, []
    except UsageError:
        # It was there when the run began.
        return {"storage_error": "the patient's files are not there any more"}, []
    except MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20
        sentence = f"decoding the files needs more than the {limit} MiB that one patient may take"
        return {"series_error": sentence, "code": "limits"}, []
    except ImportError as error:
        return {"fault": f"{type(error).__name__}: {error}"}, []
    except Exception as error:
        # A reader that raises what it does not promise has met bytes nobody foresaw: the patient's.
        if os.environ.get("LUNGCT_DEBUG"):
            import traceback

            traceback.print_exc()
        sentence = f"the files could not be understood ({type(error).__name__} while reading them)"
        return {"series_error": sentence, "code": "undecodable"}, []


def _write_all(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view) :]


def _main() -> None:
    replies, memory, parent = (int(argument) for argument in sys.argv[1:4])
    # A terminal's Ctrl-C reaches the whole process group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with contextlib.suppress(BrokenPipeError):
        _serve(replies, sys.stdin.buffer)


if __name__ == "__main__":
    _main()
