"""The bytes of an image in a deflated file (PS3.5 A.5): a file with many images is inflated once for all of them.

A few hundred kilobytes may expand to gigabytes. So the file of a single image is inflated up to the end of that image,
and the file of many images must not expand to more than `MAX_INFLATED`, of which the last such file is kept.
"""

from __future__ import annotations

import os
import threading
import zlib
from contextlib import suppress

from lungct.dicom import elements
from lungct.dicom.slices import Encoding
from lungct.errors import SeriesError

MAX_INFLATED = 512 << 20
"""Bytes to which a file with many images is inflated: 1,024 images of 512 x 512 pixels."""

_Key = tuple[str, int, int, Encoding]
_last: dict[_Key, bytearray] = {}  # at most one
_lock = threading.Lock()


def inflated_image(fd: int, path: str, encoding: Encoding, start: int, size: int) -> bytearray:
    """Return the bytes of one image in a deflated file; fewer if the file ends, or its stream is damaged, before.

    Parameters
    ----------
    fd, path
        The open file, and its path.
    encoding
        How its pixels are written.
    start, size
        Where the image lies in the inflated bytes.

    Raises
    ------
    SeriesError
        ``limits``, if the file has many images and they exceed `MAX_INFLATED`.

    """
    if encoding.frames == 1:
        return _inflated(fd, encoding, start + size)[start:]
    total = encoding.offset + encoding.frames * size
    if total > MAX_INFLATED:
        raise SeriesError(
            f"the {encoding.frames} images of a deflated file have {total >> 20} MiB, more than {MAX_INFLATED >> 20}",
            code="limits",
        )
    status = os.fstat(fd)
    key = (path, status.st_mtime_ns, status.st_size, encoding)
    with _lock:
        if key not in _last:
            _last.clear()  # before the next is inflated: there is room for one
            _last[key] = _inflated(fd, encoding, total)
        return _last[key][start : start + size]


def _inflated(fd: int, encoding: Encoding, limit: int) -> bytearray:
    data = bytearray()
    with suppress(zlib.error):  # the images before the damage are whole
        elements.inflate_into(data, elements.FileSource(fd), encoding.data_set, limit)
    return data
