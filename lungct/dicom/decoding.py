"""A slice's bytes -> its stored values, by one fixed decoder for each transfer syntax.

Uncompressed little-endian pixels are read straight from their place in the file. Everything else goes through pydicom's
decoders, each with a single plugin: pydicom's own code for big-endian and deflated data, and ``codecs.py`` for
compressed ones. So the pixels do not depend on what else is installed: decoders may differ in a lossy image.

`stored_values` raises only `LungCTError`.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import codecs, elements
from lungct.dicom.codecs import CODECS
from lungct.dicom.discovery import open_file
from lungct.dicom.inflation import inflated_image
from lungct.dicom.slices import Encoding, Slice
from lungct.errors import SeriesError

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder

Stored = NDArray[np.integer[Any]]

_LITTLE = (elements.IMPLICIT_LITTLE, elements.EXPLICIT_LITTLE)
_PLUGIN = "lungct"
_DECODERS: dict[str, Decoder] = {}
_DECODERS_LOCK = threading.Lock()


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
    encoding = image.encoding
    try:
        with open_file(image.path) as fd:
            if encoding.transfer_syntax in _LITTLE:
                return _native(fd, image)
            if encoding.transfer_syntax in (elements.EXPLICIT_BIG, elements.DEFLATED):
                data = _frame_bytes(fd, image)
            elif encoding.transfer_syntax in CODECS:
                data = _encapsulated(fd, image)
            else:
                raise SeriesError(
                    "the pixels are written in a transfer syntax that is not supported",
                    code="undecodable",
                )
        return _decoded(data, image)
    except MemoryError:
        raise SeriesError(
            f"an image of {image.rows} x {image.columns} pixels does not fit into memory",
            code="limits",
        ) from None


def _undecodable(why: str) -> SeriesError:
    return SeriesError(f"the pixels of an image cannot be decoded: {why}", code="undecodable")


def _native(fd: int, image: Slice) -> Stored:
    encoding = image.encoding
    if encoding.length == elements.UNDEFINED:
        raise _undecodable("they are compressed, although the file declares an uncompressed transfer syntax")
    size = encoding.bits_allocated // 8
    pixels: Stored = np.empty((image.rows, image.columns), np.dtype(f"<{'i' if encoding.signed else 'u'}{size}"))
    view = pixels.data.cast("B")
    offset = encoding.offset + image.frame * len(view)
    have = 0
    while have < len(view):
        count = os.preadv(fd, [view[have:]], offset + have)
        if count == 0:
            raise _undecodable(f"they end after {have} of {len(view)} bytes")
        have += count
    return _without_unused_bits(pixels, encoding)


def _without_unused_bits(pixels: Stored, encoding: Encoding) -> Stored:
    """Clear the bits that belong to no pixel, or fill them with the sign (PS3.5 8.1.1).

    Old files have overlays there.
    """
    allocated, stored = encoding.bits_allocated, encoding.bits_stored
    high = encoding.high_bit if stored - 1 <= encoding.high_bit < allocated else stored - 1
    if high + 1 < allocated:
        np.left_shift(pixels, allocated - 1 - high, out=pixels)
    if stored < allocated:
        np.right_shift(pixels, allocated - stored, out=pixels)
    return pixels


def _frame_bytes(fd: int, image: Slice) -> bytes:
    """Return the bytes of one frame of a big-endian or deflated file."""
    encoding = image.encoding
    if encoding.length == elements.UNDEFINED:
        raise _undecodable("they are compressed, although the file declares an uncompressed transfer syntax")
    size = image.rows * image.columns * encoding.bits_allocated // 8
    start = encoding.offset + image.frame * size
    if encoding.transfer_syntax == elements.DEFLATED:
        data = bytes(inflated_image(fd, image.path, encoding, start, size))
    else:
        data = elements.read_fully(fd, start, size + size % 2)
    if len(data) < size:
        raise _undecodable(f"they end after {len(data)} of {size} bytes")
    return data


def _encapsulated(fd: int, image: Slice) -> bytes:
    """Return one frame's codestream as encapsulated pixel data of one frame (PS3.5 A.4)."""
    from pydicom.encaps import encapsulate

    encoding = image.encoding
    status = os.fstat(fd)
    offsets, fragments = _fragments(image.path, status.st_mtime_ns, status.st_size, encoding.offset, encoding.length)
    chosen = _of_frame(offsets, fragments, image.frame, encoding.frames)
    parts = [elements.read_fully(fd, at, count) for at, count in chosen]
    stream = b"".join(parts)
    if len(stream) < max(2, sum(count for _, count in chosen)):
        raise _undecodable("the compressed data end early")
    return encapsulate([stream], has_bot=False)


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


def _decoded(data: bytes, image: Slice) -> Stored:
    encoding = image.encoding
    options: dict[str, Any] = {
        "rows": image.rows,
        "columns": image.columns,
        "number_of_frames": 1,
        "samples_per_pixel": 1,
        "photometric_interpretation": "MONOCHROME2",
        "bits_allocated": encoding.bits_allocated,
        "bits_stored": encoding.bits_stored,
        "pixel_representation": int(encoding.signed),
        "pixel_keyword": "PixelData",
        "pixel_vr": "OW",
    }
    plugin = _PLUGIN if encoding.transfer_syntax in CODECS else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote the file
            decoder = _decoder(encoding.transfer_syntax)
            pixels, _ = decoder.as_array(data, index=0, raw=True, decoding_plugin=plugin, **options)
    except (MemoryError, SeriesError):
        raise
    except Exception:  # codecs raise anything, and their messages may quote the file
        raise _undecodable("the decoder rejected them as damaged or of another kind") from None
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)  # the machine's byte order


def _decoder(transfer_syntax: str) -> Decoder:
    """Return pydicom's decoder, with the plugin of ``codecs.py`` added if it is needed."""
    from pydicom.pixels.decoders.base import Decoder, get_decoder
    from pydicom.uid import UID

    with _DECODERS_LOCK:
        if transfer_syntax in _DECODERS:
            return _DECODERS[transfer_syntax]
        try:
            decoder = get_decoder(UID(transfer_syntax))
        except NotImplementedError:  # pydicom knows this UID and has no decoder for it
            decoder = Decoder(UID(transfer_syntax))
        if transfer_syntax in CODECS and _PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(_PLUGIN, (codecs.__name__, codecs.decode_frame.__name__))
        return _DECODERS.setdefault(transfer_syntax, decoder)
