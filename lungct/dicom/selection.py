"""Candidates -> the series that may be the scan, the one to choose first, and the reason in words.

The criteria are compared one after the other (``CRITERIA``): each keeps the best of those that the ones before it
left. There is always one choice, and it depends on the content of the files only, never on their names or order. The
reason contains no UID, no date and no text of a file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lungct.arguments import counted
from lungct.dicom import anatomy, kernels
from lungct.dicom.anatomy import Region
from lungct.dicom.candidates import ORIGINS, Candidate, content_order
from lungct.dicom.kernels import kernel_rank
from lungct.dicom.notes import DERIVED, VIRTUAL, note
from lungct.dicom.options import SeriesOptions
from lungct.dicom.slices import Slice
from lungct.dicom.spectral import Product
from lungct.errors import SeriesError

WHOLE_CHEST_MM = 200.0
"""Longer extents are not compared: a chest fits into 250 to 400 mm, and more of the body is no better."""
EXTENT_BAND_MM = 50.0
"""Shorter extents are compared in bands of this height: a few slices more at one end decide nothing."""
WIDE_ENOUGH_MM = 250.0
"""Narrower images are enlargements, of the heart, a lung or the spine, and cut the chest off; or they show a head."""
SPACING_BANDS_MM = (3.0, 5.0, 10.0)
"""Upper limits of the bands in which spacings are compared."""
LONGEST_REASON = 200
"""Characters; a longer reason leaves out what the other candidates had."""

_NO_ROUNDING_MM = 0.01
_NEXT_BEST = re.compile(r" \(vs [^)]*\)| vs [^)]*")


@dataclass(frozen=True)
class Criterion:
    """One step of the choice.

    Attributes
    ----------
    name
        What it compares.
    rank
        What to compare candidates by; less is better.
    value
        What a candidate has, in words.
    phrase
        What the chosen candidate has that others have not: ``{0}`` stands for its value, ``{1}`` for the next best.

    """

    name: str
    rank: Callable[[Candidate], Any]
    value: Callable[[Candidate], str]
    phrase: str = "{0} (vs {1})"


@dataclass(frozen=True)
class Choice:
    """A candidate that may be the scan, and why it comes at its place.

    Attributes
    ----------
    candidate
        The candidate.
    reason
        A few words for the table's ``series_reason``.

    """

    candidate: Candidate
    reason: str


_PLANES = {"axial": 0, "unknown": 1}


def _body_part(candidate: Candidate) -> Region:
    """Return what the texts name; a chest that cannot be used is no better than a series that names nothing."""
    region = candidate.region
    return Region.UNCLEAR if region is Region.CHEST and not _usable(candidate) else region


def _body_part_words(candidate: Candidate) -> str:
    words = anatomy.IN_WORDS[candidate.region]
    if _body_part(candidate) is candidate.region:
        return words
    return f"{candidate.plane} {words}" if candidate.plane not in _PLANES else f"{words}, too few slices"


def _usable(candidate: Candidate) -> bool:
    return candidate.plane in _PLANES and candidate.is_long_enough


def _extent_band(candidate: Candidate) -> int:
    if math.isnan(candidate.extent_mm):
        return 0
    return -int((min(candidate.extent_mm, WHOLE_CHEST_MM) + _NO_ROUNDING_MM) // EXTENT_BAND_MM)


def _spacing_band(candidate: Candidate) -> int:
    if math.isnan(candidate.spacing_mm):
        return len(SPACING_BANDS_MM) + 1
    return sum(candidate.spacing_mm > limit + _NO_ROUNDING_MM for limit in SPACING_BANDS_MM)


def _kernel(candidate: Candidate) -> int:
    return kernel_rank(candidate.manufacturer, candidate.kernel)


def _contrast_words(candidate: Candidate) -> str:
    if candidate.product is Product.MATERIAL:
        return "altered by calculation"
    return "with" if candidate.contrast else "without"


def _origin_words(candidate: Candidate) -> str:
    return "ImageType not stated" if candidate.original == "unsaid" else candidate.original


def _millimetres(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.4g} mm"


CRITERIA: tuple[Criterion, ...] = (
    Criterion("body part", _body_part, _body_part_words, "body part {0} (vs {1})"),
    Criterion("plane", lambda c: _PLANES.get(c.plane, 2), lambda c: c.plane),
    Criterion(
        "enough slices",
        lambda c: not c.is_long_enough,
        lambda c: f"{c.distinct}",
        "enough slices ({0} vs {1})",
    ),
    Criterion("extent", _extent_band, lambda c: _millimetres(c.extent_mm), "{0} coverage (vs {1})"),
    Criterion(
        "width",
        lambda c: c.width_mm < WIDE_ENOUGH_MM,
        lambda c: _millimetres(c.width_mm),
        "{0} wide (vs {1})",
    ),
    Criterion("spacing", _spacing_band, lambda c: _millimetres(c.spacing_mm), "{0} spacing (vs {1})"),
    Criterion("kernel", _kernel, lambda c: kernels.IN_WORDS[_kernel(c)], "{0} kernel (vs {1})"),
    Criterion("contrast", lambda c: c.contrast, _contrast_words, "{0} contrast (vs {1})"),
    Criterion("origin", lambda c: ORIGINS.index(c.original), _origin_words),
    Criterion("product", lambda c: c.product is not Product.PLAIN, lambda c: c.product.value),
    Criterion("slices", lambda c: -c.distinct, lambda c: f"{c.distinct}", "most slices ({0} vs {1})"),
    Criterion(
        "study",
        lambda c: (not c.study_time, c.study_time),
        lambda c: "dated" if c.study_time else "undated",
        "earlier study",
    ),
)
"""In the order in which they decide. Between candidates that are equal by all of them, SeriesInstanceUID and then the
content of the headers decide."""


def steps(candidate: Candidate) -> list[tuple[str, str]]:
    """Return what each criterion sees in a candidate: its name and the candidate's value, in words.

    The values contain numbers and fixed words only, as `Choice.reason` does.
    """
    return [(criterion.name, criterion.value(candidate)) for criterion in CRITERIA]


def in_order_of_choice(candidates: Sequence[Candidate], options: SeriesOptions) -> list[Choice]:
    """Return the candidates that may be the scan, the one to choose first; at least one.

    Those after the first are for a preset that finds no lungs in the ones before: only axial candidates (or those whose
    orientation is unknown) with enough slices, and none whose texts name another part of the body unless those of the
    first do.

    Parameters
    ----------
    candidates
        All CT series of a patient, at least one.
    options
        What the user says about the choice.

    Raises
    ------
    SeriesError
        ``no_series``, if no candidate fits the options.

    """
    fitting = _fitting(candidates, options)
    first, *others = ranked(fitting)
    order = [first, *(other for other in others if _worth_trying(other, first))]
    unfit = len(candidates) - len(fitting)
    more = f"; {counted(unfit, 'other does', 'others do')} not fit the options" if unfit else ""
    reason = _reason(first, others) + more
    if unfit and not others:
        reason = f"the only one of {_counted(candidates)} that fits the options"
    choices = [Choice(first, _short(reason))]
    for number, candidate in enumerate(order[1:], start=2):
        rivals = order[number:]
        reason = _reason(candidate, rivals) if rivals else "the last candidate"
        choices.append(Choice(candidate, _short(f"{_tried_before(number)}; {reason}{more}")))
    return choices


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Order all candidates, the one to choose first."""
    return sorted(sorted(candidates, key=_content), key=lambda c: tuple(criterion.rank(c) for criterion in CRITERIA))


