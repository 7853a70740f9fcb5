"""Compressed transfer syntaxes: one frame's codestream -> its samples, by one imagecodecs codec for each.

imagecodecs includes libjpeg-turbo, CharLS, OpenJPEG and its own RLE. What a codestream claims about its size is
compared with Rows and Columns before its decoder may allocate anything. A codestream has a *precision* of its own, the
bits of a sample, which may be more or fewer than BitsStored.

`broken_decoders` is the self-check of ``lungct doctor``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    # OpenJPH is three times as fast for high-throughput JPEG 2000, but crashes on damaged codestreams.
    "1.2.840.10008.1.2.4.201": _JPEG_2000,  # high-throughput JPEG 2000, lossless
    "1.2.840.10008.1.2.4.202": _JPEG_2000,
    "1.2.840.10008.1.2.4.203": _JPEG_2000,
    "1.2.840.10008.1.2.5": _RLE,
}
"""The imagecodecs codec that decodes each compressed transfer syntax."""

_END_OF_IMAGE = b"\xff\xd9"
"""The marker that ends a codestream of JPEG, JPEG-LS and JPEG 2000 (ISO 10918-1 B.1.1.3, 15444-1 A.4.4)."""
_PADDING = 8
"""Zeros after a codestream that may be padding; more stand in the place of its end, as in a file half downloaded."""
_LOSSLESS_FRAMES = frozenset({0xC3, 0xC7, 0xCB, 0xCF})
# SOF0 to SOF15, but for DHT, JPG and DAC among them, and SOF55 of JPEG-LS.
_JPEG_LS_FRAME = 0xF7
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {_JPEG_LS_FRAME}
_START_OF_SCAN = 0xDA
_CODING_STYLE = 0x52


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What a decoder returns for one frame.

    Attributes
    ----------
    values
        Integers, shape (rows, columns), signed or not as the codestream says.
    precision
        Bits of a sample in the codestream.
    lossy
        Whether the codestream is of a kind that loses something: its samples are near the original ones, so one may be
        a little beyond the largest or the smallest of those.

    """

    values: NDArray[np.integer[Any]]
    precision: int
    lossy: bool


