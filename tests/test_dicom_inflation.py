"""Deflated files with many images: inflated once, to a limit, and as far as they are whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import ct_files as make

from lungct.dicom import elements, inflation, read_series
from lungct.errors import SeriesError

FRAMES = 40


@pytest.fixture
def file(tmp_path: Path) -> Path:
    order = np.random.default_rng(0).permutation(FRAMES).tolist()
    return make.write_enhanced(tmp_path / "e", frames=FRAMES, order=order, transfer_syntax=make.DEFLATED)


@pytest.fixture
def inflations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The limits to which streams are inflated from here on."""
    limits: list[int] = []
    inflate = elements.inflate_into

    def count(data: bytearray, source: elements.Source, start: int, limit: int) -> None:
        limits.append(limit)
        inflate(data, source, start, limit)

    monkeypatch.setattr(elements, "inflate_into", count)
    return limits


def test_the_pixels_of_many_images_are_inflated_once(file: Path, inflations: list[int]) -> None:
    series = read_series(file.parent)
    inflations.clear()
    for k in range(FRAMES):
        np.testing.assert_array_equal(series.stored(k), make.noise(32, 32, seed=k))
    assert len(inflations) == 1


def test_a_file_that_has_changed_is_inflated_again(file: Path) -> None:
    before = read_series(file.parent).stored(3)
    make.write_enhanced(file, frames=FRAMES, seed=100, transfer_syntax=make.DEFLATED)
    after = read_series(file.parent).stored(3)
    np.testing.assert_array_equal(before, make.noise(32, 32, seed=3))
    np.testing.assert_array_equal(after, make.noise(32, 32, seed=103))


def test_many_images_that_expand_beyond_the_limit_are_refused_before_they_do(
    file: Path, inflations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflation, "MAX_INFLATED", FRAMES * 32 * 32)
    series = read_series(file.parent)
    inflations.clear()
    with pytest.raises(SeriesError) as error:
        series.stored(0)
    assert error.value.code == "limits"
    assert str(FRAMES) in str(error.value)
    assert inflations == []


def test_images_before_the_end_of_a_cut_file_are_read(file: Path) -> None:
    make.write_enhanced(file, frames=FRAMES, transfer_syntax=make.DEFLATED)
    whole = read_series(file.parent)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * 3 // 4])
    np.testing.assert_array_equal(whole.stored(0), make.noise(32, 32, seed=0))
    with pytest.raises(SeriesError) as error:
        whole.stored(FRAMES - 1)
    assert error.value.code == "undecodable"
