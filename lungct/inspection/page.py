"""One patient's directory -> a page of text, or the same as JSON."""

from __future__ import annotations

import math
import os
import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lungct.errors import SeriesError
from lungct.inspection.description import Description, SeriesDescription, describe
from lungct.patients import on_one_line, printable
from lungct.storage import Place, local_copy, locate, output_file, write_atomically

if TYPE_CHECKING:
    from lungct.dicom import Series

WIDTH = 80


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
        """Whether a series can be read to its last slice."""
        return self.error is None

    def as_dict(self) -> dict[str, Any]:
        """Return the page as a dictionary that can be written as JSON; unknown numbers are None."""
        chosen = self.description.chosen
        return {
            "command": "inspect",
            "patient": self.name,
            "files": self.description.files,
            "passed_over": self.description.passed_over,
            "series": [_plain(asdict(series)) for series in self.description.series],
            "reason": self.description.reason,
            "slices": len(chosen) if chosen else None,
            "rows": chosen.rows if chosen else None,
            "columns": chosen.columns if chosen else None,
            "spacing_mm": [_known(v) for v in chosen.spacing_mm] if chosen else None,
            "manufacturer": chosen.manufacturer if chosen else None,
            "kernel": chosen.kernel if chosen else None,
            "hu_range": self.hu_range,
            "problems": list(self.description.problems),
            "error": self.error,
            "error_code": self.error_code,
        }

    def text(self) -> str:
        """Return the page as text of at most 80 columns."""
        lines = [*_entry("patient", on_one_line(self.name)), *_entry("files", self._files())]
        for number, series in enumerate(self.description.series):
            mark = "chosen" if number == 0 and self.description.chosen is not None else "found"
            lines += _entry(mark, _series_text(series))
        if self.description.chosen is not None:
            lines += self._chosen(self.description.chosen)
        for problem in self.description.problems:
            lines += _entry("note", problem)
        if self.error is not None:
            lines += _entry("unusable", f"{self.error} ({self.error_code})")
        return "\n".join(lines)

    def _files(self) -> str:
        over = [f"{kind} ({count})" for kind, count in self.description.passed_over.items()]
        return f"{self.description.files} opened" + (f"; passed over: {', '.join(over)}" if over else "")

    def _chosen(self, series: Series) -> list[str]:
        between, row, column = (_number(value) for value in series.spacing_mm)
        lines = _entry("why", self.description.reason or "")
        lines += _entry("slices", f"{len(series)} of {series.rows} x {series.columns}")
        lines += _entry("spacing", f"{between} mm between slices, {row} x {column} mm in the plane")
        positions = series.positions_mm
        if len(positions) and not math.isnan(positions[0]):
            low, high = float(positions.min()), float(positions.max())
            lines += _entry("positions", f"{low:.1f} to {high:.1f} mm along the normal")
        if self.hu_range is not None:
            lines += _entry("HU", f"{self.hu_range[0]:g} to {self.hu_range[1]:g}")
        return lines


def inspect(path: str | os.PathLike[str], *, png: str | os.PathLike[str] | None = None) -> Page:
    """Describe a patient's directory, reading every pixel of the chosen series.

    Parameters
    ----------
    path
        The directory (or a volume file).
    png
        Where to write a picture of the series; None: nowhere.

    Raises
    ------
    UsageError
        If the directory does not exist, or the picture cannot be written.
    StorageError
        If the files cannot be read.

    """
    place = locate(path, argument="PATH")
    picture = None if png is None else output_file(png, argument="png")
    with local_copy(str(place)) as copy:
        return _inspected(printable(place.name or str(place)), copy, picture)


def _inspected(name: str, place: str | list[str], picture: Place | None) -> Page:
    assert isinstance(place, str)
    described = describe(place)
    hu_range, error, code = None, described.error, described.error_code
    if described.chosen is not None:
        try:
            hu_range = _hu_range(described.chosen)
            if picture is not None:
                from lungct.inspection.montage import montage

                write_atomically(picture, montage(described.chosen))
        except SeriesError as failure:
            error, code = str(failure), failure.code
    return Page(name, described, hu_range, error, code)


def _hu_range(series: Series) -> tuple[float, float]:
    low, high = math.inf, -math.inf
    for i in range(len(series)):
        hu = series.hu(i)
        low, high = min(low, float(hu.min())), max(high, float(hu.max()))
    return low, high


def _series_text(series: SeriesDescription) -> str:
    words = [f"{series.plane} series of {series.slices} images, {series.rows} x {series.columns}"]
    if not math.isnan(series.thickness_mm):
        words.append(f"{series.thickness_mm:g} mm thick")
    if series.original != "unsaid":
        words.append(series.original)
    words += [word for word in (series.manufacturer, _kernel(series.kernel)) if word]
    if series.faults:
        words.append(f"{series.faults} images cannot be read")
    return ", ".join(words)


def _kernel(kernel: str | None) -> str | None:
    return f"kernel {kernel}" if kernel else None


def _entry(name: str, text: str) -> list[str]:
    """Return a name and its text, wrapped to 80 columns with a hanging indent."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=f"{name:<10} ",
        subsequent_indent=" " * 11,
        break_on_hyphens=False,
    ) or [name]


def _number(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.4g}"


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _known(value) for name, value in values.items()}
