"""A patient's directory -> what is in it: every series found, which one is the scan and why, and what is unusual.

The choice is made by the code of `lungct.read_series`, so what ``lungct inspect`` shows is what ``lungct extract``
does. Texts contain counts and numbers, and the manufacturers' words for scanner and kernel; no name, path, UID or date.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np

from lungct.arguments import counted
from lungct.dicom import discovery
from lungct.dicom.assembling import assemble
from lungct.dicom.candidates import Candidate
from lungct.dicom.geometry import LARGEST_GAP_MM, normal
from lungct.dicom.options import NO_OPTIONS
from lungct.dicom.reading import read_volume, survey_or_volume
from lungct.dicom.selection import in_order_of_choice, ranked
from lungct.dicom.series import Series
from lungct.dicom.surveying import check_survey
from lungct.dicom.volumes import PickedVolume
from lungct.errors import SeriesError


@dataclass(frozen=True)
class SeriesDescription:
    """One CT series that was found.

    Attributes
    ----------
    slices, positions
        Numbers of images, and of distinct positions among them.
    plane
        ``axial``, ``coronal``, ``sagittal``, ``oblique`` or ``unknown``.
    original
        ``original``, ``derived`` or ``unsaid``.
    thickness_mm
        NaN if unknown.
    faults
        Number of images that cannot be read.

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
    """What a patient's directory contains.

    Attributes
    ----------
    files
        Number of files that were opened.
    passed_over
        Number of files of each kind that are not CT images.
    series
        The CT series, the best first.
    chosen
        The scan, in order, or None.
    reason
        Why it was chosen; None if nothing was.
    error, error_code
        Why there is no scan, in the words of the feature table; None if there is one.
    problems
        What is unusual about the chosen series, a sentence each.

    """

    files: int
    passed_over: dict[str, int]
    series: tuple[SeriesDescription, ...]
    chosen: Series | None
    reason: str | None
    error: str | None
    error_code: str | None
    problems: tuple[str, ...]


def describe(patient_dir: str | os.PathLike[str], *, archive: str | None = None) -> Description:
    """Describe a patient's directory, usable or not.

    Parameters
    ----------
    patient_dir
        The patient's directory, or a file.
    archive
        The directory in which other patients are, as for `lungct.dicom.discovery.find_files`.

    Raises
    ------
    UsageError
        If the directory does not exist.
    StorageError
        If the files cannot be read.

    """
    files, passed_over = 0, dict[str, int]()
    found: tuple[SeriesDescription, ...] = ()
    try:
        listing = discovery.find_files(patient_dir, archive=archive)
        files, passed_over = len(listing.files), listing.passed_over
        surveyed = survey_or_volume(os.fspath(patient_dir), listing)
        if isinstance(surveyed, PickedVolume):
            chosen = read_volume(surveyed)
        else:
            passed_over = surveyed.passed_over
            found = tuple(_described(candidate) for candidate in ranked(surveyed.candidates))
            check_survey(surveyed)
            choice = in_order_of_choice(surveyed.candidates, NO_OPTIONS)[0]
            chosen = assemble(surveyed, choice.candidate, choice.reason)
    except SeriesError as error:
        return Description(files, passed_over, found, None, None, str(error), error.code, ())
    return Description(files, passed_over, found, chosen, chosen.reason, None, None, problems(chosen))


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
        faults=sum(image.fault is not None for image in candidate.slices),
    )


def problems(series: Series) -> tuple[str, ...]:
    """Return what is unusual about a series that can be read, a sentence each."""
    texts = (_of_positions(series), _of_tilt(series), _of_spacing(series), _of_rescale(series))
    return tuple(text for text in texts if text)


def _of_positions(series: Series) -> str:
    positions = series.positions_mm
    missing = int(np.isnan(positions).sum())
    if missing:
        return f"{missing} of {len(series)} slices have no position"
    if len(positions) < 2:
        return "there is only one slice" if len(positions) == 1 else ""
    steps = np.diff(np.sort(positions))
    gaps = int((steps > LARGEST_GAP_MM).sum())
    if gaps:
        at = int(steps.argmax())
        return (
            f"{counted(gaps, 'gap', 'gaps')} of more than {LARGEST_GAP_MM:g} mm, the widest ({steps[at]:.2f} mm) "
            f"after slice {at + 1} of {len(series)}, counted from the feet"
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
    pairs = {(image.slope, image.intercept) for image in series.slices}
    return f"{len(pairs)} different rescales (slope and intercept) among the slices" if len(pairs) > 1 else ""
