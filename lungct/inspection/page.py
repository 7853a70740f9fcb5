"""One patient's directory -> a page of text, or the same as JSON."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lungct.arguments import counted, listed_texts
from lungct.dicom import SeriesOptions
from lungct.dicom.discovery import check_exists
from lungct.dicom.notes import in_words
from lungct.dicom.options import NO_OPTIONS
from lungct.errors import SeriesError
from lungct.inspection.asking import PatientFiles
from lungct.inspection.description import ChosenSeries, Description, SeriesDescription
from lungct.patients import on_one_line, printable
from lungct.preprocess import check_preset
from lungct.sandbox import Sandbox
from lungct.storage import Place, local_copy, locate, output_file, write_atomically

WIDTH = 80
KEYWORDS = {
    "body_part": "BodyPartExamined",
    "series": "SeriesDescription",
    "study": "StudyDescription",
    "protocol": "ProtocolName",
}
"""What a file says in words about the scan: names of the fields of `Words`, and their DICOM keywords."""


@dataclass(frozen=True)
class Page:
    """What `inspect` found out about a patient's directory.

    Attributes
    ----------
    name
        The last part of the directory's path.
    description
        What was found and chosen.
    hu_range
        The smallest and the largest HU of the chosen series; None if it cannot be decoded.
    error, error_code
        Why the patient is unusable, in the words of the feature table; None if it is usable.

    """

    name: str
    description: Description
    hu_range: tuple[float, float] | None
    error: str | None
    error_code: str | None

    @property
    def usable(self) -> bool:
        """Whether a series can be read to its last slice and, if a preset was given, prepared."""
        return self.error is None

    def as_dict(self) -> dict[str, Any]:
        """Return the page as a dictionary that can be written as JSON; unknown numbers are None."""
        found, chosen = self.description, self.description.chosen
        return {
            "command": "inspect",
            "patient": self.name,
            "files": found.files,
            "passed_over": found.passed_over,
            "series": [
                series.as_dict() | {"chosen": self._is_scan(number), "reason": found.why(number)}
                for number, series in enumerate(found.series)
            ],
            "reason": found.reason,
            "slices": found.slices if chosen else None,
            "rows": chosen.rows if chosen else None,
            "columns": chosen.columns if chosen else None,
            "spacing_mm": [None if math.isnan(v) else v for v in chosen.spacing_mm] if chosen else None,
            "manufacturer": chosen.manufacturer if chosen else None,
            "kernel": chosen.kernel if chosen else None,
            "hu_range": self.hu_range,
            "notes": list(found.notes),
            "problems": list(found.problems),
            "preset": found.preset,
            "triplets": found.triplets,
            "lung_litres": found.lung_litres,
            "error": self.error,
            "error_code": self.error_code,
        }

    def text(self, *, names: bool = False) -> str:
        """Return the page as text of at most 80 columns.

        Parameters
        ----------
        names
            Add what the files say in words about each series, on lines of any length. Such words may identify a
            person: they are for the eyes of whoever asked.

        """
        lines = [*_entry("patient", on_one_line(self.name)), *_entry("files", self._files())]
        for number, series in enumerate(self.description.series):
            lines += self._series(number, series)
            lines += _names(series) if names else []
        if self.description.chosen is not None:
            lines += self._chosen(self.description.chosen)
        for note in self.description.notes:
            lines += _entry("note", f"{note}: {in_words(note)}")
        for problem in self.description.problems:
            lines += _entry("remark", problem)
        if self.description.triplets is not None:
            lines += _entry("preset", self._prepared(self.description.triplets))
        if self.error is not None:
            lines += _entry("unusable", f"{self.error} ({self.error_code})")
        return "\n".join(lines)

    def _is_scan(self, number: int) -> bool:
        return self.usable and self.description.is_scan(number)

    def _files(self) -> str:
        over = [f"{kind} ({count})" for kind, count in self.description.passed_over.items()]
        return f"{self.description.files} opened" + (f"; passed over: {', '.join(over)}" if over else "")

    def _series(self, number: int, series: SeriesDescription) -> Iterator[str]:
        scan = self.description.is_scan(number)
        yield from _entry("chosen" if scan else "found", _series_text(series))
        yield from _entry("  why", self.description.why(number))
        yield from _entry("  steps", "; ".join(f"{name}: {value}" for name, value in series.steps))
        for note in () if scan else series.notes:
            yield from _entry("  note", f"{note}: {in_words(note)}")

    def _chosen(self, series: ChosenSeries) -> list[str]:
        between, row, column = series.spacing_mm
        plane = "unknown" if math.isnan(row) else f"{row:.4g} x {column:.4g} mm"
        lines = [] if self.description.series else _entry("why", self.description.reason or "")
        lines += _entry("slices", f"{self.description.slices} of {series.rows} x {series.columns}")
        lines += _entry("spacing", f"{_millimetres(between)} between slices, {plane} in the plane")
        if series.positions_mm is not None:
            low, high = series.positions_mm
            lines += _entry("positions", f"{low:.1f} to {high:.1f} mm along the normal")
        if self.hu_range is not None:
            lines += _entry("HU", f"{self.hu_range[0]:g} to {self.hu_range[1]:g}")
        return lines

    def _prepared(self, triplets: int) -> str:
        litres = self.description.lung_litres
        lungs = "" if litres is None else f", {litres:.2f} litres of lung"
        return f"{self.description.preset}: {counted(triplets, 'triplet', 'triplets')}{lungs}"


def inspect(
    path: str | os.PathLike[str],
    *,
    preset: str | None = None,
    png: str | os.PathLike[str] | None = None,
    options: SeriesOptions = NO_OPTIONS,
) -> Page:
    """Describe a patient's directory, reading every pixel of the chosen series.

    Parameters
    ----------
    path
        The directory (or a volume file).
    preset
        Also prepare the patient as an extraction with this preset does; None: read the series only.
    png
        Where to write a picture of the series; None: nowhere.
    options
        What the user says about which series is the scan.

    Raises
    ------
    UsageError
        If the directory does not exist, there is no such preset, or the picture cannot be written.
    StorageError
        If the files cannot be read.

    """
    place = locate(path, argument="PATH")
    picture = None if png is None else output_file(png, argument="png")
    checked = None if preset is None else check_preset(preset)
    options.check()
    if isinstance(place, Path):
        check_exists(place)
    with local_copy(str(place)) as copy, Sandbox() as sandbox:
        files = PatientFiles(sandbox, copy, options)
        return _page(printable(place.name or str(place)), files, files.describe(checked), picture)


def _page(name: str, files: PatientFiles, described: Description, picture: Place | None) -> Page:
    hu_range = None
    if described.chosen is not None:
        try:
            described, hu_range = files.decode(described)
        except SeriesError as failure:
            if described.preset is None:  # otherwise the preset has said whether it can do without
                described = replace(described, error=str(failure), error_code=failure.code)
        else:
            _draw(files, described, picture)
    return Page(name, described, hu_range, described.error, described.error_code)


def _draw(files: PatientFiles, described: Description, picture: Place | None) -> None:
    if picture is not None:
        write_atomically(picture, files.draw(described))


def _series_text(series: SeriesDescription) -> str:
    words = [f"{series.plane} series of {counted(series.slices, 'image', 'images')}, {series.rows} x {series.columns}"]
    if not math.isnan(series.thickness_mm):
        words.append(f"{series.thickness_mm:g} mm thick")
    if series.original != "unsaid":
        words.append(series.original)
    words += [word for word in (series.manufacturer, _kernel(series.kernel)) if word]
    if series.faults:
        words.append(f"{counted(series.faults, 'image', 'images')} cannot be read")
    return ", ".join(words)


def _kernel(kernel: str | None) -> str | None:
    return f"kernel {kernel}" if kernel else None


def _names(series: SeriesDescription) -> Iterator[str]:
    """Yield what the images of a series say in words, each DICOM element on a line."""
    for field, keyword in KEYWORDS.items():
        texts = dict.fromkeys(on_one_line(text) for words in series.words if (text := getattr(words, field)))
        if texts:
            yield f"{'  names':<10} {keyword}: {listed_texts(texts)}"


def _entry(name: str, text: str) -> list[str]:
    """Return a name and its text, wrapped to 80 columns with a hanging indent."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{name:<10} ",
        subsequent_indent=" " * 11,
        break_on_hyphens=False,
    ) or [name]


def _millimetres(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.4g} mm"
