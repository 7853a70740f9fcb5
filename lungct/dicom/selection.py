"""All CT images of a patient -> the one series that is the scan, and the reason in words.

A *candidate* is what a person would call one reconstruction. Images belong together by SeriesInstanceUID (where it is
empty, by StudyInstanceUID); within that by orientation; and where positions still repeat, by the first of
AcquisitionNumber, ConvolutionKernel, ImageType and SliceThickness that separates the repeats completely.

The choice is by the first of these that differs (``CRITERIA``): axial; four slices or more; original and primary; most
slices (distinct positions); thinnest; softest kernel; SeriesInstanceUID. It is total and depends on the files' content
only, never on their names or order, and the reason names no UID and quotes no text of a file.
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
"""The fewest that either preset can use; shorter ones are test images and bolus tracking."""

SOFT, BETWEEN, SHARP = 0, 1, 2

# By the maker's name (a part of it, lower case) and the kernel's (PS3.3 C.8.2.1, ConvolutionKernel: makers' own words).
# An empty maker is any. Sources: the makers' published kernel lists and the TCIA collections' headers.
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
    """Return how sharp a kernel is: `SOFT`, `BETWEEN` (all that the table does not know) or `SHARP`.

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
    """Images that make up one reconstruction, in no particular order."""

    slices: tuple[Slice, ...]

    @cached_property
    def orientation(self) -> Orientation | None:
        """Of the first slice that says it."""
        return next((piece.orientation for piece in self.slices if piece.orientation), None)

    @cached_property
    def plane(self) -> str:
        """``axial``, ``coronal``, ``sagittal``, ``oblique`` or ``unknown``."""
        return plane_name(self.orientation) if self.orientation else "unknown"

    @cached_property
    def distinct(self) -> int:
        """Number of distinct positions; each slice without one counts."""
        return count_distinct([piece.position_mm for piece in self.slices])

    @cached_property
    def thickness_mm(self) -> float:
        """SliceThickness of most slices; NaN unknown."""
        known = [p.slice_thickness_mm for p in self.slices if not math.isnan(p.slice_thickness_mm)]
        return max(sorted(set(known)), key=known.count) if known else math.nan

    @cached_property
    def manufacturer(self) -> str | None:
        """As in the files: of most of them."""
        return _most(piece.manufacturer for piece in self.slices)

    @cached_property
    def model(self) -> str | None:
        """ManufacturerModelName as in the files: of most of them."""
        return _most(piece.model for piece in self.slices)

    @cached_property
    def kernel(self) -> str | None:
        """As in the files: of most of them."""
        return _most(piece.kernel for piece in self.slices)

    @cached_property
    def original(self) -> str:
        """``original``, ``derived`` or ``unsaid``, by the first two values of ImageType (PS3.3 C.7.6.1.1.2)."""
        kinds = {piece.image_type[:2] for piece in self.slices}
        if kinds == {("ORIGINAL", "PRIMARY")}:
            return "original"
        return "unsaid" if kinds == {()} else "derived"

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID; never for people's eyes."""
        return self.slices[0].series_uid


@dataclass(frozen=True)
class Criterion:
    """One step of the choice: less is better; the words say what the winner has, from it and the runner-up."""

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
        lambda c: (c.series_uid, min(_identity(piece) for piece in c.slices)),
        lambda b, n: "first of equals",
    ),
)


def choose(candidates: tuple[Candidate, ...]) -> tuple[Candidate, str]:
    """Choose one candidate of at least one, and say why.

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
    for piece in slices:
        key = (piece.series_uid, "" if piece.series_uid else piece.study_uid)
        by_series.setdefault(key, []).append(piece)
    found: list[Candidate] = []
    for key in sorted(by_series):
        members = sorted(by_series[key], key=_identity)
        for group in _by_orientation(members):
            found.extend(Candidate(tuple(part)) for part in _by_repeats(group))
    return tuple(found)


def _identity(piece: Slice) -> tuple[object, ...]:
    """Order slices by what they say; by name only where they say nothing else."""
    number = piece.instance_number
    return (
        piece.sop_instance_uid,
        piece.frame,
        math.inf if number is None else number,
        math.inf if math.isnan(piece.position_mm) else piece.position_mm,
        piece.path,
    )


def _by_orientation(members: list[Slice]) -> list[list[Slice]]:
    """Split by orientation. Slices without one go with the most numerous: left out, nobody would miss them."""
    groups: list[tuple[Orientation, list[Slice]]] = []
    unknown: list[Slice] = []
    for piece in sorted(members, key=lambda p: p.orientation or (math.inf,) * 6):
        if piece.orientation is None:
            unknown.append(piece)
            continue
        for orientation, group in groups:
            if same_orientation(orientation, piece.orientation):
                group.append(piece)
                break
        else:
            groups.append((piece.orientation, [piece]))
    found = [group for _, group in groups]
    if unknown:
        if found:
            max(found, key=len).extend(unknown)
        else:
            found.append(unknown)
    return found


_SEPARATORS: tuple[Callable[[Slice], Hashable], ...] = (
    lambda piece: piece.acquisition_number,
    lambda piece: piece.kernel,
    lambda piece: piece.image_type,
    lambda piece: piece.slice_thickness_mm,
)


def _by_repeats(group: list[Slice]) -> list[list[Slice]]:
    """Split a group whose positions repeat by the first property that leaves no repeats; else keep it whole."""
    if not _repeats(group):
        return [group]
    for separator in _SEPARATORS:
        parts: dict[Hashable, list[Slice]] = {}
        for piece in group:
            parts.setdefault(separator(piece), []).append(piece)
        if len(parts) > 1 and not any(_repeats(part) for part in parts.values()):
            return list(parts.values())
    return [group]


def _repeats(group: list[Slice]) -> bool:
    """Whether different images claim one position (a file that is there twice is one image)."""
    images: dict[Hashable, float] = {}
    for number, piece in enumerate(group):
        if not math.isnan(piece.position_mm):
            images[(piece.sop_instance_uid, piece.frame) if piece.sop_instance_uid else number] = piece.position_mm
    return count_distinct(list(images.values())) < len(images)


def _most(values: Iterable[str | None]) -> str | None:
    known = [value for value in values if value]
    return max(sorted(set(known)), key=known.count) if known else None
