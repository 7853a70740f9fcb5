"""The series of a patient in the order of choice, and what placed each below the one that is used."""

from __future__ import annotations

from dataclasses import dataclass

from lungct.dicom.candidates import Candidate
from lungct.dicom.notes import in_order
from lungct.dicom.options import SeriesOptions
from lungct.dicom.selection import CRITERIA, choice_notes, fits, in_order_of_choice, ranked


@dataclass(frozen=True)
class Ranking:
    """The CT series of a patient, the one to choose first.

    Attributes
    ----------
    fitting
        Those that fit what the user says about the choice, in order.
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
    fitting = ranked([candidate for candidate in candidates if fits(candidate, options)])
    others = ranked([candidate for candidate in candidates if not fits(candidate, options)])
    tried = [choice.candidate for choice in in_order_of_choice(candidates, options)] if fitting else []
    return Ranking(tuple(fitting), tuple(others), tuple(fitting.index(candidate) for candidate in tried))


def notes_of(candidate: Candidate) -> tuple[str, ...]:
    """Return what is noted of a series before it is read."""
    return in_order((*candidate.notes, *choice_notes(candidate)))


def why_lower(candidate: Candidate, used: Candidate) -> str:
    """Return the step that placed a series below the one that is used, in words."""
    for criterion in CRITERIA:
        if criterion.rank(candidate) != criterion.rank(used):
            own, better = criterion.value(candidate), criterion.value(used)
            words = f"{criterion.name}: {own} vs {better}" if own != better else criterion.name
            return f"ranked lower ({words})"
    return "equal in every step, but not the first"
