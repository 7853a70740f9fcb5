"""Compressed transfer syntaxes: which imagecodecs codec decodes each, and how pydicom calls it.

imagecodecs includes libjpeg-turbo, CharLS, OpenJPEG and its own RLE. This module is a decoding plugin for pydicom:
`DECODER_DEPENDENCIES`, `is_available` and `decode_frame` have the names and signatures that pydicom's guide "Pixel data
decoder plugins" prescribes. What a codestream claims about its size is compared with Rows and Columns before its
decoder may allocate anything. `broken_decoders` is the self-check of ``lungct doctor``.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

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

# CharLS searches for seconds for what is missing from a codestream that was cut short, unless it ends with this marker.
_END_OF_IMAGE = b"\xff\xd9"
# Markers of frame headers: SOF0 to SOF15, but for DHT, JPG and DAC among them, and SOF55 of JPEG-LS.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}

DECODER_DEPENDENCIES = dict.fromkeys(CODECS, ("numpy", "imagecodecs"))


def is_available(uid: str) -> bool:
    """Return whether this plugin decodes a transfer syntax."""
    return uid in CODECS


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes | bytearray:
    """Decode one frame for pydicom, from a codestream to little-endian pixels."""
    codec = CODECS[str(runner.transfer_syntax)]
    if codec == _RLE:
        from imagecodecs import dicomrle_decode

        frame = dicomrle_decode(src, np.dtype(f"<u{runner.bits_allocated // 8}"), out=int(runner.frame_length()))
        return bytes(frame)
    size_in = _size_in_jpeg_2000 if codec == _JPEG_2000 else _size_in_jpeg
    if size_in(src) != (runner.rows, runner.columns, 1):
        raise ValueError("the codestream has another size")
    pixels = _codec(codec)(src + _END_OF_IMAGE if codec == _JPEG_LS else src)
    if pixels.shape != (runner.rows, runner.columns) or pixels.dtype.kind not in "iu":
        raise ValueError("the decoded image has another size")
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
    """Return rows, columns and components of a JPEG 2000 codestream (ISO 15444-1 A.5.1); boxes may precede it."""
    at = src.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(src) < at + 42:
        raise ValueError("no image header")
    right, bottom, left, top, *tile = struct.unpack_from(">8I", src, at + 8)
    components = struct.unpack_from(">H", src, at + 40)[0]
    # Some of what the standard forbids crashes OpenJPEG or keeps it busy forever: tiles of size 0, tiles that begin
    # beyond the image, more tiles than a codestream may have (ISO 15444-1 B.3, A.4.2), sampling other than 1.
    tile_width, tile_height, tile_left, tile_top = tile
    if not (
        tile_left <= left < tile_left + tile_width
        and tile_top <= top < tile_top + tile_height
        and math.ceil((right - tile_left) / tile_width) * math.ceil((bottom - tile_top) / tile_height) < 65536
        and src[at + 43 : at + 45] == b"\1\1"
    ):
        raise ValueError("the tiles or the sampling are invalid")
    return bottom - top, right - left, components


def broken_decoders() -> dict[str, str]:
    """Decode a small image with each codec; return what went wrong, by transfer syntax."""
    problems: dict[str, str] = {}
    for codec in sorted(set(CODECS.values())):
        try:
            image = np.arange(64, dtype=np.uint16).reshape(8, 8)
            if not np.array_equal(_round_trip(codec, image), image):
                raise ValueError("decoding returned other pixels")
        except Exception as error:
            for syntax in (uid for uid, name in CODECS.items() if name == codec):
                problems[syntax] = f"{type(error).__name__}: {error}"
    return problems


def _round_trip(codec: str, image: NDArray[np.uint16]) -> NDArray[Any]:
    """Encode an image without loss and decode it again."""
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
