"""Curves averaged over folds.

Boosters of different folds are not on one scale, so a curve is computed for each fold and the curves are averaged,
never computed from scores pooled over the folds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungct.metrics.sample import Sample


def mean_roc(sample: Sample, score: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the mean of the folds' ROC curves, weighted by positives x negatives, so that its area is the AUC.

    Returns
    -------
    numpy.ndarray
        (points, 2) false and true positive rates, as `mean_curve` returns them; None if no fold has both classes.

    """
    from sklearn.metrics import roc_curve

    curves, weights = [], []
    for part in sample.parts:
        members = np.concatenate(part)
        curves.append(np.column_stack(roc_curve(sample.y[members], score[members])[:2]))
        weights.append(float(len(part[0])) * len(part[1]))
    return mean_curve(curves, weights) if curves else None


def mean_curve(curves: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """Average curves vertically, exactly: jumps stay jumps, and the area is the mean of the areas.

    Parameters
    ----------
    curves
        (points, 2) each, with x never decreasing; several points with the same x are a jump.
    weights
        One for each curve.

    Returns
    -------
    numpy.ndarray
        (points, 2): at each x of any curve, the mean limit from the left and the mean limit from the right.

    """
    grid = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    left, right = (
        np.average([limits(curve, grid, side) for curve in curves], axis=0, weights=weights)
        for side in ("left", "right")
    )
    return np.column_stack([np.repeat(grid, 2), np.column_stack([left, right]).ravel()])


def limits(curve: NDArray[np.float64], grid: NDArray[np.float64], side: str) -> NDArray[np.float64]:
    """Return a curve's limits at the grid's places, from one side ("left" or "right")."""
    x, y = curve.T
    places, first = np.unique(x, return_index=True)
    last = np.append(first[1:], len(x)) - 1
    # Between two places the curve goes from the last point of one to the first point of the next.
    at = np.minimum(np.searchsorted(places, grid), len(places) - 1)
    exact = places[at] == grid
    before = np.clip(np.searchsorted(places, grid, side="right") - 1, 0, max(len(places) - 2, 0))
    after = np.minimum(before + 1, len(places) - 1)
    span = np.where(places[after] > places[before], places[after] - places[before], 1.0)
    part = (grid - places[before]) / span
    between = y[last[before]] + part * (y[first[after]] - y[last[before]])
    return np.where(exact, y[(first if side == "left" else last)[at]], between)
