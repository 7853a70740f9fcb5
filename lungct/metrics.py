"""Labels, folds and scores -> AUC, log loss and Brier score, each with an interval and beside a baseline.

Terms
-----
label
    0 or 1 for each patient.
score
    What a booster that never saw the patient's fold says; any finite number. Boosters of different folds are not on
    one scale, so AUC compares patients of one fold only: it is the mean of the folds' AUCs weighted by positives x
    negatives. (Pooled over folds even a constant predictor's AUC falls below 0.5, because the folds' constants differ.)
log loss, Brier score
    Means over all patients, on scores clipped to [1e-6, 1 - 1e-6].
baseline
    The constant predictor: each patient is given the share of positives among the patients of the *other* folds.
interval
    The 2.5 and 97.5 percentiles over 2,000 seeded resamples of patients within fold and class. It holds for these
    boosters and this cohort, and does not count what another training set would change.

A number that cannot be told (the AUC of a fold with one class) is None, never NaN: it has no weight in the mean.
This module knows neither boosters nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CLIP = 1e-6
RESAMPLES = 2000
PERCENTILES = (2.5, 97.5)

# Resample counts are held in blocks of about this many numbers (8 bytes each), whatever the cohort's size.
_BLOCK = 4_000_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; all None where it cannot be told."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Give ``{"value", "low", "high"}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


def clip(score: ArrayLike) -> Floats:
    """Clip scores to [1e-6, 1 - 1e-6], where a log loss is finite."""
    return np.clip(np.asarray(score, dtype=np.float64), CLIP, 1 - CLIP)


def log_losses(y: ArrayLike, score: ArrayLike) -> Floats:
    """Each patient's log loss, on the clipped score.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    score
        (n,) scores.

    """
    p = clip(score)
    return -np.log(np.where(np.asarray(y) == 1, p, 1 - p))


def brier_scores(y: ArrayLike, score: ArrayLike) -> Floats:
    """Each patient's squared error, on the clipped score."""
    return (clip(score) - np.asarray(y, dtype=np.float64)) ** 2


def baseline_scores(y: ArrayLike, fold: ArrayLike) -> Floats:
    """Score each patient with the share of positives in the training part of its fold.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    fold
        (n,) the fold that holds each patient; its training part is all the others.

    """
    y, fold = np.asarray(y, dtype=np.float64), np.asarray(fold)
    score = np.empty(len(y))
    for k in np.unique(fold):
        score[fold == k] = y[fold != k].mean()
    return score


def fold_auc(y: ArrayLike, score: ArrayLike) -> float | None:
    """AUC within one fold, as scikit-learn computes it; None where the fold has one class only."""
    from sklearn.metrics import roc_auc_score

    y = np.asarray(y)
    if len(np.unique(y)) < 2:
        return None
    return float(roc_auc_score(y, np.asarray(score, dtype=np.float64)))


def within_fold_auc(y: ArrayLike, fold: ArrayLike, score: ArrayLike) -> float | None:
    """Mean of the folds' AUCs, weighted by positives x negatives; None where every fold has one class only."""
    y, fold, score = np.asarray(y), np.asarray(fold), np.asarray(score, dtype=np.float64)
    total = pairs = 0.0
    for k in np.unique(fold):
        inside = fold == k
        value = fold_auc(y[inside], score[inside])
        if value is not None:
            weight = float(np.sum(y[inside] == 1)) * float(np.sum(y[inside] == 0))
            total, pairs = total + weight * value, pairs + weight
    return total / pairs if pairs else None


def evaluate(
    y: ArrayLike,
    fold: ArrayLike,
    score: ArrayLike,
    optimistic_score: ArrayLike | None = None,
    *,
    seed: int = 42,
) -> dict[str, Any]:
    """Compute every number of a cross-validation, with its interval.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    fold
        (n,) the fold that holds each patient.
    score
        (n,) out-of-fold scores, whose rounds were chosen without looking at the patient's fold.
    optimistic_score
        (n,) out-of-fold scores whose rounds were chosen on the very fold; None where there are none.
    seed
        Of the resamples; all scores are measured on the same ones.

    Returns
    -------
    dict
        ``auc``, ``log_loss``, ``brier`` of ``score``, each ``{"value", "low", "high"}``; ``optimistic`` the same three
        (or None); ``baseline`` with ``log_loss`` and ``brier`` (its AUC is 0.5 by definition).

    """
    y, fold = np.asarray(y).astype(np.int64), np.asarray(fold)
    scores: dict[str, Floats] = {"score": np.asarray(score, dtype=np.float64)}
    if optimistic_score is not None:
        scores["optimistic"] = np.asarray(optimistic_score, dtype=np.float64)
    scores["baseline"] = baseline_scores(y, fold)

    losses = {name: (log_losses(y, s), brier_scores(y, s)) for name, s in scores.items()}
    resampled = _resample(y, fold, scores, losses, seed=seed)

    def measured(name: str) -> dict[str, Any]:
        observed = {
            "auc": within_fold_auc(y, fold, scores[name]),
            "log_loss": float(losses[name][0].mean()),
            "brier": float(losses[name][1].mean()),
        }
        return {kind: _estimate(value, resampled[name][kind]).as_dict() for kind, value in observed.items()}

    out = measured("score")
    out["optimistic"] = measured("optimistic") if "optimistic" in scores else None
    # Within fold and class the baseline is a constant: every resample has its observed loss.
    out["baseline"] = {
        kind: Estimate(value, value, value).as_dict()
        for kind, value in (
            ("log_loss", float(losses["baseline"][0].mean())),
            ("brier", float(losses["baseline"][1].mean())),
        )
    }
    return out


