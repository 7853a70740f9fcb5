"""What is drawn, as numbers: curves, bins and their limits.

Terms
-----
fold curve
    The ROC or precision-recall curve of one fold's patients. Boosters of different folds are not on one scale, so
    curves are drawn a fold at a time and averaged, never from scores pooled over the folds.
mean curve
    The average of the fold curves: weighted by positives x negatives (ROC), so that the area under it is the printed
    AUC, or by positives (precision-recall).
reliability
    Scores, clipped to [0, 1] and pooled over the folds as log loss and Brier score are, in bins of about equal counts,
    beside the share of positives in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.reporting.run import Run

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What keeps the page under a megabyte, whatever the cohort.
POINTS = 300  # of a drawn curve, at most

BINS = 10  # of the reliability curve, at most
BIN_PATIENTS = 10  # in each, where there are so many
FPR_SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Curves:
    """Curves in the unit square, each (points, 2): one a fold, and their mean."""

    folds: list[Floats]
    mean: Floats


@dataclass(frozen=True)
class Bin:
    """Patients of neighbouring scores: their mean score, and the share of positives with its 95 % Wilson interval."""

    patients: int
    positives: int
    score: float
    share: float
    low: float
    high: float


def roc_curves(run: Run) -> Curves | None:
    """Each fold's ROC curve and their mean; None where no fold has both classes."""
    from sklearn.metrics import roc_curve

    curves, weights = [], []
    for y, score in _folds_of_both_classes(run):
        fpr, tpr, _ = roc_curve(y, score)
        curves.append(np.column_stack([fpr, tpr]))
        weights.append(y.sum() * (len(y) - y.sum()))
    return Curves(curves, mean_curve(curves, weights)) if curves else None


def pr_curves(run: Run) -> Curves | None:
    """Each fold's precision over recall, as steps, and their mean; None where no fold has both classes.

    At a recall r a fold has the precision of the first threshold that reaches r, so the area under the steps is
    scikit-learn's average precision.
    """
    from sklearn.metrics import precision_recall_curve

    curves, weights = [], []
    for y, score in _folds_of_both_classes(run):
        precision, recall, _ = precision_recall_curve(y, score)
        # Recall from 0 upwards, and no further than the threshold that reaches every positive.
        end = int(np.argmax(recall[::-1] == 1.0)) + 1
        precision, recall = precision[::-1][:end], recall[::-1][:end]
        steps = np.column_stack([np.repeat(recall, 2)[1:-1], np.repeat(precision[1:], 2)])
        curves.append(steps)
        weights.append(y.sum())
    return Curves(curves, mean_curve(curves, weights)) if curves else None


def _folds_of_both_classes(run: Run) -> Iterable[tuple[Ints, Floats]]:
    for fold in np.unique(run.fold):
        y, score = run.y[run.fold == fold], run.score[run.fold == fold]
        if 0 < y.sum() < len(y):
            yield y, score


def mean_curve(curves: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Average curves vertically, exactly: jumps stay jumps, and the area is the mean of the areas.

    Parameters
    ----------
    curves
        (points, 2) each, x never falling; several points of one x are a jump.
    weights
        One a curve.

    Returns
    -------
    numpy.ndarray
        (points, 2): at each x of any curve, the means of the limits from the left and from the right.

    """
    grid = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    left, right = (
        np.average([_limits(curve, grid, side) for curve in curves], axis=0, weights=weights)
        for side in ("left", "right")
    )
    return np.column_stack([np.repeat(grid, 2), np.column_stack([left, right]).ravel()])


def _limits(curve: Floats, grid: Floats, side: str) -> Floats:
    """Values of a curve at the grid's places, as they are approached from one side."""
    x, y = curve.T
    places, first = np.unique(x, return_index=True)
    last = np.append(first[1:], len(x)) - 1
    # Between two places the curve goes from the last point of one to the first of the next.
    at = np.minimum(np.searchsorted(places, grid), len(places) - 1)
    exact = places[at] == grid
    before = np.clip(np.searchsorted(places, grid, side="right") - 1, 0, max(len(places) - 2, 0))
    after = np.minimum(before + 1, len(places) - 1)
    span = np.where(places[after] > places[before], places[after] - places[before], 1.0)
    part = (grid - places[before]) / span
    between = y[last[before]] + part * (y[first[after]] - y[last[before]])
    return np.where(exact, y[(first if side == "left" else last)[at]], between)


def area(curve: Floats) -> float:
    """Return the area under a curve, by trapezoids."""
    return float(np.trapezoid(curve[:, 1], curve[:, 0]))


def sensitivity(roc: Floats) -> list[tuple[float, float]]:
    """The mean ROC curve's sensitivity at some false positive rates."""
    return [(at, float(_limits(roc, np.array([at]), "right")[0])) for at in FPR_SHOWN]


def thinned(curve: Floats) -> Floats:
    """Keep at most `POINTS` points of a curve, its ends among them."""
    if len(curve) <= POINTS:
        return curve
    return curve[np.linspace(0, len(curve) - 1, POINTS).round().astype(np.int64)]


def reliability(y: Ints, score: Floats) -> list[Bin]:
    """Bin scores by their quantiles; equal scores share a bin, so there may be fewer bins than asked."""
    bins = max(1, min(BINS, len(y) // BIN_PATIENTS))
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    which = np.searchsorted(edges[1:-1], score, side="right")
    found = []
    for i in np.unique(which):
        mine = which == i
        n, positives = int(mine.sum()), int(y[mine].sum())
        low, high = wilson(positives, n)
        found.append(Bin(n, positives, float(score[mine].mean()), positives / n, low, high))
    return found


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    z, share = 1.959963984540054, successes / n
    centre = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))


def histogram(y: Ints, score: Floats) -> tuple[tuple[Ints, Ints], Floats]:
    """Counts of negatives and of positives in equal bins over the scores' range, and the bins' edges."""
    low, high = float(score.min()), float(score.max())
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    edges = np.linspace(low, high, min(20, max(5, len(y) // 5)) + 1)
    negatives, positives = (np.histogram(score[y == label], edges)[0] for label in (0, 1))
    return (negatives, positives), edges
