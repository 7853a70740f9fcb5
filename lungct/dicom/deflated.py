"""A deflated data set (PS3.5 A.5) -> its inflated bytes, from any place on.

A deflated stream can only be inflated from its beginning, and a few kilobytes may expand to terabytes. `Inflated` never
inflates beyond what is asked for, and marks places on the way, so that the next frame of a multi-frame file does not
begin at the beginning again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from lungct.dicom.elements import Source

_CHUNK = 64 << 10
"""Deflated bytes read at once; each mark may keep as many."""
_STEP = 1 << 20
"""Inflated bytes passed over at once."""
_FIRST_INTERVAL = 16 << 20
"""Inflated bytes between two marks, at first."""
_MAX_MARKS = 64
"""Each costs some 100 KiB of memory."""


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place from which inflating can go on: its offsets in the inflated and in the deflated bytes."""

    inflated: int
    deflated: int
    state: Any  # zlib's decompressor, whose type has no public name


class Inflated:
    """The inflated bytes of a data set that begins at ``start``."""

    def __init__(self, start: int) -> None:
        self._marks = [_Mark(0, start, zlib.decompressobj(-zlib.MAX_WBITS))]
        self._interval = _FIRST_INTERVAL
        self._latest = self._marks[0]

    def read(self, source: Source, offset: int, count: int) -> bytes:
        """Return up to ``count`` inflated bytes from an offset on; fewer at the end.

        Raises
        ------
        zlib.error
            If the stream is damaged.

        """
        mark = max(
            (mark for mark in (*self._marks, self._latest) if mark.inflated <= offset), key=lambda mark: mark.inflated
        )
        state, at, place = mark.state.copy(), mark.inflated, mark.deflated
        parts: list[bytes] = []
        while at < offset + count and not state.eof:
            data = state.unconsumed_tail
            if not data:
                data = source.read(place, _CHUNK)
                place += len(data)
            part = state.decompress(data, min(offset - at, _STEP) if at < offset else offset + count - at)
            if not data and not part:  # at the end, what zlib still holds is inflated without new data
                break
            if at >= offset:
                parts.append(part)
            at += len(part)
            if at - self._marks[-1].inflated >= self._interval:
                self._add(_Mark(at, place, state.copy()))
        self._latest = _Mark(at, place, state)
        return b"".join(parts)

    def _add(self, mark: _Mark) -> None:
        self._marks = [*self._marks, mark]
        if len(self._marks) > _MAX_MARKS:
            self._marks = self._marks[::2]
            self._interval *= 2


def inflate(source: Source, start: int, limit: int) -> bytes:
    """Inflate a data set that begins at ``start``, to at most ``limit`` bytes.

    Raises
    ------
    zlib.error
        If the stream is damaged.

    """
    return Inflated(start).read(source, 0, limit)
