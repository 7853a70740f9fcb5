"""A patient's files -> what is in them: every series found, which one is the scan and why, and what is unusual.

The choice is made by the code of `lungct.read_series`, so what ``lungct inspect`` shows is what ``lungct extract``
does. Descriptions are made in the sandbox's child (``asking.py``), so they hold nothing but what JSON can write. Texts
contain counts and numbers, and the manufacturers' words for scanner and kernel; no name, path, UID or date. What the
files say in words belongs to no text but the one that ``--names`` prints (`SeriesDescription.words`).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from lungct.arguments import counted
from lungct.dicom import Series, SeriesOptions, discovery
from lungct.dicom.candidates import Candidate
from lungct.dicom.geometry import LARGEST_GAP_MM, gap_mm, is_uneven, normal
from lungct.dicom.options import NO_OPTIONS
from lungct.dicom.reading import read_volume, survey_or_volume, surveyed_choices
from lungct.dicom.selection import steps
from lungct.dicom.slices import Words
from lungct.dicom.volumes import PickedVolume
from lungct.errors import SeriesError
from lungct.inspection.choices import Ranking, notes_of, rank, why_lower
from lungct.preprocess import Preset

NO_FIT = "does not fit the options"
TRIED_BEFORE = "tried earlier: no lungs found"
NOT_TRIED = "not tried: another plane or body part, or too few slices"


@dataclass(frozen=True, kw_only=True)
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
    fits
        Whether it fits what the user says about which series is the scan.
    steps
        What each step of the choice says of it.
    notes
        What was joined or left out to make the series.
    why_lower
        The step that ranked it below the one that is used; empty for that one, and for those that come before it.
    files
        Paths of its images, each once; no part of `as_dict`.
    words
        What its images say in words, the most frequent first; no part of `as_dict`.

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
    fits: bool
    steps: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    why_lower: str
    files: tuple[str, ...] = field(repr=False)
    words: tuple[Words, ...] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return what may be written out; unknown numbers are None."""
        values = {name: value for name, value in vars(self).items() if name not in ("why_lower", "files", "words")}
        thickness = None if math.isnan(self.thickness_mm) else self.thickness_mm
        return values | {"thickness_mm": thickness, "steps": dict(self.steps), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SeriesDescription:
        """Return the description whose fields became JSON."""
        known = {name: _tuples(value) for name, value in values.items()}
        return cls(**known | {"words": tuple(Words(**words) for words in known["words"])})


@dataclass(frozen=True, kw_only=True)
class ChosenSeries:
    """The series that is the scan, its slices in order.

    Attributes
    ----------
    spacing_mm
        Between slices, between rows, between columns; NaN where unknown.
    positions_mm
        The lowest and the highest along the normal; None if unknown.

    """

    rows: int
    columns: int
    spacing_mm: tuple[float, float, float]
    positions_mm: tuple[float, float] | None
    manufacturer: str | None
    kernel: str | None

    @classmethod
    def of(cls, series: Series) -> ChosenSeries:
        """Return what is shown of a series."""
        positions = series.positions_mm
        known = len(positions) > 0 and not math.isnan(positions[0])
        return cls(
            rows=series.rows,
            columns=series.columns,
            spacing_mm=series.spacing_mm,
            positions_mm=(float(positions.min()), float(positions.max())) if known else None,
            manufacturer=series.manufacturer,
            kernel=series.kernel,
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ChosenSeries:
        """Return the series whose fields became JSON."""
        return cls(**{name: _tuples(value) for name, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a patient's directory contains.

    Attributes
    ----------
    files
        Number of files that were opened.
    passed_over
        Number of files of each kind that are not CT images.
    series
        The CT series, in the order of choice, those that do not fit the options last.
    choices
        Indices of the series that may be the scan, in the order in which a preset tries them.
    used
        Index of the series that is the scan, or would be but for the error.
    choice
        Number of series that were tried before it.
    chosen
        The scan; None if there is none, or it cannot be read.
    slices
        Its slices, without damaged ones; 0 if there is none.
    reason
        Why it was chosen; None if nothing was.
    notes
        What a careful reader should know about the scan, a code each.
    error, error_code
        Why the patient cannot be used, in the words of the feature table; None if it can.
    problems
        What is unusual about the chosen series, a sentence each.
    preset
        The preset that prepared the patient; None if only headers were read.
    triplets, lung_litres
        What it made, and how much lung it found (preset ``lung``); None if it did not.

    """

    files: int = 0
    passed_over: dict[str, int] = field(default_factory=dict)
    series: tuple[SeriesDescription, ...] = ()
    choices: tuple[int, ...] = ()
    used: int = 0
    choice: int = 0
    chosen: ChosenSeries | None = None
    slices: int = 0
    reason: str | None = None
    notes: tuple[str, ...] = ()
    error: str | None = None
    error_code: str | None = None
    problems: tuple[str, ...] = ()
    preset: Preset | None = None
    triplets: int | None = None
    lung_litres: float | None = None

    def is_scan(self, number: int) -> bool:
        """Return whether one of the series is the scan."""
        return self.error is None and number == self.used

    def why(self, number: int) -> str:
        """Return why one of the series is the scan, cannot be used, or ranks lower."""
        if number == self.used:
            return (self.reason or "") if self.error is None else f"{self.error_code}: {self.error}"
        if not self.series[number].fits:
            return NO_FIT
        if number < self.used:
            return TRIED_BEFORE if number in self.choices else NOT_TRIED
        return self.series[number].why_lower

    def notes_of(self, number: int) -> tuple[str, ...]:
        """Return the notes on one of the series."""
        return self.notes if self.is_scan(number) else self.series[number].notes

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Description:
        """Return the description whose fields became JSON."""
        known = {name: _tuples(value) for name, value in values.items()}
        chosen = known["chosen"] and ChosenSeries.from_json(known["chosen"])
        return cls(**known | {"chosen": chosen, "series": tuple(map(SeriesDescription.from_json, known["series"]))})


def _tuples(value: Any) -> Any:
    """Return a value of JSON with tuples for its lists."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def describe(
    location: str | os.PathLike[str] | Sequence[str],
    options: SeriesOptions = NO_OPTIONS,
    *,
    archive: str | None = None,
    choice: int = 0,
) -> Description:
    """Describe a patient's files, usable or not, by their headers, which are read in this process.

    Parameters
    ----------
    location
        The patient's directory, a single file, or a list of the patient's files, on a disk.
    options
        What the user says about which series is the scan.
    archive
        The directory in which other patients are, as for `lungct.dicom.discovery.find_files`.
    choice
        Place, from 0, of the scan among the series that `lungct.dicom.series_choices` yields.

    Raises
    ------
    UsageError
        If the directory does not exist.
    StorageError
        If the files cannot be read.

    """
    found = Description()
    try:
        place = os.fspath(location) if isinstance(location, os.PathLike) else location
        listing = discovery.files_at(place, archive)
        found = Description(files=len(listing.files), passed_over=listing.passed_over)
        surveyed = survey_or_volume(place, listing, options)
        if isinstance(surveyed, PickedVolume):
            return with_scan(found, read_volume(surveyed))
        ranking = rank(surveyed.candidates, options)
        found = replace(found, passed_over=surveyed.passed_over, series=_all_series(ranking), choices=ranking.choices)
        candidate, scan = next(islice(surveyed_choices(surveyed, options), choice, None))
        used = ranking.fitting.index(candidate)
        return with_scan(replace(found, series=_all_series(ranking, used), used=used, choice=choice), scan)
    except SeriesError as error:
        return replace(found, error=str(error), error_code=error.code)


def with_scan(found: Description, chosen: Series) -> Description:
    """Return a description with what is known of the scan."""
    return replace(
        found,
        chosen=ChosenSeries.of(chosen),
        slices=len(chosen),
        reason=chosen.reason,
        notes=chosen.notes,
        problems=problems(chosen),
    )


def _all_series(ranking: Ranking, used: int = 0) -> tuple[SeriesDescription, ...]:
    fitting = (
        _described(candidate, fits=True, why_lower=why_lower(candidate, ranking.fitting[used]) if number > used else "")
        for number, candidate in enumerate(ranking.fitting)
    )
    return (*fitting, *(_described(candidate, fits=False) for candidate in ranking.others))


def _described(candidate: Candidate, *, fits: bool, why_lower: str = "") -> SeriesDescription:
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
        fits=fits,
        steps=tuple(steps(candidate)),
        notes=notes_of(candidate),
        why_lower=why_lower,
        files=tuple(dict.fromkeys(image.path for image in candidate.slices)),
        words=tuple(words for words, _ in Counter(image.words for image in candidate.slices).most_common()),
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
    distances = np.round(np.diff(np.sort(positions)), 2)
    if gap_mm(positions):
        at = int(distances.argmax())
        gaps = counted(int((distances > LARGEST_GAP_MM).sum()), "gap", "gaps")
        return (
            f"{gaps} of more than {LARGEST_GAP_MM:g} mm, the widest ({distances[at]:.2f} mm) "
            f"after slice {at + 1} of {len(series)}, counted from the feet"
        )
    if is_uneven(positions):
        return f"distances between slices vary from {distances.min():.2f} to {distances.max():.2f} mm"
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
        return "the pixel spacing is unknown"
    if abs(row - column) > 1e-3 * row:
        return f"the pixels are not square: {row:g} x {column:g} mm"
    return ""


def _of_rescale(series: Series) -> str:
    pairs = {(image.slope, image.intercept) for image in series.slices}
    return f"{len(pairs)} different rescales (slope and intercept) among the slices" if len(pairs) > 1 else ""
