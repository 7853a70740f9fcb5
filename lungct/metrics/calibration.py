"""Calibration of scores as probabilities: slope and intercept on the logit scale, pooled over the folds as losses are.

Slope: the coefficient of a logistic regression of the label on the logit of the clipped score (Cox, Biometrika 45,
1958). Below 1 the scores are too extreme, above 1 too timid. Intercept: calibration in the large, the constant that
must be added to the logits, slope 1, for the mean score to be the share of positives; below 0 the scores are too high
(Van Calster et al., J. Clin. Epidemiol. 74, 2016).

A standard error is the larger of the model's (as if groups were patients) and of the sandwich's, summed over groups
(Liang and Zeger, Biometrika 73, 1986); the slope's interval is SHARED times as wide, since what the folds share lies
within classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lungct.metrics.estimate import SHARE_Z, SHARED, UNDEFINED, Estimate, Z, bounded
from lungct.metrics.losses import CLIP, clip
from lungct.metrics.sample import Sample

LEAST_SPREAD = 1e-3
"""Scores whose logits' standard deviation within folds is smaller are as good as constant: they have no slope."""
WIDEST = math.log(1 / CLIP)
"""Logits of clipped scores lie within 13.8 of 0; an intercept with a larger standard error says nothing."""


def slope(sample: Sample, score: NDArray[np.float64]) -> Estimate:
    """Return the calibration slope; undefined with one class, constant scores, or scores that separate the classes."""
    logit = _logit(score)
    if not sample.mixed or _spread(sample, logit) < LEAST_SPREAD or _separated(sample.y, logit):
        return UNDEFINED
    from sklearn.linear_model import LogisticRegression

    centre, scale = float(logit.mean()), float(logit.std())
    z = ((logit - centre) / scale)[:, None]
    fitted = LogisticRegression(C=math.inf, solver="newton-cholesky", tol=1e-10, max_iter=200).fit(z, sample.y)
    design = np.column_stack([np.ones(len(sample)), z])
    covariance = _covariance(sample, design, fitted.predict_proba(z)[:, 1])
    value = float(fitted.coef_[0, 0]) / scale
    half = Z * SHARED * math.sqrt(covariance[1, 1]) / scale
    return bounded(value, value - half, value + half)


def intercept(sample: Sample, score: NDArray[np.float64]) -> Estimate:
    """Return calibration in the large; undefined with one class, and where scores are so certain that any would do."""
    if not sample.mixed:
        return UNDEFINED
    from scipy.optimize import brentq  # type: ignore[import-untyped,unused-ignore]
    from scipy.special import expit  # type: ignore[import-untyped,unused-ignore]

    logit, positives = _logit(score), float(sample.y.sum())
    most = 2 * WIDEST + math.log(len(sample))
    value = float(brentq(lambda a: float(expit(logit + a).sum()) - positives, -most, most, xtol=1e-10))
    error = math.sqrt(_covariance(sample, np.ones((len(sample), 1)), expit(logit + value))[0, 0])
    return bounded(value, value - SHARE_Z * error, value + SHARE_Z * error) if error < WIDEST else UNDEFINED


def _logit(score: NDArray[np.float64]) -> NDArray[np.float64]:
    p = clip(score)
    return np.log(p) - np.log1p(-p)


def _spread(sample: Sample, logit: NDArray[np.float64]) -> float:
    """Return the standard deviation within folds."""
    counts = np.bincount(sample.fold)
    means = np.bincount(sample.fold, logit) / counts
    return float(np.sqrt(np.mean((logit - means[sample.fold]) ** 2)))


def _separated(y: NDArray[np.int64], logit: NDArray[np.float64]) -> bool:
    """Return whether no score of one class lies above all of the other: the slope would be infinite."""
    positive, negative = logit[y == 1], logit[y == 0]
    return bool(negative.max() <= positive.min() or positive.max() <= negative.min())


def _covariance(sample: Sample, design: NDArray[np.float64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of the coefficients, entry by entry the larger of the model's and of the sandwich."""
    model = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)
    residual = design * (sample.y - p)[:, None]
    sums = np.column_stack([sample.by_group(column) for column in residual.T])
    correction = sample.groups / max(sample.groups - 1, 1)
    sandwich = correction * model @ (sums.T @ sums) @ model
    return np.maximum(model * len(sample) / sample.groups, sandwich)
