"""What runs in the child process: ``python -m lungct.sandbox.child REPLIES MEMORY PARENT``.

REPLIES is the descriptor that answers are written to; requests come through standard input. MEMORY is the limit on
private memory in bytes, PARENT the parent's process id.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from dataclasses import asdict
from importlib import import_module
from typing import BinaryIO

from lungct.errors import LungCTError, UsageError
from lungct.sandbox.messages import (
    Answer,
    Failure,
    Location,
    Ready,
    Request,
    frame,
    read_frame,
    reply_frame,
    write_frame,
)

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Confine this process, then answer requests until the parent closes its end of the pipe."""
    replies, memory, parent = (int(argument) for argument in sys.argv[1:4])
    # A terminal's Ctrl-C reaches the whole process group, but the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with contextlib.suppress(BrokenPipeError):
        _serve(replies, sys.stdin.buffer)


def _serve(replies: int, requests: BinaryIO) -> None:
    def read(count: int) -> bytes:
        data = requests.read(count)
        if len(data) < count:
            raise EOFError
        return data

    write_frame(replies, frame(asdict(Ready(_import_readers()))))
    with contextlib.suppress(EOFError):
        while True:
            text, _ = read_frame(read)
            write_frame(replies, reply_frame(_reply(Request(**text))))


def _import_readers() -> str | None:
    """Import what reading needs; return what is missing, which is no patient's fault."""
    try:
        for name in ("cv2", "imagecodecs", "pydicom", "lungct.dicom", "lungct.preprocess.lung"):
            import_module(name)
    except ImportError as error:
        return f"{type(error).__name__}: {error}"
    return None


def _reply(request: Request) -> Answer | Failure:
    try:
        return _call(request)
    except UsageError as error:
        if _exists(request.location):
            return Failure.of(error)
        # The patient existed when the command began.
        return Failure("StorageError", "the patient's files no longer exist")
    except LungCTError as error:
        return Failure.of(error)
    except MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_DATA)[0] >> 20
        return Failure("SeriesError", f"reading the files takes more than {limit} MiB of memory", code="limits")
    except (ImportError, AttributeError) as error:
        # A library is missing, or lacks what every version of it has: the installation is broken, not the file.
        return Failure("LungCTError", f"the decoding process cannot use a library ({error})")
    except Exception as error:
        # A reader raised an error that it does not document, so nobody anticipated bytes like the patient's.
        if os.environ.get("LUNGCT_DEBUG"):
            import traceback

            traceback.print_exc()
        return Failure("SeriesError", f"reading the files failed with {type(error).__name__}", code="undecodable")


def _call(request: Request) -> Answer:
    module, _, name = request.function.partition(":")
    answer: Answer = getattr(import_module(module), name)(request.location, **request.arguments)
    return answer


def _exists(location: Location) -> bool:
    return all(map(os.path.lexists, [location] if isinstance(location, str) else location))


if __name__ == "__main__":
    main()
