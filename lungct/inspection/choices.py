"""The series of a patient in the order of choice, and what each step of the choice says of each, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lungct.dicom.assembling import assemble
from lungct.dicom.candidates import Candidate
from lungct.dicom.options import SeriesOptions
from lungct.dicom.selection import CRITERIA, choose, ranked
from lungct.dicom.series import Series
from lungct.dicom.surveying import Survey, check_survey

Steps = tuple[tuple[str, str], ...]
"""Name of each step of the choice, and what it says of a series."""


@dataclass(frozen=True)
class Ranking:
    """The CT series of a patient, the one to choose first.

    Attributes
    ----------
    fitting
        Those that fit what a person says about the choice, in order.
    others
        Those that do not.
    choices
        Indices, in ``fitting``, of those that may be the scan, in the order in which a preset tries them.

    """

    fitting: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    choices: tuple[int, ...]


def rank(candidates: tuple[Candidate, ...], options: SeriesOptions) -> Ranking:
    """Order a patient's CT series."""
    return Ranking(tuple(ranked(candidates)), (), tuple(range(len(candidates))))


def first_choice(found: Survey, options: SeriesOptions) -> Series:
    """Return the series that is chosen, its slices in order.

    Raises
    ------
    SeriesError
        If there is none, or it cannot be used.

    """
    check_survey(found)
    return assemble(found, *choose(found.candidates))


def notes_of(candidate: Candidate) -> tuple[str, ...]:
    """Return what is noted of a series before it is read."""
    return candidate.notes


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


def behind(candidate: Candidate, used: Candidate) -> str:
    """Return the step that placed a series behind the one that is used, in words."""
    step = next((step for step in CRITERIA if step.rank(candidate) != step.rank(used)), CRITERIA[-1])
    return f"behind: {step.words(used, candidate)}"
