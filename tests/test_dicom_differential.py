"""`lungct.dicom.elements` and `values` read what pydicom reads, from whole files, odd ones and damaged ones.

They re-implement a part of pydicom's reader, for speed, and must not drift from it. On damage the two may differ in the
ways that `Difference` lists, and in no other. The number of mutated files is ten times LUNGCT_FUZZ_EXAMPLES (200).
"""

from __future__ import annotations

import io
import logging
import os
import random
import struct
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_partial
from pydicom.sequence import Sequence as Items
from support import ROOT
from support import ct_files as make

from lungct.dicom import elements
from lungct.dicom.deflated import inflate
from lungct.dicom.elements import Elements
from lungct.dicom.layout import Layout, find_layout
from lungct.dicom.values import TAGS, WANTED, Values

pytestmark = pytest.mark.filterwarnings("ignore")

MUTATED = 10 * int(os.environ.get("LUNGCT_FUZZ_EXAMPLES", "200"))
KEYWORDS = {tag: keyword for keyword, tag in TAGS.items()}


@pytest.fixture(autouse=True)
def silent_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("pydicom"), "disabled", True)


class Difference(Enum):
    """What may tell the two readers apart, all of it damage; without any, they read the same."""

    NONE = "none"
    NOT_RECOGNISED = "we recognise no DICOM, because neither mark nor first bytes show it; pydicom is forced to read on"
    TOO_LARGE = "we refuse a header of absurd length or depth"
    PYDICOM_RAISES = "pydicom raises an error, and we call the file broken or recognise no DICOM"
    INTERPRETED = "pydicom raises an error over a VR or a value that it interprets at once; we keep the bytes"
    SKIPPED_ITEM = "pydicom raises an error for what is in an item; we skip items of defined length unread"
    CUT_WHILE_DEFLATED = "a deflated stream is damaged: pydicom inflates it whole, we the header only"
    OTHER_ENCODING = "mark, file meta and bytes disagree about place, VRs or byte order: we believe the bytes"
    DAMAGED_META = "an element of the file meta is damaged: we stop there; pydicom reads on, or takes it for a command"
    NO_VR = "pydicom takes two bytes for a VR that are not two capitals; we read an element without VR"
    NOTHING_KEPT = "a value of undefined length does not end: we keep what comes before it, pydicom nothing"
    STRAY_TAG = "we stop at tag 0 and at a delimiter outside a sequence; pydicom reads on"
    DAMAGED_SEQUENCE = "we stop at a sequence of undefined length that has no items; pydicom takes anything for an item"
    CUT = "an element ends beyond the file: we stop, pydicom keeps what is left of it"


@dataclass
class Ours:
    """What lungct reads of a file."""

    layout: Layout
    found: Elements
    body: bytes

    @property
    def values(self) -> Values:
        return Values(self.found.values, big_endian=self.layout.big_endian)


def ours(data: bytes) -> Ours | None:
    source = elements.BytesSource(data)
    layout = find_layout(source)
    if layout is None:
        return None
    body, start = data, layout.start
    if layout.transfer_syntax == elements.DEFLATED:
        body, start = inflate(source, start, elements.MAX_INFLATED_HEADER), 0
    found = elements.walk(
        elements.BytesSource(body), start, WANTED, explicit=layout.explicit, big_endian=layout.big_endian
    )
    return Ours(layout, found, body)


def theirs(data: bytes) -> FileDataset:
    return dcmread(io.BytesIO(data), specific_tags=sorted(WANTED), stop_before_pixels=True, force=True)


def _items(ds: FileDataset) -> dict[int, Any]:
    return {int(tag): ds.get_item(tag) for tag in list(ds.keys()) if int(tag) in WANTED}


def difference(data: bytes) -> Difference:
    """Compare the two readers on a file; fail unless they agree but for a difference that is listed."""
    try:
        mine = ours(data)
    except elements.HeaderTooLargeError:
        return Difference.TOO_LARGE
    except zlib.error:
        return Difference.CUT_WHILE_DEFLATED
    try:
        ds = theirs(data)
        held = _items(ds)
    except Exception as error:
        if mine is None or mine.found.broken:
            return Difference.PYDICOM_RAISES
        if isinstance(error, (NotImplementedError, BytesLengthException)):
            return Difference.INTERPRETED
        if any(frame.name == "read_sequence_item" for frame in traceback.extract_tb(error.__traceback__)):
            return Difference.SKIPPED_ITEM
        if mine.layout.transfer_syntax == elements.DEFLATED:
            return Difference.CUT_WHILE_DEFLATED
        raise
    if mine is None:
        assert data[128:132] != b"DICM"
        return Difference.NOT_RECOGNISED
    unlike = [KEYWORDS[tag] for tag in held.keys() | mine.found.values.keys() | mine.found.sequences
              if not _alike(mine, tag, held.get(tag))]  # fmt: skip
    return explanation(data, mine, ds, held, unlike) if unlike else Difference.NONE


