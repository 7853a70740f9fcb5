"""Slices at any spacing -> *grid slices*, every 2.5 mm from the feet to the head.

``docs/formats.md``, "Preset lung, rule 2". Memory is bounded by the volume of the grid and a few slices: each input
slice is read once, however many there are.
"""

from __future__ import annotations

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


def grid_slices(series: Series) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Average or interpolate a series, ordered by position, to grid slices.

    A grid slice is the weighted mean of the slices less than 1.25 mm away (weight 1) and exactly 1.25 mm away (weight
    one half). If there are none, it is the linear interpolation between the nearest slices below and above.

    Returns
    -------
    volume
        HU, float32, shape (K, rows, columns).
    positions_mm
        float64, shape (K,).

    Raises
    ------
    SeriesError
        ``geometry``, if there is a gap of more than 10 mm.

    """
    positions = np.asarray(series.positions_mm, np.float64)
    places = np.rint((positions - positions[0]) * _UNITS_PER_MM).astype(np.int64)
    _check_gaps(places)
    count = int(places[-1]) // _STEP + 1
    volume = np.empty((count, series.rows, series.columns), np.float32)
    weights = np.zeros(count, np.float64)
    below: tuple[int, NDArray[np.float32]] | None = None
    for i, place in enumerate(places.tolist()):
        hu = series.hu(i)
        if below is not None:
            _interpolate(volume, below, (place, hu))
        _add(volume, weights, place, hu)
        below = place, hu
    for k in np.flatnonzero((weights != 0) & (weights != 1)).tolist():
        volume[k] /= np.float32(weights[k])
    return volume, positions[0] + GRID_MM * np.arange(count)


def _check_gaps(places: NDArray[np.int64]) -> None:
    gaps = np.diff(places)
    if len(gaps) and int(gaps.max()) > _LARGEST_GAP:
        at = int(gaps.argmax())
        raise SeriesError(
            f"a gap of {gaps[at] / _UNITS_PER_MM:g} mm between slices {at + 1} and {at + 2} of {len(places)}, "
            f"counted from the feet; the preset lung bridges at most {LARGEST_GAP_MM:g} mm",
            code="geometry",
        )


def _add(volume: NDArray[np.float32], weights: NDArray[np.float64], place: int, hu: NDArray[np.float32]) -> None:
    """Add a slice to the weighted sums of the grid slices that it reaches."""
    for k in _reached(place, len(volume)):
        weight = 1.0 if abs(place - _STEP * k) < _HALF_STEP else 0.5
        part = hu * np.float32(weight)
        if weights[k] == 0:
            volume[k] = part
        else:
            volume[k] += part
        weights[k] += weight


def _interpolate(
    volume: NDArray[np.float32],
    below: tuple[int, NDArray[np.float32]],
    above: tuple[int, NDArray[np.float32]],
) -> None:
    """Fill the grid slices between two neighbouring slices that neither of them reaches."""
    (low, low_hu), (high, high_hu) = below, above
    for k in range(_reached(low, len(volume)).stop, _reached(high, len(volume)).start):
        share = (_STEP * k - low) / (high - low)
        volume[k] = low_hu * np.float32(1.0 - share) + high_hu * np.float32(share)


def _reached(place: int, count: int) -> range:
    """Return the grid slices at most 1.25 mm from a slice; beyond the last grid slice, an empty range at the end."""
    first = _ceiling_quotient(place - _HALF_STEP, _STEP)
    last = (place + _HALF_STEP) // _STEP
    return range(max(first, 0), min(last, count - 1) + 1)


def _ceiling_quotient(dividend: int, divisor: int) -> int:
    """Return the quotient rounded up, in whole numbers; Python's ``//`` rounds down."""
    return -(-dividend // divisor)
