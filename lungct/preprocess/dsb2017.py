"""Preset ``dsb2017``: the chain of the 2017 system (Kaggle Data Science Bowl), bit for bit.

Each slice is scaled by its own maximum, its histogram is equalised, a margin is cropped, and the rest is resized to
224 x 224; slices 0 1 2, 3 4 5, … then become triplets. On the Kaggle set (slope 1, intercept -1024) the value v below
is the stored value, and the padding of -2000 becomes 0, as in 2017. Elsewhere the 2017 system's cast to an unsigned
type wrapped around; this one does not.

Rule numbers are those of ``docs/formats.md``, "Preset dsb2017". ``tests/support/reference_dsb2017.py`` is a second,
slow and plain implementation, which this one must equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from lungct.errors import SeriesError
from lungct.preprocess.opencv import single_threaded
from lungct.preprocess.stack import TRIPLET_SIZE, Triplets

if TYPE_CHECKING:
    from lungct.dicom import Series

_ALL_OF_16_BITS = 1 << 16


def prepare(series: Series) -> Triplets:
    """Convert a series to the triplets of the 2017 system.

    Raises
    ------
    SeriesError
        ``too_few_slices`` for fewer than 4 slices; ``geometry`` if neither InstanceNumber nor position orders them.

    """
    series = series.by_instance()  # rule 1
    count = len(series)
    if count < 4:
        raise SeriesError(
            f"the preset dsb2017 needs at least 4 slices; this series has {count}",
            code="too_few_slices",
        )
    # Rule 7: i = 0, 3, 6, … while i < N - 3, so of 6 slices only the first three, as in 2017.
    starts = range(0, count - 3, 3)
    pixels = np.empty((len(starts), 3, TRIPLET_SIZE, TRIPLET_SIZE), np.uint8)
    with single_threaded():
        for t, start in enumerate(starts):
            for c in range(3):
                i = start + c
                pixels[t, c] = slice_image(series.stored(i), series.slices[i].slope, series.slices[i].intercept)
    for i in range(3 * len(starts), count):
        series.stored(i)  # in no triplet, but a row says of the whole series what is damaged
    middles = np.asarray(series.positions_mm, np.float64)[[start + 1 for start in starts]]
    return Triplets(pixels, middles, series.scan)


def slice_image(stored: NDArray[np.integer], slope: float, intercept: float) -> NDArray[np.uint8]:
    """Return one slice as a channel of a triplet (rules 2 to 6).

    Parameters
    ----------
    stored
        Stored values of any integer type, shape (rows, columns).
    slope, intercept
        RescaleSlope and RescaleIntercept of this slice.

    Returns
    -------
    numpy.ndarray
        uint8, shape (224, 224).

    """
    equalised = cv2.equalizeHist(_grey(stored, slope, intercept))  # rule 4, on the whole slice
    rows, columns = stored.shape
    above, left = (40 * rows) // 512, (40 * columns) // 512
    inside = equalised[above : rows - above, left : columns - left]  # rule 5
    size = (TRIPLET_SIZE, TRIPLET_SIZE)
    resized: NDArray[np.uint8] = cv2.resize(inside, size, interpolation=cv2.INTER_LINEAR)  # rule 6
    return resized


def _grey(stored: NDArray[np.integer], slope: float, intercept: float) -> NDArray[np.uint8]:
    """Scale one slice to 0 … 255 by its own maximum (rules 2 and 3)."""
    low, high = int(stored.min()), int(stored.max())
    # v is monotone in the stored value, so its maximum over the slice is at one of the two ends.
    largest = float(_shifted(np.array([low, high], np.float64), slope, intercept).max())
    if largest == 0:
        return np.zeros(stored.shape, np.uint8)
    if high - low >= _ALL_OF_16_BITS:
        return _scaled(_shifted(stored.astype(np.float64), slope, intercept), largest)
    # Few distinct stored values: do the arithmetic once for each of them.
    values = np.arange(low, high + 1)
    grey = _scaled(_shifted(values.astype(np.float64), slope, intercept), largest)
    if stored.dtype.itemsize != 2:
        return grey[np.subtract(stored, low, dtype=np.intp)]
    table = np.zeros(_ALL_OF_16_BITS, np.uint8)
    table[values & (_ALL_OF_16_BITS - 1)] = grey  # two's complement: where a negative value is as an unsigned one
    looked_up: NDArray[np.uint8] = cv2.LUT(stored.view(np.uint16), table)
    return looked_up


def _shifted(stored: NDArray[np.float64], slope: float, intercept: float) -> NDArray[np.float64]:
    """Return v = max(0, rint(stored x slope + intercept) + 1024), whole numbers in float64 (rule 2)."""
    shifted: NDArray[np.float64] = np.rint(stored * float(slope) + float(intercept)) + 1024.0
    return np.maximum(shifted, 0.0)


def _scaled(v: NDArray[np.float64], largest: float) -> NDArray[np.uint8]:
    """Return uint8(trunc((255.0 / m) x v)), the quotient computed first, as in 2017 (rule 3)."""
    return ((255.0 / largest) * v).astype(np.uint8)
