"""Notes on a scan's geometry and pixels, and how notes are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT
from support import ct_files as make

import lungct
from lungct.dicom import notes, read_series
from lungct.dicom.geometry import gap_mm, is_uneven
from lungct.errors import SeriesError


def test_every_code_is_explained_in_the_documentation() -> None:
    text = (ROOT / "docs" / "intake.md").read_text()
    codes = {value for name, value in vars(notes).items() if name.isupper() and isinstance(value, str)}
    assert codes == set(notes.IN_WORDS)
    assert [code for code in codes if f"`{code}" not in text] == []


def test_every_error_code_is_explained_in_the_documentation() -> None:
    text = (ROOT / "docs" / "intake.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "lungct").rglob("*.py"))
    codes = set(re.findall(r'(?:\bcode=|Fault\(\s*|_code=)"(\w+)"', sources))
    assert {"undecodable", "no_ct", "limits", "volumes"} <= codes
    assert [code for code in sorted(codes) if f"**`{code}`**" not in text] == []


@given(st.lists(st.sampled_from(sorted(notes.IN_WORDS)), max_size=6), st.integers(1, 500))
def test_notes_are_written_once_and_in_one_order(codes: list[str], number: int) -> None:
    texts = [notes.note(code, number if "{}" in notes.IN_WORDS[code] else None) for code in codes]
    once = notes.in_order(texts)
    assert sorted(once) == sorted(set(texts))
    assert notes.in_order(reversed(texts)) == once
    for text in once:
        assert notes.code_of(text) in codes
        assert "{" not in notes.in_words(text)


def series_notes(directory: Path, **choices: Any) -> tuple[str, ...]:
    make.write_series(directory, rows=16, columns=16, **choices)
    return read_series(directory).notes


def test_an_ordinary_scan_has_none(tmp_path: Path) -> None:
    assert series_notes(tmp_path, slices=12) == ()


@pytest.mark.parametrize("decimals", [1, 2, 6])
@pytest.mark.parametrize("spacing", [0.625, 0.75, 1.25, 2.0 / 3, 5.0])
def test_rounded_positions_are_evenly_spaced(decimals: int, spacing: float) -> None:
    assert not is_uneven(np.round(spacing * np.arange(300) - 137.53, decimals))


@given(st.integers(5, 60), st.floats(0.5, 5.0), st.data())
@settings(max_examples=50, deadline=None)
def test_a_slice_that_is_missing_makes_spacing_uneven(count: int, spacing: float, data: st.DataObject) -> None:
    missing = data.draw(st.integers(1, count - 2))
    assert is_uneven(np.delete(spacing * np.arange(count), missing))


def test_a_gap_is_more_than_10_mm_to_a_hundredth(tmp_path: Path) -> None:
    tenths = np.cumsum([0.0, 10.0000001, 9.9999999, 10.004])
    assert gap_mm(tenths) == 0
    assert gap_mm(np.array([0.0, 10.01])) == 10.01
    assert series_notes(tmp_path / "even", positions=[10.0000001 * k for k in range(6)], slices=6) == ()
    found = series_notes(tmp_path / "gap", positions=[0, 2.5, 5, 7.5, 22.5], slices=5)
    assert found == ("gap_mm=15", "uneven_spacing")


def moved(*sideways: float, tilt: float = 0.0) -> Any:
    """Return the ImagePositionPatient of slices moved to the patient's left by so many mm."""
    return lambda i: {"ImagePositionPatient": [sideways[i], tilt * 2.5 * i, 2.5 * i]}


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_slices_that_jump_sideways_are_noted_or_refused(tmp_path: Path, tilt: float) -> None:
    assert series_notes(tmp_path / "still", slices=6, each=moved(0, 1, 0, 1, 2, 1, tilt=tilt)) == ()
    assert series_notes(tmp_path / "near", slices=6, each=moved(0, 0, 0, 12, 12, 12, tilt=tilt)) == ("jump_mm=12",)
    make.write_series(tmp_path / "far", slices=6, each=moved(0, 0, 0, 60, 60, 60, tilt=tilt))
    with pytest.raises(SeriesError, match="jump 60 mm sideways") as caught:
        read_series(tmp_path / "far")
    assert caught.value.code == "geometry"


def test_numbers_that_do_not_run_along_the_body_are_noted_where_they_order(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=8, instances=[1, 5, 2, 6, 3, 7, 4, 8])
    assert read_series(tmp_path).notes == ()
    triplets = lungct.triplets(tmp_path, "dsb2017")
    assert triplets.notes == ("number_order",)
    np.testing.assert_allclose(triplets.positions_mm, [5.0, 2.5])


@pytest.mark.parametrize(
    ("tags", "syntax", "expected"),
    [
        ({"LossyImageCompression": "01"}, make.EXPLICIT, ("lossy",)),
        ({"LossyImageCompression": "00"}, make.EXPLICIT, ()),
        ({}, make.JPEG_LS_NEAR, ("lossy",)),
        ({}, make.JPEG_2000, ("lossy",)),
        ({"LossyImageCompression": "00"}, make.JPEG_2000, ()),
        ({}, make.JPEG_2000_LOSSLESS, ()),
    ],
)
def test_lossy_compression_is_noted(tmp_path: Path, tags: dict[str, Any], syntax: str, expected: tuple[str]) -> None:
    assert series_notes(tmp_path, slices=4, tags=tags, transfer_syntax=syntax) == expected


def test_signed_values_without_a_rescale_are_noted(tmp_path: Path) -> None:
    assert series_notes(tmp_path, slices=4, signed=True, slope=None, intercept=None) == ("no_rescale",)


def test_other_studies_are_counted(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a", slices=12, rows=16, columns=16)
    make.write_series(tmp_path / "b", slices=6, rows=16, columns=16, study="2")
    make.write_series(tmp_path / "c", slices=1, rows=16, columns=16, study="3")
    assert read_series(tmp_path).notes == ("studies=2",)


def test_images_with_a_study_each_are_one_study(tmp_path: Path) -> None:
    for name, agent in (("plain", ""), ("contrast", "agent")):
        make.write_series(
            tmp_path / name,
            slices=8,
            tags={"ContrastBolusAgent": agent, "StudyDate": "20200101"},
            each=lambda i, name=name: {
                "StudyInstanceUID": f"1.{len(name)}.{i}",
                "SeriesInstanceUID": f"2.{len(name)}.{i}",
            },  # type: ignore[misc]
        )
    assert read_series(tmp_path).notes == ("passes=2", "series_uids=16")


@pytest.mark.parametrize("lacking", [1, 7])
def test_a_pixel_spacing_that_most_slices_state_is_that_of_the_scan(tmp_path: Path, lacking: int) -> None:
    make.write_series(tmp_path, slices=8, each=lambda i: {"PixelSpacing": None} if i < lacking else {})
    assert read_series(tmp_path).spacing_mm[1:] == (0.7, 0.7)
