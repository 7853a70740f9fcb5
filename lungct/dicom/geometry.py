"""Where a slice lies in the patient: conventions, positions along the normal, spacing, and what counts as axial.

Terms. Coordinates are DICOM's patient coordinates in mm (*LPS*: x grows to the patient's left, y to the back, z to the
head). ImageOrientationPatient is six numbers: the direction of a *row* (along it the column index grows), then the
direction of a *column* (PS3.3 C.7.6.2.1.1). The *normal* is row x column, turned so that its largest component is
positive: for axial slices it points towards the head, whether the patient lay head first or feet first, supine or
prone. A slice's *position* is ImagePositionPatient . normal. *Spacing* is (between slices, between rows, between
columns) in mm; PixelSpacing's first number is the one between rows (PS3.3 10.7.1.3).

What is unknown is NaN (numbers) or None (directions), never a guess: SliceLocation, whose origin and sign depend on the
manufacturer, and SliceThickness, which is not a distance between slices, are not used for positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]

AXIAL_WITHIN_DEGREES = 35.0
"""A gantry tilts by 30 degrees at most; a plane that is further from axial is a reformat."""
SAME_POSITION_MM = 0.01
"""Positions closer than this are equal: noise is below 0.001 mm."""
SAME_PLACE_MM = 0.1
"""Images closer than this lie at one place: re-exports round positions to 0.1 mm, which moves them by up to 0.05 mm."""
SAME_DIRECTION = 0.01
"""Direction cosines that differ by less are one orientation: half a degree, and far above rounding."""
LARGEST_GAP_MM = 10.0
"""Largest distance between neighbouring slices that is still one scan without a gap."""
SMALL_JUMP_MM = 2.0
"""How far neighbouring slices may lie sideways of each other before a careful reader should know."""
LARGEST_JUMP_MM = 40.0
"""Slices that jump further sideways are of two scans: a table or a field of view moves by less within one."""
UNEVEN_MM, UNEVEN_SHARE = 0.101, 0.1
"""Distances between slices differ if they do so by more than this, and by more than this share of their median."""

_AXIAL_COSINE = math.cos(math.radians(AXIAL_WITHIN_DEGREES))


class PlacedSlice(Protocol):
    """A slice of which at least its place is known."""

    @property
    def image_position(self) -> Vector | None:
        """ImagePositionPatient."""
        ...

    @property
    def orientation(self) -> Orientation | None:
        """ImageOrientationPatient."""
        ...


def valid_orientation(values: Sequence[float] | None) -> Orientation | None:
    """Return six direction cosines if they are two perpendicular unit vectors, else None."""
    if values is None or len(values) != 6:
        return None
    a, b, c, d, e, f = values
    row, column = a * a + b * b + c * c, d * d + e * e + f * f
    if abs(row - 1) > 0.02 or abs(column - 1) > 0.02 or abs(a * d + b * e + c * f) > 0.02:
        return None
    return a, b, c, d, e, f


def normal(orientation: Orientation) -> Vector:
    """Return row x column, turned so that its largest component is positive.

    >>> normal((1, 0, 0, 0, -1, 0))
    (0, 0, 1)
    """
    a, b, c, d, e, f = orientation
    x, y, z = b * f - c * e, c * d - a * f, a * e - b * d
    largest = max((x, y, z), key=abs)
    if largest < 0:
        x, y, z = -x, -y, -z
    return x + 0, y + 0, z + 0  # + 0 turns -0.0 into 0.0


def position_along_normal(position: Vector | None, orientation: Orientation | None) -> float:
    """Return ImagePositionPatient . normal in mm; NaN if either is unknown."""
    if position is None or orientation is None:
        return math.nan
    x, y, z = normal(orientation)
    return position[0] * x + position[1] * y + position[2] * z


def is_axial(orientation: Orientation) -> bool:
    """Return whether slices are perpendicular to the body's axis, give or take the tilt of a gantry."""
    return abs(normal(orientation)[2]) >= _AXIAL_COSINE


