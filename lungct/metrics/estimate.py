"""A number with its interval, and the constants that every interval shares."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z = 1.959963984540054
"""The 97.5 percentile of the standard normal distribution: intervals are 95 %."""

SHARE_Z = 2.3263478740408408
"""The 99 percentile: how many positives there happen to be is allowed for as in an interval of 98 %."""

SHARED = 1.6
"""How many times wider an interval is for what the folds share, on the standard error of independent folds.

In a cross-validation two patients of different folds count twice for each other: either is scored by a booster that
was fitted on the other. With nothing to find, that doubles the variance of the AUC of a linear score (a factor of 1.41
on the standard error). With a weak signal, cohorts of this size also give better and worse boosters: the factor is at
most 1.51, and with a strong signal it falls to 1 (``docs/evaluation.md``). Boosters, whose rounds are chosen too, need
a little more, by simulation. The same holds of losses, within classes.
"""


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval, ``low <= value <= high``; all None if the number is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Return ``{"value", "low", "high"}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


UNDEFINED = Estimate(None, None, None)


def bounded(value: float, low: float, high: float, least: float = -math.inf, most: float = math.inf) -> Estimate:
    """Return an estimate whose interval lies within [least, most] and holds the value, whatever rounding did."""
    value = float(value)
    return Estimate(value, min(value, max(float(low), least)), max(value, min(float(high), most)))


def wilson(share: float, n: float, z: float = Z) -> tuple[float, float]:
    """Return the interval of a share of n (Wilson, J. Am. Stat. Assoc. 22, 1927); n need not be a whole number."""
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(max(share * (1 - share) / n + z * z / (4 * n * n), 0.0))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
