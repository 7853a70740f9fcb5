"""The AUC within folds: its value, its interval, and the difference between two scores of the same patients.

Terms
-----
placement
    Of a positive: the share of its fold's negatives that it is above (a tie is half). Of a negative: the share of its
    fold's positives that it is below. Either kind has the fold's AUC as its mean.
influence
    How far a patient's placement moves the AUC from its value; the sum over patients is 0. The sum over groups of
    squared influences is DeLong's variance, and Obuchowski's where groups have several patients.

The variance is DeLong's (DeLong, DeLong and Clarke-Pearson, Biometrics 44, 1988; from ranks, as in Sun and Xu, IEEE
Signal Process. Lett. 21, 2014; summed over groups, as in Obuchowski, Biometrics 53, 1997), pooled over the folds. It
tells little where positives are few, and is 0 where scores separate the classes or are all equal. So it enters as a
ratio to the variance that the AUC itself and the numbers of patients lead one to expect (Hanley and McNeil, Radiology
143, 1982, in Newcombe's symmetric form, Stat. Med. 25, 2006, method 5), as if ten further patients of the rarer class
had shown just that variance. The interval holds every AUC from which the observed one is less than Z x SHARED standard
errors away, the standard error being taken at that AUC: so it lies within [0, 1] and never shrinks to nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lungct.metrics.estimate import SHARED, UNDEFINED, Estimate, Z, bounded
from lungct.metrics.sample import Sample

PRIOR_PATIENTS = 10
"""Patients of the rarer class that the expected variance counts for, beside DeLong's."""
FEWEST_DISTINCT = 0.25
"""Tied scores lower the expected variance, at most to this part: that of constant scores would be 0."""


@dataclass(frozen=True)
class Observed:
    """An AUC and what its sampling variance is computed from.

    Attributes
    ----------
    auc
        The AUC within folds.
    variance
        DeLong's variance, summed over groups.
    sizes
        (folds, 3): positives, negatives (in groups) and weight of each fold that has both classes.
    distinct
        The part of Wilcoxon's variance that ties leave.
    freedom
        Groups of the rarer class, less one for each fold.

    """

    auc: float
    variance: float
    sizes: NDArray[np.float64]
    distinct: float
    freedom: int

    def expected(self, auc: float) -> float:
        """Return the variance that scores without ties would have if this were the AUC."""
        return expected_variance(auc, self.sizes)

    @property
    def ratio(self) -> float:
        """The variance over the expected one, drawn towards what ties alone would leave of it."""
        pairs = float(np.prod(self.sizes[:, :2], axis=1).sum())
        near = min(max(self.auc, 0.5 / pairs), 1 - 0.5 / pairs)
        prior = max(self.distinct, FEWEST_DISTINCT)
        drawn = self.freedom * self.variance / self.expected(near) + PRIOR_PATIENTS * prior
        return max(drawn / (self.freedom + PRIOR_PATIENTS), prior / SHARED**2)


def fold_auc(y: ArrayLike, score: ArrayLike) -> float | None:
    """Return one fold's AUC, by scikit-learn; None if the fold has only one class."""
    from sklearn.metrics import roc_auc_score

    y = np.asarray(y)
    if len(np.unique(y)) < 2:
        return None
    return float(roc_auc_score(y, np.asarray(score, dtype=np.float64)))


def within_fold_auc(y: ArrayLike, fold: ArrayLike, score: ArrayLike) -> float | None:
    """Return the mean of the folds' AUCs, weighted by positives x negatives; None if every fold has only one class."""
    y, fold, score = np.asarray(y), np.asarray(fold), np.asarray(score, dtype=np.float64)
    total = pairs = 0.0
    for k in np.unique(fold):
        inside = fold == k
        value = fold_auc(y[inside], score[inside])
        if value is not None:
            weight = float(np.sum(y[inside] == 1)) * float(np.sum(y[inside] == 0))
            total, pairs = total + weight * value, pairs + weight
    return total / pairs if pairs else None


def auc(sample: Sample, score: NDArray[np.float64]) -> Estimate:
    """Return the AUC within folds with its interval; undefined if every fold has only one class."""
    seen = observed(sample, score)
    if seen is None:
        return UNDEFINED
    return bounded(seen.auc, _edge(seen, 0.0), _edge(seen, 1.0), least=0.0, most=1.0)


