"""The lungs -> the *view*, the part of the grid slices that the network sees: "Preset lung, rule 4".

A view is half open: grid slices, rows and columns, the latter two in pixels of the turned image. It may reach beyond
the image; the missing part is air, -1000 HU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lungct.preprocess.grid import GRID_MM
from lungct.preprocess.mask import AIR_BELOW_HU, SAMPLING, Mask, Sampled
from lungct.preprocess.stack import TRIPLET_SIZE

SIDE_MM = 336.0
"""Side of the view: 1.5 mm a pixel."""
WINDOW_HU = (-1000.0, 400.0)

_MARGIN_MM = 10.0  # along the body

Interval = tuple[int, int]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """The part of the grid slices that the network sees.

    Attributes
    ----------
    slices, rows, columns
        First and one past the last of each.
    side_mm
        Side of its square: `SIDE_MM`, or more if the lungs do not fit.

    """

    slices: Interval
    rows: Interval
    columns: Interval
    side_mm: float

    @property
    def grown(self) -> bool:
        """Whether the lungs did not fit into the ordinary view."""
        return self.side_mm > SIDE_MM


def view_of(lungs: Mask, sampled: Sampled, shape: tuple[int, int], spacing_mm: tuple[float, float]) -> View:
    """Place the view: sideways about the body's midline, front to back about the lungs, along the body as they reach.

    Parameters
    ----------
    lungs, sampled
        The lungs and the HU on the sampled grid, shape (K, ceil(rows / 4), ceil(columns / 4)); some voxel is lung.
    shape
        Rows and columns of the full image.
    spacing_mm
        Between its rows and between its columns.

    """
    slices, rows, columns = (_bounds(np.asarray(lungs.any(axis=axes))) for axes in ((1, 2), (0, 2), (0, 1)))
    (front, back), (right, left) = (
        _in_mm(blocks, pixels, mm) for blocks, pixels, mm in zip((rows, columns), shape, spacing_mm, strict=True)
    )
    middle = SAMPLING * spacing_mm[1] * _midline(lungs[slice(*slices)], sampled[slice(*slices)], rows)
    needed = max(back - front, 2 * (middle - right), 2 * (left - middle))
    side = max(SIDE_MM, math.ceil(round(needed, 6)))
    margin = round(_MARGIN_MM / GRID_MM)
    return View(
        slices=(max(0, slices[0] - margin), min(len(lungs), slices[1] + margin)),
        rows=_to_pixels((front + back) / 2, side, spacing_mm[0]),
        columns=_to_pixels(middle, side, spacing_mm[1]),
        side_mm=float(side),
    )


def grey(hu: NDArray[np.float32], out: Pixels, scratch: NDArray[np.float32]) -> None:
    """Write [-1000, 400] HU as 0 … 255 to `out`, rounded half to even, computing in `scratch`; all of one shape.

    Memory is given, since a new array for each slice would cost as much time as the arithmetic.
    """
    low, high = WINDOW_HU
    np.clip(hu, np.float32(low), np.float32(high), out=scratch)
    # Multiply before dividing: for whole HU the product is exact, and so is every result of x.5.
    scratch -= np.float32(low)
    scratch *= np.float32(255.0)
    scratch /= np.float32(high - low)
    cv2.convertScaleAbs(scratch, out)  # rounds half to even, as np.rint


def triplet(images: Sequence[Pixels], view: View) -> Pixels:
    """Return the view's part of three windowed, turned images, resized, uint8 (3, 224, 224).

    OpenCV resizes the channels of one image in four fifths of the time of three images, to the same pixels.
    """
    (top, bottom), (left, right) = view.rows, view.columns
    rows, columns = images[0].shape
    inside = (slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0)))
    outside = (max(-top, 0), max(bottom - rows, 0), max(-left, 0), max(right - columns, 0))
    part = cv2.merge([image[inside] for image in images])
    if any(outside):
        part = cv2.copyMakeBorder(part, *outside, cv2.BORDER_CONSTANT, value=(0, 0, 0))  # air is 0
    shrinks = max(part.shape) > TRIPLET_SIZE
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(part, (TRIPLET_SIZE, TRIPLET_SIZE), interpolation=method)
    return np.stack(cv2.split(resized))


def _bounds(hit: NDArray[np.bool_]) -> Interval:
    """Return the first and one past the last that is true."""
    at = np.flatnonzero(hit)
    return int(at[0]), int(at[-1]) + 1


def _in_mm(blocks: Interval, pixels: int, spacing_mm: float) -> tuple[float, float]:
    """Return where the sampled blocks begin and end; the last block may reach beyond the image."""
    return SAMPLING * blocks[0] * spacing_mm, min(SAMPLING * blocks[1], pixels) * spacing_mm


def _midline(lungs: Mask, sampled: Sampled, rows: Interval) -> float:
    """Return the column of the body's midline on the sampled grid, from the left border of the image.

    Of every grid slice, the centre of the body within the lungs' rows; the median over the slices. A filled or
    collapsed lung does not move it, and an arm or a shoulder in some of the slices hardly does.
    """
    centres = [_centre(hu, lung, rows) for hu, lung in zip(sampled, lungs, strict=True)]
    return float(np.nanmedian(centres))


def _centre(hu: NDArray[np.float32], lung: Mask, rows: Interval) -> float:
    """Return the mean column of the body in one slice within the lungs' rows; NaN where nothing is there.

    The body is the largest connected part of tissue and lung, its holes filled.
    """
    _, labels = cv2.connectedComponents(((hu > AIR_BELOW_HU) | lung).view(np.uint8), connectivity=4)
    areas = np.bincount(labels[slice(*rows)].ravel())
    areas[0] = 0  # air
    if not areas.any():
        return math.nan
    body = (labels == areas.argmax()).view(np.uint8)
    contours, _ = cv2.findContours(body, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(body, contours, -1, 1, cv2.FILLED)
    columns = np.count_nonzero(body[slice(*rows)], axis=0)
    mean = np.dot(columns, np.arange(len(columns))) / columns.sum()
    return float(mean) + 0.5  # the middle of column 0 is half a column from the border


def _to_pixels(middle_mm: float, side_mm: float, spacing_mm: float) -> Interval:
    """Round edges to whole pixels, half to even; a millionth of a pixel is noise of floating point."""
    low, high = (
        int(np.rint(round(edge / spacing_mm, 6))) for edge in (middle_mm - side_mm / 2, middle_mm + side_mm / 2)
    )
    return low, high
