"""Preset ``lung``: the box around the lungs, on a 2.5 mm grid, in a fixed Hounsfield window; for any scanner.

Terms. *Grid slices* lie every 2.5 mm along the normal, the first at the position of the first slice (feet), in HU as
float32. The *sampled* grid has every fourth row and column; a sampled pixel represents its block of 4 x 4. Boxes are
half open. In the plane they count pixels of the full image and may reach beyond it where the image is too small for a
square; the missing part is air, -1000 HU.

Rule numbers are those of ``docs/formats.md``, "Preset lung".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped,unused-ignore]

from lungct.errors import SeriesError
from lungct.preprocess.grid import GRID_MM, grid_slices
from lungct.preprocess.opencv import single_threaded
from lungct.preprocess.stack import TRIPLET_SIZE, Triplets

if TYPE_CHECKING:
    from lungct.dicom import Scan, Series

AIR_HU = -1000.0
WINDOW_HU = (AIR_HU, 400.0)

_SAMPLING = 4  # one row and column in four
_MARGIN_MM = 10.0
_LUNG_BELOW_HU = -400.0
_HOLLOW_HU = -950.0  # a component whose mean is no higher is the air in a hollow table, not lung
_LEAST_COMPONENT_L = 0.05
_LEAST_LUNGS_L = 0.2
_LEAST_SECOND_SHARE = 10  # the second component is a lung if it has at least a tenth of the largest


@dataclass(frozen=True)
class LungBox:
    """The box around the lungs, widened to a square: grid slices, rows and columns, each half open."""

    slices: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of a series, on grid slices from the feet to the head.

    Attributes
    ----------
    volume
        Grid slices, HU, float32, shape (K, rows, columns).
    positions_mm
        Positions of the grid slices along the normal, float64, shape (K,).
    mask
        The lungs on the sampled grid, bool, shape (K, ceil(rows / 4), ceil(columns / 4)).
    box
        The part that the triplets show.
    litres
        Volume of the mask.
    scan
        What reading found out about the scan.

    """

    volume: NDArray[np.float32]
    positions_mm: NDArray[np.float64]
    mask: NDArray[np.bool_]
    box: LungBox
    litres: float
    scan: Scan


def prepare(series: Series) -> Triplets:
    """Convert a series to triplets of the lungs.

    Raises
    ------
    SeriesError
        ``geometry`` (positions or pixel spacing unknown, or a gap of more than 10 mm), ``no_lungs``, or
        ``too_few_slices`` (fewer than three grid slices in the box).

    """
    return lung_triplets(find_lungs(series))


def find_lungs(series: Series) -> Lungs:
    """Resample a series to the grid and find the lungs and their box in it (rules 1 to 3).

    Raises
    ------
    SeriesError
        ``geometry`` or ``no_lungs``, as for `prepare`.

    """
    series = series.by_position()  # rule 1
    _, row_mm, column_mm = series.spacing_mm
    if not (0 < row_mm < math.inf and 0 < column_mm < math.inf):
        raise SeriesError("the files do not state the pixel spacing, which the preset lung needs", code="geometry")
    volume, positions = grid_slices(series)  # rule 2
    sampled = np.ascontiguousarray(volume[:, ::_SAMPLING, ::_SAMPLING])
    voxel_l = _SAMPLING * row_mm * _SAMPLING * column_mm * GRID_MM / 1e6
    mask = lung_mask(sampled, voxel_l)
    box = lung_box(mask, (series.rows, series.columns), (row_mm, column_mm))
    return Lungs(volume, positions, mask, box, int(mask.sum()) * voxel_l, series.scan)


def lung_triplets(lungs: Lungs) -> Triplets:
    """Window, crop and resize the grid slices in the box, three at a time (rules 4 and 5).

    Raises
    ------
    SeriesError
        ``too_few_slices`` for fewer than three grid slices in the box.

    """
    first, last = lungs.box.slices
    count = (last - first) // 3
    if count < 1:
        raise SeriesError(
            f"the preset lung needs at least 3 slices of {GRID_MM} mm; the lungs span {last - first}",
            code="too_few_slices",
        )
    pixels = np.empty((count, 3, TRIPLET_SIZE, TRIPLET_SIZE), np.uint8)
    with single_threaded():
        for t in range(count):
            for c in range(3):
                pixels[t, c] = _slice_image(lungs.volume[first + 3 * t + c], lungs.box)
    middles = lungs.positions_mm[first + 1 : first + 3 * count : 3]
    return Triplets(pixels, middles.copy(), replace(lungs.scan, lung_litres=lungs.litres))


