"""A patient's directory -> what is in it, for people: every series found, which one is the scan and why, and problems.

The same code chooses here as in `read_series`, so what ``lungct inspect`` says is what ``lungct extract`` does. Texts
hold counts and numbers, and the makers' words for scanner and kernel; no name, path, UID or date.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from lungct.dicom import discovery, volumes
from lungct.dicom.geometry import normal
from lungct.dicom.selection import Candidate, ranked
from lungct.dicom.series import Series, assemble, read_volume, survey
from lungct.errors import SeriesError

GAP_MM = 10.0
"""Distances between slices above this are named: the preset lung does not bridge them."""


@dataclass(frozen=True)
class SeriesDescription:
    """One CT series that was found.

    Attributes
    ----------
    slices, positions
        Images, and distinct positions among them.
    plane
        ``axial``, ``coronal``, ``sagittal``, ``oblique`` or ``unknown``.
    original
        ``original``, ``derived`` or ``unsaid``.
    thickness_mm
        NaN unknown.
    faults
        Images that cannot be read.

    """

    slices: int
    positions: int
    plane: str
    original: str
    thickness_mm: float
    rows: int
    columns: int
    manufacturer: str | None
    kernel: str | None
    faults: int


@dataclass(frozen=True, eq=False)
class Description:
    """What a patient's directory holds.

    Attributes
    ----------
    files
        Files looked into.
    passed_over
        How many of which kind are no CT images.
    found
        The CT series, the best first.
    chosen
        The scan, in order, or None.
    reason
        Why it was chosen; None where nothing was.
    error, error_code
        Why there is no scan, as the table would say it; None where there is one.
    problems
        What a person should know about the chosen series, a sentence each.

    """

    files: int
    passed_over: dict[str, int]
    found: tuple[SeriesDescription, ...]
    chosen: Series | None
    reason: str | None
    error: str | None
    error_code: str | None
    problems: tuple[str, ...]


def describe(patient_dir: str | os.PathLike[str]) -> Description:
    """Describe a patient's directory, usable or not.

    Raises
    ------
    UsageError
        There is no such directory.
    StorageError
        The disk refuses.

    """
    try:
        listing = discovery.find_files(patient_dir)
    except SeriesError as error:
        return _unusable(error, 0, {}, ())
    volume = volumes.only_volume(listing.files)
    if volume is not None:
        try:
            series = read_volume(volume)
        except SeriesError as error:
            return _unusable(error, len(listing.files), listing.passed_over, ())
        return _usable(series, len(listing.files), listing.passed_over, ())
    try:
        contents = survey(listing.files, listing.passed_over)
    except SeriesError as error:
        return _unusable(error, len(listing.files), listing.passed_over, ())
    found = tuple(_described(candidate) for candidate in ranked(contents.candidates))
    try:
        series = assemble(contents)
    except SeriesError as error:
        return _unusable(error, contents.files, contents.passed_over, found)
    return _usable(series, contents.files, contents.passed_over, found)


def _unusable(
    error: SeriesError,
    files: int,
    passed_over: dict[str, int],
    found: tuple[SeriesDescription, ...],
) -> Description:
    return Description(files, passed_over, found, None, None, str(error), error.code, ())


def _usable(
    series: Series, files: int, passed_over: dict[str, int], found: tuple[SeriesDescription, ...]
) -> Description:
    return Description(files, passed_over, found, series, series.reason, None, None, problems(series))


def _described(candidate: Candidate) -> SeriesDescription:
    first = candidate.slices[0]
    return SeriesDescription(
        slices=len(candidate.slices),
        positions=candidate.distinct,
        plane=candidate.plane,
        original=candidate.original,
        thickness_mm=candidate.thickness_mm,
        rows=first.rows,
        columns=first.columns,
        manufacturer=candidate.manufacturer,
        kernel=candidate.kernel,
        faults=sum(piece.fault is not None for piece in candidate.slices),
    )


def problems(series: Series) -> tuple[str, ...]:
    """Say what is unusual about a series that can be read."""
    return tuple(
        text
        for text in (
            _of_positions(series),
            _of_tilt(series),
            _of_spacing(series),
            _of_rescale(series),
        )
        if text
    )


def _of_positions(series: Series) -> str:
    positions = series.positions_mm
    missing = int(np.isnan(positions).sum())
    if missing:
        return f"{missing} of {len(series)} slices do not say where they lie"
    if len(positions) < 2:
        return "a single slice" if len(positions) == 1 else ""
    steps = np.diff(np.sort(positions))
    gaps = int((steps > GAP_MM).sum())
    if gaps:
        at = int(steps.argmax())
        return (
            f"{gaps} gaps of more than {GAP_MM:g} mm, the widest of {steps[at]:.2f} mm after slice {at + 1} of "
            f"{len(series)}, counted from the feet"
        )
    if steps.max() - steps.min() > 0.1:
        return f"distances between slices vary from {steps.min():.2f} to {steps.max():.2f} mm"
    return ""


def _of_tilt(series: Series) -> str:
    orientation = next((p.orientation for p in series.slices if p.orientation), None)
    if orientation is None:
        return ""
    degrees = math.degrees(math.acos(min(1.0, abs(normal(orientation)[2]))))
    return f"the slices are tilted by {degrees:.1f} degrees" if degrees > 0.5 else ""


def _of_spacing(series: Series) -> str:
    _, row, column = series.spacing_mm
    if math.isnan(row) or math.isnan(column):
        return "the pixel spacing is unknown, or differs between slices"
    if abs(row - column) > 1e-3 * row:
        return f"the pixels are not square: {row:g} x {column:g} mm"
    return ""


def _of_rescale(series: Series) -> str:
    pairs = {(piece.slope, piece.intercept) for piece in series.slices}
    return f"{len(pairs)} different rescalings among the slices" if len(pairs) > 1 else ""
