"""The series of a patient in the order of choice, and what each step of the choice says of each, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lungct.dicom.assembling import assemble
from lungct.dicom.candidates import Candidate
from lungct.dicom.options import SeriesOptions
from lungct.dicom.selection import CRITERIA, choose, ranked
from lungct.dicom.series import Series
from lungct.dicom.surveying import Survey

Steps = tuple[tuple[str, str], ...]
"""Name of each step of the choice, and what it says of a series."""


@dataclass(frozen=True)
class Choice:
    """A series that may be the scan, and why it comes before the next."""

    candidate: Candidate
    reason: str


def in_order_of_choice(candidates: tuple[Candidate, ...], options: SeriesOptions) -> list[Choice]:
    """Order the series that may be the scan, the one to choose first."""
    if not candidates:
        return []
    best, *others = ranked(candidates)
    return [Choice(best, choose(candidates)[1]), *(Choice(candidate, "") for candidate in others)]


def steps(candidate: Candidate) -> Steps:
    """Return what each step of the choice says of a series."""
    thickness = candidate.thickness_mm
    return (
        ("plane", candidate.plane),
        ("slices", str(candidate.distinct)),
        ("ImageType", candidate.original),
        ("thickness", "unknown" if math.isnan(thickness) else f"{thickness:g} mm"),
        ("kernel", candidate.kernel or "unknown"),
    )


def first_choice(found: Survey, options: SeriesOptions) -> Series:
    """Return the series that is chosen, its slices in order."""
    return assemble(found)


def behind(candidate: Candidate, used: Candidate) -> str:
    """Return the step that placed a series behind the one that is used, in words."""
    step = next((step for step in CRITERIA if step.rank(candidate) != step.rank(used)), CRITERIA[-1])
    return f"behind: {step.words(used, candidate)}"
