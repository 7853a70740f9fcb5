"""Labels, folds and scores -> AUC, log loss and Brier score, each with an interval and beside a baseline.

Terms
-----
label
    0 or 1 for each patient.
score
    The prediction of a booster that was not fitted on the patient's fold: any finite number.
AUC
    The mean of the folds' AUCs, weighted by positives x negatives. It compares only patients of one fold, because the
    boosters of different folds are not on one scale. (Pooled over folds, even a constant predictor's AUC falls below
    0.5, because the folds' constants differ.)
log loss, Brier score
    Means over all patients, on scores clipped to [1e-6, 1 - 1e-6].
baseline
    The constant predictor: each patient's score is the share of positives among the patients of the *other* folds.
interval
    The 2.5 and 97.5 percentiles over 2,000 seeded resamples of patients within fold and class. It describes these
    boosters and this cohort; it does not cover the variation that another training set would bring.

An undefined number (the AUC of a fold with one class) is None, never NaN, and has no weight in a mean. This module
depends on neither boosters nor files.
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
BLOCK = 4_000_000
"""Most resample counts in memory at once (8 bytes each), for cohorts of any size."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval; all None if the number is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Return ``{"value", "low", "high"}``."""
        return {"value": self.value, "low": self.low, "high": self.high}


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
    """Return each patient's squared error, on the clipped score."""
    return (clip(score) - np.asarray(y, dtype=np.float64)) ** 2


def baseline_scores(y: ArrayLike, fold: ArrayLike) -> NDArray[np.float64]:
    """Return the constant predictor's scores: the share of positives in the training part of each patient's fold.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    fold
        (n,) the fold that holds each patient; its training part is all other folds.

    """
    y, fold = np.asarray(y, dtype=np.float64), np.asarray(fold)
    score = np.empty(len(y))
    for k in np.unique(fold):
        score[fold == k] = y[fold != k].mean()
    return score


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


def evaluate(
    y: ArrayLike,
    fold: ArrayLike,
    score: ArrayLike,
    *,
    optimistic_score: ArrayLike | None = None,
    linear_score: ArrayLike | None = None,
    averaged_score: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    seed: int = 42,
    resamples: int = RESAMPLES,
    block: int = BLOCK,
) -> dict[str, Any]:
    """Compute every number of a cross-validation, with its interval.

    Parameters
    ----------
    y
        (n,) labels, 0 or 1.
    fold
        (n,) the fold that holds each patient.
    score
        (n,) out-of-fold scores, each at a number of rounds that was chosen without the patient's fold.
    optimistic_score
        (n,) out-of-fold scores, each at a number of rounds that was chosen on the patient's own fold; None if there
        are none.
    linear_score
        (n,) out-of-fold scores of the linear reference, or None.
    averaged_score
        (n,) averages of boosters none of which was fitted on the patient's fold, or None.
    groups
        (n,) which patients belong together (a person's scans), or None: each is by itself.
    seed
        Seed of the resamples; all scores are measured on the same ones.
    resamples
        Number of resamples.
    block
        Number of counts held in memory at once. Another number draws other resamples.

    Returns
    -------
    dict
        ``auc``, ``log_loss`` and ``brier`` of ``score``, each ``{"value", "low", "high"}``; ``optimistic``, ``linear``
        and ``averaged`` with the same three, or None; ``baseline`` with ``log_loss`` and ``brier`` (its AUC is 0.5 by
        definition).

    """
    y, fold = np.asarray(y).astype(np.int64), np.asarray(fold)
    scores: dict[str, NDArray[np.float64]] = {"score": np.asarray(score, dtype=np.float64)}
    others = {"optimistic": optimistic_score, "linear": linear_score, "averaged": averaged_score}
    for name, given in others.items():
        if given is not None:
            scores[name] = np.asarray(given, dtype=np.float64)
    scores["baseline"] = baseline_scores(y, fold)

    losses = {name: (log_losses(y, s), brier_scores(y, s)) for name, s in scores.items()}
    rng = np.random.default_rng(seed)
    resampled = _resample(y, fold, scores, losses, rng, resamples, block)

    def measured(name: str) -> dict[str, Any]:
        observed = {
            "auc": within_fold_auc(y, fold, scores[name]),
            "log_loss": float(losses[name][0].mean()),
            "brier": float(losses[name][1].mean()),
        }
        return {kind: _estimate(value, resampled[name][kind]).as_dict() for kind, value in observed.items()}

    out = measured("score")
    for name in others:
        out[name] = measured(name) if name in scores else None
    # Within fold and class the baseline is constant, so every resample has the observed loss.
    out["baseline"] = {
        kind: Estimate(value, value, value).as_dict()
        for kind, value in (
            ("log_loss", float(losses["baseline"][0].mean())),
            ("brier", float(losses["baseline"][1].mean())),
        )
    }
    return out


