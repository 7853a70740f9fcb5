"""One fold -> its booster and curve; a booster and rows -> scores. Boosters cross processes as LightGBM's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from lungct.boosting.folds import Fold
from lungct.boosting.parameters import Learner, lightgbm_errors
from lungct.errors import UsageError


@dataclass(frozen=True)
class FoldFit:
    """The result of one fold's fit, small enough to cross processes.

    Attributes
    ----------
    model
        The booster with all its rounds, in LightGBM's text format.
    curve
        float64 (rounds fitted,): the validation loss (with ``inner``, on the inner part).
    best_iteration
        The round of the curve's minimum.

    """

    model: str
    curve: NDArray[np.float64]
    best_iteration: int


def fit_fold(
    X: NDArray[Any], y: NDArray[np.float64], part: Fold, learner: Learner, *, threads: int | None = None
) -> FoldFit:
    """Fit one fold's booster.

    Parameters
    ----------
    X
        (n, P) features of any real dtype; LightGBM bins them as they are. Only the fold's rows are read.
    y
        float64 (n,) labels.
    threads
        LightGBM's threads; None: all cores. With ``deterministic`` (one of 2017's parameters here) their number
        changes no tree; the curve is a sum over patients, whose last bit may depend on it.

    Raises
    ------
    UsageError
        If LightGBM refuses the parameters, or the loss is not a finite number.

    """
    params = dict(learner.params)
    if threads is not None:
        params["num_threads"] = threads
    fits, chooses = part.train, part.valid
    if part.inner_train is not None and part.inner_valid is not None:
        fits, chooses = part.inner_train, part.inner_valid
    with lightgbm_errors():
        booster, curve = _stop_early(X, y, fits, chooses, params, learner)
        best = booster.best_iteration
        if part.inner_train is not None:
            whole = lightgbm.Dataset(X[part.train], y[part.train])
            booster = lightgbm.train(params, whole, num_boost_round=best)
    # num_iteration=-1: all rounds. By default only those up to the best one are written; `rounds` may be beyond it.
    return FoldFit(booster.model_to_string(num_iteration=-1), curve, best)


def _stop_early(
    X: NDArray[Any],
    y: NDArray[np.float64],
    fits: NDArray[np.int64],
    chooses: NDArray[np.int64],
    params: dict[str, Any],
    learner: Learner,
) -> tuple[lightgbm.Booster, NDArray[np.float64]]:
    """Fit until the loss on ``chooses`` has not improved for ``early_stopping`` rounds."""
    train = lightgbm.Dataset(X[fits], y[fits])
    valid = lightgbm.Dataset(X[chooses], y[chooses], reference=train)
    history: dict[str, dict[str, list[float]]] = {}
    booster = lightgbm.train(
        params,
        train,
        num_boost_round=learner.rounds,
        valid_sets=[valid],
        valid_names=["valid"],
        callbacks=[
            lightgbm.early_stopping(learner.early_stopping, verbose=False),
            lightgbm.record_evaluation(history),
        ],
        # Otherwise LightGBM returns a booster cut to its best iteration, which the held-out fold chose.
        keep_training_booster=True,
    )
    curve = np.array(history["valid"][learner.metric])
    if not np.isfinite(curve).all():
        raise UsageError(
            "the validation loss is not a finite number with these LightGBM parameters",
            fix="give a smaller learning_rate",
        )
    return booster, curve


def load_booster(model: str) -> lightgbm.Booster:
    """Read a booster from LightGBM's text format.

    Raises
    ------
    UsageError
        If the text is not in that format.

    """
    with lightgbm_errors():
        # Without this first line LightGBM prints its own message and aborts.
        if not model.startswith("tree\n"):
            raise UsageError("not a booster in LightGBM's text format")
        return lightgbm.Booster(model_str=model)


def predict_scores(booster: lightgbm.Booster, X: NDArray[Any], rounds: int) -> NDArray[np.float64]:
    """Return the predictions of a booster's first ``rounds`` rounds: float64 (n,)."""
    if len(X) == 0:
        return np.empty(0)
    return np.asarray(booster.predict(X, num_iteration=rounds), dtype=np.float64)
