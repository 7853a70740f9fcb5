"""Slices at any spacing -> *grid slices*, every 2.5 mm from the feet to the head.

``docs/formats.md``, "Preset lung, rule 2". Grid slices are made one after the other, from each input slice once, so
that memory is bounded by a few slices, however many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lungct.dicom.geometry import LARGEST_GAP_MM
from lungct.errors import SeriesError

if TYPE_CHECKING:
    from lungct.dicom import Series

GRID_MM = 2.5
"""Distance between grid slices."""

# Positions are compared in whole hundredths of a millimetre: which slices a grid slice averages must not depend on the
# last bit of a difference between two decimal strings.
_UNITS_PER_MM = 100
_STEP = round(GRID_MM * _UNITS_PER_MM)
_HALF_STEP = _STEP // 2
_LARGEST_GAP = round(LARGEST_GAP_MM * _UNITS_PER_MM)

Image = NDArray[np.float32]


def grid_positions(series: Series) -> NDArray[np.float64]:
    """Return the positions of a series' grid slices along the normal in mm, float64 (K,).

    Raises
    ------
    SeriesError
        ``geometry``, if there is a gap of more than 10 mm.

    """
    places = _places(series)
    _check_gaps(places)
    first = float(series.positions_mm[0])
    return np.asarray(first + GRID_MM * np.arange(places[-1] // _STEP + 1), np.float64)


def grid_slices(series: Series) -> Iterator[Image]:
    """Average or interpolate a series, ordered by position, and yield its grid slices, HU, float32 (rows, columns).

    A grid slice is the weighted mean of the slices less than 1.25 mm away (weight 1) and exactly 1.25 mm away (weight
    one half). If there are none, it is the linear interpolation between the nearest slices below and above. An image
    that is yielded may be one of the series' own: do not change it.

    """
    places = _places(series)
    count = places[-1] // _STEP + 1
    reached = [_reached(place, count) for place in places]
    later = [*(grid.start for grid in reached[1:]), count]  # the first grid slice that the next slice reaches
    sums: dict[int, tuple[Image, float]] = {}
    below: tuple[int, Image] | None = None
    for i, place in enumerate(places):
        hu = series.hu(i)
        if below is not None:
            yield from (_interpolated(k, below, (place, hu)) for k in range(reached[i - 1].stop, reached[i].start))
        for k in reached[i]:
            sums[k] = _added(sums.get(k), hu, 1.0 if abs(place - _STEP * k) < _HALF_STEP else 0.5)
        # Nothing is held longer than it is needed.
        below = (place, hu) if reached[i].stop < later[i] else None
        del hu
        yield from (_mean(*sums.pop(k)) for k in reached[i] if k < later[i])


def _places(series: Series) -> list[int]:
    """Return how far each slice is above the first, in hundredths of a millimetre."""
    positions = np.asarray(series.positions_mm, np.float64)
    places: list[int] = np.rint((positions - positions[0]) * _UNITS_PER_MM).astype(np.int64).tolist()
    return places


def _check_gaps(places: list[int]) -> None:
    gaps = [above - below for below, above in pairwise(places)]
    largest = max(gaps, default=0)
    if largest > _LARGEST_GAP:
        at = gaps.index(largest)
        raise SeriesError(
            f"a gap of {largest / _UNITS_PER_MM:g} mm between slices {at + 1} and {at + 2} of {len(places)}, "
            f"counted from the feet; the preset lung bridges at most {LARGEST_GAP_MM:g} mm",
            code="geometry",
        )


def _added(sum_and_weight: tuple[Image, float] | None, hu: Image, weight: float) -> tuple[Image, float]:
    """Return a weighted sum of slices, and its weights' sum, with one slice more."""
    part = hu if weight == 1 else hu * np.float32(weight)
    if sum_and_weight is None:
        return part, weight
    return sum_and_weight[0] + part, sum_and_weight[1] + weight


def _mean(total: Image, weight: float) -> Image:
    return total if weight == 1 else total / np.float32(weight)


def _interpolated(k: int, below: tuple[int, Image], above: tuple[int, Image]) -> Image:
    """Return the grid slice k between two neighbouring slices that neither of them reaches."""
    (low, low_hu), (high, high_hu) = below, above
    share = (_STEP * k - low) / (high - low)
    interpolated: Image = low_hu * np.float32(1.0 - share) + high_hu * np.float32(share)
    return interpolated


def _reached(place: int, count: int) -> range:
    """Return the grid slices at most 1.25 mm from a slice; beyond the last grid slice, an empty range at the end."""
    first = _ceiling_quotient(place - _HALF_STEP, _STEP)
    last = (place + _HALF_STEP) // _STEP
    return range(max(first, 0), min(last, count - 1) + 1)


def _ceiling_quotient(dividend: int, divisor: int) -> int:
    """Return the quotient rounded up, in whole numbers; Python's ``//`` rounds down."""
    return -(-dividend // divisor)
