"""Bytes of a DICOM file -> the raw values of a few data elements, and where the pixel data begin.

Terms (PS3.5). A *data element* is a tag (group and element, here one integer 0xGGGGEEEE), perhaps a VR of two
letters, a length and a value. *Explicit* data sets write the VR, *implicit* ones do not. A *sequence* holds items that
hold data elements; its length may be *undefined* (0xFFFFFFFF), and then its end is marked by a delimiter.

Only the requested values are kept; everything else is skipped, sequences of any depth without recursion. The number of
steps is bounded, so that no header can cost more than a few seconds or megabytes. Values stay bytes: ``values.py``
interprets them.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

UNDEFINED = 0xFFFFFFFF

PIXEL_DATA = 0x7FE00010
_ANY_PIXEL_DATA = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})  # the others are floating point numbers
TRANSFER_SYNTAX_UID = 0x00020010
MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
"""Transfer syntaxes whose pixels are neither compressed nor deflated."""

MAY_BE_LOSSY = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 55, 81, 91, 203))
"""JPEG baseline, extended and full progression; JPEG-LS near lossless; JPEG 2000 and high-throughput JPEG 2000."""

MAX_STEPS = 1_000_000
"""Elements and items read in one header, at all depths: an enhanced CT of 2,000 frames has some 100,000."""
MAX_DEPTH = 64
"""Levels of nested sequences."""
MAX_VALUE = 64 << 10
"""Bytes of one kept value; longer ones are skipped, because the values that a CT reader needs are short."""
MAX_INFLATED_HEADER = 8 << 20
"""Bytes to which the header of a deflated file is inflated."""

_WINDOW = 16 << 10
_INFLATED_AT_ONCE = 4 << 20
_DELIMITERS = 0xFFFE  # the group of items and delimiters
ITEM, _ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# PS3.5 table 7.1-1: these VRs have two reserved bytes and a length of 32 bits.
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_VRS = _LONG_VRS | _SHORT_VRS


class HeaderTooLargeError(Exception):
    """A header beyond `MAX_STEPS` or `MAX_DEPTH`."""


class _EndOfDataError(Exception):
    """Too few bytes are left for a data element."""


class Source(Protocol):
    """Bytes that can be read at any offset."""

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes; fewer at the end."""
        ...


