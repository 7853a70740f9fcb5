"""A slice's bytes -> its stored values, by one named decoder for each transfer syntax.

Uncompressed little-endian pixels are read straight from their place in the file. Everything else goes through
pydicom's decoders, with one plugin each: pydicom's own code for big endian and deflated data, and for compressed ones
`decode_frame` below, which is hung into pydicom by its ``add_plugin`` and calls imagecodecs (libjpeg-turbo, CharLS,
OpenJPEG, and its own RLE). So the pixels do not depend on what else is installed: decoders may differ in a lossy image.

What a codestream claims about its size is compared with Rows and Columns before its decoder may allocate anything.
Nothing but `LungCTError` leaves `stored_values`.
"""

from __future__ import annotations

import os
import struct
import threading
import warnings
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import elements
from lungct.dicom.headers import opened
from lungct.dicom.slices import Encoding, Slice
from lungct.errors import SeriesError

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import Decoder, DecodeRunner

Stored = NDArray[np.integer[Any]]

# High throughput JPEG 2000 goes through OpenJPEG too: OpenJPH, three times as fast, crashes on damaged codestreams.
_JPEG, _JPEG_LS, _JPEG_2000, _RLE = "jpeg8", "jpegls", "jpeg2k", "dicomrle"
CODECS: dict[str, str] = {
    "1.2.840.10008.1.2.4.50": _JPEG,  # baseline
    "1.2.840.10008.1.2.4.51": _JPEG,  # extended, 8 and 12 bits
    "1.2.840.10008.1.2.4.55": _JPEG,  # full progression, retired
    "1.2.840.10008.1.2.4.57": _JPEG,  # lossless
    "1.2.840.10008.1.2.4.70": _JPEG,  # lossless, selection value 1
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,  # near lossless
    "1.2.840.10008.1.2.4.90": _JPEG_2000,  # lossless
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _JPEG_2000,  # high throughput JPEG 2000, lossless
    "1.2.840.10008.1.2.4.202": _JPEG_2000,
    "1.2.840.10008.1.2.4.203": _JPEG_2000,
    "1.2.840.10008.1.2.5": _RLE,
}
"""Compressed transfer syntaxes, and the imagecodecs codec that decodes each."""

_LITTLE = (elements.IMPLICIT_LITTLE, elements.EXPLICIT_LITTLE)
_PLUGIN = "lungct"
# SOF0 ... SOF15 without DHT, JPG and DAC among them; SOF55 of JPEG-LS
# CharLS looks for seconds for what a codestream cut short does not hold, unless an end of image stands behind it.
_END = b"\xff\xd9"
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_LOCK = threading.Lock()
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD


def stored_values(piece: Slice) -> Stored:
    """Read and decode one image.

    Returns
    -------
    numpy.ndarray
        Integers, signed as the file says, shape (rows, columns). PhotometricInterpretation changes nothing here:
        MONOCHROME1 says how to show values, after the modality LUT that gives Hounsfield units (PS3.3 C.7.6.3.1.2).

    Raises
    ------
    SeriesError
        ``undecodable`` or ``limits``.
    StorageError
        The file cannot be read.

    """
    if piece.fault is not None:
        raise piece.fault.error()
    encoding = piece.encoding
    try:
        with opened(piece.path) as fd:
            if encoding.transfer_syntax in _LITTLE:
                return _native(fd, piece)
            if encoding.transfer_syntax in (elements.EXPLICIT_BIG, elements.DEFLATED):
                data = _frame_bytes(fd, piece)
            elif encoding.transfer_syntax in CODECS:
                data = _encapsulated(fd, piece)
            else:
                raise SeriesError(
                    "the pixels are written in a transfer syntax that is not supported",
                    code="undecodable",
                )
        return _decoded(data, piece)
    except MemoryError:
        raise SeriesError(
            f"an image of {piece.rows} x {piece.columns} pixels does not fit into memory",
            code="limits",
        ) from None


def _undecodable(why: str) -> SeriesError:
    return SeriesError(f"the pixels of an image cannot be decoded: {why}", code="undecodable")


# --- uncompressed ---


def _native(fd: int, piece: Slice) -> Stored:
    encoding = piece.encoding
    if encoding.length == elements.UNDEFINED:
        raise _undecodable("they are compressed, and the file says they are not")
    size = encoding.bits_allocated // 8
    pixels: Stored = np.empty((piece.rows, piece.columns), np.dtype(f"<{'i' if encoding.signed else 'u'}{size}"))
    view = pixels.data.cast("B")
    offset = encoding.offset + piece.frame * len(view)
    have = 0
    while have < len(view):
        count = os.preadv(fd, [view[have:]], offset + have)
        if count == 0:
            raise _undecodable(f"{have} of {len(view)} bytes are there")
        have += count
    return _without_unused_bits(pixels, encoding)


