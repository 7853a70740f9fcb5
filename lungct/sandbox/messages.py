"""What parent and child send each other, and how it is written to a pipe.

A *frame* has two lengths, a JSON text, and the raw bytes of arrays. The child first sends a `Ready`; then the parent
sends one `Request` at a time, and the child replies to each with an `Answer` or a `Failure`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lungct.errors import LungCTError, SeriesError, StorageError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LENGTHS = struct.Struct("<QQ")  # bytes of the JSON text, and of all arrays


@dataclass(frozen=True)
class Ready:
    """The child's first message: what keeps it from working, or None."""

    problem: str | None


Location = str | Sequence[str]
"""A patient's directory or single file, or a list of the patient's files; on a disk."""


@dataclass(frozen=True)
class Request:
    """A function to call on a patient's files.

    Attributes
    ----------
    function
        ``module:name`` of a function of lungct.
    location
        The function's first argument.
    arguments
        Its other arguments, by name: what JSON can write.

    """

    function: str
    location: Location
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a function returns that is called in the child.

    Attributes
    ----------
    text
        What JSON can write.
    arrays
        Arrays, whose bytes the parent receives one after another.

    """

    text: Mapping[str, Any]
    arrays: Sequence[NDArray[Any]] = ()


@dataclass(frozen=True)
class Failure:
    """Why there is no answer: an exception of the child's, for the parent to raise.

    Attributes
    ----------
    kind
        Name of its class: ``SeriesError``, ``StorageError``, ``UsageError`` or ``LungCTError``.
    message, fix, code
        Its attributes; the code of a `SeriesError` only.

    """

    kind: str
    message: str
    fix: str | None = None
    code: str = ""

    @classmethod
    def of(cls, error: LungCTError) -> Failure:
        """Return an exception as a message."""
        return cls(_kind(error).__name__, error.message, error.fix, getattr(error, "code", ""))

    def error(self) -> LungCTError:
        """Return the exception."""
        if self.kind == SeriesError.__name__:
            return SeriesError(self.message, code=self.code, fix=self.fix)
        kind = next((kind for kind in _KINDS if kind.__name__ == self.kind), LungCTError)
        return kind(self.message, fix=self.fix)


_KINDS: tuple[type[LungCTError], ...] = (SeriesError, StorageError, UsageError)


def _kind(error: LungCTError) -> type[LungCTError]:
    return next((kind for kind in _KINDS if isinstance(error, kind)), LungCTError)


def reply_frame(reply: Answer | Failure) -> list[bytes | memoryview]:
    """Return the frame of an answer or a failure."""
    if isinstance(reply, Failure):
        return frame({"failure": asdict(reply)})
    return frame({"answer": reply.text}, *reply.arrays)


def read_reply(text: Mapping[str, Any]) -> dict[str, Any]:
    """Return the text of an answer.

    Raises
    ------
    LungCTError
        If the child sent a `Failure`.

    """
    if "failure" in text:
        raise Failure(**text["failure"]).error()
    answer: dict[str, Any] = text["answer"]
    return answer


def frame(text: Mapping[str, Any], *arrays: NDArray[Any]) -> list[bytes | memoryview]:
    """Return a frame, as parts to be written one after another."""
    encoded = json.dumps(text).encode()
    lengths = _LENGTHS.pack(len(encoded), sum(array.nbytes for array in arrays))
    return [lengths + encoded, *(array.data.cast("B") for array in arrays if array.size)]


def write_frame(fd: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write a frame to a pipe."""
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(fd, view) :]


def read_frame(read: Callable[[int], bytes | bytearray]) -> tuple[dict[str, Any], bytes | bytearray]:
    """Read a frame: its text, and its arrays' bytes.

    Parameters
    ----------
    read
        Returns as many bytes as it is asked for, or raises EOFError.

    """
    length, size = _LENGTHS.unpack(read(_LENGTHS.size))
    text = json.loads(bytes(read(length)))
    return text, read(size)