def auc_difference(sample: Sample, score: NDArray[np.float64], other: NDArray[np.float64]) -> Estimate:
    """Return the AUC of one score less that of another on the same patients (paired DeLong), with its interval."""
    first, second = observed(sample, score), observed(sample, other)
    if first is None or second is None:
        return UNDEFINED
    paired = _clustered(sample, influence(sample, score) - influence(sample, other))
    # Two scores that agree on every pair of this cohort need not on the next: as if two patients had shown as much
    # difference as unrelated scores would.
    unrelated = first.ratio * first.expected(0.5) + second.ratio * second.expected(0.5)
    variance = (first.freedom * paired + 2 * unrelated) / (first.freedom + 2)
    difference, half = first.auc - second.auc, Z * SHARED * math.sqrt(variance)
    return bounded(difference, difference - half, difference + half, least=-1.0, most=1.0)


def observed(sample: Sample, score: NDArray[np.float64]) -> Observed | None:
    """Compute the AUC within folds and its variance; None if every fold has only one class."""
    value = within_fold_auc(sample.y, sample.fold, score)
    if value is None:
        return None
    left = [_distinct(sample, score, np.concatenate(part)) for part in sample.parts]
    variance = _clustered(sample, influence(sample, score))
    return Observed(value, variance, sample.sizes, float(sample.sizes[:, 2] @ left), _freedom(sample))


def expected_variance(auc: float, sizes: NDArray[np.float64]) -> float:
    """Return the variance of an AUC within folds, from its value and the numbers of patients alone.

    Of one fold it is Hanley and McNeil's (1982) in Newcombe's symmetric form (2006, method 5); at 0.5 it is exactly
    Wilcoxon's, (m + n + 1) / (12 m n).

    Parameters
    ----------
    auc
        Between 0 and 1.
    sizes
        (folds, 3) positives m, negatives n and weight of each fold.

    """
    m, n, weight = sizes.T
    others = (m + n) / 2 - 1
    shape = (1 - auc) / (2 - auc) + auc / (1 + auc)
    return float((weight**2 * auc * (1 - auc) / (m * n) * (1 + others * shape)).sum())


def placements(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return the placements of positives among negatives and of negatives among positives, from their scores."""

    def below(score: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
        ranked = np.sort(among)
        left, right = (np.searchsorted(ranked, score, side=side) for side in ("left", "right"))
        return (left + right) / (2 * len(among))

    return below(positive, negative), 1 - below(negative, positive)


def influence(sample: Sample, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each patient's influence on the AUC within folds: (n,)."""
    result = np.zeros(len(sample))
    for part, (_, _, weight) in zip(sample.parts, sample.sizes, strict=True):
        positive, negative = part
        for members, placed in zip(part, placements(score[positive], score[negative]), strict=True):
            result[members] = weight * (placed - placed.mean()) / len(members)
    return result


def _clustered(sample: Sample, influence: NDArray[np.float64]) -> float:
    """Return the sum over groups of squared influences, corrected for the means that each class was taken from."""
    corrected = influence.copy()
    for label in (0, 1):
        members = np.concatenate([part[1 - label] for part in sample.parts])
        groups = sample.groups_in(members)
        corrected[members] *= math.sqrt(groups / max(groups - len(sample.parts), 1))
    return float((sample.by_group(corrected) ** 2).sum())


def _freedom(sample: Sample) -> int:
    rarer = min(sample.groups_in(np.concatenate(members)) for members in zip(*sample.parts, strict=True))
    return max(rarer - len(sample.parts), 0)


def _distinct(sample: Sample, score: NDArray[np.float64], members: NDArray[np.int64]) -> float:
    """Return what ties leave of Wilcoxon's variance: 1 - sum of (t^3 - t) over (n^3 - n), a group's own ties aside."""
    pairs = np.unique(np.column_stack([score[members], sample.group[members]]), axis=0)
    counts = np.unique(pairs[:, 0], return_counts=True)[1].astype(np.float64)
    n = float(len(pairs))
    return 1 - float((counts**3 - counts).sum()) / (n**3 - n) if n > 1 else 0.0


def _edge(seen: Observed, outside: float) -> float:
    """Return the AUC, between the observed one and 0 or 1, that is just as many standard errors away as is allowed."""
    from scipy.optimize import brentq  # type: ignore[import-untyped,unused-ignore]

    allowed = (Z * SHARED) ** 2 * seen.ratio

    def beyond(auc: float) -> float:
        return abs(seen.auc - auc) - math.sqrt(allowed * seen.expected(auc))

    inside = min(max(seen.auc, 1e-9), 1 - 1e-9)  # at 0 and 1 themselves the expected variance is 0
    return float(brentq(beyond, inside, outside, xtol=1e-12)) if beyond(inside) < 0 else inside