def decode(stream: bytes, transfer_syntax: str, *, rows: int, columns: int, bits_allocated: int) -> Samples:
    """Decode one frame of a compressed transfer syntax.

    Raises
    ------
    ImportError or AttributeError
        If imagecodecs is not installed or lacks the codec.
    MemoryError
        If the image does not fit into memory.
    Exception
        Of any kind, if the codestream is damaged or contradicts the header; its message may quote the file.

    """
    name = CODECS[transfer_syntax]
    codec = _codec(name)
    if name == _RLE:
        unpacked = codec(stream, np.dtype(f"<u{bits_allocated // 8}"), out=rows * columns * bits_allocated // 8)
        values = np.frombuffer(bytes(unpacked), f"<u{bits_allocated // 8}").reshape(rows, columns)
        return Samples(values, bits_allocated, lossy=False)
    claim = _jpeg_2000_claim(stream) if name == _JPEG_2000 else _jpeg_claim(stream)
    if (claim.rows, claim.columns, claim.components) != (rows, columns, 1):
        raise ValueError("the codestream has another size")
    if claim.precision > bits_allocated:
        raise ValueError("the codestream has more bits than BitsAllocated")
    # CharLS searches for seconds for what is missing from a codestream that was cut short, unless it has an end.
    values = codec(stream + _END_OF_IMAGE if name == _JPEG_LS else stream)
    if not _has_end(stream) and not _is_complete_without_end(stream, name, values):
        raise ValueError("the codestream is cut short")
    if values.shape != (rows, columns) or values.dtype.kind not in "iu":
        raise ValueError("the decoded image has another size")
    # Lossless JPEG wraps around at 16 bits, so that some writers claim 12 bits and write more.
    return Samples(values, max(claim.precision, int(values.max()).bit_length()), claim.lossy)


def _has_end(stream: bytes) -> bool:
    """Return whether a codestream has its last marker, perhaps with a byte or two of padding, which may be anything."""
    return _END_OF_IMAGE in stream[-4:] or _END_OF_IMAGE in stream.rstrip(b"\0")[-4:]


def _is_complete_without_end(stream: bytes, name: str, values: NDArray[np.integer[Any]]) -> bool:
    """Return whether a codestream that lacks its last marker, as some writers leave it, lacks nothing else.

    libjpeg makes up what is missing, so that an image that was cut short has no other sign of it: it depends on what
    follows the data.
    """
    data = stream.rstrip(b"\0")
    if name != _JPEG:
        return len(stream) - len(data) <= _PADDING
    padding = stream[len(data) : len(data) + _PADDING]
    return np.array_equal(values, _codec(name)(data + padding + b"\xaa" * 64))


def _codec(name: str) -> Any:
    import imagecodecs

    return getattr(imagecodecs, f"{name}_decode")


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the header of a codestream says about the image."""

    rows: int
    columns: int
    components: int
    precision: int
    lossy: bool


def _segments(stream: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yield each marker of a codestream's header from an offset on, with the offset of its segment's length."""
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        yield marker, at + 2
        at += 2 + struct.unpack_from(">H", stream, at + 2)[0]


def _jpeg_claim(stream: bytes) -> _Claim:
    """Return what a JPEG or JPEG-LS codestream claims (ISO 10918-1 B.2.2, ISO 14495-1 C.2)."""
    segments = _segments(stream, 2)
    for marker, at in segments:
        if marker in _FRAMES:
            precision, rows, columns, components = struct.unpack_from(">BHHB", stream, at + 2)
            lossy = _is_near_lossless(stream, segments) if marker == _JPEG_LS_FRAME else marker not in _LOSSLESS_FRAMES
            return _Claim(rows, columns, components, precision, lossy)
    raise ValueError("no frame header")


def _is_near_lossless(stream: bytes, segments: Iterator[tuple[int, int]]) -> bool:
    """Return whether the scan of a JPEG-LS codestream allows a difference (NEAR in ISO 14495-1 C.2.3)."""
    for marker, at in segments:
        if marker == _START_OF_SCAN:
            return stream[at + 3 + 2 * stream[at + 2]] > 0
    raise ValueError("no scan header")


def _jpeg_2000_claim(stream: bytes) -> _Claim:
    """Return what a JPEG 2000 codestream claims (ISO 15444-1 A.5.1, A.6.1); boxes may precede it."""
    at = stream.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(stream) < at + 42:
        raise ValueError("no image header")
    right, bottom, left, top, *tile = struct.unpack_from(">8I", stream, at + 8)
    components = struct.unpack_from(">H", stream, at + 40)[0]
    # Some of what the standard forbids crashes OpenJPEG or keeps it busy forever: tiles of size 0, tiles that begin
    # beyond the image, more tiles than a codestream may have (ISO 15444-1 B.3, A.4.2), sampling other than 1.
    tile_width, tile_height, tile_left, tile_top = tile
    if not (
        tile_left <= left < tile_left + tile_width
        and tile_top <= top < tile_top + tile_height
        and math.ceil((right - tile_left) / tile_width) * math.ceil((bottom - tile_top) / tile_height) < 65536
        and stream[at + 43 : at + 45] == b"\1\1"
    ):
        raise ValueError("the tiles or the sampling are invalid")
    precision = (stream[at + 42] & 0x7F) + 1  # the first bit says whether samples are signed
    return _Claim(bottom - top, right - left, components, precision, _is_irreversible(stream, at + 2))


def _is_irreversible(stream: bytes, at: int) -> bool:
    """Return whether a JPEG 2000 codestream uses the wavelet that loses something (ISO 15444-1 A.6.1)."""
    return any(marker == _CODING_STYLE and stream[start + 11] == 0 for marker, start in _segments(stream, at))


def broken_decoders() -> dict[str, str]:
    """Decode a small image in each transfer syntax's codec; return what went wrong, by transfer syntax."""
    image = np.arange(64, dtype=np.uint16).reshape(8, 8)
    problems: dict[str, str] = {}
    for syntax, codec in CODECS.items():
        try:
            decoded = decode(_encoded(codec, image), syntax, rows=8, columns=8, bits_allocated=16)
            if not np.array_equal(decoded.values, image):
                raise ValueError("decoding returned other pixels")
        except Exception as error:
            problems[syntax] = f"{type(error).__name__}: {error}"
    return problems


def _encoded(codec: str, image: NDArray[np.uint16]) -> bytes:
    """Encode an image without loss."""
    import imagecodecs

    if codec == _RLE:
        # PS3.5 G: a header of 64 bytes (two segments: high bytes, low bytes), then each segment's literal runs.
        runs = [b"".join(_literal(row) for row in plane) for plane in (image >> 8, image & 255)]
        return struct.pack("<16I", 2, 64, 64 + len(runs[0]), *[0] * 13) + b"".join(runs)
    options: dict[str, Any] = {_JPEG: {"lossless": True}, _JPEG_2000: {"reversible": True}}.get(codec, {})
    return bytes(getattr(imagecodecs, f"{codec}_encode")(image, **options))


def _literal(values: NDArray[np.uint16]) -> bytes:
    return bytes([len(values) - 1]) + values.astype(np.uint8).tobytes()
