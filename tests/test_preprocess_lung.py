"""The preset lung follows its rules, on drawn bodies, phantoms and real series.

Rule numbers are those of ``docs/formats.md``, "Preset lung".
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import ROOT
from support.ct_files import noise, tilted, write_series

import lungct
from lungct.errors import SeriesError
from lungct.phantom import Variation, write_cohort
from lungct.preprocess import Triplets, lung, prepare
from lungct.preprocess.grid import GRID_MM, grid_positions, grid_slices
from lungct.preprocess.lung import chest_triplets, find_chest
from lungct.preprocess.mask import Lungs, find_lungs
from lungct.preprocess.orientation import turned, turned_pair
from lungct.preprocess.view import SIDE_MM, View, triplet, view_of

REAL = sorted((ROOT / "data" / "ct").glob("[gps]*-*"))

# Rule 1: the axes.

WAYS = list(product((False, True), (1, -1), (1, -1)))  # transposed, direction of rows, direction of columns


def stored(image: NDArray[Any], way: tuple[bool, int, int]) -> tuple[NDArray[Any], tuple[float, ...]]:
    """Return an LPS image stored in one of eight ways, and its ImageOrientationPatient."""
    transposed, rows, columns = way
    image = image[::rows, ::columns]
    along_row, along_column = (float(columns), 0.0, 0.0), (0.0, float(rows), 0.0)
    return (image.T, along_column + along_row) if transposed else (image, along_row + along_column)


def rotated(orientation: tuple[float, ...], degrees: float, tilt: float) -> tuple[float, ...]:
    """Return an orientation rotated about the body's axis, then about the line from right to left."""
    a, b = math.radians(degrees), math.radians(tilt)
    about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    return tuple(float(v) for v in (about_x @ about_z @ np.reshape(orientation, (2, 3)).T).T.ravel())


@settings(max_examples=50, deadline=None)
@given(way=st.sampled_from(WAYS), degrees=st.floats(-40, 40), tilt=st.floats(-30, 30))
def test_all_eight_ways_to_store_an_image_are_turned_to_lps(
    way: tuple[bool, int, int], degrees: float, tilt: float
) -> None:
    image = np.arange(12).reshape(3, 4)
    as_stored, orientation = stored(image, way)
    near: Any = rotated(orientation, degrees, tilt)
    assert np.array_equal(turned(as_stored, near), image)
    assert turned_pair(as_stored.shape, near) == image.shape


def test_an_image_of_unknown_orientation_stays_as_stored() -> None:
    image = np.arange(6).reshape(2, 3)
    assert turned(image, None) is image
    assert turned_pair((1.0, 2.0), None) == (1.0, 2.0)


# Rule 2: the grid.


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
    volume, positions = np.array(list(grid_slices(series))), grid_positions(series)
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
    exact_volume, noisy_volume = (list(grid_slices(lungct.read_series(tmp_path / name))) for name in ("exact", "noisy"))
    assert np.array_equal(exact_volume, noisy_volume)


@pytest.mark.parametrize(("gap", "refused"), [(10.0, False), (10.004, False), (10.006, True), (10.02, True)])
def test_a_gap_of_more_than_10_mm_is_refused_with_its_place(gap: float, refused: bool, tmp_path: Path) -> None:
    positions = [0.0, 2.5, 5.0, 5.0 + gap, 7.5 + gap]
    write_series(tmp_path / "p", slices=5, rows=8, columns=8, positions=positions)
    series = lungct.read_series(tmp_path / "p")
    if not refused:
        assert len(list(grid_slices(series))) == len(grid_positions(series)) == 8
        return
    with pytest.raises(SeriesError, match=rf"a gap of {gap:.2f} mm between slices 3 and 4 of 5") as raised:
        prepare(series, "lung")
    assert raised.value.code == "geometry"


# Drawn bodies.

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


