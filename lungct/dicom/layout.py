"""The first bytes of a file -> whether it is DICOM, where its data set begins, and how that is written.

A file is recognised by the ``DICM`` mark after a preamble, or by a data set that begins at once (PS3.10 files without
preamble or file meta exist in every archive). If file meta and bytes disagree about explicit VRs or byte order, the
bytes are right.
"""

from __future__ import annotations

from dataclasses import dataclass

from lungct.dicom import elements
from lungct.dicom.elements import Source

_LITTLE_GROUP_8, _BIG_GROUP_8 = b"\x08\0", b"\0\x08"  # how nearly every data set begins
_META = frozenset({elements.TRANSFER_SYNTAX_UID, elements.MEDIA_STORAGE_SOP_CLASS_UID})


@dataclass(frozen=True, slots=True)
class Layout:
    """How a DICOM file is written.

    Attributes
    ----------
    start
        Where the data set begins, after preamble and file meta.
    transfer_syntax
        UID: from the file meta, unless there is none or the bytes contradict it.
    explicit, big_endian
        Whether the data set has VRs, and its byte order.
    media_class
        MediaStorageSOPClassUID of the file meta; empty if there is none.
    marked
        Whether the file has the ``DICM`` mark.

    """

    start: int
    transfer_syntax: str
    explicit: bool
    big_endian: bool
    media_class: str
    marked: bool


def find_layout(source: Source) -> Layout | None:
    """Return the layout of a DICOM file; None if the file is not DICOM.

    Raises
    ------
    HeaderTooLargeError
        If the file meta has too many elements.

    """
    head = source.read(0, 144)
    marked = head[128:132] == b"DICM"
    if marked:
        start = 132
    elif head[132:136] == b"\2\0\0\0" and elements.is_vr(head[136:138]):
        start = 132  # a preamble whose mark was wiped
    elif _plausible(head):
        start = 0
    else:
        return None
    transfer_syntax = media_class = ""
    if source.read(start, 2) == b"\2\0":
        # File meta is always explicit little endian (PS3.10 7.1), but a few writers make it implicit.
        explicit = elements.may_be_vr(source.read(start + 4, 2))
        meta = elements.walk(source, start, _META, explicit=explicit, stop=lambda tag: tag >> 16 != 2)
        values = meta.values
        transfer_syntax = _uid(values.get(elements.TRANSFER_SYNTAX_UID, b""))
        media_class = _uid(values.get(elements.MEDIA_STORAGE_SOP_CLASS_UID, b""))
        start = meta.end
    if transfer_syntax == elements.DEFLATED:
        return Layout(start, transfer_syntax, True, False, media_class, marked)
    first = source.read(start, 6)
    explicit = elements.may_be_vr(first[4:6])
    big_endian = first[:2] == _BIG_GROUP_8 or (
        transfer_syntax == elements.EXPLICIT_BIG and first[:2] != _LITTLE_GROUP_8
    )
    if not transfer_syntax or transfer_syntax in elements.UNCOMPRESSED:
        little_endian = elements.EXPLICIT_LITTLE if explicit else elements.IMPLICIT_LITTLE
        transfer_syntax = elements.EXPLICIT_BIG if big_endian else little_endian
    return Layout(start, transfer_syntax, explicit, big_endian, media_class, marked)


def _plausible(head: bytes) -> bool:
    """Return whether a file may start with a data set: with group 2 or 8, then a VR or a short length."""
    if len(head) < 16:
        return False
    if head[:2] in (b"\2\0", _LITTLE_GROUP_8):
        element, length = int.from_bytes(head[2:4], "little"), int.from_bytes(head[4:8], "little")
    elif head[:2] == _BIG_GROUP_8:
        element, length = int.from_bytes(head[2:4], "big"), int.from_bytes(head[4:8], "big")
    else:
        return False
    return elements.is_vr(head[4:6]) or (element < 0x1000 and length < 1024)


def _uid(raw: bytes) -> str:
    return raw.decode("ascii", "replace").strip(" \0")
