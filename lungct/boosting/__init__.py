"""(X, y) -> boosters and out-of-fold scores: cross-validated LightGBM, the only module that imports lightgbm.

Terms
-----
fold
    A part of the patients, held out: booster k is fitted on all but fold k (its *training part*).
round
    One tree added. *rounds*: how many of a booster's first trees are used for its scores.
curve
    The validation loss round by round (mean squared error for ``l2``, log loss for ``binary``), from round 1.
best iteration
    The round of a curve's minimum, the first one on a tie: where 2017's system stopped.

Two scores for each patient, by the booster that never saw them (`cross_validate`). The *optimistic score* takes the
booster at the best iteration of the very fold that it is then measured on: 2017's way, and flattering. The *score*
takes it at a number of rounds chosen without looking at that fold: where the mean of the *other* folds' curves,
weighted by their patients, is least. With ``inner`` the round is chosen on a fifth of the training part instead.

Arrays in, arrays out: nothing here knows of files or of Ray. Whoever has machines to spread the folds over gives
`cross_validate` a ``fit_folds``; boosters cross processes as LightGBM's text, which keeps every bit of a prediction.

``folds`` cuts the patients and chooses rounds, ``parameters`` settles LightGBM's, ``fitting`` fits and predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightgbm import Booster
from numpy.typing import ArrayLike, NDArray

from lungct import metrics
from lungct.boosting.fitting import FoldFit, Matrix, fit_fold, load_booster, predict_scores
from lungct.boosting.folds import Floats, Fold, Indices, choose_rounds, plan_folds
from lungct.boosting.parameters import OBJECTIVES, PARAMETERS_2017, Learner, make_learner
from lungct.errors import UsageError

__all__ = [
    "OBJECTIVES",
    "PARAMETERS_2017",
    "Booster",
    "CVResult",
    "FitFolds",
    "Fold",
    "FoldFit",
    "Learner",
    "choose_rounds",
    "cross_validate",
    "fit_fold",
    "load_booster",
    "make_learner",
    "plan_folds",
    "predict_scores",
]

FitFolds = Callable[[Matrix, Floats, Sequence[Fold], Learner], Iterable[FoldFit]]


@dataclass(frozen=True)
class CVResult:
    """A cross-validation.

    Attributes
    ----------
    fold
        int64 (n,): the fold that holds each row of X.
    score
        float64 (n,): out of fold, each booster at its ``rounds``.
    optimistic_score
        float64 (n,): out of fold, each booster at its ``best_iteration``; None with ``inner``.
    boosters
        A booster for each fold.
    rounds
        A fold: how many of its booster's rounds ``score`` uses.
    best_iteration
        A fold: the round of its curve's minimum.
    curves
        A fold: its validation loss round by round.
    metrics
        ``auc``, ``log_loss``, ``brier``, ``optimistic``, ``baseline`` as `lungct.metrics.evaluate` gives them, and
        ``folds``: a fold's patients, positives, rounds, best_iteration, auc and log_loss.
    params
        LightGBM's parameters as they were used.

    """

    fold: Indices
    score: Floats
    optimistic_score: Floats | None
    boosters: list[Booster] = field(repr=False)
    rounds: list[int]
    best_iteration: list[int]
    curves: list[Floats] = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)
    params: dict[str, Any] = field(repr=False)


def cross_validate(
    X: ArrayLike,
    y: ArrayLike,
    *,
    folds: int = 5,
    seed: int = 42,
    objective: str = "l2",
    rounds: int = 5000,
    early_stopping: int = 300,
    params: Mapping[str, Any] | None = None,
    inner: bool = False,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    fit_folds: FitFolds | None = None,
) -> CVResult:
    """Cross-validate LightGBM.

    Parameters
    ----------
    X
        (n, P) features; NaN is a missing value to LightGBM.
    y
        (n,) labels, 0 or 1.
    folds
        How many parts, 2 or more.
    seed
        Of the folds, of LightGBM and of the intervals' resamples.
    objective
        ``l2`` (2017's regression) or ``binary``.
    rounds
        The most rounds of a fold.
    early_stopping
        Rounds without a better validation loss after which a fold's fit ends.
    params
        LightGBM parameters that override single ones of 2017's.
    inner
        Choose the round on a stratified fifth of each training part, then fit on the whole of it for so many rounds;
        there is then no optimistic score.
    groups
        (n,) what must stay together (a person's scans): no group is in two folds.
    fit_folds
        Fits the folds elsewhere: called once with X, y, the folds and the learner, gives back a FoldFit for each, in
        their order (`fit_fold` does one). None: one after the other, here.

    Returns
    -------
    CVResult

    Raises
    ------
    UsageError
        If labels, folds, groups or parameters cannot be used; the sentence says which and why.

    """
    X, y = _checked(X, y)
    plan = plan_folds(y, folds=folds, seed=seed, inner=inner, groups=groups)
    learner = make_learner(
        objective=objective,
        params=params,
        rounds=rounds,
        early_stopping=early_stopping,
        seed=seed,
        columns=X.shape[1],
    )
    fits = list((fit_folds or _fit_here)(X, y, plan, learner))
    curves = [fit.curve for fit in fits]
    best = [fit.best_iteration for fit in fits]
    chosen = best if inner else choose_rounds(curves, [len(part.valid) for part in plan])

    boosters = [load_booster(fit.model) for fit in fits]
    for booster, part_best in zip(boosters, best, strict=True):
        booster.best_iteration = part_best
    fold = np.empty(len(y), dtype=np.int64)
    for part in plan:
        fold[part.valid] = part.fold
    score = _out_of_fold(X, plan, boosters, chosen)
    optimistic = None if inner else _out_of_fold(X, plan, boosters, best)
    measured = metrics.evaluate(y, fold, score, optimistic, seed=seed)
    measured["folds"] = [
        {
            "repeat": 0,
            "fold": part.fold,
            "patients": len(part.valid),
            "positives": int(y[part.valid].sum()),
            "rounds": chosen[part.fold],
            "best_iteration": best[part.fold],
            **metrics.evaluate_fold(y[part.valid], score[part.valid]),
        }
        for part in plan
    ]
    return CVResult(
        fold=fold,
        score=score,
        optimistic_score=optimistic,
        boosters=boosters,
        rounds=chosen,
        best_iteration=best,
        curves=curves,
        metrics=measured,
        params=dict(learner.params),
    )


def _fit_here(X: Matrix, y: Floats, plan: Sequence[Fold], learner: Learner) -> Iterable[FoldFit]:
    for part in plan:
        yield fit_fold(X, y, part, learner)


def _out_of_fold(X: Matrix, plan: Sequence[Fold], boosters: Sequence[Booster], rounds: Sequence[int]) -> Floats:
    score = np.empty(len(X))
    for part, booster, count in zip(plan, boosters, rounds, strict=True):
        score[part.valid] = predict_scores(booster, X[part.valid], count)
    return score


def _checked(X: ArrayLike, y: ArrayLike) -> tuple[Matrix, Floats]:
    """See that X is a matrix of numbers and y its labels, 0 or 1."""
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or X.shape[1] == 0 or X.dtype.kind not in "fiub":
        raise UsageError(
            f"X must be a matrix of numbers, (patients, features), and has shape {X.shape} and dtype {X.dtype}"
        )
    if X.dtype.kind == "f" and not np.isfinite(X).any(axis=1).all():
        raise UsageError("X has a row without any finite number: leave such patients out")
    if y.shape != (len(X),):
        raise UsageError(f"y must be one label for each of the {len(X)} rows of X, and has shape {y.shape}")
    if y.dtype.kind not in "fiub" or not np.isin(y, (0, 1)).all():
        raise UsageError("y must be labels of 0 and 1 and nothing else")
    return X, y.astype(np.float64)
