"""Numbers and estimates as text, in one form everywhere: on the page, in sentences and at the end of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

MINUS = "\N{MINUS SIGN}"
Estimate = Mapping[str, Any]
"""``{"value", "low", "high"}``; all None if the number is undefined."""


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with three decimals and a real minus sign; "undefined" for None.

    >>> number(0.5), number(-0.04), number(-0.0001), number(None)
    ('0.500', '−0.040', '0.000', 'undefined')
    """
    if value is None:
        return "undefined"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)


def interval(estimate: Estimate | None, digits: int = 3) -> str:
    """Return an estimate's interval; a dash if there is none.

    >>> interval({"value": 0.5, "low": -0.25, "high": 0.75}), interval({"value": None, "low": None, "high": None})
    ('−0.250 to 0.750', '–')
    """
    if not is_measured(estimate):
        return "–"
    assert estimate is not None
    return f"{number(estimate['low'], digits)} to {number(estimate['high'], digits)}"


def share(part: int, whole: int) -> str:
    """Return a count as a percentage of another.

    >>> share(1, 8), share(1, 3000), share(0, 5), share(2999, 3000)
    ('12 %', 'under 1 %', '0 %', 'over 99 %')
    """
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 1:
        return "under 1 %"
    if 99 < percent < 100:
        return "over 99 %"
    return f"{percent:.0f} %"


def joined(texts: Sequence[str]) -> str:
    """Return texts as a list in a sentence.

    >>> joined(["a"]), joined(["a", "b"]), joined(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def is_measured(estimate: Estimate | None) -> bool:
    """Return whether there is an estimate, and it has an interval."""
    return estimate is not None and estimate["low"] is not None and estimate["high"] is not None


def side(estimate: Estimate | None, reference: float) -> Literal["below", "above", "includes"] | None:
    """Return on which side of a reference an estimate's interval lies; None without an interval.

    >>> side({"value": 0.7, "low": 0.6, "high": 0.8}, 0.5), side({"value": 0.6, "low": 0.5, "high": 0.8}, 0.5)
    ('above', 'includes')
    """
    if not is_measured(estimate):
        return None
    assert estimate is not None
    if estimate["low"] > reference:
        return "above"
    return "below" if estimate["high"] < reference else "includes"
