"""Candidates -> the one series that is the scan, and the reason in words.

The first of these criteria in which the best two candidates differ decides (``CRITERIA``): axial; four slices or more;
original and primary; most slices (distinct positions); thinnest; softest kernel; SeriesInstanceUID. There is always a
choice, and it depends on the content of the files only, never on their names or order. The reason contains no UID and
no text of a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from lungct.dicom.candidates import Candidate, content_order
from lungct.dicom.kernels import kernel_rank


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
        lambda c: not c.is_long_enough,
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
        lambda c: (c.series_uid, min(content_order(image) for image in c.slices)),
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