def plane_name(orientation: Orientation) -> str:
    """Return ``axial``, ``coronal``, ``sagittal`` or ``oblique``.

    >>> plane_name((1, 0, 0, 0, 0, -1))
    'coronal'
    """
    if is_axial(orientation):
        return "axial"
    x, y, _ = (abs(component) for component in normal(orientation))
    if max(x, y) < _AXIAL_COSINE:
        return "oblique"
    return "sagittal" if x > y else "coronal"


def same_orientation(one: Orientation, other: Orientation) -> bool:
    """Return whether two orientations differ by no more than rounding."""
    return one == other or all(abs(p - q) < SAME_DIRECTION for p, q in zip(one, other, strict=True))


def slice_spacing(positions_mm: NDArray[np.float64]) -> float:
    """Return the median distance between neighbouring slices; NaN if a position is unknown or there is one slice."""
    if len(positions_mm) < 2 or np.isnan(positions_mm).any():
        return math.nan
    return float(np.median(np.diff(np.sort(positions_mm))))


def same_place_mm(positions_mm: Sequence[float]) -> float:
    """Return the distance below which images lie at one place.

    `SAME_PLACE_MM`, but no more than half the mean distance between positions, so that slices that are closer
    together than usual stay apart; NaN are ignored.
    """
    known = sorted(value for value in positions_mm if not math.isnan(value))
    distinct = len(_anchored(known, SAME_POSITION_MM))
    if distinct < 2:
        return SAME_PLACE_MM
    return min(SAME_PLACE_MM, max(SAME_POSITION_MM, (known[-1] - known[0]) / (distinct - 1) / 2))


def places(positions_mm: Sequence[float], within_mm: float | None = None) -> list[float]:
    """Return the places at which images lie, ascending; NaN are ignored.

    A place is the lowest of the positions that are less than ``within_mm`` above it (`same_place_mm` by default).
    """
    within = same_place_mm(positions_mm) if within_mm is None else within_mm
    return _anchored(sorted(value for value in positions_mm if not math.isnan(value)), within)


def count_distinct(positions_mm: Sequence[float]) -> int:
    """Count places; each unknown position separately."""
    return len(places(positions_mm)) + sum(math.isnan(value) for value in positions_mm)


def _anchored(ascending: Sequence[float], within: float) -> list[float]:
    found: list[float] = []
    for value in ascending:
        if not found or value - found[-1] >= within:
            found.append(value)
    return found


def gap_mm(positions_mm: NDArray[np.float64]) -> float:
    """Return the largest distance between neighbouring slices, to 0.01 mm, if it is a gap; else 0."""
    steps = _steps(positions_mm)
    largest = round(float(steps.max()), 2) if len(steps) else 0.0
    return largest if largest > LARGEST_GAP_MM else 0.0


def is_uneven(positions_mm: NDArray[np.float64]) -> bool:
    """Return whether distances between neighbouring slices differ by more than positions rounded to 0.1 mm can."""
    steps = _steps(positions_mm)
    return len(steps) > 0 and bool(np.ptp(steps) > max(UNEVEN_MM, UNEVEN_SHARE * float(np.median(steps))))


def sideways_jump_mm(slices: Sequence[PlacedSlice]) -> float:
    """Return how far slices, in order of position, jump in their plane, in mm; 0 if no further than `SMALL_JUMP_MM`.

    A gantry's tilt moves each slice sideways in proportion to its position; only what departs from that is a jump.
    """
    places = [image.image_position for image in slices if image.image_position is not None]
    orientation = next((image.orientation for image in slices if image.orientation is not None), None)
    if orientation is None or len(places) < max(2, len(slices)):
        return 0.0
    steps = np.diff(np.array(places, np.float64), axis=0)
    axis = np.array(normal(orientation))
    along = steps @ axis
    moved = along > 0
    if not moved.any():
        return 0.0
    slant = np.median(steps[moved] / along[moved, None], axis=0)
    sideways = np.linalg.norm(steps[moved] - along[moved, None] * slant, axis=1)
    largest = float(sideways.max())
    return largest if largest > SMALL_JUMP_MM else 0.0


def _steps(positions_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances between neighbouring slices; none if a position is unknown."""
    if np.isnan(positions_mm).any():
        return np.empty(0)
    return np.diff(np.sort(positions_mm))
