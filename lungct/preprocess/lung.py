"""Preset ``lung``: the lungs' box on a 2.5 mm grid in a fixed Hounsfield window, for any scanner.

Terms and units. *Grid slices* lie every 2.5 mm along the normal, the first at the first slice's
position (feet), HU in float32. The *sampled* grid takes every fourth row and column; a sampled
pixel stands for its 4 x 4 block. Boxes are half open; in the plane they are pixels of the full
image and may reach beyond it, where the image is too small for a square: what is missing there is
air, -1000 HU.

The numbered rules are those of the format description ("preset lung"). Memory is bounded by the
grid's volume and a few slices: each input slice is read once, whatever their number.
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
from lungct.preprocess.stack import SIZE, Triplets, one_thread

if TYPE_CHECKING:
    from lungct.dicom import Scan, Series

GRID_MM = 2.5
AIR_HU = -1000.0
WINDOW_HU = (-1000.0, 400.0)

_STEP = 4  # sampling of rows and columns
_MARGIN_MM = 10.0
_LUNG_BELOW_HU = -400.0
_HOLLOW_HU = -950.0  # a component with a mean at or below this is air in a table's hollow, not lung
_COMPONENT_L = 0.05
_LUNGS_L = 0.2
_SECOND_PART = 10  # the second component is a lung from a tenth of the largest on

# Rule 2 counts in hundredths of a millimetre, as integers: which slices a grid slice averages must
# not hang on the last bit of a difference of two decimal strings.
_GRID = 250
_HALF = 125
_GAP = 1000


@dataclass(frozen=True)
class LungBox:
    """The lungs' box, widened to a square: grid slices, rows, columns, each half open."""

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
        Their positions along the normal, float64, shape (K,).
    mask
        The lungs on the sampled grid, bool, shape (K, ceil(rows / 4), ceil(columns / 4)).
    box
        What the preset shows of it.
    litres
        The mask's volume.
    scan
        What reading found.

    """

    volume: NDArray[np.float32]
    positions_mm: NDArray[np.float64]
    mask: NDArray[np.bool_]
    box: LungBox
    litres: float
    scan: Scan

    @property
    def middle(self) -> int:
        """The grid slice with most lung in it: the one to show to a person."""
        return int(self.mask.sum(axis=(1, 2)).argmax())


def prepare(series: Series) -> Triplets:
    """Turn a series into triplets of the lungs.

    Raises
    ------
    SeriesError
        ``geometry`` (positions or pixel spacing unknown, or a gap of more than 10 mm),
        ``no_lungs``, or ``too_few_slices`` (the box holds fewer than three grid slices).

    """
    return show(find_lungs(series))


def find_lungs(series: Series) -> Lungs:
    """Put a series onto the grid and find the lungs and their box in it (rules 1 to 3).

    Raises
    ------
    SeriesError
        ``geometry`` or ``no_lungs``, as for `prepare`.

    """
    series = series.by_position()  # rule 1
    _, row_mm, column_mm = series.spacing_mm
    if not (0 < row_mm < math.inf and 0 < column_mm < math.inf):
        raise SeriesError("the files do not give the pixel spacing, which the preset lung needs", code="geometry")
    volume, positions = grid_slices(series)
    sampled = np.ascontiguousarray(volume[:, ::_STEP, ::_STEP])
    voxel_l = _STEP * row_mm * _STEP * column_mm * GRID_MM / 1e6
    mask = lung_mask(sampled, voxel_l)
    box = lung_box(mask, (series.rows, series.columns), (row_mm, column_mm))
    return Lungs(volume, positions, mask, box, int(mask.sum()) * voxel_l, series.scan)


def show(lungs: Lungs) -> Triplets:
    """Window, crop and resize the grid slices within the box, in threes (rules 4 and 5).

    Raises
    ------
    SeriesError
        ``too_few_slices`` where the box holds fewer than three grid slices.

    """
    first, last = lungs.box.slices
    count = (last - first) // 3
    if count < 1:
        raise SeriesError(
            f"the preset lung needs at least 3 slices of {GRID_MM} mm; the lungs span {last - first}",
            code="too_few_slices",
        )
    pixels = np.empty((count, 3, SIZE, SIZE), np.uint8)
    with one_thread():
        for t in range(count):
            for c in range(3):
                pixels[t, c] = _resized(lungs.volume[first + 3 * t + c], lungs.box)
    middles = lungs.positions_mm[first + 1 : first + 3 * count : 3]
    return Triplets(pixels, middles.copy(), replace(lungs.scan, lung_litres=lungs.litres))


def grid_slices(series: Series) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Average or interpolate a series, ordered by position, onto grid slices (rule 2).

    A grid slice is the weighted mean of the slices less than 1.25 mm away (weight 1) and exactly
    1.25 mm away (weight one half); where there are none, the linear interpolation between the
    nearest below and above.

    Returns
    -------
    volume
        HU, float32, shape (K, rows, columns).
    positions_mm
        float64, shape (K,).

    Raises
    ------
    SeriesError
        ``geometry``: a gap of more than 10 mm.

    """
    positions = np.asarray(series.positions_mm, np.float64)
    places = np.rint((positions - positions[0]) * 100.0).astype(np.int64)
    _refuse_gaps(places)
    count = int(places[-1]) // _GRID + 1
    volume = np.empty((count, series.rows, series.columns), np.float32)
    weights = np.zeros(count, np.float64)
    below: NDArray[np.float32] | None = None
    for i in range(len(series)):
        here, hu = int(places[i]), series.hu(i)
        if below is not None:
            _interpolate(volume, (int(places[i - 1]), below), (here, hu))
        for k in range(-(-(here - _HALF) // _GRID), (here + _HALF) // _GRID + 1):
            if 0 <= k < count:
                weight = 1.0 if abs(here - _GRID * k) < _HALF else 0.5
                part = hu * np.float32(weight)
                if weights[k] == 0:
                    volume[k] = part
                else:
                    volume[k] += part
                weights[k] += weight
        below = hu
    for k in np.flatnonzero((weights != 0) & (weights != 1)).tolist():
        volume[k] /= np.float32(weights[k])
    return volume, positions[0] + GRID_MM * np.arange(count)


def _refuse_gaps(places: NDArray[np.int64]) -> None:
    gaps = np.diff(places)
    if len(gaps) and int(gaps.max()) > _GAP:
        at = int(gaps.argmax())
        raise SeriesError(
            f"a gap of {gaps[at] / 100:g} mm between slices {at + 1} and {at + 2} of {len(places)}, "
            f"counted from the feet; the preset lung bridges at most {_GAP / 100:g} mm",
            code="geometry",
        )


def _interpolate(
    volume: NDArray[np.float32],
    below: tuple[int, NDArray[np.float32]],
    above: tuple[int, NDArray[np.float32]],
) -> None:
    """Fill the grid slices between two neighbouring slices that neither of them reaches."""
    (low, low_hu), (high, high_hu) = below, above
    for k in range((low + _HALF) // _GRID + 1, -(-(high - _HALF) // _GRID)):
        share = (_GRID * k - low) / (high - low)
        volume[k] = low_hu * np.float32(1.0 - share) + high_hu * np.float32(share)


def lung_mask(sampled: NDArray[np.float32], voxel_l: float) -> NDArray[np.bool_]:
    """Find the lungs on the sampled grid (rule 3).

    Parameters
    ----------
    sampled
        HU, shape (K, rows, columns).
    voxel_l
        Litres that one sampled voxel stands for.

    Raises
    ------
    SeriesError
        ``no_lungs``: less than 0.2 litre found.

    """
    air = sampled < _LUNG_BELOW_HU
    # Air that reaches the image's border within its slice is outside the body. One labelling for
    # all slices: the structuring element has neighbours in the plane only.
    plane = np.zeros((3, 3, 3), bool)
    plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(air, plane)
    outside = np.zeros(count + 1, bool)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[edge] = True
    inside = air & ~outside[labels]

    labels, count = ndimage.label(inside)  # 6-connected in space
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sums = np.bincount(labels.ravel(), weights=sampled.ravel(), minlength=count + 1)
    means = sums / np.maximum(sizes, 1)
    fit = [n for n in range(1, count + 1) if sizes[n] * voxel_l >= _COMPONENT_L and means[n] > _HOLLOW_HU]
    # The largest, and the second where it is not a mere tenth of it: airways often join both lungs,
    # and then the second is the stomach's gas.
    fit.sort(key=lambda n: -int(sizes[n]))
    chosen = [n for n in fit[:2] if _SECOND_PART * sizes[n] >= sizes[fit[0]]]
    litres = sum(int(sizes[n]) for n in chosen) * voxel_l
    if litres < _LUNGS_L:
        raise SeriesError(
            f"no lungs found: {litres:.2f} litres look like lung, and at least {_LUNGS_L} are needed",
            code="no_lungs",
        )
    return np.asarray(np.isin(labels, chosen))


def lung_box(mask: NDArray[np.bool_], shape: tuple[int, int], spacing_mm: tuple[float, float]) -> LungBox:
    """Bound the lungs, add 10 mm all round, widen the shorter side to a square in mm (rule 3).

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
    ends = round(_MARGIN_MM / GRID_MM)
    slices = (max(0, int(along[0]) - ends), min(len(mask), int(along[-1]) + 1 + ends))

    sides: list[tuple[float, float]] = []  # mm
    limits = [shape[axis] * spacing_mm[axis] for axis in (0, 1)]
    for axis in (0, 1):
        hit = np.flatnonzero(mask.any(axis=(0, 2 - axis)))
        low = _STEP * int(hit[0]) * spacing_mm[axis] - _MARGIN_MM
        high = _STEP * (int(hit[-1]) + 1) * spacing_mm[axis] + _MARGIN_MM
        sides.append((max(0.0, low), min(limits[axis], high)))
    side = max(high - low for low, high in sides)
    rows, columns = (_whole_pixels(_widened(sides[axis], side, limits[axis]), spacing_mm[axis]) for axis in (0, 1))
    return LungBox(slices, rows, columns)


def _widened(edges: tuple[float, float], side: float, limit: float) -> tuple[float, float]:
    """Widen an interval about its centre and move it inside 0 ... limit; centre what is larger."""
    if edges[1] - edges[0] >= side:
        return edges
    low = (edges[0] + edges[1] - side) / 2
    low = (limit - side) / 2 if side >= limit else min(max(low, 0.0), limit - side)
    return low, low + side


def _whole_pixels(edges_mm: tuple[float, float], spacing_mm: float) -> tuple[int, int]:
    """Round edges to pixels, half to even; a millionth of a pixel is float noise."""
    low, high = (int(np.rint(round(edge / spacing_mm, 6))) for edge in edges_mm)
    return low, high


def _resized(hu: NDArray[np.float32], box: LungBox) -> NDArray[np.uint8]:
    """Window one grid slice within the box to 0 ... 255 and resize it (rule 4)."""
    (top, bottom), (left, right) = box.rows, box.columns
    rows, columns = hu.shape
    inside = hu[max(top, 0) : min(bottom, rows), max(left, 0) : min(right, columns)]
    low, high = WINDOW_HU
    # Multiplied before it is divided: for whole HU both the product and a result of x.5 are then
    # exact.
    scaled = (np.clip(inside, low, high) - np.float32(low)) * np.float32(255.0)
    grey = np.rint(scaled / np.float32(high - low)).astype(np.uint8)
    if grey.shape != (bottom - top, right - left):  # -1000 HU is 0 in the window
        outside = ((max(-top, 0), max(bottom - rows, 0)), (max(-left, 0), max(right - columns, 0)))
        grey = np.pad(grey, outside)
    shrinks = bottom - top > SIZE or right - left > SIZE
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(grey, (SIZE, SIZE), interpolation=method)
    return resized
