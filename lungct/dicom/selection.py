"""All CT images of a patient -> the one series that is the scan, and the reason in words.

A *candidate* is what a radiographer would call one reconstruction. Images are grouped by SeriesInstanceUID (or, if it
is empty, by StudyInstanceUID), then by orientation, and if positions still repeat, by the first of AcquisitionNumber,
ConvolutionKernel, ImageType and SliceThickness that separates the repeats completely.

The first of these criteria in which the best two candidates differ decides (``CRITERIA``): axial; four slices or more;
original and primary; most slices (distinct positions); thinnest; softest kernel; SeriesInstanceUID. There is always a
choice, and it depends on the content of the files only, never on their names or order. The reason contains no UID and
no text of a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property

from lungct.dicom.geometry import (
    Orientation,
    count_distinct,
    plane_name,
    same_orientation,
)
from lungct.dicom.slices import Slice

ENOUGH_SLICES = 4
"""The fewest that either preset can use; shorter series are test images and bolus tracking."""

SOFT, BETWEEN, SHARP = 0, 1, 2

# By a part of Manufacturer (lower case; empty: any) and by ConvolutionKernel (PS3.3 C.8.2.1: the manufacturers' own
# words). Sources: the manufacturers' published kernel lists and the headers of the TCIA collections.
KERNELS: tuple[tuple[str, str, int], ...] = (
    ("ge", r"SOFT|STANDARD|STND", SOFT),
    ("ge", r"LUNG|BONE|BONEPLUS|EDGE|ULTRA|HD LUNG|HD BONE|CHST", SHARP),
    ("ge", r"DETAIL|CHEST", BETWEEN),
    ("philips", r"A|B|SMOOTH|STANDARD|SOFT|IMR1.*|IMRSOFT.*", SOFT),
    ("philips", r"C|CB|UB", BETWEEN),
    ("philips", r"D|E|F|L|LUNG|Y[A-Z]|SHARP|DETAIL|BONE", SHARP),
    ("siemens", r"[A-Z][a-z]?[0-3]\d[a-z]?.*", SOFT),
    ("siemens", r"[A-Z][a-z]?4\d[a-z]?.*", BETWEEN),
    ("siemens", r"[A-Z][a-z]?[5-9]\d[a-z]?.*", SHARP),
    ("toshiba", r"FC(0\d|1\d)", SOFT),
    ("toshiba", r"FC(3\d|5\d|8\d)", SHARP),
    ("canon", r"FC(0\d|1\d)", SOFT),
    ("canon", r"FC(3\d|5\d|8\d)", SHARP),
    ("", r"SOFT|STANDARD|[BI][r]?[123]\d[fs]", SOFT),
    ("", r"LUNG|BONE|BONEPLUS|SHARP|EDGE|[BI][rl]?[5-9]\d[fs]|FC5\d", SHARP),
)


def kernel_rank(manufacturer: str | None, kernel: str | None) -> int:
    """Return how sharp a kernel is: `SOFT`, `BETWEEN` (also if the table lacks it) or `SHARP`.

    >>> kernel_rank("SIEMENS", "B31f"), kernel_rank("GE MEDICAL SYSTEMS", "LUNG"), kernel_rank(None, None)
    (0, 2, 1)
    """
    maker, name = (manufacturer or "").lower(), (kernel or "").split("\\")[0].strip()
    for part, pattern, rank in KERNELS:
        if part in maker and re.fullmatch(pattern, name, 0 if part == "siemens" else re.IGNORECASE):
            return rank
    return BETWEEN


@dataclass(frozen=True)
class Candidate:
    """The images of one reconstruction, in no particular order."""

    slices: tuple[Slice, ...]

    @cached_property
    def orientation(self) -> Orientation | None:
        """Of the first slice that has one."""
        return next((image.orientation for image in self.slices if image.orientation), None)

    @cached_property
    def plane(self) -> str:
        """``axial``, ``coronal``, ``sagittal``, ``oblique`` or ``unknown``."""
        return plane_name(self.orientation) if self.orientation else "unknown"

    @cached_property
    def distinct(self) -> int:
        """Number of distinct positions; each slice without one counts."""
        return count_distinct([image.position_mm for image in self.slices])

    @cached_property
    def thickness_mm(self) -> float:
        """SliceThickness of most slices; NaN if unknown."""
        known = [p.slice_thickness_mm for p in self.slices if not math.isnan(p.slice_thickness_mm)]
        return max(sorted(set(known)), key=known.count) if known else math.nan

    @cached_property
    def manufacturer(self) -> str | None:
        """Manufacturer of most files."""
        return most_common(image.manufacturer for image in self.slices)

    @cached_property
    def kernel(self) -> str | None:
        """ConvolutionKernel of most files."""
        return most_common(image.kernel for image in self.slices)

    @cached_property
    def original(self) -> str:
        """``original``, ``derived`` or ``unsaid``, by the first two values of ImageType (PS3.3 C.7.6.1.1.2)."""
        kinds = {image.image_type[:2] for image in self.slices}
        if kinds == {("ORIGINAL", "PRIMARY")}:
            return "original"
        return "unsaid" if kinds == {()} else "derived"

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID, which must never appear in a text."""
        return self.slices[0].series_uid


@dataclass(frozen=True)
class Criterion:
    """One step of the choice.

    Attributes
    ----------
    rank
        What to compare candidates by; less is better.
    words
        What the best candidate has that the next has not, from those two.

    """

    rank: Callable[[Candidate], Hashable]
    words: Callable[[Candidate, Candidate], str]


