"""One fold -> its booster and curve; a booster and rows -> scores. Boosters travel as LightGBM's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from lungct.boosting.folds import Floats, Fold, Indices
from lungct.boosting.parameters import Learner, refusals
from lungct.errors import UsageError

Matrix = NDArray[Any]  # (n, P) features, of whatever real dtype: LightGBM bins them as they come


@dataclass(frozen=True)
class FoldFit:
    """What a fold's fit gives back; small enough to cross processes.

    Attributes
    ----------
    model
        The booster, every round of it, in LightGBM's text format.
    curve
        float64 (rounds fitted,): the validation loss (with ``inner``, on the inner part).
    best_iteration
        The round of the curve's minimum.

    """

    model: str
    curve: Floats
    best_iteration: int


def fit_fold(X: Matrix, y: Floats, part: Fold, learner: Learner, *, threads: int | None = None) -> FoldFit:
    """Fit one fold's booster.

    Parameters
    ----------
    X, y
        All rows; only the fold's are touched.
    threads
        LightGBM's threads; None: all cores. With ``deterministic`` (among 2017's parameters here) they change no tree;
        the curve is a sum over patients, whose last bit may depend on them.

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
    with refusals():
        booster, curve = _stop_early(X, y, fits, chooses, params, learner)
        best = booster.best_iteration
        if part.inner_train is not None:
            whole = lightgbm.Dataset(X[part.train], y[part.train])
            booster = lightgbm.train(params, whole, num_boost_round=best)
    # num_iteration=-1: every round; the default is those up to the best one, and `rounds` may lie beyond it.
    return FoldFit(booster.model_to_string(num_iteration=-1), curve, best)


def _stop_early(
    X: Matrix,
    y: Floats,
    fits: Indices,
    chooses: Indices,
    params: dict[str, Any],
    learner: Learner,
) -> tuple[lightgbm.Booster, Floats]:
    """Fit until the loss on ``chooses`` has not become better for so many rounds."""
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
        # Otherwise LightGBM hands back a booster that was cut to its best iteration, which the held-out fold chose.
        keep_training_booster=True,
    )
    curve = np.array(history["valid"][learner.metric])
    if not np.isfinite(curve).all():
        raise UsageError("the validation loss is not a finite number with these --params: give a smaller learning_rate")
    return booster, curve


def load_booster(model: str) -> lightgbm.Booster:
    """Read a booster from LightGBM's text format.

    Raises
    ------
    UsageError
        If the text is none of LightGBM's.

    """
    with refusals():
        # LightGBM aborts with a message of its own on text without this first line.
        if not model.startswith("tree\n"):
            raise UsageError("not a booster in LightGBM's text format")
        return lightgbm.Booster(model_str=model)


def predict_scores(booster: lightgbm.Booster, X: Matrix, rounds: int) -> Floats:
    """Predict with a booster's first ``rounds`` rounds: float64 (n,)."""
    if len(X) == 0:
        return np.empty(0)
    return np.asarray(booster.predict(X, num_iteration=rounds), dtype=np.float64)
