"""The presets: dsb2017 equals its plain reference, and lung follows its rules, on files that the tests write.

Rule numbers are those of ``docs/formats.md``, "Preset dsb2017" and "Preset lung".
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from support import ROOT
from support.ct_files import noise, write_series
from support.reference_dsb2017 import reference_triplets
from support.reference_dsb2017 import slice_image as reference_slice_image

import lungct
from lungct.dicom.scan import NOTHING_KNOWN
from lungct.errors import SeriesError, UsageError
from lungct.preprocess import PRESETS, Preset, Triplets, prepare
from lungct.preprocess.dsb2017 import slice_image

REAL = sorted((ROOT / "data" / "ct").glob("[gps]*-*"))


def wide(i: int) -> NDArray[Any]:
    """Return stored values over a range far larger than the grey-value table of the preset."""
    return noise(40, 48, bits_stored=28, signed=True, seed=i)


SERIES: dict[str, dict[str, Any]] = {
    "plain": {},
    "512 x 512": {"slices": 4, "rows": 512, "columns": 512},
    "rows and columns differ": {"rows": 301, "columns": 97},
    "larger than 512": {"slices": 4, "rows": 700, "columns": 530},
    "signed with padding": {
        "signed": True,
        "bits_stored": 16,
        "pixels": lambda i: np.where(noise(64, 64, seed=i) > 900, noise(64, 64, seed=i), -2000),
    },
    "slope with ties": {"slope": 0.5, "intercept": -1000.5},
    "slope not whole": {"slope": 1.7391, "intercept": -1024.25},
    "slope negative": {"slope": -0.75, "intercept": 1200.0},
    "great slope": {"slope": 300.0, "intercept": -1024.0},
    "32 bits": {"bits_allocated": 32, "bits_stored": 32, "signed": True, "pixels": wide},
    "8 bits": {"bits_allocated": 8, "bits_stored": 8, "intercept": -900.0},
    "nothing but padding": {"intercept": -4000.0, "slope": 0.5},
    "one grey": {"pixels": lambda i: np.full((64, 64), 5 * i)},
    "intercept varies": {"each": lambda i: {"RescaleIntercept": str(-1024 + 7 * i)}},
    "numbers backwards": {"instances": range(12, 0, -1)},
    "numbers repeated": {"instances": [3, 3, 1, 1, 2, 2, 9, 9, 9, 4, 4, 4]},
    "a number missing": {"instances": [5, None, *range(10, 0, -1)]},
    "feet down the list": {"step": -3.0, "instances": [None] * 12},
    "turned over": {"orientation": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)},
}


@pytest.mark.parametrize("name", SERIES)
def test_dsb2017_equals_the_reference_bit_for_bit(name: str, tmp_path: Path) -> None:
    write_series(tmp_path / "p", **({"slices": 12} | SERIES[name]))
    pixels, positions = reference_triplets(tmp_path / "p")
    triplets = lungct.triplets(tmp_path / "p", "dsb2017")
    assert triplets.pixels.dtype == np.uint8
    assert triplets.pixels.shape == pixels.shape
    assert np.array_equal(triplets.pixels, pixels)
    assert np.allclose(triplets.positions_mm, positions, rtol=0, atol=1e-9)


@pytest.mark.parametrize("folder", REAL, ids=lambda folder: folder.name)
def test_dsb2017_equals_the_reference_on_real_series(folder: Path) -> None:
    pixels, positions = reference_triplets(folder)
    triplets = lungct.triplets(folder)
    assert np.array_equal(triplets.pixels, pixels)
    assert np.allclose(triplets.positions_mm, positions, rtol=0, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    stored=st.sampled_from(["<i2", "<u2", "i1", "u1", "<i4", "<u4"]).flatmap(
        lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))
    ),
    slope=st.one_of(st.just(1.0), st.floats(-4, 4), st.sampled_from([0.5, 1e-4, 1e4])),
    intercept=st.one_of(st.just(-1024.0), st.floats(-4000, 4000), st.just(-0.5)),
)
def test_a_slice_equals_the_reference_for_any_stored_values(
    stored: NDArray[Any], slope: float, intercept: float
) -> None:
    assert np.array_equal(slice_image(stored, slope, intercept), reference_slice_image(stored, slope, intercept))


@pytest.mark.parametrize(("slices", "triplets"), [(4, 1), (5, 1), (6, 1), (7, 2), (9, 2), (10, 3)])
def test_dsb2017_drops_the_last_slices_as_in_2017(slices: int, triplets: int, tmp_path: Path) -> None:
    write_series(tmp_path / "p", slices=slices, first=100.0)
    returned = lungct.triplets(tmp_path / "p")
    assert len(returned) == triplets
    assert returned.positions_mm.tolist() == [100.0 + 2.5 * (3 * t + 1) for t in range(triplets)]


def test_dsb2017_needs_four_slices(tmp_path: Path) -> None:
    write_series(tmp_path / "p", slices=3)
    with pytest.raises(SeriesError, match="at least 4 slices; this series has 3") as raised:
        lungct.triplets(tmp_path / "p")
    assert raised.value.code == "too_few_slices"


def test_dsb2017_needs_instance_numbers_only_and_returns_unknown_positions_as_nan(tmp_path: Path) -> None:
    write_series(tmp_path / "p", positions=[None] * 12)
    triplets = lungct.triplets(tmp_path / "p")
    assert len(triplets) == 3
    assert np.isnan(triplets.positions_mm).all()


def test_dsb2017_refuses_slices_with_neither_number_nor_position(tmp_path: Path) -> None:
    write_series(tmp_path / "p", positions=[None] * 12, instances=[None] * 12)
    with pytest.raises(SeriesError) as raised:
        lungct.triplets(tmp_path / "p")
    assert raised.value.code == "geometry"


def test_an_unknown_preset_is_refused_with_a_list_of_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="preset must be one of dsb2017, lung, not 'lungs'"):
        lungct.triplets(tmp_path, "lungs")  # type: ignore[arg-type]


def test_triplets_have_a_short_repr() -> None:
    triplets = Triplets(np.zeros((2, 3, 224, 224), np.uint8), np.zeros(2), NOTHING_KNOWN)
    assert repr(triplets) == "Triplets(2 of 3 x 224 x 224)"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_missing_directory_is_a_usage_error_that_names_it(preset: Preset, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nobody"):
        lungct.triplets(tmp_path / "nobody", preset)


def test_pixel_hash_is_sha256_of_the_bytes_in_order() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), np.uint8)
    turned = Triplets(np.asfortranarray(pixels), np.zeros(2), NOTHING_KNOWN)
    assert turned.pixel_hash == hashlib.sha256(pixels.tobytes()).hexdigest()


def chest(i: int) -> NDArray[Any]:
    """Return the stored values of a slice through two lungs."""
    stored = np.full((64, 64), 1064)
    stored[16:48, 8:28] = stored[16:48, 36:56] = 174
    return stored


def test_preparing_restores_opencvs_number_of_threads(tmp_path: Path) -> None:
    write_series(tmp_path / "p", slices=12, pixels=chest, spacing=(6.0, 6.0))
    series = lungct.read_series(tmp_path / "p")
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        hashes = [prepare(series, preset).pixel_hash for preset in PRESETS]
        assert cv2.getNumThreads() == 2
        cv2.setNumThreads(1)
        assert hashes == [prepare(series, preset).pixel_hash for preset in PRESETS]
    finally:
        cv2.setNumThreads(before)
