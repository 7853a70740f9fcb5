"""A hostile or broken file costs little memory and is a `SeriesError`, never another exception.

The number of random mutations is LUNGCT_FUZZ_EXAMPLES (200).
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.encaps import encapsulate
from support import ct_files as make

from lungct.dicom import read_identity, read_series
from lungct.dicom.headers import MAX_SLICE_PIXELS
from lungct.errors import LungCTError, SeriesError
from lungct.inspection import describe

EXAMPLES = int(os.environ.get("LUNGCT_FUZZ_EXAMPLES", "200"))


@contextmanager
def little_memory(mebibytes: int = 64) -> Iterator[None]:
    """Fail if Python, NumPy included, ever holds more memory than this."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < mebibytes << 20
    finally:
        tracemalloc.stop()


def code_of(directory: Path) -> str:
    with pytest.raises(SeriesError) as caught:
        read_pixels(directory)
    return caught.value.code


def read_pixels(directory: Path) -> None:
    series = read_series(directory)
    for i in range(len(series)):
        series.hu(i)


def raw(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return one explicit little-endian element."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    count = len(value) if length is None else length
    if vr in (b"SQ", b"OB", b"OW", b"UN"):
        return head + b"\0\0" + struct.pack("<I", count) + value
    return head + struct.pack("<H", count) + value


def with_element(path: Path, element: bytes) -> None:
    """Insert an element before the pixel data of a file."""
    data = path.read_bytes()
    at = data.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(data[:at] + element + data[at:])


@pytest.mark.parametrize(
    "claim",
    [
        {"Rows": 65535, "Columns": 65535},
        {"Rows": 65535, "Columns": 65535, "NumberOfFrames": 1_000_000},
        {"NumberOfFrames": 1_000_000},
        {"Rows": MAX_SLICE_PIXELS // 2048 + 1, "Columns": 2048},
    ],
)
def test_absurd_claims(tmp_path: Path, claim: dict[str, int]) -> None:
    make.write_series(tmp_path, slices=1, tags=claim)
    with little_memory():
        assert code_of(tmp_path) == "limits"


@pytest.mark.parametrize(
    "claim",
    [
        {"Rows": 4096, "Columns": 4096},
        {"NumberOfFrames": 10_000},
        {"NumberOfFrames": 0},
        {"Rows": 0},
        {"BitsAllocated": 24},
        {"BitsStored": 17},
        {"BitsAllocated": None, "BitsStored": None},
    ],
)
def test_claims_that_the_file_does_not_fulfil(tmp_path: Path, claim: dict[str, int]) -> None:
    make.write_series(tmp_path, slices=1, tags=claim)
    with little_memory():
        assert code_of(tmp_path) == "undecodable"


def test_a_deflated_bomb_is_inflated_only_up_to_its_image(tmp_path: Path) -> None:
    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=make.DEFLATED)
    data = path.read_bytes()
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    inside = zlib.decompress(data[start:], -15)
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = machine.compress(inside) + machine.compress(bytes(200 << 20)) + machine.flush()
    path.write_bytes(data[:start] + bomb)
    with little_memory():
        np.testing.assert_array_equal(read_series(tmp_path).stored(0), make.noise(64, 64))


def test_a_deflated_bomb_before_the_pixels(tmp_path: Path) -> None:
    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=make.DEFLATED)
    data = path.read_bytes()
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    machine = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = raw(0x00080016, b"UI", make.CT_IMAGE.encode() + b"\0")
    filler = raw(0x00091001, b"OB", b"", length=200 << 20)
    bomb = machine.compress(head + filler) + machine.compress(bytes(200 << 20)) + machine.flush()
    path.write_bytes(data[:start] + bomb)
    with little_memory():
        assert code_of(tmp_path) == "undecodable"