class FileSource:
    """An open file; its first bytes are kept in memory, because every header starts there."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size
        self._start = os.pread(fd, _WINDOW, 0)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes; fewer at the end."""
        if offset + count <= len(self._start):
            return self._start[offset : offset + count]
        return read_fully(self._fd, offset, count)


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes; fewer at the end."""
        return self._data[offset : offset + count]


def read_fully(fd: int, offset: int, count: int) -> bytes:
    """Read ``count`` bytes at an offset of a file; fewer only at its end."""
    data = os.pread(fd, count, offset)
    if len(data) == count or not data:
        return data
    parts = [data]
    have = len(data)
    while have < count:
        data = os.pread(fd, count - have, offset + have)
        if not data:
            break
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def inflate(source: Source, start: int, limit: int) -> bytes:
    """Inflate a deflated data set (PS3.5 A.5) that begins at ``start``, to at most ``limit`` bytes.

    Raises
    ------
    zlib.error
        If the stream is damaged.

    """
    data = bytearray()
    inflate_into(data, source, start, limit)
    return bytes(data)


def inflate_into(data: bytearray, source: Source, start: int, limit: int) -> None:
    """Inflate as `inflate` does, and append to ``data``, which has all that came before the damage of a stream.

    Raises
    ------
    zlib.error
        If the stream is damaged.

    """
    decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
    while len(data) < limit and not decompressor.eof:
        part = decompressor.unconsumed_tail or source.read(start, 1 << 20)
        if not part:
            break
        if not decompressor.unconsumed_tail:
            start += len(part)
        data += decompressor.decompress(part, min(limit - len(data), _INFLATED_AT_ONCE))


def is_vr(two: bytes) -> bool:
    """Return whether two bytes are a VR."""
    return two in _VRS


@dataclass(slots=True)
class Elements:
    """What `walk` found in a data set.

    Attributes
    ----------
    values
        Raw values by tag, of the requested tags.
    sequences
        Those of the requested tags that are sequences.
    pixel_tag, pixel_offset, pixel_length
        The pixel data element: its tag (0 if there is none), where its value starts, and its length (which may be
        `UNDEFINED`).
    end
        Where the walk stopped: at the pixel data element, or at what could not be read.
    broken
        The bytes stopped making sense, or ended within an element.

    """

    values: dict[int, bytes] = field(default_factory=dict)
    sequences: set[int] = field(default_factory=set)
    pixel_tag: int = 0
    pixel_offset: int = 0
    pixel_length: int = 0
    end: int = 0
    broken: bool = False


class _ElementReader:
    """Reads tag, VR and length of one data element after another, through a buffer.

    This is the hot path of reading headers: one call and one ``unpack`` for each element.
    """

    __slots__ = ("_base", "_buffer", "_explicit", "_implicit", "_last", "_size", "_source", "_steps")

    def __init__(self, source: Source, start: int, *, big_endian: bool) -> None:
        order = ">" if big_endian else "<"
        self._explicit = struct.Struct(order + "HH2sHI").unpack_from  # the short length, then the long one
        self._implicit = struct.Struct(order + "HHI").unpack_from
        self._source, self._size = source, source.size
        self._steps = 0
        self._base = start
        # What is left of the bytes that a FileSource holds in memory, where that is enough.
        self._buffer = source.read(start, _WINDOW - start if start < _WINDOW - 12 else _WINDOW)
        self._last = len(self._buffer) - 12  # the last place in it where an element's start is whole

    def element(self, position: int, explicit: bool) -> tuple[int, bytes, int, int]:
        """Return an element's tag, VR (empty if it has none), length and the offset of its value.

        Raises
        ------
        _EndOfDataError
            If the data end before the value would begin.
        HeaderTooLargeError
            If more than `MAX_STEPS` elements were read.

        """
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise HeaderTooLargeError
        at = position - self._base
        if at > self._last:
            self._fill(position)
            at = 0
        if explicit:
            group, number, vr, short, long = self._explicit(self._buffer, at)
            if vr in _SHORT_VRS:
                return group << 16 | number, vr, short, position + 8
            if vr in _LONG_VRS:
                if position + 12 > self._size:
                    raise _EndOfDataError
                return group << 16 | number, vr, long, position + 12
        # Implicit, or an element of an explicit data set that some anonymiser wrote without its VR.
        group, number, length = self._implicit(self._buffer, at)
        return group << 16 | number, b"", length, position + 8

    def value(self, position: int, length: int) -> bytes:
        """Return the bytes of a value."""
        at = position - self._base
        if at + length <= len(self._buffer):
            return self._buffer[at : at + length]
        return self._source.read(position, length)

    def only_padding(self, position: int) -> bool:
        """Return whether nothing but zeros follows, as far as the buffer reaches."""
        return not self.value(position, max(12, len(self._buffer) - (position - self._base))).strip(b"\0")

    def _fill(self, position: int) -> None:
        self._buffer, self._base = self._source.read(position, _WINDOW), position
        if len(self._buffer) < 8:
            raise _EndOfDataError
        self._buffer = self._buffer.ljust(12, b"\0")
        self._last = len(self._buffer) - 12


def walk(
    source: Source,
    start: int,
    wanted: frozenset[int],
    *,
    explicit: bool,
    big_endian: bool = False,
    stop: Callable[[int], bool] | None = None,
) -> Elements:
    """Read a data set up to its pixel data and keep the values of the requested tags.

    Parameters
    ----------
    source
        The file.
    start
        Where the data set begins.
    wanted
        Tags whose values to keep.
    explicit, big_endian
        How the data set is written.
    stop
        Stop before the first tag for which this is true.

    Raises
    ------
    HeaderTooLargeError
        If the header is longer or deeper than any real one.

    """
    found = Elements(end=start)
    reader = _ElementReader(source, start, big_endian=big_endian)
    read_element = reader.element
    position, size = start, source.size
    try:
        while True:
            found.end = position
            tag, vr, length, value = read_element(position, explicit)
            if stop is not None and stop(tag):
                return found
            if tag in _ANY_PIXEL_DATA:
                found.pixel_tag, found.pixel_offset, found.pixel_length = tag, value, length
                return found
            if tag == 0 or tag >> 16 == _DELIMITERS:
                found.broken = not reader.only_padding(position)
                return found
            if length == UNDEFINED:
                if tag in wanted:
                    found.sequences.add(tag)
                end = _end_of_sequence(reader, value, size, explicit=_vrs_inside(explicit, vr))
                if end is None:
                    found.broken = True
                    return found
                position = end
                continue
            position = value + length
            if position > size:
                found.broken = True
                return found
            if tag in wanted:
                if vr == b"SQ":
                    found.sequences.add(tag)
                elif length <= MAX_VALUE:
                    found.values[tag] = reader.value(value, length)
                elif not explicit:
                    found.sequences.add(tag)
    except _EndOfDataError:
        found.broken = not reader.only_padding(position)
        return found


def _vrs_inside(explicit: bool, vr: bytes) -> bool:
    """Return whether the elements in a sequence have VRs: not if its own is missing or unknown (PS3.5 6.2.2)."""
    return explicit and vr not in (b"UN", b"")


def _end_of_sequence(reader: _ElementReader, position: int, size: int, *, explicit: bool) -> int | None:
    """Return where a sequence of undefined length ends; None if its bytes make no sense or end too early."""
    levels = [(True, explicit)]  # of each open level: whether items follow (else elements), whether those have VRs
    try:
        while position <= size:
            items, vrs = levels[-1]
            tag, vr, length, value = reader.element(position, vrs and not items)
            if items:
                position += 8  # items and delimiters have no VR
                if tag == ITEM:
                    if length == UNDEFINED:
                        levels.append((False, vrs))
                    else:
                        position += length
                elif tag == SEQUENCE_END:
                    levels.pop()
                    if not levels:
                        return position
                else:
                    return None
            elif tag == _ITEM_END:
                position += 8
                levels.pop()
            elif length == UNDEFINED:
                position = value
                levels.append((True, _vrs_inside(vrs, vr)))
                if len(levels) > MAX_DEPTH:
                    raise HeaderTooLargeError
            else:
                position = value + length
    except _EndOfDataError:
        pass
    return None
