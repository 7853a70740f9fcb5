"""The figures' numbers: curves, bins and their limits.

Terms
-----
fold curve
    The ROC or precision-recall curve of one fold's patients. Boosters of different folds are not on one scale, so
    curves are computed for each fold and averaged, never from scores pooled over the folds.
mean curve
    The average of the fold curves: weighted by positives x negatives (ROC), so that the area under it is the printed
    AUC, or by positives (precision-recall).
reliability
    Scores, clipped to [0, 1] and pooled over the folds (as for log loss and Brier score), in bins of about equal
    counts, each with its share of positives.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct import metrics
from lungct.metrics.curves import limits
from lungct.metrics.curves import mean_curve as mean_curve
from lungct.rundir import Scores

BINS = 10  # of the reliability curve, at most
BIN_PATIENTS = 10  # in each bin, at least, if the cohort has that many
FPR_SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Curves:
    """Curves in the unit square, each (points, 2): one for each fold, and their mean."""

    folds: list[NDArray[np.float64]]
    mean: NDArray[np.float64]


@dataclass(frozen=True)
class Patients:
    """Each patient once: n ids, int64 (n,) labels, float64 (n,) scores, and the fold in each repeat."""

    ids: list[str]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    folds: list[list[int]]


@dataclass(frozen=True)
class Bin:
    """Patients with neighbouring scores: their mean score, and the share of positives with its 95 % Wilson interval."""

    patients: int
    positives: int
    score: float
    share: float
    low: float
    high: float


def clipped(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scores as probabilities: a regression's may lie outside [0, 1]."""
    return np.clip(score, 0.0, 1.0)


def roc_curves(scores: Scores) -> Curves | None:
    """Return each fold's ROC curve and their mean; None if no fold has both classes."""
    from sklearn.metrics import roc_curve

    curves, weights = [], []
    for y, score in _folds_of_both_classes(scores):
        fpr, tpr, _ = roc_curve(y, score)
        curves.append(np.column_stack([fpr, tpr]))
        weights.append(y.sum() * (len(y) - y.sum()))
    return Curves(curves, mean_curve(curves, weights)) if curves else None


def pr_curves(scores: Scores) -> Curves | None:
    """Return each fold's precision over recall, as steps, and their mean; None if no fold has both classes.

    At recall r, a fold has the precision of the first threshold that reaches r, so the area under the steps is
    scikit-learn's average precision.
    """
    from sklearn.metrics import precision_recall_curve

    curves, weights = [], []
    for y, score in _folds_of_both_classes(scores):
        precision, recall, _ = precision_recall_curve(y, score)
        # Recall from 0 upwards, and no further than the first threshold that reaches every positive.
        end = int(np.argmax(recall[::-1] == 1.0)) + 1
        precision, recall = precision[::-1][:end], recall[::-1][:end]
        steps = np.column_stack([np.repeat(recall, 2)[1:-1], np.repeat(precision[1:], 2)])
        curves.append(steps)
        weights.append(y.sum())
    return Curves(curves, mean_curve(curves, weights)) if curves else None


def _folds_of_both_classes(scores: Scores) -> Iterable[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    for mine in folds_of(scores).values():
        y, score = scores.label[mine], scores.score[mine]
        if 0 < y.sum() < len(y):
            yield y, score


def folds_of(scores: Scores) -> dict[tuple[int, int], NDArray[np.bool_]]:
    """Return which rows each (repeat, fold) has. A row without a fold (-1) is not part of the cross-validation."""
    keys = sorted(set(zip(scores.repeat.tolist(), scores.fold.tolist(), strict=True)))
    return {(repeat, fold): (scores.repeat == repeat) & (scores.fold == fold) for repeat, fold in keys if fold >= 0}


def patients_of(scores: Scores) -> Patients:
    """Return each patient of the cross-validation once, ordered by id, with the mean of the repeats' scores."""
    rows = np.flatnonzero(scores.fold >= 0)
    names = [scores.patient_id[i] for i in rows.tolist()]
    ids = sorted(set(names))
    place = {name: i for i, name in enumerate(ids)}
    patient = np.array([place[name] for name in names], dtype=np.int64)
    label = np.zeros(len(ids), dtype=np.int64)
    label[patient] = scores.label[rows]
    folds: list[list[int]] = [[] for _ in ids]
    for i, fold in zip(patient.tolist(), scores.fold[rows].tolist(), strict=True):
        folds[i].append(fold)
    score = np.bincount(patient, weights=scores.score[rows]) / np.bincount(patient)
    return Patients(ids=ids, label=label, score=score, folds=folds)


def area(curve: NDArray[np.float64]) -> float:
    """Return the area under a curve, by trapezoids."""
    return float(np.trapezoid(curve[:, 1], curve[:, 0]))


def sensitivity(roc: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return the mean ROC curve's sensitivity at some false positive rates: (rate, sensitivity)."""
    return [(at, float(limits(roc, np.array([at]), "right")[0])) for at in FPR_SHOWN]


def reliability(y: NDArray[np.int64], score: NDArray[np.float64]) -> list[Bin]:
    """Bin scores by their quantiles. Equal scores share a bin, so there may be fewer than `BINS`."""
    bins = max(1, min(BINS, len(y) // BIN_PATIENTS))
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    which = np.searchsorted(edges[1:-1], score, side="right")
    result = []
    for i in np.unique(which):
        mine = which == i
        n, positives = int(mine.sum()), int(y[mine].sum())
        low, high = wilson(positives, n)
        result.append(Bin(n, positives, float(score[mine].mean()), positives / n, low, high))
    return result


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    return metrics.wilson(successes / n, n)


def histogram(
    y: NDArray[np.int64], score: NDArray[np.float64]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]:
    """Count negatives and positives in equal bins over the scores' range; return the counts and the bins' edges."""
    low, high = float(score.min()), float(score.max())
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    edges = np.linspace(low, high, min(20, max(5, len(y) // 5)) + 1)
    negatives, positives = (np.histogram(score[y == label], edges)[0] for label in (0, 1))
    return (negatives, positives), edges