def _without_unused_bits(pixels: Stored, encoding: Encoding) -> Stored:
    """Clear, or fill with the sign, the bits that hold no pixel (PS3.5 8.1.1): old files keep overlays there."""
    allocated, stored = encoding.bits_allocated, encoding.bits_stored
    high = encoding.high_bit if stored - 1 <= encoding.high_bit < allocated else stored - 1
    if high + 1 < allocated:
        np.left_shift(pixels, allocated - 1 - high, out=pixels)
    if stored < allocated:
        np.right_shift(pixels, allocated - stored, out=pixels)
    return pixels


def _frame_bytes(fd: int, piece: Slice) -> bytes:
    """Return the bytes of one frame of a big-endian or deflated file."""
    encoding = piece.encoding
    if encoding.length == elements.UNDEFINED:
        raise _undecodable("they are compressed, and the file says they are not")
    size = piece.rows * piece.columns * encoding.bits_allocated // 8
    start = encoding.offset + piece.frame * size
    if encoding.transfer_syntax == elements.DEFLATED:
        # Inflated as far as this frame and no further: a few kilobytes may unfold to terabytes.
        limit = start + size
        try:
            data = elements.inflate(elements.FileSource(fd), encoding.data_set, limit)[start:]
        except zlib.error:
            raise _undecodable("the deflated data are damaged") from None
    else:
        data = elements.read_fully(fd, start, size + size % 2)
    if len(data) < size:
        raise _undecodable(f"{len(data)} of {size} bytes are there")
    return data


# --- compressed ---


def _encapsulated(fd: int, piece: Slice) -> bytes:
    """Return one frame's codestream as encapsulated pixel data of one frame (PS3.5 A.4)."""
    from pydicom.encaps import encapsulate

    encoding = piece.encoding
    status = os.fstat(fd)
    offsets, fragments = _fragments(piece.path, status.st_mtime_ns, status.st_size, encoding.offset, encoding.length)
    chosen = _of_frame(offsets, fragments, piece.frame, encoding.frames)
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

    Kept for the last file, because all frames of a multi-frame file ask for it (``changed`` is its time stamp).
    """
    end = size if length == elements.UNDEFINED else min(size, start + length)
    with opened(path) as fd:
        source = elements.FileSource(fd)
        found: list[tuple[int, int]] = []
        position = start
        while position + 8 <= end and len(found) < elements.MAX_STEPS:
            group, element, count = struct.unpack("<HHI", source.read(position, 8))
            tag = group << 16 | element
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM or position + 8 + count > end:
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
    """Choose the fragments of one frame."""
    if frames == 1:
        return fragments
    if len(fragments) == frames:
        return fragments[frame : frame + 1]
    if len(offsets) == frames and fragments:
        origin = fragments[0][0] - 8  # offsets count from the first fragment's item
        low = origin + offsets[frame]
        high = origin + offsets[frame + 1] if frame + 1 < frames else fragments[-1][0] + 1
        return tuple(part for part in fragments if low <= part[0] - 8 < high)
    raise _undecodable(f"{frames} frames in {len(fragments)} fragments cannot be told from each other")


def _decoded(data: bytes, piece: Slice) -> Stored:
    encoding = piece.encoding
    options: dict[str, Any] = {
        "rows": piece.rows,
        "columns": piece.columns,
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
            warnings.simplefilter("ignore")  # pydicom's quote what a file says
            decoder = _decoder(encoding.transfer_syntax)
            pixels, _ = decoder.as_array(data, index=0, raw=True, decoding_plugin=plugin, **options)
    except MemoryError:
        raise
    except SeriesError:
        raise
    except Exception:  # codecs raise what they like, and their messages may quote the file
        raise _undecodable("the decoder refused them as damaged or of another kind") from None
    # astype: into the machine's byte order
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _decoder(transfer_syntax: str) -> Decoder:
    """Return pydicom's decoder with our plugin in it."""
    from pydicom.pixels.decoders.base import Decoder, get_decoder
    from pydicom.uid import UID

    with _LOCK:
        if transfer_syntax in _DECODERS:
            return _DECODERS[transfer_syntax]
        try:
            decoder = get_decoder(UID(transfer_syntax))
        except NotImplementedError:  # pydicom knows this UID and has no decoder for it
            decoder = Decoder(UID(transfer_syntax))
        if transfer_syntax in CODECS and _PLUGIN not in decoder.available_plugins:
            decoder.add_plugin(_PLUGIN, (__name__, "decode_frame"))
        return _DECODERS.setdefault(transfer_syntax, decoder)


_DECODERS: dict[str, Decoder] = {}

