"""The file of a volume's voxels -> `Planes` in Hounsfield units, read one at a time.

A compressed file cannot be read from the middle, and a volume that is stored in coronal or sagittal order not by axial
slices. Such a volume is first written to an unnamed temporary file, as float32, piece by piece, so memory holds some
megabytes, whatever the volume has. Voxels that are not numbers, which software writes outside the field of view, become
`OUTSIDE_HU`.
"""

from __future__ import annotations

import math
import os
import tempfile
import weakref
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import elements
from lungct.dicom.discovery import open_file
from lungct.dicom.volumes.header import GZIP, VolumeHeader, VoxelData, undecodable
from lungct.errors import StorageError
from lungct.storage import storage_faults

OUTSIDE_HU = -1024.0
"""What a voxel becomes that is NaN or infinite: air, and the least value of scanners."""

_PIECE_BYTES = 1 << 18
_PIECE_VOXELS = 1 << 22
_MOST_PADDING = 1 << 24
_GZIP_OR_ZLIB = 47  # zlib's number for "by the first bytes"
_FLOAT = np.dtype("<f4")
_UNREADABLE = "a file of the patient cannot be read"
_UNWRITABLE = "the volume cannot be unpacked to this machine's temporary directory"


class Planes:
    """The planes of a volume in a file, each read when it is asked for.

    Parameters
    ----------
    fd
        The file; a duplicate is kept open for as long as this object is.
    offset
        Where the voxels begin.
    dtype, slope, intercept
        As in `VolumeHeader`.
    sizes
        Columns and rows of a plane, and the number of planes.

    """

    def __init__(
        self,
        fd: int,
        offset: int,
        dtype: np.dtype[np.generic],
        sizes: tuple[int, int, int],
        *,
        slope: float = 1.0,
        intercept: float = 0.0,
    ) -> None:
        self._fd = os.dup(fd)
        weakref.finalize(self, os.close, self._fd)
        self._offset, self._dtype = offset, dtype
        self._slope, self._intercept = slope, intercept
        self.sizes = sizes

    def plane(self, number: int) -> NDArray[np.float32]:
        """Return a plane in Hounsfield units, float32 (rows, columns).

        Raises
        ------
        StorageError
            If the file cannot be read.

        """
        hu = self.unfilled(number)
        hu[~np.isfinite(hu)] = OUTSIDE_HU
        return hu

    def unfilled(self, number: int) -> NDArray[np.float32]:
        """Return what `plane` does, with the voxels that are not numbers as they are."""
        columns, rows, _ = self.sizes
        count = columns * rows * self._dtype.itemsize
        with storage_faults(_UNREADABLE):
            data = elements.read_fully(self._fd, self._offset + number * count, count)
        if len(data) != count:
            raise StorageError("a file of the patient changed while it was read", fix="repeat the command")
        values = np.frombuffer(data, self._dtype).reshape(rows, columns)
        return to_hu(values, self._slope, self._intercept)

    def has_numbers(self) -> bool:
        """Return whether any voxel is a number, from the middle outwards."""
        if self._dtype.kind != "f":
            return True
        middle = self.sizes[2] // 2
        outwards = sorted(range(self.sizes[2]), key=lambda number: abs(number - middle))
        return any(np.isfinite(self.unfilled(number)).any() for number in outwards)