def test_the_chest_has_litres_a_view_and_triplets(tmp_path: Path) -> None:
    write_chest(tmp_path / "p")
    chest_found = find_chest(lungct.read_series(tmp_path / "p"))
    # Each lung has 40 rows x 32 columns x 24 slices of 3 x 3 x 2.5 mm. In the columns its edges are those of sampled
    # blocks; the rows 30 … 69 are sampled as the blocks 32 … 67 and 68 … 71.
    assert chest_found.lungs.litres == pytest.approx(2 * 40 * 32 * 24 * 9 * 2.5 / 1e6)
    assert 8 <= int(chest_found.lungs.mask.sum(axis=(1, 2)).argmax()) < 32
    # 10 mm are 4 grid slices; 336 mm are 112 pixels. The body is sampled as the columns 12 … 119, whose middle is 66;
    # the lungs' rows 32 … 71 have theirs at 52.
    assert chest_found.view == View((4, 36), (-4, 108), (10, 122), SIDE_MM)
    triplets = chest_triplets(chest_found)
    assert triplets.pixels.shape == (10, 3, 224, 224)
    assert triplets.positions_mm.tolist() == [-30.0 + 2.5 * (4 + 3 * t + 1) for t in range(10)]
    assert triplets.scan.lung_litres == chest_found.lungs.litres
    assert triplets.notes == ()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_one_body_has_the_same_pixels_in_whatever_direction_it_is_stored(
    way: tuple[bool, int, int], tmp_path: Path
) -> None:
    _, orientation = stored(chest(20), way)
    up = float(np.cross(orientation[:3], orientation[3:])[2])  # row x column points to the head or to the feet
    spacing = (3.0, 3.5) if not way[0] else (3.5, 3.0)
    for name, pixels, choices in (
        ("lps", chest, {"spacing": (3.0, 3.5)}),
        (
            "stored",
            lambda i: stored(chest(i), way)[0],
            {"spacing": spacing, "orientation": orientation, "first": -30 * up, "step": 2.5 * up},
        ),
    ):
        write_chest(tmp_path / name, pixels, **choices)
    a, b = (lungct.triplets(tmp_path / name, "lung") for name in ("lps", "stored"))
    assert a.pixel_hash == b.pixel_hash
    assert a.scan.lung_litres == b.scan.lung_litres
    assert np.array_equal(a.positions_mm, b.positions_mm)


def window(hu: NDArray[Any], view: View) -> NDArray[Any]:
    """Return a slice as rule 4 makes it, written plainly: pad with air, cut, then window and resize."""
    (top, bottom), (left, right) = view.rows, view.columns
    around = 700
    padded = np.pad(hu.astype(np.float64), around, constant_values=-1000.0)
    part = padded[top + around : bottom + around, left + around : right + around]
    grey = np.rint((np.clip(part, -1000, 400) + 1000) * 255 / 1400).astype(np.uint8)
    method = cv2.INTER_AREA if max(grey.shape) > 224 else cv2.INTER_LINEAR
    resized: NDArray[Any] = cv2.resize(grey, (224, 224), interpolation=method)
    return resized


@pytest.mark.parametrize("fine", [1, 4])
def test_pixels_are_those_of_the_view_windowed_and_resized(fine: int, tmp_path: Path) -> None:
    """Enlarged with INTER_LINEAR if pixels are larger than 1.5 mm, else averaged; beyond the image lies air."""

    def textured(i: int) -> NDArray[Any]:
        large = np.kron(chest(i), np.ones((fine, fine), int))
        return large + noise(*large.shape, bits_stored=6, seed=i)

    write_chest(tmp_path / "p", textured, slices=16, step=5.0, spacing=(PIXEL / fine, PIXEL / fine))
    series = lungct.read_series(tmp_path / "p")
    found = find_chest(series)
    (first, _), (top, bottom), (left, _) = found.view.slices, found.view.rows, found.view.columns
    assert top < 0
    assert bottom > series.rows
    assert left > 0
    volume = list(grid_slices(series))
    triplets = chest_triplets(found)
    for t, c in ((0, 0), (2, 1), (len(triplets) - 1, 2)):
        assert np.array_equal(triplets.pixels[t, c], window(volume[first + 3 * t + c], found.view))


@settings(max_examples=50, deadline=None)
@given(
    side=st.one_of(st.integers(100, 900), st.sampled_from([224, 448, 672])),
    left=st.integers(-60, 60),
)
def test_images_that_are_resized_together_have_the_pixels_of_each(side: int, left: int) -> None:
    images = [noise(300, 280, bits_stored=8, seed=i).astype(np.uint8) for i in range(3)]
    view = View((0, 3), (20, 20 + side), (left, left + side), SIDE_MM)
    for i, image in enumerate(triplet(images, view)):
        assert np.array_equal(image, window(images[i] / 255 * 1400 - 1000, view))


