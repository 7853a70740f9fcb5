"""What parent and child send each other, and how it is written to a pipe.

A *frame* has two lengths, a JSON text, and the raw bytes of arrays. The child first sends a `Ready`; then the parent
sends one `Request` at a time, and the child answers each with a `Prepared` or a `Failure`.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.dicom.scan import Scan
from lungct.errors import LungCTError, SeriesError, StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LENGTHS = struct.Struct("<QQ")  # bytes of the JSON text, and of all arrays


@dataclass(frozen=True)
class Ready:
    """The child's first message: what keeps it from working, or None."""

    problem: str | None


@dataclass(frozen=True)
class Request:
    """A patient to prepare.

    Attributes
    ----------
    names
        The patient's directory or volume file, or the patient's files.
    single
        Whether ``names`` has one directory or volume file, and not a list of files.
    preset
        One of `lungct.preprocess.PRESETS`.
    options
        The options of `lungct.dicom.SeriesOptions` that were given.
    archive
        The directory in which other patients are; None: the one above the patient's.

    """

    names: Sequence[str]
    single: bool
    preset: str
    options: Mapping[str, str]
    archive: str | None


@dataclass(frozen=True, eq=False)
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
    choice
        Its place, from 0, in the order of choice of the patient's series.

    """

    pixels: NDArray[np.uint8]
    positions_mm: NDArray[np.float64]
    scan: Scan
    choice: int = 0

    def __repr__(self) -> str:
        return f"Prepared({len(self.pixels)} triplets of {self.scan.slices} slices)"


@dataclass(frozen=True)
class Failure:
    """Why a patient could not be prepared: an exception of the child's, for the parent to raise.

    Attributes
    ----------
    kind
        Name of its class: ``SeriesError``, ``StorageError`` or ``LungCTError``.
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
        return cls(type(error).__name__, error.message, error.fix, getattr(error, "code", ""))

    def error(self) -> LungCTError:
        """Return the exception."""
        if self.kind == SeriesError.__name__:
            return SeriesError(self.message, code=self.code, fix=self.fix)
        kind = StorageError if self.kind == StorageError.__name__ else LungCTError
        return kind(self.message, fix=self.fix)


def answer_frame(answer: Prepared | Failure) -> list[bytes | memoryview]:
    """Return the frame of an answer."""
    if isinstance(answer, Failure):
        return frame({"failure": asdict(answer)})
    positions = np.ascontiguousarray(answer.positions_mm, np.float64)
    pixels = np.ascontiguousarray(answer.pixels, np.uint8)
    text = {"triplets": len(pixels), "scan": answer.scan.as_dict(), "choice": answer.choice}
    return frame(text, positions, pixels)


def read_answer(text: Mapping[str, Any], arrays: bytes | bytearray) -> Prepared:
    """Return what a child has prepared.

    Raises
    ------
    LungCTError
        If the child sent a `Failure`.

    """
    if "failure" in text:
        raise Failure(**text["failure"]).error()
    triplets = int(text["triplets"])
    return Prepared(
        positions_mm=np.frombuffer(arrays, np.float64, triplets),
        pixels=np.frombuffer(arrays, np.uint8, offset=8 * triplets).reshape(triplets, 3, 224, 224),
        scan=Scan.from_dict(text["scan"]),
        choice=int(text["choice"]),
    )


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
