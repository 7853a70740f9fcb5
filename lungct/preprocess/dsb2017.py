"""Preset ``dsb2017``: the chain of the 2017 system (Kaggle Data Science Bowl), bit for bit.

Each slice is scaled by its own maximum, its histogram equalised, a margin cropped, and the rest
resized to 224 x 224; then slices 0 1 2, 3 4 5, ... become triplets. On the Kaggle set (slope 1,
intercept -1024) v below is the stored value and the -2000 padding becomes 0, as in 2017; elsewhere
2017's cast to unsigned wrapped around, and this does not.

The numbered rules are those of the format description ("preset dsb2017").
``tests/reference_dsb2017.py`` is a slow and plain second writing of them, to which this one must
stay equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from lungct.errors import SeriesError
from lungct.preprocess.stack import SIZE, Triplets, one_thread

if TYPE_CHECKING:
    from lungct.dicom import Series

# A table is cheaper than arithmetic while it is not larger than the slices that are looked up in
# it.
_TABLE_LIMIT = 1 << 17


def prepare(series: Series) -> Triplets:
    """Turn a series into the 2017 system's triplets.

    Raises
    ------
    SeriesError
        ``too_few_slices`` under 4 slices; ``geometry`` where neither InstanceNumber nor position
        orders them.

    """
    series = series.by_instance()  # rule 1
    count = len(series)
    if count < 4:
        raise SeriesError(
            f"the preset dsb2017 needs at least 4 slices; this series has {count}",
            code="too_few_slices",
        )
    # Rule 7: i = 0, 3, 6, ... while i < N - 3, so of 6 slices only the first three, as in 2017.
    starts = range(0, count - 3, 3)
    pixels = np.empty((len(starts), 3, SIZE, SIZE), np.uint8)
    with one_thread():
        for t, start in enumerate(starts):
            for c in range(3):
                piece = series.slices[start + c]
                grey = to_grey(series.stored(start + c), piece.slope, piece.intercept)
                pixels[t, c] = _resized(grey)
    middles = np.asarray(series.positions_mm, np.float64)[[start + 1 for start in starts]]
    return Triplets(pixels, middles, series.scan)


def to_grey(stored: NDArray[np.integer], slope: float, intercept: float) -> NDArray[np.uint8]:
    """Scale one slice to 0 ... 255 by its own maximum (rules 2 and 3).

    Parameters
    ----------
    stored
        Stored values, any integer type, shape (rows, columns).
    slope, intercept
        RescaleSlope and RescaleIntercept of this slice.

    Returns
    -------
    numpy.ndarray
        uint8, shape (rows, columns).

    """
    low, high = int(stored.min()), int(stored.max())
    # v is monotone in the stored value, and so its maximum over the slice lies at one of the two
    # ends.
    ends = _shifted(np.array([low, high], np.float64), slope, intercept)
    largest = float(ends.max())
    if largest == 0:
        return np.zeros(stored.shape, np.uint8)
    if high - low >= _TABLE_LIMIT:
        return _scaled(_shifted(stored.astype(np.float64), slope, intercept), largest)
    # Few distinct stored values: do the arithmetic once for each of them.
    values = np.arange(low, high + 1, dtype=np.float64)
    table = _scaled(_shifted(values, slope, intercept), largest)
    return table[np.subtract(stored, low, dtype=np.intp)]


def _shifted(stored: NDArray[np.float64], slope: float, intercept: float) -> NDArray[np.float64]:
    """Rule 2: v = max(0, rint(stored x slope + intercept) + 1024), whole numbers in float64."""
    shifted: NDArray[np.float64] = np.rint(stored * float(slope) + float(intercept)) + 1024.0
    return np.maximum(shifted, 0.0)


def _scaled(v: NDArray[np.float64], largest: float) -> NDArray[np.uint8]:
    """Rule 3: uint8(trunc((255.0 / m) x v)), the quotient taken first, as in 2017."""
    return ((255.0 / largest) * v).astype(np.uint8)


def _resized(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rules 4 to 6: equalise the whole slice, crop a margin of 40 in 512, resize."""
    rows, columns = grey.shape
    above, left = (40 * rows) // 512, (40 * columns) // 512
    inside = cv2.equalizeHist(grey)[above : rows - above, left : columns - left]
    resized: NDArray[np.uint8] = cv2.resize(inside, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    return resized
