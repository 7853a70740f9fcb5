"""Bytes of a DICOM file -> the raw values of a few data elements, and where the pixel data lie.

Terms (PS3.5). A *data element* is a tag (group and element, here one integer 0xGGGGEEEE), perhaps a VR of two
letters, a length and a value. *Explicit* data sets write the VR, *implicit* ones do not. A *sequence* holds items that
hold data elements; its length may be *undefined* (0xFFFFFFFF), and then its end is marked by a delimiter.

Only what is asked for is kept; everything else is stepped over, sequences of any depth without recursion, and the
number of steps is bounded, so that no header can cost more than a few seconds or megabytes. Nothing is ever guessed
from a file's name. Values stay bytes: what they mean is said in ``headers.py``.
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
FLOAT_PIXEL_DATA = (0x7FE00008, 0x7FE00009)
TRANSFER_SYNTAX_UID = 0x00020010
MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = (IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG)
"""Transfer syntaxes whose pixels stand in the file as they are."""

MAX_STEPS = 1_000_000
"""Elements and items that one header may have: an enhanced CT of 2,000 frames has some 100,000."""
MAX_DEPTH = 64
MAX_VALUE = 64 << 10
"""Bytes of one kept value; those that are asked for are short."""
MAX_INFLATED_HEADER = 8 << 20

_WINDOW = 16 << 10
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
# PS3.5 table 7.1-1: these VRs have two reserved bytes and a length of 32 bits.
_LONG_VRS = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VRS = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN"}
    | {b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
VRS = _LONG_VRS | _SHORT_VRS


class TooMuch(Exception):
    """A header beyond `MAX_STEPS`, `MAX_DEPTH` or `MAX_INFLATED_HEADER`."""


class Source(Protocol):
    """Bytes that can be read from any place."""

    size: int

    def read(self, offset: int, count: int) -> bytes:
        """Return up to ``count`` bytes; fewer at the end."""
        ...


class FileSource:
    """An open file; the first window is kept, because every header starts there."""

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
    """Read ``count`` bytes from a place in a file; fewer only at its end."""
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
    """Inflate a deflated data set (PS3.5 A.5) from ``start``, no further than ``limit`` bytes of output.

    Raises
    ------
    zlib.error
        The stream is damaged.

    """
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    have = 0
    while have < limit and not machine.eof:
        data = machine.unconsumed_tail or source.read(start, 1 << 20)
        if not data:
            break
        if not machine.unconsumed_tail:
            start += len(data)
        parts.append(machine.decompress(data, limit - have))
        have += len(parts[-1])
    return b"".join(parts)


@dataclass(slots=True)
class Elements:
    """What `walk` found.

    Attributes
    ----------
    values
        Raw values by tag, of the tags asked for.
    sequences
        Tags of the sequences asked for that are there.
    pixel_tag, pixel_offset, pixel_length
        The pixel data's element: 0 where there is none; where its value starts; the length, perhaps `UNDEFINED`.
    end
        Where the walk stopped: the start of the pixel data's element, or of what could not be read.
    broken
        The bytes stopped making sense, or ended within an element.

    """

    values: dict[int, bytes] = field(default_factory=dict)
    sequences: set[int] = field(default_factory=set)
    pixel_tag: int = 0
    pixel_vr: bytes = b""
    pixel_offset: int = 0
    pixel_length: int = 0
    end: int = 0
    broken: bool = False


def is_vr(two: bytes) -> bool:
    """Whether two bytes are a VR."""
    return two in VRS


def walk(
    source: Source,
    start: int,
    wanted: frozenset[int],
    *,
    explicit: bool,
    big_endian: bool = False,
    stop: Callable[[int], bool] | None = None,
) -> Elements:
    """Step over a data set up to its pixel data and keep the values asked for.

    Parameters
    ----------
    source
        The file.
    start
        Where the data set begins.
    wanted
        Tags whose values to keep.
    explicit, big_endian
        How it is written.
    stop
        Stop before the first tag for which this is true.

    Raises
    ------
    TooMuch
        The header is longer or deeper than any real one.

    """
    found = Elements()
    values = found.values
    order = ">" if big_endian else "<"
    unpack_tag = struct.Struct(order + "HH").unpack_from
    unpack_short = struct.Struct(order + "H").unpack_from
    unpack_long = struct.Struct(order + "I").unpack_from
    size = source.size
    buffer, base = source.read(start, _WINDOW - start if start < _WINDOW - 12 else _WINDOW), start
    position = start
    for _ in range(MAX_STEPS):
        found.end = position
        at = position - base
        if at + 12 > len(buffer):
            buffer, base, at = source.read(position, _WINDOW), position, 0
            if len(buffer) < 8:
                # Trailing zeros are padding; anything else is the start of something that was cut off.
                found.broken = bool(buffer.strip(b"\0"))
                return found
        group, element = unpack_tag(buffer, at)
        tag = group << 16 | element
        if stop is not None and stop(tag):
            return found
        vr = buffer[at + 4 : at + 6] if explicit else b""
        if vr in _SHORT_VRS:
            length, value = unpack_short(buffer, at + 6)[0], position + 8
        elif vr in _LONG_VRS:
            if len(buffer) < at + 12:
                found.broken = True
                return found
            length, value = unpack_long(buffer, at + 8)[0], position + 12
        else:  # implicit, or an element of an explicit data set that some anonymiser wrote without its VR
            length, value, vr = unpack_long(buffer, at + 4)[0], position + 8, b""
        if tag == PIXEL_DATA or tag in FLOAT_PIXEL_DATA:
            found.pixel_tag, found.pixel_vr = tag, vr
            found.pixel_offset, found.pixel_length = value, length
            return found
        if tag == 0 or group == 0xFFFE:
            found.broken = bool(buffer[at:].strip(b"\0"))
            return found
        if length == UNDEFINED:
            if tag in wanted:
                found.sequences.add(tag)
            inside = explicit and vr not in (b"UN", b"")
            position = _after_sequence(source, value, explicit=inside, order=order)
            if position < 0:
                found.broken = True
                return found
            continue
        if value + length > size:
            found.broken = True
            return found
        if tag in wanted:
            if vr == b"SQ":
                found.sequences.add(tag)
            elif length <= MAX_VALUE:
                first = value - base
                if first + length <= len(buffer):
                    values[tag] = buffer[first : first + length]
                else:
                    values[tag] = source.read(value, length)
            elif not explicit:
                found.sequences.add(tag)
        position = value + length
    raise TooMuch


def _after_sequence(source: Source, position: int, *, explicit: bool, order: str) -> int:
    """Return where a sequence of undefined length ends; -1 where its bytes make no sense or end too early.

    One stack entry for each open level: None for a sequence (items follow), else whether an item's data elements are
    written with VRs.
    """
    unpack_tag = struct.Struct(order + "HH").unpack_from
    unpack_short = struct.Struct(order + "H").unpack_from
    unpack_long = struct.Struct(order + "I").unpack_from
    stack: list[tuple[bool, bool]] = [(True, explicit)]  # (items follow, VRs inside)
    buffer, base = b"", position
    for _ in range(MAX_STEPS):
        at = position - base
        if at + 12 > len(buffer):
            buffer, base, at = source.read(position, _WINDOW), position, 0
            if len(buffer) < 8:
                return -1
        group, element = unpack_tag(buffer, at)
        tag = group << 16 | element
        items, with_vr = stack[-1]
        if items or tag == _ITEM_END:
            length = unpack_long(buffer, at + 4)[0]
            position += 8
            if tag == _ITEM and items:
                if length == UNDEFINED:
                    stack.append((False, with_vr))
                else:
                    position += length
            elif tag == (_SEQUENCE_END if items else _ITEM_END):
                stack.pop()
                if not stack:
                    return position
            else:
                return -1
        else:
            vr = buffer[at + 4 : at + 6] if with_vr else b""
            if vr in _SHORT_VRS:
                length = unpack_short(buffer, at + 6)[0]
                position += 8
            elif vr in _LONG_VRS:
                if len(buffer) < at + 12:
                    return -1
                length = unpack_long(buffer, at + 8)[0]
                position += 12
            else:
                length, vr = unpack_long(buffer, at + 4)[0], b""
                position += 8
            if length == UNDEFINED:
                stack.append((True, with_vr and vr not in (b"UN", b"")))
                if len(stack) > MAX_DEPTH:
                    raise TooMuch
            else:
                position += length
        if position > source.size:
            return -1
    raise TooMuch
