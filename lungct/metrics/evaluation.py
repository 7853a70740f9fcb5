"""Every number of a cross-validation, with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lungct.metrics.auc import auc, auc_difference, fold_auc
from lungct.metrics.calibration import intercept, slope
from lungct.metrics.estimate import UNDEFINED, Estimate
from lungct.metrics.losses import baseline_scores, log_losses
from lungct.metrics.means import KINDS, mean_difference, mean_loss
from lungct.metrics.operating import average_precision, decision_curve, operating_points
from lungct.metrics.power import smallest_auc
from lungct.metrics.sample import Sample


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
        (n,) which patients belong together (a person's scans), or None: each is by itself. Intervals are by groups.
    seed
        Decides nothing: every interval is a formula, and none is drawn. It is accepted for those that once were.

    Returns
    -------
    dict
        E stands for ``{"value", "low", "high"}``, all None where the number is undefined. ``docs/evaluation.md`` has
        the formula and source of each.

        - ``auc``, ``log_loss``, ``brier``, ``average_precision``: E of ``score``.
        - ``baseline``: E of ``log_loss`` and ``brier`` of the constant predictor (its AUC is 0.5 by definition).
        - ``difference``: E of ``log_loss`` and ``brier``, ``score`` less constant predictor, paired.
        - ``optimistic``, ``linear``, ``averaged``: E of ``auc``, ``log_loss`` and ``brier`` each, or None.
        - ``linear_difference``: E of the same three, ``score`` less ``linear_score``, paired, or None.
        - ``calibration``: E of ``slope`` and ``intercept``.
        - ``operating_points``: ``{"specificity", "sensitivity": E}`` at 0.9 and 0.95.
        - ``decision_curve``: ``{"threshold", "model", "all"}`` at up to 20 thresholds.
        - ``smallest_auc``: the smallest AUC that these patients could tell from 0.5, or None.

    """
    sample = Sample.of(y, fold, groups)
    scores = np.asarray(score, dtype=np.float64)
    others = {"optimistic": optimistic_score, "linear": linear_score, "averaged": averaged_score}
    given = {name: np.asarray(other, dtype=np.float64) for name, other in others.items() if other is not None}
    return {
        **_measured(sample, scores),
        "average_precision": average_precision(sample, scores).as_dict(),
        **_beside_the_constant(sample, scores),
        **{name: _measured(sample, given[name]) if name in given else None for name in others},
        "linear_difference": _differences(sample, scores, given["linear"]) if "linear" in given else None,
        "calibration": {
            "slope": slope(sample, scores).as_dict(),
            "intercept": intercept(sample, scores).as_dict(),
        },
        "operating_points": operating_points(sample, scores),
        "decision_curve": decision_curve(sample, scores),
        "smallest_auc": smallest_auc(sample.y, sample.fold, sample.group),
    }


def evaluate_fold(y: ArrayLike, score: ArrayLike) -> Mapping[str, float | None]:
    """Compute one fold's ``auc`` (None if it has only one class) and ``log_loss``."""
    return {"auc": fold_auc(y, score), "log_loss": float(log_losses(y, score).mean())}


def _measured(sample: Sample, score: NDArray[np.float64]) -> dict[str, Any]:
    return _dicts({"auc": auc(sample, score), **{kind: mean_loss(sample, kind, score) for kind in KINDS}})


def _differences(sample: Sample, score: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
    return _dicts(
        {
            "auc": auc_difference(sample, score, other),
            **{kind: mean_difference(sample, kind, score, other) for kind in KINDS},
        }
    )


def _beside_the_constant(sample: Sample, score: NDArray[np.float64]) -> dict[str, Any]:
    """Measure the constant predictor, which a single fold does not have, and the difference to it."""
    if sample.folds < 2:
        return {name: _dicts(dict.fromkeys(KINDS, UNDEFINED)) for name in ("baseline", "difference")}
    constant = baseline_scores(sample.y, sample.fold)
    return {
        "baseline": _dicts({kind: mean_loss(sample, kind, constant) for kind in KINDS}),
        "difference": _dicts({kind: mean_difference(sample, kind, score, constant) for kind in KINDS}),
    }


def _dicts(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float | None]]:
    return {name: estimate.as_dict() for name, estimate in estimates.items()}
