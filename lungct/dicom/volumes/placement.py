"""How a volume's stored axes lie in the patient, and how it is turned to the order of axial DICOM slices.

Turned, columns run to the left, rows to the back and slices to the head (LPS). Axes are exchanged and reversed for
that, and nothing is interpolated: a volume that lies obliquely keeps its tilt, as a DICOM series does.

Axes that are not at right angles (*sheared*) are the trace of a registration, of rounding, or of a gantry's tilt that
was not corrected. By up to `MOST_SHEAR_DEGREES` they are taken for the nearest three directions that are at right
angles, which moves no voxel of a chest by more than some millimetres; beyond that the volume is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.dicom.geometry import Orientation, Vector, is_axial
from lungct.dicom.volumes.header import VolumeHeader, unplaced

MOST_SHEAR_DEGREES = 1.0
VOXEL_MM = (0.01, 100.0)
"""Shortest and longest side of a voxel that is believed."""

_ROUNDING_DEGREES = 0.001  # float32 and six decimals stay far below it

PatientAxes = tuple[tuple[int, bool], tuple[int, bool], tuple[int, bool]]
"""For the patient's x, y and z: the stored axis that runs along it, and whether it runs backwards."""


@dataclass(frozen=True)
class Placement:
    """Where a volume's slices lie, once it is turned.

    Attributes
    ----------
    axes
        The stored axes that become columns, rows and slices, and which of them are reversed.
    sizes
        Numbers of slices, rows and columns.
    spacing_mm
        Between slices, rows and columns.
    orientation
        ImageOrientationPatient of the slices.
    first_mm
        ImagePositionPatient of the first slice (feet).
    step_mm
        From one slice to the next.
    sheared
        Whether the stored axes are not at right angles.

    """

    axes: PatientAxes
    sizes: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: Orientation
    first_mm: Vector
    step_mm: Vector
    sheared: bool

    def image_position(self, slice_number: int) -> Vector:
        """Return ImagePositionPatient of a slice, counted from 0 at the feet."""
        x, y, z = (first + slice_number * step for first, step in zip(self.first_mm, self.step_mm, strict=True))
        return x, y, z


def place(header: VolumeHeader) -> Placement:
    """Find out how a volume lies in the patient.

    Raises
    ------
    SeriesError
        ``geometry``, if its axes are sheared or oblique to the body's, or its voxels have an impossible size.

    """
    degrees = check_right_angles(header.axes_mm)
    if not np.isfinite(header.origin_mm).all():
        raise unplaced("the volume's header states an origin that is not a number")
    lengths = np.linalg.norm(header.axes_mm, axis=0)
    if lengths.min() < VOXEL_MM[0] or lengths.max() > VOXEL_MM[1]:
        size = " x ".join(f"{length:.4g}" for length in lengths)
        raise unplaced(f"the volume's voxels would measure {size} mm, so its header is wrong about their size or unit")
    sheared = degrees > _ROUNDING_DEGREES
    directions = header.axes_mm / lengths
    if sheared:
        directions = _nearest_right_angles(directions)
    axes = patient_axes(directions)
    numbers = [number for number, _ in axes]
    along = [directions[:, number] * (-1.0 if backwards else 1.0) for number, backwards in axes]
    orientation: Orientation = (*_vector(along[0]), *_vector(along[1]))
    if not is_axial(orientation):
        raise unplaced("the volume is oblique to the body's axes")
    first = header.origin_mm.copy()
    for number, backwards in axes:
        if backwards:
            first += (header.sizes[number] - 1) * header.axes_mm[:, number]
    columns, rows, slices = (header.sizes[number] for number in numbers)
    column_mm, row_mm, slice_mm = (float(lengths[number]) for number in numbers)
    return Placement(
        axes=axes,
        sizes=(slices, rows, columns),
        spacing_mm=(slice_mm, row_mm, column_mm),
        orientation=orientation,
        first_mm=_vector(first),
        step_mm=_vector(along[2] * slice_mm),
        sheared=sheared,
    )


def check_right_angles(axes: NDArray[np.float64]) -> float:
    """Return by how many degrees a pair of axes departs from a right angle at most.

    Raises
    ------
    SeriesError
        ``geometry``, if it is more than `MOST_SHEAR_DEGREES`, or the axes do not span a space.

    """
    if not np.isfinite(axes).all() or not np.abs(axes).max(axis=0).all():
        raise unplaced("the volume's header states axes that have no length or direction")
    scaled = axes / np.abs(axes).max(axis=0)  # no overflow, whatever the header claims
    directions = scaled / np.linalg.norm(scaled, axis=0)
    cosines = (directions.T @ directions)[np.triu_indices(3, 1)]
    degrees = float(np.degrees(np.arcsin(np.clip(np.abs(cosines), 0, 1))).max())
    if degrees > MOST_SHEAR_DEGREES:
        raise unplaced(
            f"the volume's axes are sheared: they are {degrees:.2g} degrees off right angles, and at most "
            f"{MOST_SHEAR_DEGREES:g} is allowed"
        )
    return degrees


def patient_axes(axes: NDArray[np.float64]) -> PatientAxes:
    """Return which stored axis runs along each of the patient's, given the stored axes as columns of any length.

    The stored axis that is nearest to z is the slices'; columns and rows are the other two, as they fit best.
    """
    axes = axes / np.linalg.norm(axes, axis=0)
    slices = int(np.abs(axes[2]).argmax())
    one, other = (number for number in range(3) if number != slices)
    if abs(axes[0, one]) + abs(axes[1, other]) < abs(axes[0, other]) + abs(axes[1, one]):
        one, other = other, one
    columns, rows, up = ((number, bool(axes[i, number] < 0)) for i, number in enumerate((one, other, slices)))
    return columns, rows, up


def _nearest_right_angles(directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the orthogonal matrix that is nearest to one of unit columns: its polar factor."""
    left, _, right = np.linalg.svd(directions)
    return np.asarray(left @ right)


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(value) + 0.0 for value in values)  # + 0.0 turns -0.0 into 0.0
    return x, y, z