def evaluate_fold(y: ArrayLike, score: ArrayLike) -> Mapping[str, float | None]:
    """Compute one fold's ``auc`` (None where it has one class) and ``log_loss``."""
    return {"auc": fold_auc(y, score), "log_loss": float(log_losses(y, score).mean())}


# --- resampling ---


def _estimate(value: float | None, resampled: Floats) -> Estimate:
    if value is None:
        return Estimate(None, None, None)
    low, high = np.percentile(resampled, PERCENTILES)
    return Estimate(value, float(low), float(high))


def _resample(
    y: Ints,
    fold: NDArray[Any],
    scores: Mapping[str, Floats],
    losses: Mapping[str, tuple[Floats, Floats]],
    *,
    seed: int,
) -> dict[str, dict[str, Floats]]:
    """Measure each kind of score on resamples of patients within fold and class.

    A resample is a number of times for each patient. Its AUC within a fold is the sum over positives and negatives of
    the times of both, times 1, 1/2 or 0, over positives x negatives: with the negatives sorted by score once, a
    cumulative sum of their times answers every positive (`_auc_kernel`), so that all resamples go in one sweep.
    """
    rng = np.random.default_rng(seed)
    names = [name for name in scores if name != "baseline"]
    sums = {name: {kind: np.zeros(RESAMPLES) for kind in ("auc", "log_loss", "brier")} for name in names}
    pairs = 0.0
    for k in np.unique(fold):
        positive = np.flatnonzero((fold == k) & (y == 1))
        negative = np.flatnonzero((fold == k) & (y == 0))
        both = float(len(positive)) * float(len(negative))
        pairs += both
        kernels: dict[str, Callable[[Floats, Floats], Floats]] = {}
        if both:
            kernels = {n: _auc_kernel(scores[n][positive], scores[n][negative]) for n in names}
        for block in _blocks(len(positive) + len(negative)):
            rows = block.stop - block.start
            times = [_times(rng, len(members), rows) for members in (positive, negative)]
            for name in names:
                log_loss, brier = losses[name]
                for members, t in zip((positive, negative), times, strict=True):
                    sums[name]["log_loss"][block] += t @ log_loss[members]
                    sums[name]["brier"][block] += t @ brier[members]
                if both:
                    sums[name]["auc"][block] += kernels[name](*times)
    for name in names:
        sums[name]["log_loss"] /= len(y)
        sums[name]["brier"] /= len(y)
        if pairs:
            sums[name]["auc"] /= pairs
    return sums


def _blocks(members: int) -> Iterator[slice]:
    """Cut the resamples into blocks that bound memory; a function of the cohort alone, so the draws are too."""
    step = max(1, min(RESAMPLES, _BLOCK // max(1, members)))
    for start in range(0, RESAMPLES, step):
        yield slice(start, min(RESAMPLES, start + step))


def _times(rng: np.random.Generator, members: int, rows: int) -> Floats:
    """Draw ``members`` of ``members`` with replacement, ``rows`` times: how often each was drawn, (rows, members)."""
    if members == 0:
        return np.zeros((rows, 0))
    drawn = rng.integers(0, members, size=(rows, members))
    drawn += members * np.arange(rows)[:, None]
    counted = np.bincount(drawn.ravel(), minlength=rows * members)
    return counted.reshape(rows, members).astype(np.float64)


def _auc_kernel(positive: Floats, negative: Floats) -> Callable[[Floats, Floats], Floats]:
    """Prepare the number of won pairs (a tie is half) for any times of these positives and negatives."""
    order = np.argsort(negative, kind="stable")
    below = np.searchsorted(negative[order], positive, side="left")
    upto = np.searchsorted(negative[order], positive, side="right")

    def won(positive_times: Floats, negative_times: Floats) -> Floats:
        cumulative = np.zeros((len(negative_times), len(negative) + 1))
        np.cumsum(negative_times[:, order], axis=1, out=cumulative[:, 1:])
        beaten = cumulative[:, below] + cumulative[:, upto]
        won: Floats = np.einsum("ij,ij->i", positive_times, beaten) / 2
        return won

    return won
