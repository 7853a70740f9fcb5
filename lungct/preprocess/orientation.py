"""Slices as stored -> slices as a reader sees them (*LPS*): rows to the back, columns to the patient's left.

A patient may lie prone or be stored mirrored; ImageOrientationPatient says which way the axes run. Of the eight ways
to turn or mirror an image, the nearest is taken, so that all ways to store one body give the same pixels. A gantry's
tilt or a head turned by a few degrees changes nothing. Terms are those of ``lungct.dicom.geometry``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lungct.dicom.geometry import Orientation

Value = TypeVar("Value", bound=np.generic)
Number = TypeVar("Number", int, float)


def turned(image: NDArray[Value], orientation: Orientation | None) -> NDArray[Value]:
    """Return an image, shape (rows, columns), turned to LPS: a view; as stored if the orientation is unknown.

    >>> turned(np.array([[1, 2], [3, 4]]), (-1, 0, 0, 0, -1, 0)).tolist()
    [[4, 3], [2, 1]]
    """
    if orientation is None:
        return image
    rows_along, columns_along = orientation[3:], orientation[:3]
    if is_transposed(orientation):
        image = image.T
        rows_along, columns_along = columns_along, rows_along
    return image[:: -1 if rows_along[1] < 0 else 1, :: -1 if columns_along[0] < 0 else 1]


def turned_pair(of_rows_and_columns: tuple[Number, Number], orientation: Orientation | None) -> tuple[Number, Number]:
    """Return a pair of numbers, one for rows and one for columns, for the turned image."""
    first, second = of_rows_and_columns
    return (second, first) if orientation is not None and is_transposed(orientation) else (first, second)


def is_transposed(orientation: Orientation) -> bool:
    """Return whether the stored rows run along the body's depth rather than its width."""
    row_x, row_y, _, column_x, column_y, _ = orientation
    return abs(row_y) + abs(column_x) > abs(row_x) + abs(column_y)