def _alike(mine: Ours, tag: int, held: Any) -> bool:
    found = mine.found
    if tag in found.sequences:
        return held is not None and (held.VR in ("SQ", "UN", None) or held.length > elements.MAX_VALUE)
    if held is None or tag not in found.values:
        return False
    if isinstance(held, RawDataElement):
        return (held.value or b"") == found.values[tag]
    if held.is_empty:
        return not found.values[tag]
    return tag == TAGS["SpecificCharacterSet"]  # which pydicom interprets at once


def explanation(data: bytes, mine: Ours, ds: FileDataset, held: dict[int, Any], unlike: list[str]) -> Difference:
    """Return which of the listed differences it is."""
    found, layout = mine.found, mine.layout
    encoding = (not layout.explicit, not layout.big_endian)
    if ds.original_encoding != encoding or (data[128:132] != b"DICM" and layout.start >= 132):
        return Difference.OTHER_ENCODING
    if data[layout.start : layout.start + 2] in (b"\2\0", b"\0\0"):
        return Difference.DAMAGED_META
    if not all(vr is None or elements.may_be_vr(vr.encode("latin-1")) for vr in _vrs(data)):
        return Difference.NO_VR
    assert found.broken, unlike
    if not held:
        return Difference.NOTHING_KEPT
    # As far as we read, both read the same.
    for tag in held.keys() | found.values.keys() | found.sequences:
        element = held.get(tag)
        if not (_alike(mine, tag, element) or (element is not None and _end(element) > found.end)):
            raise AssertionError(unlike)
    order = ">" if layout.big_endian else "<"
    group, number, vr, _, length = struct.unpack_from(f"{order}HH2sHI", mine.body[found.end :].ljust(12, b"\0"))
    if group == 0xFFFE or (group, number) == (0, 0):
        return Difference.STRAY_TAG
    short = struct.unpack_from(f"{order}I", mine.body[found.end :].ljust(12, b"\0"), 4)[0]
    if elements.UNDEFINED in (length if vr in (b"SQ", b"UN", b"OB", b"OW", b"UT") else 0, short):
        return Difference.DAMAGED_SEQUENCE
    assert all(_end(element) > len(mine.body) for element in held.values() if _end(element) > found.end), unlike
    return Difference.CUT


def _end(element: Any) -> int:
    if isinstance(element, RawDataElement) and element.length != elements.UNDEFINED:
        return int(element.value_tell + element.length)
    return int(getattr(element, "value_tell", None) or getattr(element, "file_tell", None) or 0)


def _vrs(data: bytes) -> list[str | None]:
    """Return the VRs of the elements that pydicom reads at the top level."""
    seen: list[str | None] = []

    def stop(tag: int, vr: str | None, length: int) -> bool:
        seen.append(vr)
        return int(tag) in (0x7FE00008, 0x7FE00009, 0x7FE00010)

    read_partial(io.BytesIO(data), stop_when=stop, force=True)
    return seen


def with_sequences(path: Path) -> bytes:
    """Return a file with nested sequences of undefined and defined length, private elements and empty ones."""
    ds = dcmread(path)
    inner = Dataset()
    inner.ReferencedSOPInstanceUID, inner.Modality, inner.SeriesInstanceUID = "1.2.3", "MR", "9.9"
    outer = Dataset()
    outer.ReferencedSOPInstanceUID, outer.SourceImageSequence = "1.2.4", Items([inner])
    ds.SourceImageSequence = Items([inner, outer])
    ds["SourceImageSequence"].is_undefined_length = True
    for item in ds.SourceImageSequence:
        item.is_undefined_length_sequence_item = True
    ds.ReferencedImageSequence = Items([outer])
    block = ds.private_block(0x0009, "ACME", create=True)
    block.add_new(1, "UN", b"abcdef")
    block.add_new(2, "LO", "hello")
    block.add_new(3, "SQ", Items([inner]))
    ds[block.get_tag(3)].is_undefined_length = True
    ds.BodyPartExamined = ""
    ds.save_as(path)
    return path.read_bytes()