def _thinness(candidate: Candidate) -> float:
    return math.inf if math.isnan(candidate.thickness_mm) else round(candidate.thickness_mm, 3)


def _thin_words(best: Candidate, next_: Candidate) -> str:
    other = f"{next_.thickness_mm:g} mm" if _thinness(next_) < math.inf else "unknown"
    return f"thinnest ({best.thickness_mm:g} mm, next {other})"


_PLANES = {"axial": 0, "unknown": 1}
_ORIGINAL = {"original": 0, "unsaid": 1, "derived": 2}

CRITERIA: tuple[Criterion, ...] = (
    Criterion(lambda c: _PLANES.get(c.plane, 2), lambda b, n: f"axial (next {n.plane})"),
    Criterion(
        lambda c: c.distinct < ENOUGH_SLICES,
        lambda b, n: f"enough slices ({b.distinct}, next {n.distinct})",
    ),
    Criterion(
        lambda c: _ORIGINAL[c.original],
        lambda b, n: "original and primary" if b.original == "original" else "not said to be derived",
    ),
    Criterion(lambda c: -c.distinct, lambda b, n: f"most slices ({b.distinct}, next {n.distinct})"),
    Criterion(_thinness, _thin_words),
    Criterion(lambda c: kernel_rank(c.manufacturer, c.kernel), lambda b, n: "softest kernel"),
    Criterion(
        lambda c: (c.series_uid, min(_content_order(image) for image in c.slices)),
        lambda b, n: "first of equals",
    ),
)


def choose(candidates: tuple[Candidate, ...]) -> tuple[Candidate, str]:
    """Choose the scan from at least one candidate.

    Returns
    -------
    Candidate
        The series that is the scan.
    str
        The reason, a few words for the table's ``series_reason``.

    """
    best, *others = ranked(candidates)
    if not others:
        return best, "the only CT series"
    step = next((s for s in CRITERIA if s.rank(best) != s.rank(others[0])), CRITERIA[-1])
    return best, f"{step.words(best, others[0])} of {len(candidates)} CT series"


def ranked(candidates: tuple[Candidate, ...]) -> list[Candidate]:
    """Order candidates, the one to choose first."""
    return sorted(candidates, key=lambda c: tuple(step.rank(c) for step in CRITERIA))


def candidates(slices: Iterable[Slice]) -> tuple[Candidate, ...]:
    """Group CT images into candidates."""
    by_series: dict[tuple[str, str], list[Slice]] = {}
    for image in slices:
        key = (image.series_uid, "" if image.series_uid else image.study_uid)
        by_series.setdefault(key, []).append(image)
    found: list[Candidate] = []
    for key in sorted(by_series):
        members = sorted(by_series[key], key=_content_order)
        for group in _by_orientation(members):
            found.extend(Candidate(tuple(part)) for part in _by_repeats(group))
    return tuple(found)


def _content_order(image: Slice) -> tuple[object, ...]:
    """Return what to sort images by: their own values, and the file's name only between equals."""
    number = image.instance_number
    return (
        image.sop_instance_uid,
        image.frame,
        math.inf if number is None else number,
        math.inf if math.isnan(image.position_mm) else image.position_mm,
        image.path,
    )


def _by_orientation(members: list[Slice]) -> list[list[Slice]]:
    """Split by orientation; images without one stay with the largest group, so that none goes missing unnoticed."""
    groups: list[tuple[Orientation, list[Slice]]] = []
    unknown: list[Slice] = []
    for image in sorted(members, key=lambda p: p.orientation or (math.inf,) * 6):
        if image.orientation is None:
            unknown.append(image)
            continue
        for orientation, group in groups:
            if same_orientation(orientation, image.orientation):
                group.append(image)
                break
        else:
            groups.append((image.orientation, [image]))
    found = [group for _, group in groups]
    if unknown:
        if found:
            max(found, key=len).extend(unknown)
        else:
            found.append(unknown)
    return found


_SEPARATORS: tuple[Callable[[Slice], Hashable], ...] = (
    lambda image: image.acquisition_number,
    lambda image: image.kernel,
    lambda image: image.image_type,
    lambda image: image.slice_thickness_mm,
)


def _by_repeats(group: list[Slice]) -> list[list[Slice]]:
    """Split a group whose positions repeat by the first property that leaves no repeats, if there is one."""
    if not _repeats(group):
        return [group]
    for separator in _SEPARATORS:
        parts: dict[Hashable, list[Slice]] = {}
        for image in group:
            parts.setdefault(separator(image), []).append(image)
        if len(parts) > 1 and not any(_repeats(part) for part in parts.values()):
            return list(parts.values())
    return [group]


def _repeats(group: list[Slice]) -> bool:
    """Return whether different images have one position (two copies of a file are one image)."""
    images: dict[Hashable, float] = {}
    for number, image in enumerate(group):
        if not math.isnan(image.position_mm):
            images[(image.sop_instance_uid, image.frame) if image.sop_instance_uid else number] = image.position_mm
    return count_distinct(list(images.values())) < len(images)


def most_common(values: Iterable[str | None]) -> str | None:
    """Return the value that most have, the first in order on a tie; None if none has one."""
    known = [value for value in values if value]
    return max(sorted(set(known)), key=known.count) if known else None
