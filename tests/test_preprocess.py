"""The presets: dsb2017 equals its plain reference, and lung follows its rules, on files that the tests write.

Rule numbers are those of ``docs/formats.md``, "Preset dsb2017" and "Preset lung".
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
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
from lungct.preprocess.grid import GRID_MM, grid_slices
from lungct.preprocess.lung import find_lungs, lung_box, lung_mask, lung_triplets

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


def test_preparing_restores_opencvs_number_of_threads(tmp_path: Path) -> None:
    write_chest(tmp_path / "p")
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


def reference_grid(volume: NDArray[Any], positions: NDArray[Any]) -> NDArray[Any]:
    """Return the grid slices by rule 2, written plainly: for each grid slice, look at all slices."""
    places = [round(100 * (p - positions[0])) for p in positions]
    grid = []
    for k in range(places[-1] // 250 + 1):
        at = 250 * k
        weights = np.array([1.0 * (abs(p - at) < 125) + 0.5 * (abs(p - at) == 125) for p in places])
        if weights.sum() > 0:
            grid.append(np.tensordot(weights / weights.sum(), volume, 1))
            continue
        low = max(i for i, p in enumerate(places) if p < at)
        high = min(i for i, p in enumerate(places) if p > at)
        share = (at - places[low]) / (places[high] - places[low])
        grid.append((1 - share) * volume[low] + share * volume[high])
    return np.array(grid)


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from([125, 250, 375, 500, 1000, 62]),
            st.integers(min_value=20, max_value=1000),
        ),
        min_size=3,
        max_size=14,
    ),
    first=st.integers(-90_000, 90_000).map(lambda n: n / 100),
)
def test_grid_slices_follow_rule_2(steps: list[int], first: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("grid")
    places = np.concatenate([[0], np.cumsum(steps)]) / 100
    write_series(folder, slices=len(places), rows=5, columns=6, positions=(first + places).tolist())
    series = lungct.read_series(folder)
    volume, positions = grid_slices(series)
    hu = np.array([series.hu(i) for i in range(len(series))])
    assert volume.dtype == np.float32
    assert np.allclose(volume, reference_grid(hu, series.positions_mm), rtol=1e-6, atol=1e-3)
    assert np.array_equal(positions, series.positions_mm[0] + 2.5 * np.arange(len(volume)))


def test_float_noise_in_positions_does_not_decide_what_is_averaged(tmp_path: Path) -> None:
    """Steps of 1.25 mm as decimal strings with noise in the sixth digit keep the weights of one half."""
    exact = [1.25 * i for i in range(9)]
    for name, jitter in (("exact", 0.0), ("noisy", 2e-6)):
        noisy = [-417.3 + p + jitter * (-1) ** i for i, p in enumerate(exact)]
        write_series(tmp_path / name, slices=9, rows=5, columns=6, positions=noisy)
    exact_volume, noisy_volume = (grid_slices(lungct.read_series(tmp_path / name))[0] for name in ("exact", "noisy"))
    assert np.array_equal(exact_volume, noisy_volume)


@pytest.mark.parametrize(("gap", "refused"), [(10.0, False), (10.02, True)])
def test_a_gap_of_more_than_10_mm_is_refused_with_its_place(gap: float, refused: bool, tmp_path: Path) -> None:
    positions = [0.0, 2.5, 5.0, 5.0 + gap, 7.5 + gap]
    write_series(tmp_path / "p", slices=5, rows=8, columns=8, positions=positions)
    series = lungct.read_series(tmp_path / "p")
    if not refused:
        assert len(grid_slices(series)[0]) == 8
        return
    with pytest.raises(SeriesError, match=r"a gap of 10\.02 mm between slices 3 and 4 of 5") as raised:
        prepare(series, "lung")
    assert raised.value.code == "geometry"


ROWS, COLUMNS, PIXEL = 96, 128, 3.0  # 288 x 384 mm
BODY, LEFT, RIGHT = (10, 86, 10, 118), (30, 70, 24, 56), (30, 70, 72, 104)  # rows, columns


def paint(hu: NDArray[Any], box: tuple[int, int, int, int], value: float) -> None:
    hu[box[0] : box[1], box[2] : box[3]] = value


def chest(i: int) -> NDArray[Any]:
    """Return the stored values of slice i: a body with two lungs in the middle 24 of 40 slices."""
    hu = np.full((ROWS, COLUMNS), -1000.0)
    paint(hu, BODY, 40)
    if 8 <= i < 32:
        paint(hu, LEFT, -850)
        paint(hu, RIGHT, -820)
    return (hu + 1024).astype(int)


def write_chest(folder: Path, pixels: Callable[[int], NDArray[Any]] = chest, **choices: Any) -> None:
    defaults: dict[str, Any] = {"slices": 40, "pixels": pixels, "spacing": (PIXEL, PIXEL), "first": -30.0}
    write_series(folder, **(defaults | choices))


def test_find_lungs_returns_their_volume_and_box(tmp_path: Path) -> None:
    write_chest(tmp_path / "p")
    lungs = find_lungs(lungct.read_series(tmp_path / "p"))
    # Each lung has 40 rows x 32 columns x 24 slices of 3 x 3 x 2.5 mm. In the columns its edges are those of sampled
    # blocks; the rows 30 … 69 are sampled as the blocks 32 … 67 and 68 … 71.
    assert lungs.litres == pytest.approx(2 * 40 * 32 * 24 * 9 * 2.5 / 1e6)
    assert lungs.box.slices == (4, 36)  # 10 mm are 4 grid slices
    # Columns 24 ... 104 are 240 mm, and 260 with 10 mm on each side: 62/3 and 322/3 rounded.
    assert lungs.box.columns == (21, 107)
    # Rows 32 ... 72 with the margins are 140 mm about row 52: widened to 260 mm, rows 8.67 ... 95.33.
    assert lungs.box.rows == (9, 95)
    assert 8 <= int(lungs.mask.sum(axis=(1, 2)).argmax()) < 32
    triplets = lung_triplets(lungs)
    assert triplets.pixels.shape == (10, 3, 224, 224)
    assert triplets.positions_mm.tolist() == [-30.0 + 2.5 * (4 + 3 * t + 1) for t in range(10)]


def test_small_images_are_windowed_and_enlarged(tmp_path: Path) -> None:
    write_chest(tmp_path / "p")
    lungs = find_lungs(lungct.read_series(tmp_path / "p"))
    (top, bottom), (left, right) = lungs.box.rows, lungs.box.columns
    hu = lungs.volume[lungs.box.slices[0] + 12, top:bottom, left:right].astype(np.float64)
    grey = np.rint((np.clip(hu, -1000, 400) + 1000) * 255 / 1400).astype(np.uint8)
    expected = cv2.resize(grey, (224, 224), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(lung_triplets(lungs).pixels[4, 0], expected)


@pytest.mark.parametrize(
    ("hu", "grey"),
    [(-3024, 0), (-1000, 0), (-860, 26), (-580, 76), (-300, 128), (400, 255), (3000, 255)],
)
def test_window_values_and_ties(hu: int, grey: int, tmp_path: Path) -> None:
    """-1000 … 400 HU become 0 … 255; ties are rounded to even."""

    def slice_with_patch(i: int) -> NDArray[Any]:
        stored = chest(i) - 1024
        paint(stored, (72, 82, 58, 70), hu)
        return stored

    write_chest(tmp_path / "p", slice_with_patch, intercept=0.0, signed=True, bits_stored=16)
    lungs = find_lungs(lungct.read_series(tmp_path / "p"))
    row, column = (
        round((at - low + 0.5) * 224 / (high - low))
        for at, (low, high) in ((78, lungs.box.rows), (64, lungs.box.columns))
    )
    assert lung_triplets(lungs).pixels[4, 1, row, column] == grey


def test_large_images_are_averaged_when_they_shrink(tmp_path: Path) -> None:
    def fine(i: int) -> NDArray[Any]:
        return np.kron(chest(i), np.ones((4, 4), int)) + noise(384, 512, bits_stored=6, seed=i)

    write_chest(tmp_path / "p", fine, slices=12, step=7.5, spacing=(0.75, 0.75), bits_stored=12)
    # Every third slice of the coarse chest, so that the lungs are where they were.
    lungs = find_lungs(lungct.read_series(tmp_path / "p"))
    (top, bottom), (left, right) = lungs.box.rows, lungs.box.columns
    assert right - left > 224
    hu = lungs.volume[lungs.box.slices[0], top:bottom, left:right].astype(np.float64)
    grey = np.rint((np.clip(hu, -1000, 400) + 1000) * 255 / 1400).astype(np.uint8)
    assert np.array_equal(lung_triplets(lungs).pixels[0, 0], cv2.resize(grey, (224, 224), interpolation=cv2.INTER_AREA))


def sampled(*boxes: tuple[tuple[int, int, int, int, int, int], float]) -> NDArray[Any]:
    """Return a sampled grid of soft tissue, (20, 40, 40), with boxes (slices, rows, columns) of other HU."""
    hu = np.full((20, 40, 40), 40.0, np.float32)
    for (k0, k1, r0, r1, c0, c1), value in boxes:
        hu[k0:k1, r0:r1, c0:c1] = value
    return hu


VOXEL_L = 16 * 0.7 * 0.7 * GRID_MM / 1e6  # 16,000 sampled voxels are 0.31 litre
LARGE = (0, 20, 5, 35, 3, 18)  # 9,000
SECOND = (0, 20, 10, 30, 22, 37)  # 6,000
SMALL = (0, 20, 10, 16, 22, 29)  # 840: less than a tenth of the largest, 0.016 litre


@pytest.mark.parametrize(
    ("case", "boxes", "voxel_l", "chosen"),
    [
        ("both lungs", [(LARGE, -850), (SECOND, -850)], 4 * VOXEL_L, [LARGE, SECOND]),
        ("the second is too small a share", [(LARGE, -850), (SMALL, -850)], 20 * VOXEL_L, [LARGE]),
        ("the second is below 0.05 litre", [(LARGE, -850), ((0, 20, 10, 20, 22, 32), -850)], 1.15 * VOXEL_L, [LARGE]),
        ("a table's hollow is larger", [(LARGE, -960), (SECOND, -850)], 4 * VOXEL_L, [SECOND]),
        ("air that reaches the border", [((0, 20, 0, 35, 3, 18), -850), (SECOND, -850)], 4 * VOXEL_L, [SECOND]),
        ("a mean of exactly -950", [(LARGE, -950), (SECOND, -850)], 4 * VOXEL_L, [SECOND]),
        ("a pixel at -400 is no lung", [(LARGE, -400), (SECOND, -401)], 4 * VOXEL_L, [SECOND]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_which_components_are_lungs(case: str, boxes: list[Any], voxel_l: float, chosen: list[Any]) -> None:
    expected = sampled(*[(box, 1.0) for box in chosen]) == 1.0
    assert np.array_equal(lung_mask(sampled(*boxes), voxel_l), expected)


def test_air_is_followed_to_the_border_within_its_slice_only() -> None:
    """A lung that opens to the border in one slice (a badly cropped image) is lost there and nowhere else."""
    hu = sampled((LARGE, -850.0))
    hu[7, 20, :4] = -850.0
    mask = lung_mask(hu, 4 * VOXEL_L)
    assert not mask[7].any()
    assert mask[6].sum() == mask[8].sum() == 450


def test_components_are_not_joined_at_corners() -> None:
    """Two lungs that touch at an edge only are two components, and only a side connects to the border."""
    hu = sampled(((0, 20, 1, 20, 1, 20), -850.0), ((0, 20, 20, 39, 20, 39), -850.0))
    hu[:, 0, 0] = -850.0  # touches the first lung at a corner
    assert lung_mask(hu, 4 * VOXEL_L).sum() == 2 * 20 * 19 * 19


def test_the_error_no_lungs_states_the_volume_found(tmp_path: Path) -> None:
    write_chest(tmp_path / "p", slices=11)  # three slices of lung: 0.17 litre
    with pytest.raises(SeriesError, match=r"no lungs found: 0\.17 litres") as raised:
        lungct.triplets(tmp_path / "p", "lung")
    assert raised.value.code == "no_lungs"


def box_of(
    rows: tuple[int, int], columns: tuple[int, int], shape: tuple[int, int], mm: tuple[float, float]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the box around a mask with the given sampled rows and columns."""
    mask = np.zeros((8, math.ceil(shape[0] / 4), math.ceil(shape[1] / 4)), bool)
    mask[2:5, rows[0] : rows[1], columns[0] : columns[1]] = True
    box = lung_box(mask, shape, mm)
    assert box.slices == (0, 8)
    return box.rows, box.columns


