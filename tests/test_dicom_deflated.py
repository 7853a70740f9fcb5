"""Deflated data sets are inflated no further than asked for, and not from the beginning each time."""

from __future__ import annotations

import random
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ct_files as make

from lungct.dicom import decoding, deflated, read_series
from lungct.dicom.deflated import Inflated, inflate
from lungct.dicom.elements import BytesSource
from lungct.errors import SeriesError

SIZE = 1 << 20
START = 17


class CountingSource(BytesSource):
    """Bytes in memory that remember how many of them were read."""

    count = 0

    def read(self, offset: int, count: int) -> bytes:
        data = super().read(offset, count)
        self.count += len(data)
        return data


@cache
def data() -> tuple[bytes, bytes]:
    """Return bytes, half of them noise, and a file in which they begin at START, deflated."""
    inflated = np.random.default_rng(0).bytes(SIZE // 2) + bytes(SIZE // 4) + b"abcd" * (SIZE // 16)
    machine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return inflated, b"x" * START + machine.compress(inflated) + machine.flush()


@pytest.fixture(autouse=True)
def close_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "_FIRST_INTERVAL", SIZE // 32)
    monkeypatch.setattr(deflated, "_CHUNK", 1 << 10)
    monkeypatch.setattr(deflated, "_STEP", 1 << 13)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, SIZE + 10), st.integers(1, SIZE // 8)), max_size=8))
def test_any_places_in_any_order_are_the_bytes_that_were_deflated(places: list[tuple[int, int]]) -> None:
    expected, file = data()
    inflated = Inflated(START)
    for offset, count in places:
        assert inflated.read(BytesSource(file), offset, count) == expected[offset : offset + count]


def test_frames_in_order_cost_one_pass_and_in_any_order_little_more() -> None:
    expected, file = data()
    frame = SIZE // 128
    source, inflated = CountingSource(file), Inflated(START)
    for offset in range(0, SIZE, frame):
        assert inflated.read(source, offset, frame) == expected[offset : offset + frame]
    assert source.count <= len(file) * 1.1
    source.count = 0
    for offset in random.Random(0).sample(range(0, SIZE, frame), SIZE // frame):
        assert inflated.read(source, offset, frame) == expected[offset : offset + frame]
    assert source.count <= SIZE // frame * (SIZE // 16)


def test_marks_are_few_however_long_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deflated, "_MAX_MARKS", 8)
    expected, file = data()
    inflated = Inflated(START)
    for offset in range(0, SIZE, SIZE // 128):
        inflated.read(BytesSource(file), offset, 16)
    assert len(inflated._marks) <= 8
    for offset in (0, SIZE // 3, SIZE - 100):
        assert inflated.read(BytesSource(file), offset, 100) == expected[offset : offset + 100]


def test_a_damaged_stream_is_read_up_to_the_damage_and_never_further() -> None:
    expected, file = data()
    damaged = file[: len(file) // 2] + b"\xff" * 64 + file[len(file) // 2 :]
    inflated = Inflated(START)
    assert inflated.read(BytesSource(damaged), 0, 1000) == expected[:1000]
    with pytest.raises(zlib.error):
        inflate(BytesSource(damaged), START, SIZE)
    assert inflated.read(BytesSource(damaged), 2000, 1000) == expected[2000:3000]


def test_a_file_that_has_changed_is_inflated_again(tmp_path: Path) -> None:
    file = make.write_enhanced(tmp_path / "e", transfer_syntax=make.DEFLATED)
    before = read_series(file.parent).stored(3)
    make.write_enhanced(file, seed=100, transfer_syntax=make.DEFLATED)
    np.testing.assert_array_equal(before, make.noise(32, 32, seed=3))
    np.testing.assert_array_equal(read_series(file.parent).stored(3), make.noise(32, 32, seed=103))


def test_many_images_that_expand_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make.write_enhanced(tmp_path / "e", transfer_syntax=make.DEFLATED)
    monkeypatch.setattr(decoding, "MAX_INFLATED", 6 * 32 * 32)
    with pytest.raises(SeriesError) as error:
        read_series(file.parent).stored(0)
    assert error.value.code == "limits"
    assert "6 images" in str(error.value)
