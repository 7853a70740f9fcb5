"""Log loss and Brier score of each patient, and the constant predictor that both are compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

CLIP = 1e-6


def clip(score: ArrayLike) -> NDArray[np.float64]:
    """Clip scores to [1e-6, 1 - 1e-6], where a log loss is finite."""
    return np.clip(np.asarray(score, dtype=np.float64), CLIP, 1 - CLIP)


def log_losses(y: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Return each patient's log loss, on the clipped score.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    score
        (n,) scores.

    """
    p = clip(score)
    return -np.log(np.where(np.asarray(y) == 1, p, 1 - p))


def brier_scores(y: ArrayLike, score: ArrayLike) -> NDArray[np.float64]:
    """Return each patient's squared error (Brier, Mon. Weather Rev. 78, 1950), on the clipped score."""
    return (clip(score) - np.asarray(y, dtype=np.float64)) ** 2


def baseline_scores(y: ArrayLike, fold: ArrayLike) -> NDArray[np.float64]:
    """Return the constant predictor's scores: the share of positives in the training part of each patient's fold.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    fold
        (n,) the fold that holds each patient; its training part is all other folds, so there must be two at least.

    """
    y, fold = np.asarray(y, dtype=np.float64), np.asarray(fold)
    score = np.empty(len(y))
    for k in np.unique(fold):
        score[fold == k] = y[fold != k].mean()
    return score
