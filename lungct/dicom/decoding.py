"""A slice's bytes -> its stored values, by one fixed decoder for each transfer syntax.

Uncompressed pixels are read straight from their place in the file, deflated ones are inflated first, and compressed
ones go through ``codecs.py``. So the pixels do not depend on what else is installed: decoders may differ in a lossy
image. Whichever way samples come, the stored values are their BitsStored bits, by one rule (`_stored_bits`).

`stored_values` raises only `LungCTError`.
"""

from __future__ import annotations

import os
import struct
import zlib
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import codecs, elements
from lungct.dicom.codecs import CODECS, Samples
from lungct.dicom.deflated import Inflated
from lungct.dicom.discovery import open_file
from lungct.dicom.slices import Encoding, Slice
from lungct.errors import LungCTError, SeriesError

Stored = NDArray[np.integer[Any]]

MAX_INFLATED = 1 << 30
"""Bytes to which a file with many images may be inflated: 2,048 images of 512 x 512 pixels."""

_SAMPLE_TYPES = {
    (bits, signed): np.dtype(f"{'i' if signed else 'u'}{bits // 8}") for bits in (8, 16, 32) for signed in (False, True)
}
"""The type of a sample in the machine's byte order, by BitsAllocated and whether it is signed."""
_NATIVE = (*elements.UNCOMPRESSED, elements.DEFLATED)


def stored_values(image: Slice) -> Stored:
    """Read and decode one image.

    Returns
    -------
    numpy.ndarray
        Integers, signed or not as in the file, shape (rows, columns). PhotometricInterpretation changes nothing here:
        MONOCHROME1 is about display, after the modality LUT that gives Hounsfield units (PS3.3 C.7.6.3.1.2).

    Raises
    ------
    SeriesError
        ``undecodable`` or ``limits``, if the pixels cannot be decoded.
    StorageError
        If the file cannot be read.

    """
    if image.fault is not None:
        raise image.fault.error()
    try:
        return _stored_bits(_samples(image), image.encoding)
    except MemoryError:
        raise SeriesError(
            f"an image of {image.rows} x {image.columns} pixels does not fit into memory",
            code="limits",
        ) from None


def _samples(image: Slice) -> Samples:
    encoding = image.encoding
    if encoding.transfer_syntax in CODECS:
        with open_file(image.path) as fd:
            stream = _codestream(fd, image)
        return _decoded(stream, image)
    if encoding.transfer_syntax not in _NATIVE:
        raise SeriesError("the pixels are written in a transfer syntax that is not supported", code="undecodable")
    if encoding.length == elements.UNDEFINED:
        raise _undecodable("they are compressed, although the file declares an uncompressed transfer syntax")
    with open_file(image.path) as fd:
        values = _inflated(fd, image) if encoding.transfer_syntax == elements.DEFLATED else _native(fd, image)
    return Samples(values, encoding.bits_allocated, lossy=False)


def _stored_bits(samples: Samples, encoding: Encoding) -> Stored:
    """Return the stored values: those bits of each sample that BitsStored and HighBit name (PS3.5 8.1.1).

    The others mean nothing: old files have overlays there, and some writers leave 0 where a negative value has 1.
    """
    allocated, stored, values = encoding.bits_allocated, encoding.bits_stored, samples.values
    # A codestream whose samples have no more than BitsStored bits has room for nothing else, whatever HighBit says.
    high = encoding.high_bit if samples.precision > stored else stored - 1
    if not stored - 1 <= high < allocated:
        high = stored - 1
    kind = _SAMPLE_TYPES[allocated, encoding.signed]
    if samples.lossy and samples.precision > high + 1 and values.dtype.kind == kind.kind:
        # What is beyond BitsStored after a loss is no other bit, but the error of a value near the end of the range.
        lowest = -1 << high if encoding.signed else 0
        values = np.clip(values, lowest, lowest + (2 << high) - 1)
    pixels: Stored = values.astype(kind, copy=not values.flags.writeable)
    if high + 1 < allocated:
        np.left_shift(pixels, allocated - 1 - high, out=pixels)
    if stored < allocated:
        np.right_shift(pixels, allocated - stored, out=pixels)
    return pixels


def _undecodable(why: str) -> SeriesError:
    return SeriesError(f"the pixels of an image cannot be decoded: {why}", code="undecodable")


def _native(fd: int, image: Slice) -> Stored:
    """Return the samples of an uncompressed image, in the file's byte order."""
    encoding = image.encoding
    kind = _SAMPLE_TYPES[encoding.bits_allocated, encoding.signed]
    big_endian = encoding.transfer_syntax == elements.EXPLICIT_BIG
    if big_endian and kind.itemsize == 1 and encoding.pixel_vr == "OW":
        return _bytes_of_words(fd, image, kind)
    pixels: Stored = np.empty((image.rows, image.columns), kind.newbyteorder(">" if big_endian else "<"))
    view = pixels.data.cast("B")
    offset = encoding.offset + image.frame * len(view)
    have = 0
    while have < len(view):
        count = os.preadv(fd, [view[have:]], offset + have)
        if count == 0:
            raise _too_short(have, len(view))
        have += count
    return pixels


