"""What a cohort could show at all: known from its labels and folds, before any training."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from lungct.metrics.auc import expected_variance
from lungct.metrics.estimate import SHARED, Z
from lungct.metrics.sample import Sample

POWER_Z = 0.8416212335729143
"""The 80 percentile of the standard normal distribution."""
FEW_EVENTS = 5
"""With fewer patients of the rarer class in a fold, its AUC has few values."""
LARGE_AUC = 0.75
"""If a cohort can only tell a larger AUC than this from 0.5, it is too small for most imaging models."""


def smallest_auc(y: ArrayLike, fold: ArrayLike, groups: ArrayLike | None = None) -> float | None:
    """Return the smallest AUC that a cohort could tell from 0.5: 80 % power, 5 % two-sided.

    It is the AUC a with ``a - 0.5 = SHARED (1.96 s(0.5) + 0.84 s(a))``, s being the expected standard error within
    folds (Hanley and McNeil, Radiology 143, 1982; `lungct.metrics.auc.expected_variance`): in 80 % of such cohorts the
    interval of an AUC lies above 0.5.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    fold
        (n,) the fold that holds each patient.
    groups
        (n,) which patients belong together, or None.

    Returns
    -------
    float or None
        None if not even an AUC of 1 could be told from 0.5, or no fold has both classes.

    """
    sample = Sample.of(y, fold, groups)
    if not sample.parts:
        return None
    sizes = sample.sizes
    at_half = Z * math.sqrt(expected_variance(0.5, sizes))

    def missing(auc: float) -> float:
        return 0.5 + SHARED * (at_half + POWER_Z * math.sqrt(expected_variance(auc, sizes))) - auc

    from scipy.optimize import brentq  # type: ignore[import-untyped,unused-ignore]

    return float(brentq(missing, 0.5, 1.0, xtol=1e-6)) if missing(1.0) <= 0 else None


def events_per_fold(y: ArrayLike, fold: ArrayLike) -> tuple[int, int]:
    """Return the fewest and the most patients of the rarer class that a fold has."""
    sample = Sample.of(y, fold)
    rarer = int(2 * sample.y.sum() <= len(sample))
    counts = [int((sample.y[sample.fold == k] == rarer).sum()) for k in range(sample.folds)]
    return min(counts), max(counts)


def too_few(
    y: ArrayLike,
    fold: ArrayLike,
    *,
    min_data_in_leaf: int,
    bagging_fraction: float = 1.0,
    inner: bool = False,
    groups: ArrayLike | None = None,
) -> str | None:
    """Say in one sentence that there are too few patients or events; None if there are enough.

    Parameters
    ----------
    y, fold, groups
        As for `smallest_auc`.
    min_data_in_leaf
        The fewest training rows in a leaf: a tree can only split twice as many.
    bagging_fraction
        The part of the training rows that each tree is fitted on.
    inner
        Whether rounds are chosen on a fifth of each training part, and not by pairs of folds.

    """
    sample = Sample.of(y, fold, groups)
    rows = _fewest_training_rows(sample, inner)
    drawn = int(rows * bagging_fraction)
    if drawn < 2 * min_data_in_leaf:
        return (
            f"too few patients: {len(sample)} in {sample.folds} folds leave {drawn} rows for a tree, which splits "
            f"only with {2 * min_data_in_leaf} or more (min_data_in_leaf {min_data_in_leaf})"
        )
    fewest, most = events_per_fold(y, fold)
    smallest = smallest_auc(y, fold, groups)
    if fewest >= FEW_EVENTS and smallest is not None and smallest <= LARGE_AUC:
        return None
    rarer = "positive" if 2 * sample.y.sum() <= len(sample) else "negative"
    events = int(min(sample.y.sum(), len(sample) - sample.y.sum()))
    each = str(fewest) if fewest == most else f"{fewest} to {most}"
    told = (
        "no AUC could be told from 0.5"
        if smallest is None
        else f"no AUC below {math.ceil(100 * smallest) / 100:.2f} could be told from 0.5"
    )
    return f"few events: {events} of {len(sample)} patients are {rarer}, {each} in a fold, so that {told} (80 % power)"


def _fewest_training_rows(sample: Sample, inner: bool) -> int:
    """Return the rows of the smallest fit that chooses a number of rounds."""
    held_out = np.sort(np.bincount(sample.fold))[::-1]
    if inner:
        return int((len(sample) - held_out[0]) * 4 // 5)
    return int(len(sample) - held_out[:2].sum())