@cache
def drawn() -> tuple[bytes, ...]:
    """Return files of every transfer syntax and kind, with and without file meta."""
    files = []
    with tempfile.TemporaryDirectory() as name:
        for syntax in (*make.LOSSLESS, make.JPEG_BASELINE):
            bits: dict[str, Any] = {"bits_allocated": 8, "bits_stored": 8} if syntax == make.JPEG_BASELINE else {}
            (path,) = make.write_series(
                Path(name) / syntax, slices=1, rows=4, columns=4, transfer_syntax=syntax, **bits
            )
            plain = path.read_bytes()
            rich = with_sequences(path)
            files += [plain, rich, rich[132:]]
            if syntax in (make.IMPLICIT, make.EXPLICIT, make.BIG_ENDIAN):
                layout = find_layout(elements.BytesSource(rich))
                assert layout is not None
                files.append(rich[layout.start :])
        for syntax in (make.EXPLICIT, make.IMPLICIT, make.BIG_ENDIAN, make.DEFLATED, make.JPEG_LS):
            path = make.write_enhanced(Path(name) / f"e{syntax}", frames=3, rows=4, columns=4, transfer_syntax=syntax)
            files.append(path.read_bytes())
    return tuple(files)


def test_files_of_every_transfer_syntax_and_kind_are_read_as_pydicom_reads_them() -> None:
    assert {difference(data) for data in drawn()} == {Difference.NONE}


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return one explicit little-endian element; one without VR if that is empty."""
    count = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    if vr in (b"SQ", b"OB", b"UN", b"UT"):
        return head + struct.pack("<HI", 0, count) + value
    return head + struct.pack("<I" if not vr else "<H", count) + value


ITEM, ITEM_END, SEQUENCE_END = (struct.pack("<HH", 0xFFFE, number) for number in (0xE000, 0xE00D, 0xE0DD))
NOTHING, OPEN = bytes(4), b"\xff" * 4
UID = element(0x00081155, b"UI", b"1.2.3\0")
UID_WITHOUT_VR = element(0x00081155, b"", b"1.2.3\0")


def open_item(content: bytes) -> bytes:
    return ITEM + OPEN + content + ITEM_END + NOTHING


def open_sequence(vr: bytes, content: bytes, tag: int = 0x00081140) -> bytes:
    return element(tag, vr, content + SEQUENCE_END + NOTHING, length=elements.UNDEFINED)


ODD = {
    "an item of defined length": open_sequence(b"SQ", ITEM + struct.pack("<I", len(UID)) + UID),
    "items without VRs in SQ": open_sequence(b"SQ", open_item(UID_WITHOUT_VR)),
    "items without VRs in UN": open_sequence(b"UN", open_item(UID_WITHOUT_VR)),
    "items with VRs in UN": open_sequence(b"UN", open_item(UID)),
    "a sequence in UN in SQ": open_sequence(b"SQ", open_item(open_sequence(b"UN", open_item(UID)))),
    "a sequence without VRs in UN": open_sequence(b"UN", open_item(open_sequence(b"", open_item(UID_WITHOUT_VR)))),
    "a length that looks like a VR": open_sequence(
        b"UN", open_item(UID_WITHOUT_VR + element(0x00091001, b"", b"x" * int.from_bytes(b"LO", "little")))
    ),
    "no items": open_sequence(b"SQ", b""),
    "an empty item": open_sequence(b"UN", open_item(b"")),
    "a private sequence without VR": open_sequence(b"", open_item(UID_WITHOUT_VR), tag=0x00091001),
    "fragments in a private element": open_sequence(b"OB", ITEM + struct.pack("<I", 4) + b"abcd", tag=0x00091001),
    "a VR that the standard does not have": element(0x00091001, b"XX", b"abcdef"),
    "a wanted element of such a VR": element(0x00080070, b"ZZ", b"Acme"),
    "an element without VR": element(0x00091001, b"", b"abcdef"),
    "a wanted element without VR": element(0x00080070, b"", b"Acme"),
    "an element twice": element(0x00080070, b"LO", b"Acme") + element(0x00080070, b"LO", b"Other "),
    "a long private element": element(0x00091001, b"UT", b"x" * 200_000),
    "a long text": element(0x00081030, b"LO", b"x" * 60_000),
    "group length": element(0x00100000, b"UL", struct.pack("<I", 10)),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_elements_are_read_as_pydicom_reads_them(what: str) -> None:
    whole = drawn()[3 * make.LOSSLESS.index(make.EXPLICIT) + 1]
    assert whole[:2] == b"\0\0"
    at = whole.index(b"\x10\0\x10\0PN")
    data = whole[:at] + ODD[what] + whole[at:]
    assert difference(data) is Difference.NONE
    mine = ours(data)
    assert mine is not None
    assert not mine.found.broken
    assert mine.values.text("PatientID") == "P1"


def real() -> Iterator[Path]:
    for folder in (ROOT / "data" / "ct", Path(pydicom.__file__).parent / "data"):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in (".py", ".pyc", ".json") and path.stat().st_size < 20e6:
                yield path


def test_real_files_are_read_as_pydicom_reads_them() -> None:
    counts = Counter(difference(path.read_bytes()) for path in real())
    assert counts[Difference.NONE] > 100
    # Truncated files of pydicom's and of ours, and files that are not DICOM.
    assert counts.keys() <= {Difference.NONE, Difference.NOT_RECOGNISED, Difference.PYDICOM_RAISES}


def test_values_mean_what_pydicom_takes_them_for() -> None:
    """Numbers, texts and names of whole files, with the character sets that they declare."""
    compared: Counter[str] = Counter()
    for data in (*(path.read_bytes() for path in real()), *drawn(), *named()):
        if difference(data) is not Difference.NONE:
            continue
        mine, ds = ours(data), theirs(data)
        assert mine is not None
        for keyword in TAGS:
            held = ds.get_item(keyword)
            if held is None or keyword == "SpecificCharacterSet" or TAGS[keyword] in mine.found.sequences:
                continue
            try:
                expected = ds[keyword]
            except Exception:  # a VR that contradicts the value
                continue
            if _meaning(mine.values, keyword, expected.VR) is not None and not expected.is_empty:
                assert _meaning(mine.values, keyword, expected.VR) == _as_read(expected), keyword
                compared[expected.VR] += 1
    assert {"CS", "DS", "IS", "LO", "PN", "SH", "UI", "US"} <= compared.keys()


TEXTS = {"CS", "DA", "DT", "LO", "PN", "SH", "TM", "UI"}


def _meaning(values: Values, keyword: str, vr: str) -> Any:
    if vr == "US":
        return values.whole(keyword)
    if vr == "IS":
        return values.integer(keyword)
    if vr == "DS":
        return values.numbers(keyword, len(values.texts(keyword)))
    return [part.strip(" =") for part in values.localised(keyword).split("\\")] if vr in TEXTS else None


def _as_read(expected: Any) -> Any:
    many = list(expected.value) if expected.VM > 1 else [expected.value]
    if expected.VR in ("US", "IS"):
        return int(many[0])
    if expected.VR == "DS":
        return tuple(float(value) for value in many)
    return [str(value).strip(" =") for value in many]


def named() -> Iterator[bytes]:
    """Yield files with names and descriptions in several character sets."""
    for character_set, name in (
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
    ):
        ds = make.ct_image(make.noise(4, 4), tags={"SpecificCharacterSet": character_set, "PatientName": name})
        ds.SeriesDescription = "Thorax 1,25" if character_set != "ISO_IR 100" else "Thorax für Übersicht"
        sink = io.BytesIO()
        ds.save_as(sink, enforce_file_format=True)
        yield sink.getvalue()


def mutated(seed: int) -> bytes:
    """Return a drawn file with one to three faults, most of them in its header."""
    rng = random.Random(seed)
    data = rng.choice(drawn())
    for _ in range(rng.randint(1, 3)):
        if len(data) < 20:
            break
        at = rng.randrange(len(data) - 8)
        if rng.random() < 0.7:
            at %= 1200
        fault = rng.choice(("bit", "bytes", "cut", "drop", "insert", "length", "vr"))
        if fault == "bit":
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif fault == "bytes":
            data = data[:at] + rng.randbytes(4) + data[at + 4 :]
        elif fault == "cut":
            data = data[:at]
        elif fault == "drop":
            data = data[:at] + data[at + rng.randint(1, 24) :]
        elif fault == "insert":
            data = data[:at] + rng.randbytes(rng.randint(1, 12)) + data[at:]
        elif fault == "length":
            wrong = rng.choice((0, 1, 2, 7, 0xFFFF, 0x10000, elements.UNDEFINED))
            data = data[:at] + struct.pack("<I", wrong) + data[at + 4 :]
        else:
            place = data.find(rng.choice((b"LO", b"CS", b"SQ", b"UI", b"DS", b"UN", b"US")), at)
            if place > 0:
                vr = rng.choice((b"XX", b"UN", b"??", b"\0\0", b"SQ", b"OB", b"LO", b"UT"))
                data = data[:place] + vr + data[place + 2 :]
    return data


def test_damaged_files_are_read_as_pydicom_reads_them_as_far_as_they_are_whole() -> None:
    counts: Counter[Difference] = Counter()
    for seed in range(MUTATED):
        try:
            counts[difference(mutated(seed))] += 1
        except Exception as error:
            raise AssertionError(f"mutated({seed})") from error
    assert counts[Difference.NONE] > MUTATED / 2
    assert counts[Difference.CUT]
    assert counts[Difference.PYDICOM_RAISES]