@pytest.mark.parametrize(
    ("hu", "grey"),
    [(-3024, 0), (-1000, 0), (-860, 26), (-580, 76), (-300, 128), (400, 255), (3000, 255), (32000, 255)],
)
def test_window_values_and_ties(hu: int, grey: int, tmp_path: Path) -> None:
    """-1000 … 400 HU become 0 … 255; ties are rounded to even."""

    def slice_with_patch(i: int) -> NDArray[Any]:
        stored = chest(i) - 1024
        paint(stored, (72, 82, 58, 70), hu)
        return stored

    write_chest(tmp_path / "p", slice_with_patch, intercept=0.0, signed=True, bits_stored=16)
    found = find_chest(lungct.read_series(tmp_path / "p"))
    row, column = (
        round((at - low + 0.5) * 224 / (high - low))
        for at, (low, high) in ((78, found.view.rows), (64, found.view.columns))
    )
    assert chest_triplets(found).pixels[4, 1, row, column] == grey


def test_a_scan_too_large_to_keep_is_read_twice_and_has_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chest(tmp_path / "p", lambda i: chest(i).T, orientation=(0.0, 1.0, 0.0, 1.0, 0.0, 0.0), step=1.7)
    series = lungct.read_series(tmp_path / "p")
    kept = prepare(series, "lung")
    monkeypatch.setattr(lung, "KEPT_BYTES", 0)
    assert find_chest(series).kept is None
    assert prepare(series, "lung").pixel_hash == kept.pixel_hash


# Rule 3: the lungs, on the sampled grid.


def sampled(*boxes: tuple[tuple[int, int, int, int, int, int], float]) -> NDArray[Any]:
    """Return a sampled grid of soft tissue, (20, 40, 40), with boxes (slices, rows, columns) of other HU."""
    hu = np.full((20, 40, 40), 40.0, np.float32)
    for (k0, k1, r0, r1, c0, c1), value in boxes:
        hu[k0:k1, r0:r1, c0:c1] = value
    return hu


MM = 2.8  # between sampled rows and columns: 16,000 voxels are 0.31 litre


def found(hu: NDArray[Any], times: float = 1.0) -> Lungs:
    """Find the lungs in voxels that are so many times as large."""
    return find_lungs(hu, (MM * math.sqrt(times), MM * math.sqrt(times)))


LARGE = (0, 20, 5, 35, 3, 18)  # 9,000
AT_BORDER = (0, 20, 5, 35, 0, 18)
SECOND = (0, 20, 10, 30, 22, 37)  # 6,000
SMALL = (0, 20, 10, 16, 22, 29)  # 840: less than a tenth of the largest, 0.016 litre