def evaluate_fold(y: ArrayLike, score: ArrayLike) -> Mapping[str, float | None]:
    """Compute one fold's ``auc`` (None if it has only one class) and ``log_loss``."""
    return {"auc": fold_auc(y, score), "log_loss": float(log_losses(y, score).mean())}


def _estimate(value: float | None, resampled: NDArray[np.float64]) -> Estimate:
    if value is None:
        return Estimate(None, None, None)
    low, high = np.percentile(resampled, PERCENTILES)
    return Estimate(value, float(low), float(high))


def _resample(
    y: NDArray[np.int64],
    fold: NDArray[Any],
    scores: Mapping[str, NDArray[np.float64]],
    losses: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]],
    rng: np.random.Generator,
    resamples: int,
    block: int,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Measure each kind of score on resamples of patients within fold and class.

    A resample is a count for each patient: how often it was drawn. Its AUC within a fold is the sum over all pairs of a
    positive and a negative of both counts, times 1 (the positive has the higher score), 1/2 (a tie) or 0, divided by
    positives x negatives. With the negatives sorted by score once, a cumulative sum of their counts has the answer for
    every positive (`_auc_kernel`), so all resamples are measured in one sweep.
    """
    names = [name for name in scores if name != "baseline"]
    sums = {name: {kind: np.zeros(resamples) for kind in ("auc", "log_loss", "brier")} for name in names}
    pairs = 0.0
    for k in np.unique(fold):
        positive = np.flatnonzero((fold == k) & (y == 1))
        negative = np.flatnonzero((fold == k) & (y == 0))
        both = float(len(positive)) * float(len(negative))
        pairs += both
        kernels: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {}
        if both:
            kernels = {n: _auc_kernel(scores[n][positive], scores[n][negative]) for n in names}
        for part in _blocks(len(positive) + len(negative), resamples, block):
            rows = part.stop - part.start
            counts = [_draw_counts(rng, len(members), rows) for members in (positive, negative)]
            for name in names:
                log_loss, brier = losses[name]
                for members, count in zip((positive, negative), counts, strict=True):
                    sums[name]["log_loss"][part] += count @ log_loss[members]
                    sums[name]["brier"][part] += count @ brier[members]
                if both:
                    sums[name]["auc"][part] += kernels[name](*counts)
    for name in names:
        sums[name]["log_loss"] /= len(y)
        sums[name]["brier"] /= len(y)
        if pairs:
            sums[name]["auc"] /= pairs
    return sums


def _blocks(members: int, resamples: int, block: int) -> Iterator[slice]:
    """Divide the resamples into blocks that bound memory. The division decides the draws, so nothing else may."""
    step = max(1, min(resamples, block // max(1, members)))
    for start in range(0, resamples, step):
        yield slice(start, min(resamples, start + step))


def _draw_counts(rng: np.random.Generator, members: int, rows: int) -> NDArray[np.float64]:
    """Draw ``members`` of ``members`` with replacement, ``rows`` times; return each member's count, (rows, members)."""
    if members == 0:
        return np.zeros((rows, 0))
    drawn = rng.integers(0, members, size=(rows, members))
    drawn += members * np.arange(rows)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=rows * members)
    return counts.reshape(rows, members).astype(np.float64)


def _auc_kernel(
    positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    """Return a function of the counts of these positives and negatives: the number of won pairs (a tie is half)."""
    order = np.argsort(negative, kind="stable")
    below = np.searchsorted(negative[order], positive, side="left")
    upto = np.searchsorted(negative[order], positive, side="right")

    def won(positive_counts: NDArray[np.float64], negative_counts: NDArray[np.float64]) -> NDArray[np.float64]:
        cumulative = np.zeros((len(negative_counts), len(negative) + 1))
        np.cumsum(negative_counts[:, order], axis=1, out=cumulative[:, 1:])
        beaten = cumulative[:, below] + cumulative[:, upto]
        pairs: NDArray[np.float64] = np.einsum("ij,ij->i", positive_counts, beaten) / 2
        return pairs

    return won
