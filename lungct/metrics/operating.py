"""What a threshold on the score would do: sensitivity at a given specificity, average precision, net benefit.

Sensitivity and average precision are taken within folds, as the AUC is. Their intervals are Wilson's of a share, SHARED
times as wide, of as many independent positives as give the same standard error.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.metrics.curves import limits, mean_roc
from lungct.metrics.estimate import SHARED, UNDEFINED, Estimate, Z, bounded, wilson
from lungct.metrics.losses import clip
from lungct.metrics.sample import Sample

SPECIFICITIES = (0.9, 0.95)
THRESHOLDS = 20


def average_precision(sample: Sample, score: NDArray[np.float64]) -> Estimate:
    """Return the mean of the folds' average precisions (scikit-learn's), weighted by positives.

    The interval is that of a share of the positives (Boyd, Eng and Page, ECML PKDD 2013, who take its logit; Wilson's
    form holds at 0 and 1, too).
    """
    from sklearn.metrics import average_precision_score

    total = positives = 0.0
    for part in sample.parts:
        members = np.concatenate(part)
        total += len(part[0]) * float(average_precision_score(sample.y[members], score[members]))
        positives += len(part[0])
    if not positives:
        return UNDEFINED
    groups = sample.groups_in(np.concatenate([positive for positive, _ in sample.parts]))
    value = min(total / positives, 1.0)
    return bounded(value, *wilson(value, groups, Z * SHARED), least=0.0, most=1.0)


def operating_points(sample: Sample, score: NDArray[np.float64]) -> list[dict[str, Any]]:
    """Return the sensitivity at each of `SPECIFICITIES`, with its interval."""
    roc = mean_roc(sample, score)
    return [
        {"specificity": at, "sensitivity": (_sensitivity(sample, roc, at) if roc is not None else UNDEFINED).as_dict()}
        for at in SPECIFICITIES
    ]


def _sensitivity(sample: Sample, roc: NDArray[np.float64], specificity: float) -> Estimate:
    """Read the mean ROC curve at a specificity.

    The threshold is itself estimated, from the negatives: to the variance of a share of m positives comes that of the
    false positive rate f, f (1 - f) / n, times the square of the curve's slope there (Hsieh and Turnbull, Ann. Stat.
    24, 1996).
    """
    rate = round(1 - specificity, 12)  # as exact as a curve's own rates, or a jump there is missed
    value = float(limits(roc, np.array([rate]), "right")[0])
    m, n = (sample.groups_in(np.concatenate(members)) for members in zip(*sample.parts, strict=True))
    # The slope over an interval that holds about two standard errors of the rate on either side.
    step = min(rate, max(2 * math.sqrt(rate * (1 - rate) / n), 1 / n))
    left, right = limits(roc, np.array([rate - step, min(rate + step, 1.0)]), "right")
    slope = (right - left) / (min(rate + step, 1.0) - (rate - step))
    share = (value * m + Z**2 / 2) / (m + Z**2)  # Agresti and Coull's (Am. Stat. 52, 1998): its variance is never 0
    by_positives = share * (1 - share) / m
    by_threshold = slope**2 * rate * (1 - rate) / n
    independent = m * by_positives / (by_positives + by_threshold)
    return bounded(value, *wilson(value, independent, Z * SHARED), least=0.0, most=1.0)


def decision_curve(sample: Sample, score: NDArray[np.float64]) -> list[dict[str, float]]:
    """Return the net benefit of treating those who score at least a threshold, and of treating all.

    Net benefit is the share of true positives less that of false positives times threshold / (1 - threshold) (Vickers
    and Elkin, Med. Decis. Making 26, 2006); treating nobody has 0. Scores are clipped, and pooled over the folds.
    """
    p, y, n = clip(score), sample.y, len(sample)
    prevalence = float(y.mean())
    curve = []
    for threshold in thresholds(prevalence):
        odds = threshold / (1 - threshold)
        treated = p >= threshold
        true = float((treated & (y == 1)).sum()) / n
        false = float((treated & (y == 0)).sum()) / n
        curve.append(
            {"threshold": threshold, "model": true - odds * false, "all": prevalence - odds * (1 - prevalence)}
        )
    return curve


def thresholds(prevalence: float) -> list[float]:
    """Return up to 20 round thresholds, equally spaced up to about three times the prevalence (0.95 at most)."""
    step = math.ceil(100 * min(0.95, max(0.2, 3 * prevalence)) / THRESHOLDS)
    return [i * step / 100 for i in range(1, THRESHOLDS + 1) if i * step <= 95]