def to_hu(values: NDArray[np.generic], slope: float, intercept: float) -> NDArray[np.float32]:
    """Return values x slope + intercept, computed in float64 and rounded to float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        if (slope, intercept) != (1, 0):
            values = values.astype(np.float64) * slope + intercept
        return values.astype(np.float32)


def check_length(header: VolumeHeader) -> None:
    """Refuse a file of voxels that are not compressed, if it is shorter than the header says, or longer by a plane.

    Raises
    ------
    SeriesError
        ``undecodable``.
    StorageError
        If the file cannot be read.

    """
    if header.data.compressed:
        return
    with open_file(header.data.path) as fd:
        found = os.fstat(fd).st_size - (header.data.offset or 0)
    claimed = _bytes(header)
    if found < claimed:
        raise undecodable(f"the volume's voxels end early: {max(found, 0)} of {claimed} bytes are there")
    if header.data.offset is not None and found >= claimed + _surplus(header):
        raise _too_long(header)


def open_planes(header: VolumeHeader, axis: int) -> Planes:
    """Return a volume's planes across a stored axis.

    Parameters
    ----------
    header
        The header, its limits and length checked.
    axis
        The stored axis that the planes follow each other along. The columns of a plane are the lower of the other two.

    Raises
    ------
    SeriesError
        ``undecodable``, if the voxels are damaged, or none is a number.
    StorageError
        If a file cannot be read, or the temporary directory cannot be written to.

    """
    planes = _unpacked(header) if header.data.compressed else _in_place(header)
    if not planes.has_numbers():
        raise undecodable("none of the volume's voxels is a number")
    return planes if axis == 2 else _across(planes, axis)


def _bytes(header: VolumeHeader) -> int:
    return math.prod(header.sizes) * header.dtype.itemsize


def _surplus(header: VolumeHeader) -> int:
    """Return how many bytes after the voxels are more than padding: a plane, or as much as an ordinary one has."""
    return min(header.sizes[0] * header.sizes[1] * header.dtype.itemsize, _MOST_PADDING)


def _too_long(header: VolumeHeader) -> Exception:
    return undecodable(
        f"the volume has more voxels than the {' x '.join(map(str, header.sizes))} that its header states"
    )


def _in_place(header: VolumeHeader) -> Planes:
    with open_file(header.data.path) as fd:
        offset = header.data.offset
        if offset is None:
            offset = os.fstat(fd).st_size - _bytes(header)
        return Planes(fd, offset, header.dtype, header.sizes, slope=header.slope, intercept=header.intercept)


def _unpacked(header: VolumeHeader) -> Planes:
    """Write a compressed volume to a temporary file, in Hounsfield units."""
    left, size = math.prod(header.sizes), header.dtype.itemsize
    with open_file(header.data.path) as fd, _temporary_file() as unpacked:
        stream = _Inflater(fd, header.data)
        while left:
            count = min(left, _PIECE_VOXELS)
            data = stream.read(count * size)
            if len(data) < count * size:
                raise undecodable(
                    f"the volume's voxels end early: {_bytes(header) - left * size + len(data)} "
                    f"of {_bytes(header)} bytes are there"
                )
            with storage_faults(_UNWRITABLE):
                unpacked.write(to_hu(np.frombuffer(data, header.dtype), header.slope, header.intercept).data)
            left -= count
        if len(stream.read(_surplus(header))) == _surplus(header):
            raise _too_long(header)
        with storage_faults(_UNWRITABLE):
            unpacked.flush()
        return Planes(unpacked.fileno(), 0, _FLOAT, header.sizes)


def _across(planes: Planes, axis: int) -> Planes:
    """Write a volume's planes across another stored axis, 0 or 1, to a temporary file, some planes at a time."""
    sizes, count = planes.sizes, planes.sizes[axis]
    other, depth = sizes[1 - axis], sizes[2]
    together = max(1, _PIECE_VOXELS // (sizes[0] * sizes[1]))
    with _temporary_file() as turned:
        for first in range(0, depth, together):
            slab = np.stack([planes.unfilled(number) for number in range(first, min(first + together, depth))])
            for number, part in enumerate(np.moveaxis(slab, 2 - axis, 0)):
                with storage_faults(_UNWRITABLE):
                    turned.seek((number * depth + first) * other * _FLOAT.itemsize)
                    turned.write(np.ascontiguousarray(part).data)
        with storage_faults(_UNWRITABLE):
            turned.flush()
        return Planes(turned.fileno(), 0, _FLOAT, (other, depth, count))


def _temporary_file() -> IO[bytes]:
    with storage_faults(_UNWRITABLE):
        return tempfile.TemporaryFile(prefix="lungct-volume-")


class _Inflater:
    """A gzip or zlib stream within a file, read from its beginning; gzip streams that follow it are part of it."""

    def __init__(self, fd: int, data: VoxelData) -> None:
        self._fd, self._at = fd, data.offset or 0
        self._engine = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._input = b""
        for start in range(0, data.skip, _PIECE_BYTES):
            self.read(min(_PIECE_BYTES, data.skip - start))

    def read(self, count: int) -> bytes:
        """Return the next ``count`` bytes; fewer only at the end."""
        parts, left = [], count
        while left:
            part = self._next(left)
            if part is None:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _next(self, most: int) -> bytes | None:
        """Return some bytes, perhaps none yet; None at the end of the stream."""
        if not self._input:
            self._input = elements.read_fully(self._fd, self._at, _PIECE_BYTES)
            self._at += len(self._input)
        if self._engine.eof:
            if not self._input.startswith(GZIP):
                return None
            self._engine = zlib.decompressobj(_GZIP_OR_ZLIB)
        was_last = not self._input
        try:
            part = self._engine.decompress(self._input, most)
        except zlib.error:
            raise undecodable("the volume's compressed voxels are damaged") from None
        self._input = self._engine.unused_data if self._engine.eof else self._engine.unconsumed_tail
        if was_last and not part and not self._engine.eof:
            return None
        return part