def test_a_codestream_that_claims_more_than_its_header(tmp_path: Path) -> None:
    for syntax, at in ((make.JPEG_LS, None), (make.JPEG_2000_LOSSLESS, 8)):
        (path,) = make.write_series(tmp_path / syntax, slices=1, transfer_syntax=syntax)
        stream = bytearray(make.encode(make.noise(64, 64).astype(np.uint16), syntax))
        if at is None:
            at = stream.index(b"\xff\xf7") + 5
            stream[at : at + 4] = struct.pack(">HH", 65535, 65535)
        else:
            stream[at : at + 8] = struct.pack(">II", 1_000_000, 1_000_000)
        ds = dcmread(path)
        ds.PixelData = encapsulate([bytes(stream)])
        ds.save_as(path)
        with little_memory():
            assert code_of(tmp_path / syntax) == "undecodable"


def test_run_lengths_that_unfold_to_more_than_the_image(tmp_path: Path) -> None:
    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=make.RLE)
    runs = b"\x81\x07" * 500_000  # 128 bytes each
    header = struct.pack("<16I", 2, 64, 64 + len(runs), *[0] * 13)
    ds = dcmread(path)
    ds.PixelData = encapsulate([header + runs + runs])
    ds.save_as(path)
    with little_memory():
        assert code_of(tmp_path) == "undecodable"


@pytest.mark.parametrize(
    "endless",
    [
        raw(0x00091010, b"SQ", b"", length=0xFFFFFFFF),
        raw(0x00091010, b"SQ", b"", length=0xFFFFFFFF)
        + (b"\xfe\xff\x00\xe0" + b"\xff" * 4 + raw(0x00091010, b"SQ", b"", length=0xFFFFFFFF)) * 50_000,
        raw(0x00091010, b"SQ", b"", length=0xFFFFFFFF) + b"\xfe\xff\x00\xe0\0\0\0\0" * 1_100_000,
        raw(0x00091010, b"UN", b"", length=0xFFFFFFFF) + b"\xfe\xff\x00\xe0" + b"\xff" * 4,
        raw(0x00091010, b"LO", b"x ") * 1_100_000,
        (
            raw(0x00091010, b"SQ", b"", length=0xFFFFFFFF)
            + b"\xfe\xff\x00\xe0\0\0\0\0" * 600_000
            + b"\xfe\xff\xdd\xe0\0\0\0\0"
        )
        * 2,
    ],
    ids=["not closed", "nested", "items", "unknown", "elements", "items of two sequences"],
)  # fmt: skip
def test_endless_headers(tmp_path: Path, endless: bytes) -> None:
    (path,) = make.write_series(tmp_path, slices=1)
    with_element(path, endless)
    assert code_of(tmp_path) == "undecodable"


def test_a_header_may_have_many_items(tmp_path: Path) -> None:
    (path,) = make.write_series(tmp_path, slices=1)
    items = b"\xfe\xff\x00\xe0\0\0\0\0" * 100_000
    with_element(path, raw(0x00091010, b"SQ", items + b"\xfe\xff\xdd\xe0\0\0\0\0", length=0xFFFFFFFF))
    assert len(read_series(tmp_path)) == 1


def test_nested_functional_groups(tmp_path: Path) -> None:
    path = make.write_enhanced(tmp_path / "e", frames=2)
    ds = dcmread(path)
    del ds.PerFrameFunctionalGroupsSequence
    ds.save_as(path)
    level = raw(0x52009230, b"SQ", b"", length=0xFFFFFFFF) + b"\xfe\xff\x00\xe0" + b"\xff" * 4
    with_element(path, raw(0x52009230, b"SQ", level * 5_000))
    assert code_of(tmp_path) == "undecodable"


def test_functional_groups_of_millions_of_items(tmp_path: Path) -> None:
    path = make.write_enhanced(tmp_path / "e", frames=2)
    ds = dcmread(path)
    del ds.PerFrameFunctionalGroupsSequence
    ds.save_as(path)
    with_element(path, raw(0x52009230, b"SQ", b"\xfe\xff\x00\xe0\0\0\0\0" * 600_000))
    with little_memory():
        assert code_of(tmp_path) == "limits"


def test_fragments_without_end(tmp_path: Path) -> None:
    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=make.JPEG_LS)
    data = path.read_bytes()
    at = data.index(b"\xfe\xff\x00\xe0", data.index(b"\xe0\x7f\x10\x00"))
    path.write_bytes(data[:at] + b"\xfe\xff\x00\xe0\0\0\0\0" * 40_000)
    with little_memory():
        assert code_of(tmp_path) == "undecodable"