def choice_notes(candidate: Candidate) -> tuple[str, ...]:
    """Return the notes that follow from a candidate's kind if it is chosen: ``derived``, ``virtual``."""
    derived = (note(DERIVED),) if candidate.original == "derived" else ()
    return derived if candidate.product is Product.PLAIN else (*derived, note(VIRTUAL))


_PROPERTIES: dict[str, Callable[[Slice], str]] = {
    "series_include": lambda image: image.words.series,
    "series_exclude": lambda image: image.words.series,
    "body_part": lambda image: image.words.body_part,
}


def fits(candidate: Candidate, options: SeriesOptions) -> bool:
    """Return whether most images of a candidate are as the options say."""
    for name, text_of in _PROPERTIES.items():
        wanted = getattr(options, name)
        if wanted is not None:
            holding = sum(wanted.casefold() in text_of(image).casefold() for image in candidate.slices)
            most = 2 * holding > len(candidate.slices)
            if most == (name == "series_exclude"):
                return False
    return True


def _fitting(candidates: Sequence[Candidate], options: SeriesOptions) -> list[Candidate]:
    fitting = [candidate for candidate in candidates if fits(candidate, options)]
    if fitting:
        return fitting
    given = " and ".join(f"--{name.replace('_', '-')}" for name in _PROPERTIES if getattr(options, name) is not None)
    count = len(candidates)
    none = f"none of the {count} CT series fits" if count > 1 else "the only CT series does not fit"
    raise SeriesError(f"{none} {given}", code="no_series", fix="give another text, or leave the option out")


def _worth_trying(candidate: Candidate, first: Candidate) -> bool:
    worst = max(first.region, Region.ATTENUATION_CORRECTION)
    return _usable(candidate) and candidate.region <= worst and candidate.region is not Region.NO_SCAN


def _tried_before(number: int) -> str:
    """Return which choice this is, and why it is needed."""
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    before = "1st" if number == 2 else f"first {number - 1}"
    return f"{number}{ending} choice (no lungs in the {before})"


def _reason(best: Candidate, others: Sequence[Candidate]) -> str:
    """Return which criteria decided between a candidate and others, in words."""
    if not others:
        return "the only CT series"
    remaining = list(others)
    phrases = []
    for criterion in CRITERIA:
        beaten = [candidate for candidate in remaining if criterion.rank(candidate) != criterion.rank(best)]
        if beaten:
            next_best = min(beaten, key=criterion.rank)
            phrases.append(criterion.phrase.format(criterion.value(best), criterion.value(next_best)))
            remaining = [candidate for candidate in remaining if criterion.rank(candidate) == criterion.rank(best)]
    if not phrases:
        return f"first of {_counted([best, *others], 'equal ')}"
    if remaining:
        phrases.append(f"first of {1 + len(remaining)} equals")
    return f"best of {_counted([best, *others])}: {', '.join(phrases)}"


def _counted(candidates: Sequence[Candidate], adjective: str = "") -> str:
    """Return how many candidates there are, in words; one series has several if it has several passes."""
    series = frozenset[str]().union(*(candidate.series_uids for candidate in candidates))
    if "" in series or len(series) >= len(candidates):
        return f"{len(candidates)} {adjective}CT series"
    return f"{len(candidates)} {adjective}candidates in {len(series)} series"


def _short(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else _NEXT_BEST.sub("", reason)


def _content(candidate: Candidate) -> tuple[Any, ...]:
    """Return what to order equal candidates by: what their headers contain, never the names of their files."""
    return candidate.series_uid, sorted(content_order(image)[:-1] for image in candidate.slices)