@pytest.mark.parametrize(
    ("case", "rows", "columns", "shape", "mm", "expected"),
    [
        ("about its centre", (10, 20), (5, 30), (160, 160), (1.0, 1.0), ((0, 120), (10, 130))),
        ("moved at the edge", (20, 38), (5, 30), (160, 160), (1.0, 1.0), ((40, 160), (10, 130))),
        ("moved at the other", (1, 19), (5, 30), (160, 160), (1.0, 1.0), ((0, 120), (10, 130))),
        ("margin inside the image", (0, 40), (0, 40), (160, 160), (1.0, 1.0), ((0, 160), (0, 160))),
        ("square in mm", (20, 30), (10, 30), (160, 160), (2.0, 1.0), ((75, 125), (30, 130))),
        ("ties to even", (10, 30), (10, 30), (160, 160), (0.8, 0.8), ((28, 132), (28, 132))),
        ("image too small", (2, 14), (5, 30), (60, 160), (1.0, 1.0), ((-30, 90), (10, 130))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_box_in_the_plane(case: str, rows: Any, columns: Any, shape: Any, mm: Any, expected: Any) -> None:
    assert box_of(rows, columns, shape, mm) == expected


def test_the_part_of_the_box_outside_the_image_is_air(tmp_path: Path) -> None:
    def low(i: int) -> NDArray[Any]:
        hu = np.full((48, COLUMNS), 40)
        if 8 <= i < 32:
            paint(hu, (6, 42, 24, 56), -850)
            paint(hu, (6, 42, 72, 104), -850)
        return hu + 1024

    write_chest(tmp_path / "p", low)
    lungs = find_lungs(lungct.read_series(tmp_path / "p"))
    assert lungs.box.rows[0] < 0
    assert lungs.box.rows[1] > 48
    pixels = lung_triplets(lungs).pixels
    assert (pixels[:, :, :40] == 0).all()
    assert (pixels[:, :, -40:] == 0).all()
    assert (pixels[0, 0, 100] == 189).all()  # 40 HU


@pytest.mark.parametrize("choices", [{"positions": [None] * 40}, {"spacing": None}])
def test_lung_needs_positions_and_spacing(choices: dict[str, Any], tmp_path: Path) -> None:
    write_chest(tmp_path / "p", **choices)
    with pytest.raises(SeriesError) as raised:
        lungct.triplets(tmp_path / "p", "lung")
    assert raised.value.code == "geometry"


def test_fewer_than_three_grid_slices_are_refused(tmp_path: Path) -> None:
    # All four slices within less than 5 mm: two grid slices, of 0.9 litre at this pixel spacing.
    write_chest(tmp_path / "p", lambda i: chest(20), slices=4, step=1.2, spacing=(9.0, 9.0))
    with pytest.raises(SeriesError, match=r"at least 3 slices of 2\.5 mm; the lungs span 2") as raised:
        lungct.triplets(tmp_path / "p", "lung")
    assert raised.value.code == "too_few_slices"


def test_lung_does_not_depend_on_the_order_of_files_or_instance_numbers(tmp_path: Path) -> None:
    write_chest(tmp_path / "a")
    write_chest(tmp_path / "b", instances=range(40, 0, -1), names=lambda i: f"{39 - i:03d}")
    a, b = (lungct.triplets(tmp_path / name, "lung") for name in "ab")
    assert a.pixel_hash == b.pixel_hash
    assert np.array_equal(a.positions_mm, b.positions_mm)


@pytest.mark.parametrize("folder", REAL, ids=lambda folder: folder.name)
def test_real_chests_have_lungs_of_a_plausible_size(folder: Path) -> None:
    if folder.name == "siemens-mct-j2k-emptyuids":  # an upper abdomen
        with pytest.raises(SeriesError) as raised:
            lungct.triplets(folder, "lung")
        assert raised.value.code == "no_lungs"
        return
    series = lungct.read_series(folder)
    lungs = find_lungs(series)
    covered = GRID_MM * len(lungs.volume)
    assert 0.005 < lungs.litres / covered < 0.04  # litres per mm of the chest: 50 to 400 cm2
    rows, columns = (b[1] - b[0] for b in (lungs.box.rows, lungs.box.columns))
    sides = rows * series.spacing_mm[1], columns * series.spacing_mm[2]
    assert math.isclose(*sides, abs_tol=2.0)
    assert 200 < max(sides) < 420