@pytest.mark.parametrize("syntax", [make.EXPLICIT, make.IMPLICIT, make.DEFLATED, make.JPEG_LS])
def test_a_file_cut_anywhere_is_an_error_or_passed_over(tmp_path: Path, syntax: str) -> None:
    (path,) = make.write_series(tmp_path, slices=1, rows=8, columns=8, transfer_syntax=syntax)
    data = path.read_bytes()
    # A compressed image that lacks only its end marker is whole.
    for end in range(0, len(data) - 10, 7):
        path.write_bytes(data[:end])
        with pytest.raises(SeriesError) as caught:
            read_pixels(tmp_path)
        assert caught.value.code in ("no_images", "undecodable", "no_ct"), end


@cache
def valid() -> tuple[tuple[bytes, ...], ...]:
    """Return a few series, each as the bytes of its files."""
    made = []
    for syntax in (*make.LOSSLESS, "enhanced"):
        with tempfile.TemporaryDirectory() as name:
            if syntax == "enhanced":
                files = [make.write_enhanced(Path(name) / "e", frames=4, rows=12, columns=12)]
            else:
                files = make.write_series(Path(name), slices=4, rows=12, columns=12, transfer_syntax=syntax)
            made.append(tuple(path.read_bytes() for path in files))
    return tuple(made)


@st.composite
def mutated(draw: st.DrawFn) -> list[bytes]:
    """Draw a series with a few faults."""
    files = list(draw(st.sampled_from(valid())))
    for _ in range(draw(st.integers(1, 4))):
        which = draw(st.integers(0, len(files) - 1))
        data = files[which]
        kind = draw(st.sampled_from(["flip", "burst", "cut", "drop", "length", "delete", "double"]))
        if len(data) < 200:
            continue
        at = draw(st.integers(0, len(data) - 8))
        if kind == "flip":
            data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
        elif kind == "burst":
            data = data[:at] + draw(st.binary(min_size=8, max_size=8)) + data[at + 8 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "drop":
            data = data[:at] + data[at + draw(st.integers(1, 64)) :]
        elif kind == "length":
            wrong = draw(st.sampled_from([0, 1, 0x7FFF, 0xFFFF, 0xFFFFFFFF, 0x7FFFFFFF]))
            data = data[: at + 4] + struct.pack("<I", wrong) + data[at + 8 :]
        elif kind == "delete":
            data = without_an_element(data, draw(st.integers(0, 30)))
        else:
            files.append(data)
        files[which] = data
    return files


def without_an_element(data: bytes, which: int) -> bytes:
    try:
        ds = dcmread(io.BytesIO(data), force=True)
        tags = list(ds.keys())
        del ds[tags[which % len(tags)]]
        sink = io.BytesIO()
        ds.save_as(sink)
    except Exception:  # already too broken for pydicom
        return data
    return sink.getvalue()


@settings(
    max_examples=EXAMPLES,
    deadline=10_000,
    derandomize=EXAMPLES == 200,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(mutated())
@pytest.mark.filterwarnings("ignore")
def test_a_mutated_series_is_read_or_refused(files: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for number, data in enumerate(files):
            (Path(name) / str(number)).write_bytes(data)
        try:
            series = read_series(name)
            for i in range(len(series)):
                hu = series.hu(i)
                assert hu.shape == (series.rows, series.columns)
                assert series.stored(i).dtype.kind in "iu"
            for order in (series.by_instance, series.by_position):
                assert len(order()) == len(series)
        except LungCTError:
            pass
        found = describe(name)
        assert name not in str(found.error)
        assert (found.chosen is None) == (found.error_code is not None)
        read_identity(Path(name) / "0")


@settings(max_examples=EXAMPLES, deadline=10_000, derandomize=EXAMPLES == 200)
@given(st.binary(max_size=600), st.sampled_from([b"", b"\0" * 128 + b"DICM"]))
def test_noise_is_refused(noise: bytes, start: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "x").write_bytes(start + noise)
        with pytest.raises(SeriesError):
            read_series(name)