def _bytes_of_words(fd: int, image: Slice, kind: np.dtype[Any]) -> Stored:
    """Return samples of 8 bits that a big-endian file writes in words of 16, so that each two change places."""
    count = image.rows * image.columns
    start = image.frame * count
    skipped = start % 2
    words = elements.read_fully(fd, image.encoding.offset + start - skipped, skipped + count + (skipped + count) % 2)
    if len(words) < skipped + count or len(words) % 2:
        raise _too_short(len(words), skipped + count)
    samples = np.frombuffer(words, "u2").byteswap().view(kind)[skipped : skipped + count]
    return samples.reshape(image.rows, image.columns)


def _inflated(fd: int, image: Slice) -> Stored:
    """Return the samples of an image in a deflated file."""
    encoding = image.encoding
    kind = _SAMPLE_TYPES[encoding.bits_allocated, encoding.signed].newbyteorder("<")
    size = image.rows * image.columns * kind.itemsize
    start = encoding.offset + image.frame * size
    total = encoding.offset + encoding.frames * size
    if encoding.frames > 1 and total > MAX_INFLATED:
        raise SeriesError(
            f"the {encoding.frames} images of a deflated file take {total >> 20} MiB; "
            f"the limit is {MAX_INFLATED >> 20}",
            code="limits",
        )
    status = os.fstat(fd)
    inflated = _inflated_file(image.path, status.st_mtime_ns, status.st_size, encoding.data_set)
    try:
        data = inflated.read(elements.FileSource(fd), start, size)
    except zlib.error:
        raise _undecodable("the deflated data are damaged") from None
    if len(data) < size:
        raise _too_short(len(data), size)
    return np.frombuffer(data, kind).reshape(image.rows, image.columns)


@lru_cache(maxsize=2)
def _inflated_file(path: str, changed: int, size: int, start: int) -> Inflated:
    """Return what is known of a deflated file from the frames read before (``changed``: its modification time)."""
    return Inflated(start)


def _too_short(have: int, size: int) -> SeriesError:
    return _undecodable(f"they end after {have} of {size} bytes")


def _decoded(stream: bytes, image: Slice) -> Samples:
    """Return the samples of a compressed image."""
    encoding = image.encoding
    try:
        return codecs.decode(
            stream,
            encoding.transfer_syntax,
            rows=image.rows,
            columns=image.columns,
            bits_allocated=encoding.bits_allocated,
        )
    except MemoryError:
        raise
    except (ImportError, AttributeError) as error:  # the installation is broken, not the file
        raise LungCTError(
            f"imagecodecs lacks a decoder, or is not installed ({type(error).__name__})",
            fix="run lungct doctor, or pip install -c constraints.txt imagecodecs",
        ) from error
    except Exception:  # codecs raise anything, and their messages may quote the file
        raise _undecodable("the decoder rejected them as damaged or of another kind") from None


def _codestream(fd: int, image: Slice) -> bytes:
    """Return one frame's codestream from the fragments of encapsulated pixel data (PS3.5 A.4)."""
    encoding = image.encoding
    status = os.fstat(fd)
    offsets, fragments = _fragments(image.path, status.st_mtime_ns, status.st_size, encoding.offset, encoding.length)
    chosen = _of_frame(offsets, fragments, image.frame, encoding.frames)
    stream = b"".join(elements.read_fully(fd, at, count) for at, count in chosen)
    if len(stream) < max(2, sum(count for _, count in chosen)):
        raise _undecodable("the compressed data end early")
    return stream


@lru_cache(maxsize=2)
def _fragments(
    path: str, changed: int, size: int, start: int, length: int
) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Index a file's compressed pixel data: the basic offset table, and each fragment's place and length.

    The index of the last files is kept, because every frame of a multi-frame file needs it (``changed`` is the file's
    modification time).
    """
    end = size if length == elements.UNDEFINED else min(size, start + length)
    with open_file(path) as fd:
        source = elements.FileSource(fd)
        found: list[tuple[int, int]] = []
        position = start
        while position + 8 <= end and len(found) < elements.MAX_STEPS:
            group, element, count = struct.unpack("<HHI", source.read(position, 8))
            tag = group << 16 | element
            if tag == elements.SEQUENCE_END:
                break
            if tag != elements.ITEM or position + 8 + count > end:
                raise _undecodable("the compressed data end early or are damaged")
            found.append((position + 8, count))
            position += 8 + count
        if not found:
            raise _undecodable("there are no compressed data")
        at, count = found[0]
        count = min(count, elements.MAX_STEPS * 4) // 4 * 4
        table = struct.unpack(f"<{count // 4}I", elements.read_fully(fd, at, count))
    return table, tuple(found[1:])


def _of_frame(
    offsets: tuple[int, ...], fragments: tuple[tuple[int, int], ...], frame: int, frames: int
) -> tuple[tuple[int, int], ...]:
    """Return the fragments of one frame."""
    if frames == 1:
        return fragments
    if len(fragments) == frames:
        return fragments[frame : frame + 1]
    if len(offsets) == frames and fragments:
        origin = fragments[0][0] - 8  # offsets count from the first fragment's item
        low = origin + offsets[frame]
        high = origin + offsets[frame + 1] if frame + 1 < frames else fragments[-1][0] + 1
        return tuple(part for part in fragments if low <= part[0] - 8 < high)
    raise _undecodable(f"it is unknown which of {len(fragments)} fragments belong to which of {frames} frames")