def lung_mask(sampled: NDArray[np.float32], voxel_l: float) -> NDArray[np.bool_]:
    """Find the lungs on the sampled grid (rule 3).

    Parameters
    ----------
    sampled
        HU, shape (K, rows, columns).
    voxel_l
        Litres per sampled voxel.

    Raises
    ------
    SeriesError
        ``no_lungs``, if there is less than 0.2 litre of lung.

    """
    inside = _air_inside_the_body(sampled)
    labels, count = ndimage.label(inside)  # 6-connected in space
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sums = np.bincount(labels.ravel(), weights=sampled.ravel(), minlength=count + 1)
    means = sums / np.maximum(sizes, 1)
    fit = [n for n in range(1, count + 1) if sizes[n] * voxel_l >= _LEAST_COMPONENT_L and means[n] > _HOLLOW_HU]
    # The largest, and the second if it has at least a tenth of its size: airways often join both lungs to one
    # component, and the second is then the gas in the stomach.
    fit.sort(key=lambda n: -int(sizes[n]))
    chosen = [n for n in fit[:2] if _LEAST_SECOND_SHARE * sizes[n] >= sizes[fit[0]]]
    litres = sum(int(sizes[n]) for n in chosen) * voxel_l
    if litres < _LEAST_LUNGS_L:
        raise SeriesError(
            f"no lungs found: {litres:.2f} litres look like lung, and at least {_LEAST_LUNGS_L} are needed",
            code="no_lungs",
        )
    return np.asarray(np.isin(labels, chosen))


def _air_inside_the_body(sampled: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a pixel is below -400 HU and not connected, within its slice, to the border of the image."""
    air = sampled < _LUNG_BELOW_HU
    # One labelling for all slices: the structuring element has neighbours in the plane only.
    plane = np.zeros((3, 3, 3), bool)
    plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(air, plane)
    outside = np.zeros(count + 1, bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[edge] = True
    return np.asarray(air & ~outside[labels])


def lung_box(mask: NDArray[np.bool_], shape: tuple[int, int], spacing_mm: tuple[float, float]) -> LungBox:
    """Bound the lungs, add 10 mm on all sides, and widen the shorter side to a square in mm (rule 3).

    Parameters
    ----------
    mask
        Lungs on the sampled grid, shape (K, ceil(rows / 4), ceil(columns / 4)), not empty.
    shape
        Rows and columns of the full image.
    spacing_mm
        Between rows and between columns.

    """
    along = np.flatnonzero(mask.any(axis=(1, 2)))
    margin = round(_MARGIN_MM / GRID_MM)
    slices = (max(0, int(along[0]) - margin), min(len(mask), int(along[-1]) + 1 + margin))

    sides: list[tuple[float, float]] = []  # mm
    limits = [shape[axis] * spacing_mm[axis] for axis in (0, 1)]
    for axis in (0, 1):
        hit = np.flatnonzero(mask.any(axis=(0, 2 - axis)))
        low = _SAMPLING * int(hit[0]) * spacing_mm[axis] - _MARGIN_MM
        high = _SAMPLING * (int(hit[-1]) + 1) * spacing_mm[axis] + _MARGIN_MM
        sides.append((max(0.0, low), min(limits[axis], high)))
    side = max(high - low for low, high in sides)
    rows, columns = (_to_pixels(_widen(sides[axis], side, limits[axis]), spacing_mm[axis]) for axis in (0, 1))
    return LungBox(slices, rows, columns)


def _widen(edges: tuple[float, float], side: float, limit: float) -> tuple[float, float]:
    """Widen an interval about its centre, then move it into 0 … limit, or centre it there if it is larger."""
    if edges[1] - edges[0] >= side:
        return edges
    low = (edges[0] + edges[1] - side) / 2
    low = (limit - side) / 2 if side >= limit else min(max(low, 0.0), limit - side)
    return low, low + side


def _to_pixels(edges_mm: tuple[float, float], spacing_mm: float) -> tuple[int, int]:
    """Round edges to whole pixels, half to even; a millionth of a pixel is noise of floating point."""
    low, high = (int(np.rint(round(edge / spacing_mm, 6))) for edge in edges_mm)
    return low, high


def _slice_image(hu: NDArray[np.float32], box: LungBox) -> NDArray[np.uint8]:
    """Return one grid slice as a channel of a triplet: windowed to 0 … 255, cropped and resized (rule 4)."""
    (top, bottom), (left, right) = box.rows, box.columns
    rows, columns = hu.shape
    inside = hu[max(top, 0) : min(bottom, rows), max(left, 0) : min(right, columns)]
    low, high = WINDOW_HU
    # Multiply before dividing: for whole HU the product is exact, and so is every result of x.5.
    scaled = (np.clip(inside, low, high) - np.float32(low)) * np.float32(255.0)
    grey = np.rint(scaled / np.float32(high - low)).astype(np.uint8)
    if grey.shape != (bottom - top, right - left):  # air is 0 in the window
        outside = ((max(-top, 0), max(bottom - rows, 0)), (max(-left, 0), max(right - columns, 0)))
        grey = np.pad(grey, outside)
    shrinks = bottom - top > TRIPLET_SIZE or right - left > TRIPLET_SIZE
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(grey, (TRIPLET_SIZE, TRIPLET_SIZE), interpolation=method)
    return resized
