"""The learning curves: which curve chose a fold's rounds, and which curves ended only because the rounds did.

Terms
-----
own curve
    A fold's validation loss under the booster that was fitted outside it (with ``inner``, on the inner part). Its
    minimum is the best iteration.
choosing curve
    What ``rounds`` minimises: for fold k, the mean over the other folds j, weighted by their patients, of the loss on
    fold j of the booster that was fitted outside folds j and k; each is carried on at its last value. Runs without
    such curves (``inner``, older runs) have own curves alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.rundir import Run


@dataclass(frozen=True)
class Learning:
    """The learning curves of one fold.

    Attributes
    ----------
    fold
        The fold's entry in metrics.json.
    own
        float64 (rounds fitted,): the own curve.
    choosing
        float64 (rounds,): the choosing curve; None if the run has none.
    unfinished
        Whether a curve of this fold was still improving when the rounds ended.

    """

    fold: Mapping[str, Any]
    own: NDArray[np.float64]
    choosing: NDArray[np.float64] | None
    unfinished: bool


def learning(run: Run) -> list[Learning]:
    """Return every fold's learning curves, in the order of metrics.json (KeyError if a fold has no curve)."""
    rounds, patience = int(run.settings["rounds"]), int(run.settings["early_stopping"])
    result = []
    for fold in run.metrics["folds"]:
        own = run.curves[fold["repeat"], fold["fold"]]
        pairs = _pairs(run, fold)
        result.append(
            Learning(
                fold,
                own,
                _weighted_mean(run, fold["repeat"], pairs) if pairs else None,
                any(still_improving(curve, rounds, patience) for curve in (own, *pairs.values())),
            )
        )
    return result


def still_improving(curve: NDArray[np.float64], rounds: int, patience: int) -> bool:
    """Return whether a curve ran to its cap of ``rounds`` before early stopping could end it.

    Early stopping ends a curve ``patience`` rounds after its minimum, so a curve as long as the cap whose minimum is
    among its last rounds was ended by the cap.

    >>> falling = np.linspace(1, 0, 50)
    >>> still_improving(falling, 50, 10), still_improving(falling, 60, 10)
    (True, False)
    >>> still_improving(np.abs(np.arange(50) - 39.0), 50, 10), still_improving(np.abs(np.arange(50) - 40.0), 50, 10)
    (False, True)
    """
    return len(curve) >= rounds and int(np.argmin(curve)) + 1 + patience > rounds


def _pairs(run: Run, fold: Mapping[str, Any]) -> dict[int, NDArray[np.float64]]:
    """Return the curves that chose a fold's rounds: fold j to its loss under the booster without j and this fold."""
    return {
        other: curve
        for (repeat, other, without), curve in sorted(run.pair_curves.items())
        if (repeat, without) == (fold["repeat"], fold["fold"])
    }


def _weighted_mean(run: Run, repeat: int, pairs: Mapping[int, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Average curves by their folds' patients, each carried on at its last value."""
    patients = {fold["fold"]: fold["patients"] for fold in run.metrics["folds"] if fold["repeat"] == repeat}
    longest = max(map(len, pairs.values()))
    carried = [np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in pairs.values()]
    mean: NDArray[np.float64] = np.average(carried, axis=0, weights=[patients[other] for other in pairs])
    return mean