# --- the plugin: names and signatures are pydicom's (its guide "Pixel data decoder plugins") ---

DECODER_DEPENDENCIES = dict.fromkeys(CODECS, ("numpy", "imagecodecs"))


def is_available(uid: str) -> bool:
    """Tell pydicom whether this plugin decodes a transfer syntax."""
    return uid in CODECS


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode one frame for pydicom: codestream in, little-endian pixels out."""
    codec = CODECS[str(runner.transfer_syntax)]
    if codec == _RLE:
        from imagecodecs import dicomrle_decode

        frame = dicomrle_decode(src, np.dtype(f"<u{runner.bits_allocated // 8}"), out=int(runner.frame_length()))
        return bytes(frame)
    size_in = _size_in_jpeg_2000 if codec == _JPEG_2000 else _size_in_jpeg
    if size_in(src) != (runner.rows, runner.columns, 1):
        raise ValueError("the codestream is of another size")
    pixels = _codec(codec)(src + _END if codec == _JPEG_LS else src)
    if pixels.shape != (runner.rows, runner.columns) or pixels.dtype.kind not in "iu":
        raise ValueError("the decoded image is of another size")
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return pixels.tobytes()


def _codec(name: str) -> Any:
    import imagecodecs

    return getattr(imagecodecs, f"{name}_decode")


def _size_in_jpeg(src: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components of a JPEG or JPEG-LS codestream (ISO 10918-1 B.2.2)."""
    at = 2
    while at + 10 <= len(src):
        if src[at] != 0xFF:
            break
        marker = src[at + 1]
        if marker == 0xFF:  # fill
            at += 1
        elif marker in _FRAME_HEADERS:
            rows, columns, components = struct.unpack_from(">HHB", src, at + 5)
            return rows, columns, components
        else:
            at += 2 + struct.unpack_from(">H", src, at + 2)[0]
    raise ValueError("no frame header")


def _size_in_jpeg_2000(src: bytes) -> tuple[int, int, int]:
    """Return rows, columns and components of a JPEG 2000 codestream (ISO 15444-1 A.5.1), boxes before it or not."""
    at = src.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(src) < at + 42:
        raise ValueError("no image header")
    right, bottom, left, top, *tile = struct.unpack_from(">8I", src, at + 8)
    components = struct.unpack_from(">H", src, at + 40)[0]
    # What the standard forbids has ended a decoder's process, or kept it busy for ever: tiles of no size, or that begin
    # behind the image, or more of them than a codestream may have (ISO 15444-1 B.3, A.4.2); sampling other than 1.
    tile_width, tile_height, tile_left, tile_top = tile
    if not (
        tile_left <= left < tile_left + tile_width
        and tile_top <= top < tile_top + tile_height
        and -(-(right - tile_left) // tile_width) * -(-(bottom - tile_top) // tile_height) < 65536
        and src[at + 43 : at + 45] == b"\1\1"
    ):
        raise ValueError("the tiles or the sampling make no sense")
    return bottom - top, right - left, components


# --- a self-check, for ``lungct doctor`` ---


def broken_decoders() -> dict[str, str]:
    """Decode a small image of each codec, and say which transfer syntaxes do not work here and why."""
    problems: dict[str, str] = {}
    for codec in sorted(set(CODECS.values())):
        try:
            image = np.arange(64, dtype=np.uint16).reshape(8, 8)
            if not np.array_equal(_round_trip(codec, image), image):
                raise ValueError("other pixels came back")
        except Exception as error:
            for syntax in (uid for uid, name in CODECS.items() if name == codec):
                problems[syntax] = f"{type(error).__name__}: {error}"
    return problems


def _round_trip(codec: str, image: NDArray[np.uint16]) -> NDArray[Any]:
    """Encode without loss and decode again."""
    import imagecodecs

    if codec == _RLE:
        # PS3.5 G: a header of 64 bytes (two segments: high bytes, low bytes), then each segment's literal runs.
        runs = [b"".join(_literal(row) for row in plane) for plane in (image >> 8, image & 255)]
        header = struct.pack("<16I", 2, 64, 64 + len(runs[0]), *[0] * 13)
        data = imagecodecs.dicomrle_decode(header + b"".join(runs), np.dtype("<u2"), out=image.nbytes)
        return np.frombuffer(bytes(data), "<u2").reshape(image.shape)
    options = {_JPEG: {"lossless": True}, _JPEG_LS: {}}.get(codec, {"reversible": True})
    encoded = getattr(imagecodecs, f"{codec}_encode")(image, **options)
    decoded: NDArray[Any] = _codec(codec)(encoded)
    return decoded


def _literal(values: NDArray[np.uint16]) -> bytes:
    return bytes([len(values) - 1]) + values.astype(np.uint8).tobytes()