@pytest.mark.parametrize(
    ("case", "boxes", "times", "chosen"),
    [
        ("both lungs", [(LARGE, -850), (SECOND, -850)], 4, [LARGE, SECOND]),
        ("the second is too small a share", [(LARGE, -850), (SMALL, -850)], 20, [LARGE]),
        ("the second is below 0.05 litre", [(LARGE, -850), ((0, 20, 10, 20, 22, 32), -850)], 1.15, [LARGE]),
        ("a table's hollow is larger", [(LARGE, -960), (SECOND, -850)], 4, [SECOND]),
        ("air that reaches the border", [((0, 20, 0, 35, 3, 18), -960), (SECOND, -850)], 4, [SECOND]),
        ("a lung that reaches the border", [(AT_BORDER, -850), (SECOND, -850)], 4, [AT_BORDER, SECOND]),
        ("a mean of exactly -950", [(LARGE, -950), (SECOND, -850)], 4, [SECOND]),
        ("a pixel at -400 is no lung", [(LARGE, -400), (SECOND, -401)], 4, [SECOND]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_which_components_are_lungs(case: str, boxes: list[Any], times: float, chosen: list[Any]) -> None:
    expected = sampled(*[(box, 1.0) for box in chosen]) == 1.0
    lungs = found(sampled(*boxes), times)
    assert np.array_equal(lungs.mask, expected)
    assert lungs.litres == pytest.approx(expected.sum() * times * MM * MM * GRID_MM / 1e6)


def with_wall(box: tuple[int, ...], core: float, wall: float) -> list[Any]:
    """Return boxes of other HU: a cavity, and voxels around it that hold a part of its wall."""
    k0, k1, r0, r1, c0, c1 = box
    return [(box, wall), ((k0, k1, r0 + 1, r1 - 1, c0 + 1, c1 - 1), core)]


@pytest.mark.parametrize("gas", [-1000, -985, -970])
def test_gas_in_a_narrow_bowel_is_no_lung_although_its_wall_makes_it_denser(gas: float) -> None:
    bowel = (0, 20, 20, 28, 3, 33)
    hu = sampled(*with_wall(bowel, gas, -550.0))
    assert hu[hu < -400].mean() > -950
    with pytest.raises(SeriesError) as raised:
        found(hu, 10)
    assert raised.value.code == "no_lungs"
    lungs = found(sampled((SECOND, -850), *with_wall((0, 20, 31, 39, 3, 33), gas, -550.0)), 10)
    assert np.array_equal(lungs.mask, sampled((SECOND, 1.0)) == 1.0)


@pytest.mark.parametrize("air", [(0, 20, 5, 35, 3, 14), (2, 18, 7, 33, 3, 15)])
def test_a_lung_of_which_most_is_a_bulla_or_a_pneumothorax_is_a_lung(air: Any) -> None:
    hu = sampled((LARGE, -800.0), (air, -1000.0))
    assert (hu[hu < -400] <= -965).mean() > 0.5
    assert found(hu, 4).mask.sum() == 9000


def test_gas_has_no_wall_where_the_image_or_the_scan_ends() -> None:
    """Else gas that is cut by the image would have nothing within."""
    hu = sampled(((0, 1, 20, 24, 0, 30), -1000.0))[:1]
    hu[:, 19:25, 30:31] = hu[:, 19:20, :30] = hu[:, 24:25, :30] = -550.0
    with pytest.raises(SeriesError, match=r"0\.00 litres"):
        found(hu, 100)


def test_air_is_followed_to_the_border_within_its_slice_only() -> None:
    """A lung that opens to the air outside in one slice (through the mouth) is lost there and nowhere else."""
    hu = np.random.default_rng(0).normal(-1000.0, 5.0, (20, 60, 60)).astype(np.float32)
    hu[:, 2:40, 2:40] = sampled((LARGE, -850.0))[:, 2:, 2:]
    hu[7, 20, :4] = -1000.0
    mask = found(hu, 4).mask
    assert not mask[7].any()
    assert mask[6].sum() == mask[8].sum() == 450


def test_components_are_not_joined_at_corners() -> None:
    """Two lungs that touch at an edge only are two components, and only a side connects to the border."""
    hu = sampled(((0, 20, 1, 20, 1, 20), -850.0), ((0, 20, 20, 39, 20, 39), -850.0))
    hu[:, 0, 0] = -1000.0  # touches the first lung at a corner
    assert found(hu, 4).mask.sum() == 2 * 20 * 19 * 19


def test_a_third_component_is_no_lung() -> None:
    hu = sampled((LARGE, -850.0), (SECOND, -850.0), ((0, 20, 36, 39, 2, 38), -850.0))
    assert found(hu, 4).mask.sum() == 9_000 + 6_000


def drawn(
    *,
    noise_hu: float = 0.0,
    lung_hu: float = -850.0,
    bullae: bool = False,
    mattress_hu: float | None = None,
    blanket_hu: float | None = None,
    hollow_hu: float | None = None,
    padding_hu: float | None = None,
    gas: bool = False,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return a body on a table on the sampled grid, HU (12, 128, 128), and where its lungs are."""
    y, x = np.mgrid[:128, :128] - 63.5
    hu = np.full((128, 128), -1000.0)
    if blanket_hu is not None:
        hu[((x / 60) ** 2 + (y / 48) ** 2 < 1) & (y < 20)] = blanket_hu
    if mattress_hu is not None:
        hu[(y > 32) & (y < 52)] = mattress_hu
    if hollow_hu is not None:
        hu[(y > 51) & (y < 61) & (np.abs(x) < 50)] = 100.0
        hu[(y > 52) & (y < 60) & (np.abs(x) < 49)] = hollow_hu
    hu[(x / 54) ** 2 + (y / 42) ** 2 < 1] = 40.0
    lungs = ((x + 24) / 17) ** 2 + (y / 28) ** 2 < 1
    lungs |= ((x - 24) / 17) ** 2 + (y / 28) ** 2 < 1
    hu[lungs] = lung_hu
    if bullae:
        hu[lungs & ((x.astype(int) // 5 + y.astype(int) // 5) % 3 == 0)] = -1000.0
    if gas:
        hu[(x - 10) ** 2 + (y + 34) ** 2 < 25] = -990.0
    volume = np.repeat(hu[None], 12, axis=0)
    volume += np.random.default_rng(0).normal(0.0, noise_hu, volume.shape)
    volume = np.maximum(volume, -1024.0)
    if padding_hu is not None:
        volume[:, np.hypot(x, y) > 64] = padding_hu
    return volume.astype(np.float32), np.repeat(lungs[None], 12, axis=0)


def light(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), st.floats(low, high))


@settings(max_examples=60, deadline=None)
@given(
    noise_hu=st.sampled_from([0.0, 15.0, 80.0]),
    lung_hu=st.floats(-920, -600),
    bullae=st.booleans(),
    mattress_hu=light(-1000, -500),
    blanket_hu=light(-1000, -500),
    hollow_hu=light(-1000, -500),
    padding_hu=st.sampled_from([None, -1000.0, -1024.0, -2000.0, -3024.0]),
    gas=st.booleans(),
    side=st.sampled_from(["none", "left", "right", "both"]),
    cut=st.integers(1, 36),
)
def test_lungs_are_found_in_every_field_of_view_and_nothing_else_is(side: str, cut: int, **body: Any) -> None:
    hu, lungs = drawn(**body)
    left, right = cut * (side in ("left", "both")), cut * (side in ("right", "both"))
    hu, lungs = (np.ascontiguousarray(part[:, :, left : 128 - right]) for part in (hu, lungs))
    wrong = found(hu, 4).mask ^ lungs
    # Noise takes a voxel of lung here and there, and bullae at the edge of the image are air.
    assert wrong.sum() < 0.03 * lungs.sum() + 12 * 20


@pytest.mark.parametrize("side", ["left", "right", "front", "back"])
@pytest.mark.parametrize("padding_hu", [None, -1024.0, -2000.0])
def test_a_lung_at_the_edge_of_the_image_is_noted(side: str, padding_hu: float | None) -> None:
    hu, lungs = drawn()
    assert not found(hu).at_edge
    if padding_hu is None:
        at = {"left": np.s_[:, :, 26:], "right": np.s_[:, :, :100], "front": np.s_[:, 40:], "back": np.s_[:, :90]}[side]
        hu, lungs = np.ascontiguousarray(hu[at]), lungs[at]
    else:  # a circle that cuts the lungs, in an image that is tight about it
        y, x = np.mgrid[:72, :72] - 35.5
        hu, lungs = np.ascontiguousarray(hu[:, 28:100, 28:100]), lungs[:, 28:100, 28:100] & (np.hypot(x, y) <= 36)
        hu[:, np.hypot(x, y) > 36] = padding_hu
    result = found(hu)
    assert result.at_edge
    assert (result.mask ^ lungs).sum() < 0.03 * lungs.sum()


def test_lungs_that_only_reach_up_to_the_edge_of_the_padding_are_not_at_the_edge() -> None:
    hu, _ = drawn(padding_hu=-2000.0)
    assert not found(hu).at_edge


@pytest.mark.parametrize(
    ("slices", "first_hu", "at_end"),
    [(np.s_[:], -850.0, True), (np.s_[:], 40.0, False)],
)
def test_lungs_that_are_cut_by_the_first_or_last_slice_are_noted(slices: Any, first_hu: float, at_end: bool) -> None:
    hu, lungs = drawn()
    for end in (0, -1):
        cut = hu.copy()
        cut[[0, -1]] = np.where(lungs[0], 40.0, hu[0])
        cut[end] = np.where(lungs[0], first_hu, hu[0])
        assert found(cut).at_end == at_end


def test_a_windpipe_in_the_last_slice_is_no_cut_lung() -> None:
    """An airway that leads out of the image's upper end belongs to the lungs, and is not what is meant."""
    y, x = np.mgrid[:128, :128] - 63.5
    hu, lungs = drawn()
    hu[-4:] = np.where(lungs[-4:], 40.0, hu[-4:])
    hu[0] = np.where(lungs[0], 40.0, hu[0])
    hu[4:, np.hypot(x, y) < 4] = -980.0  # 3.9 cm2
    hu[5, (np.abs(x) < 20) & (np.abs(y) < 1)] = -980.0
    result = found(hu)
    assert result.mask[-1].sum() > 0
    assert not result.at_end


def test_no_lungs_names_the_edge_of_the_image_where_that_may_be_why() -> None:
    hu = sampled(((0, 20, 30, 40, 0, 40), -850.0), ((0, 20, 0, 8, 0, 40), -1000.0))
    with pytest.raises(SeriesError, match=r"0\.00 litres look like lung.*0\.63 litres at the image's edge") as raised:
        found(hu, 4)
    assert raised.value.code == "no_lungs"
    with pytest.raises(SeriesError, match=r"at least 0\.2 are needed$"):
        found(sampled(), 4)


def test_the_error_no_lungs_states_the_volume_found(tmp_path: Path) -> None:
    write_chest(tmp_path / "p", slices=11)  # three slices of lung: 0.17 litre
    with pytest.raises(SeriesError, match=r"no lungs found: 0\.17 litres") as raised:
        lungct.triplets(tmp_path / "p", "lung")
    assert raised.value.code == "no_lungs"


# Rule 4: the view.


def placed(
    lungs: tuple[int, int, int, int, int, int],
    *,
    body: tuple[int, int] = (10, 70),
    shape: tuple[int, int] = (320, 320),
    mm: tuple[float, float] = (1.0, 1.0),
    slices: int = 30,
) -> View:
    """Return the view of lungs (slices, rows, columns of the sampled grid) in a body between two columns."""
    rows, columns = (math.ceil(n / 4) for n in shape)
    hu = np.full((slices, rows, columns), -1000.0, np.float32)
    hu[:, 2 : rows - 2, body[0] : body[1]] = 40.0
    mask = np.zeros(hu.shape, bool)
    k0, k1, r0, r1, c0, c1 = lungs
    mask[k0:k1, r0:r1, c0:c1] = True
    hu[mask] = -850.0
    return view_of(mask, hu, shape, mm)


def test_the_view_is_336_mm_about_the_midline_and_the_lungs_height() -> None:
    view = placed((8, 20, 20, 60, 15, 35))
    assert view == View((4, 24), (160 - 168, 160 + 168), (160 - 168, 160 + 168), 336.0)
    assert not view.grown
    assert placed((8, 20, 20, 60, 15, 35), mm=(0.7, 0.7)).rows == (-80, 400)  # 160 -+ 240
    assert placed((8, 20, 10, 40, 15, 35)).rows == (100 - 168, 100 + 168)
    assert placed((8, 20, 20, 60, 15, 35), body=(12, 62)).columns == (148 - 168, 148 + 168)


def test_the_margin_along_the_body_ends_with_the_scan() -> None:
    assert placed((2, 28, 20, 60, 15, 35)).slices == (0, 30)
    assert placed((4, 26, 20, 60, 15, 35)).slices == (0, 30)
    assert placed((5, 25, 20, 60, 15, 35)).slices == (1, 29)


@pytest.mark.parametrize(
    ("lungs", "side"),
    [
        ((8, 20, 20, 60, 20, 62), 336.0),  # 160 - 88 mm from the midline to the far side: 2 x 88
        ((8, 20, 20, 60, 11, 69), 336.0),
        ((8, 20, 3, 77, 15, 35), 444.0),  # 74 rows of 6 mm
        ((8, 20, 20, 60, 11, 35), 348.0),  # from column 11 to the midline at 40: 29 columns of 6 mm on each side
    ],
)
def test_the_view_grows_for_lungs_that_do_not_fit(lungs: Any, side: float) -> None:
    mm = 1.5 if side > SIDE_MM else 1.0
    view = placed(lungs, mm=(mm, mm))
    assert view.side_mm == side
    assert view.grown == (side > SIDE_MM)
    for (low, high), (first, last) in ((view.rows, lungs[2:4]), (view.columns, lungs[4:6])):
        assert low <= 4 * first
        assert high >= 4 * last


def test_arms_cloth_and_a_filled_lung_do_not_move_the_midline() -> None:
    hu, lungs = drawn()
    one = lungs.copy()
    one[:, :, 64:] = False
    filled = np.where(lungs & ~one, 30.0, hu).astype(np.float32)
    y, x = np.mgrid[:128, :128] - 63.5
    arm = filled.copy()
    arm[:4, np.hypot(x - 58, y) < 6] = 40.0  # in a third of the slices
    views = [view_of(mask, image, (512, 512), (0.7, 0.7)) for mask, image in ((lungs, hu), (one, filled), (one, arm))]
    assert views[0].columns == (16, 496)
    assert views[1] == views[0]
    assert abs(views[2].columns[0] - 16) <= 1


def test_a_lung_at_the_edge_counts_as_body() -> None:
    """Else the body's middle would lie on the side whose lung is whole."""
    hu, lungs = drawn()
    at = np.s_[:, :, 26:102]
    view = view_of(lungs[at], np.ascontiguousarray(hu[at]), (512, 304), (0.7, 0.7))
    assert view.columns == (152 - 240, 152 + 240)


def test_the_view_and_its_notes_reach_the_scan(tmp_path: Path) -> None:
    def broad(i: int) -> NDArray[Any]:
        hu = np.full((ROWS, COLUMNS), 40)
        if i < 32:
            paint(hu, (30, 70, 0, 56), -850)
            paint(hu, (30, 70, 72, 104), -820)
        return hu + 1024

    write_chest(tmp_path / "p", broad)
    triplets = lungct.triplets(tmp_path / "p", "lung")
    assert triplets.notes == ("lung_at_edge", "lung_at_end", "view_grown_mm=384")
    assert triplets.scan.notes == triplets.notes


@pytest.mark.parametrize("choices", [{"positions": [None] * 40}, {"spacing": None}])
def test_lung_needs_positions_and_spacing(choices: dict[str, Any], tmp_path: Path) -> None:
    write_chest(tmp_path / "p", **choices)
    with pytest.raises(SeriesError) as raised:
        lungct.triplets(tmp_path / "p", "lung")
    assert raised.value.code == "geometry"


def test_a_tilted_gantry_changes_no_direction(tmp_path: Path) -> None:
    write_chest(tmp_path / "a")
    write_chest(tmp_path / "b", orientation=tilted(20))
    a, b = (lungct.triplets(tmp_path / name, "lung") for name in "ab")
    assert a.pixel_hash == b.pixel_hash


# Rule 5: the triplets.


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


# Phantoms and real series.


def phantom(folder: Path, variation: Variation, slices: int = 36) -> Triplets:
    write_cohort(folder / "c", patients=1, slices=slices, seed=12, variation=variation)
    return lungct.triplets(folder / "c" / "phantom-0001", "lung")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variation", "share", "notes"),
    [
        (Variation(mattress=True, field_mm=330.0), 1.0, ()),
        (Variation(blanket=True, mattress=True, field_mm=500.0), 1.0, ()),
        (Variation(arms="down", field_mm=500.0), 1.0, ()),
        (Variation(arms="left down", field_mm=500.0), 1.0, ()),
        (Variation(prone=True), 1.0, ()),
        (Variation(emphysema=True), 1.0, ()),
        (Variation(left_lung="filled"), 0.54, ()),
        (Variation(left_lung="collapsed", arms="left down", field_mm=480.0), 0.54, ()),
        (Variation(emphysema=True, field_mm=200.0), 0.84, ("lung_at_edge",)),
        (Variation(field_mm=200.0), 0.84, ("lung_at_edge",)),
        (Variation(field_mm=700.0, arms="down"), 1.0, ()),
    ],
    ids=str,
)
def test_unusual_bodies_have_their_lungs(
    variation: Variation, share: float, notes: tuple[str, ...], tmp_path: Path
) -> None:
    ordinary = phantom(tmp_path / "ordinary", Variation())
    assert ordinary.notes == ()
    varied = phantom(tmp_path / "varied", variation)
    assert varied.notes == notes
    assert ordinary.scan.lung_litres is not None
    assert varied.scan.lung_litres == pytest.approx(share * ordinary.scan.lung_litres, rel=0.06)


@pytest.mark.slow
def test_a_prone_body_has_the_pixels_of_the_same_body_supine_but_for_the_table(tmp_path: Path) -> None:
    supine, prone = (phantom(tmp_path / name, Variation(prone=name == "prone")) for name in ("supine", "prone"))
    assert np.array_equal(supine.pixels[:, :, 60:160], prone.pixels[:, :, 60:160])
    assert not np.array_equal(supine.pixels, prone.pixels)


@pytest.mark.parametrize("folder", REAL, ids=lambda folder: folder.name)
def test_real_chests_have_lungs_of_a_plausible_size(folder: Path) -> None:
    if folder.name == "siemens-mct-j2k-emptyuids":  # an upper abdomen
        with pytest.raises(SeriesError) as raised:
            lungct.triplets(folder, "lung")
        assert raised.value.code == "no_lungs"
        return
    series = lungct.read_series(folder)
    found = find_chest(series)
    covered = GRID_MM * len(found.positions_mm)
    assert 0.005 < found.lungs.litres / covered < 0.04  # litres per mm of the chest: 50 to 400 cm2
    assert found.lungs.at_end  # each is a part of a series
    assert not found.lungs.at_edge
    assert not found.view.grown
    columns = np.flatnonzero(found.lungs.mask.any(axis=(0, 1)))
    middle = 2 * (columns[0] + columns[-1] + 1)
    assert abs(middle - sum(found.view.columns) / 2) * series.spacing_mm[2] <= 15


class Cropped:
    """Part of a series' columns and rows, as its pixels."""

    has_instances = True

    def __init__(self, pixels: Any, part: Any) -> None:
        self.pixels, self.part = pixels, part

    def hu(self, image: Any) -> NDArray[np.float32]:
        hu: NDArray[np.float32] = self.pixels.hu(image)[self.part]
        return hu

    def stored(self, image: Any) -> Any:
        return self.pixels.stored(image)[self.part]


@pytest.mark.parametrize("folder", [f for f in REAL if "mct" not in f.name], ids=lambda folder: folder.name)
@pytest.mark.parametrize("cut", [24, 100, 180])
def test_the_litres_of_a_real_series_fall_by_the_part_cut_off_and_no_more(folder: Path, cut: int) -> None:
    series = lungct.read_series(folder)
    whole = find_chest(series).lungs
    litres = whole.litres / whole.mask.sum()
    for part, kept in (
        (np.s_[:, cut:], np.s_[:, :, cut // 4 :]),
        (np.s_[:, :-cut], np.s_[:, :, : -cut // 4]),
        (np.s_[cut:], np.s_[:, cut // 4 :]),
        (np.s_[:-cut], np.s_[:, : -cut // 4]),
    ):
        rows, columns = np.empty((series.rows, series.columns))[part].shape
        tight = replace(series, rows=rows, columns=columns, pixels=Cropped(series.pixels, part))
        expected = whole.mask[kept].sum() * litres
        assert find_chest(tight).lungs.litres == pytest.approx(expected, rel=0.01)


LARGE_SCAN = """
import dataclasses, resource, sys
import numpy as np
import cv2
import lungct
from lungct.preprocess import prepare
series = lungct.read_series(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (1500 << 20, 1500 << 20))  # the decoding process has 1792 MiB
class Enlarged:
    has_instances = True
    reads = 0
    def hu(self, image):
        self.reads += 1
        return cv2.resize(series.pixels.hu(image), None, fx=16, fy=16, interpolation=cv2.INTER_NEAREST)
fine, (between, rows, columns) = Enlarged(), series.spacing_mm
scan = dataclasses.replace(series.scan, spacing_mm=(between, rows / 16, columns / 16))
large = dataclasses.replace(series, rows=2048, columns=2048, pixels=fine, scan=scan)
print(len(prepare(large, "lung")), fine.reads)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("slices", "step", "triplets", "reads"), [(140, 2.5, 46, 140), (280, 2.5, 93, 280 + 279)])
def test_the_largest_scanners_slices_fit_into_the_memory_of_a_process(
    slices: int, step: float, triplets: int, reads: int, tmp_path: Path
) -> None:
    """2,048 x 2,048 over 350 mm in one pass, over 700 mm in two."""

    def small(i: int) -> NDArray[Any]:
        hu = np.full((128, 128), -1000)
        paint(hu, (20, 108, 6, 122), 40)
        paint(hu, (36, 92, 16, 56), -850)
        paint(hu, (36, 92, 72, 112), -850)
        return hu + 1024

    write_series(tmp_path / "p", slices=slices, step=step, pixels=small, spacing=(2.5, 2.5))
    done = subprocess.run([sys.executable, "-c", LARGE_SCAN, tmp_path / "p"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(triplets), str(reads)]
