"""(X, y) -> boosters and out-of-fold scores: cross-validated LightGBM, the only package that imports lightgbm.

Terms
-----
fold
    A part of the patients, held out: booster k is fitted on all but fold k (its *training part*).
round
    One tree added. *rounds*: the number of a booster's first trees that its scores use.
curve
    The validation loss round by round (mean squared error for ``l2``, log loss for ``binary``), from round 1.
best iteration
    The round of a curve's minimum, the first one on a tie; the 2017 system stopped there.

Each patient has two scores, both from the booster that was not fitted on the patient's fold. The *optimistic score*
uses the best iteration of the very fold that is then scored: the way of 2017, and flattering. The *score* uses a number
of rounds chosen without that fold: where the mean of the *other* folds' curves, weighted by their patients, is least.
With ``inner`` the number of rounds is chosen on a fifth of the training part instead.

Arrays in, arrays out: nothing here depends on files or Ray. A caller with machines to spread the folds over passes
`fit_and_score` a ``fit_folds``. Boosters cross processes as LightGBM's text, which keeps every bit of a prediction.

    folds.py        labels -> folds; curves -> rounds
    parameters.py   options -> LightGBM's parameters
    fitting.py      one fold -> its booster; a booster -> scores
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightgbm import Booster
from numpy.typing import ArrayLike, NDArray

from lungct import metrics
from lungct.boosting.fitting import FoldFit, fit_fold, load_booster, predict_scores
from lungct.boosting.folds import Fold, choose_rounds, plan_folds
from lungct.boosting.parameters import OBJECTIVES, PARAMETERS_2017, Learner, Objective, make_learner
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
    "Objective",
    "choose_rounds",
    "cross_validate",
    "fit_and_score",
    "fit_fold",
    "load_booster",
    "make_learner",
    "plan_folds",
    "predict_scores",
]

FitFolds = Callable[[NDArray[Any], NDArray[np.float64], Sequence[Fold], Learner], Iterable[FoldFit]]


@dataclass(frozen=True)
class CVResult:
    """The result of a cross-validation.

    Attributes
    ----------
    fold
        int64 (n,): the fold that holds each row of X.
    score
        float64 (n,): out of fold, each booster at its ``rounds``.
    optimistic_score
        float64 (n,): out of fold, each booster at its ``best_iteration``; None with ``inner``.
    boosters
        Each fold's booster.
    rounds
        For each fold, the number of its booster's rounds that ``score`` uses.
    best_iteration
        For each fold, the round of its curve's minimum.
    curves
        For each fold, its validation loss round by round.
    metrics
        ``auc``, ``log_loss``, ``brier``, ``optimistic`` and ``baseline`` as `lungct.metrics.evaluate` returns them, and
        ``folds``: each fold's patients, positives, rounds, best_iteration, auc and log_loss.
    params
        LightGBM's parameters as they were used.

    """

    fold: NDArray[np.int64]
    score: NDArray[np.float64]
    optimistic_score: NDArray[np.float64] | None
    boosters: list[Booster] = field(repr=False)
    rounds: list[int]
    best_iteration: list[int]
    curves: list[NDArray[np.float64]] = field(repr=False)
    metrics: dict[str, Any] = field(repr=False)
    params: dict[str, Any] = field(repr=False)


def cross_validate(
    X: ArrayLike,
    y: ArrayLike,
    *,
    folds: int = 5,
    seed: int = 42,
    objective: Objective = "l2",
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
        The number of folds, at least 2.
    seed
        Seed of the folds, of LightGBM and of the intervals' resamples.
    objective
        ``l2`` (regression, as in 2017) or ``binary``.
    rounds
        The maximum number of rounds.
    early_stopping
        The number of rounds without a better validation loss after which a fold's fit ends.
    params
        LightGBM parameters that override some of 2017's.
    inner
        Choose the number of rounds on a stratified fifth of each training part, then fit that number of rounds on the
        whole training part; there is then no optimistic score.
    groups
        (n,) groups that are never divided between folds (a person's scans).
    fit_folds
        See `fit_and_score`.

    Returns
    -------
    CVResult

    Raises
    ------
    UsageError
        If labels, folds, groups or parameters cannot be used; the message says which and why.

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
    return fit_and_score(X, y, plan, learner, fit_folds=fit_folds)


def fit_and_score(
    X: NDArray[Any],
    y: NDArray[np.float64],
    plan: Sequence[Fold],
    learner: Learner,
    *,
    fit_folds: FitFolds | None = None,
) -> CVResult:
    """Fit the folds of a plan and score their held-out patients.

    Parameters
    ----------
    X
        (n, P) features.
    y
        float64 (n,) labels, 0 or 1.
    plan
        The folds, as `plan_folds` returns them for ``y``.
    learner
        As `make_learner` returns it for P columns.
    fit_folds
        Fits the folds elsewhere: it is called once, with X, y, the plan and the learner, and returns each fold's
        `FoldFit` in the plan's order (`fit_fold` fits one). None: fit them here, one after the other.

    """
    inner = plan[0].inner_train is not None
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
    measured = metrics.evaluate(y, fold, score, optimistic_score=optimistic, seed=int(learner.params["seed"]))
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


def _fit_here(X: NDArray[Any], y: NDArray[np.float64], plan: Sequence[Fold], learner: Learner) -> Iterable[FoldFit]:
    for part in plan:
        yield fit_fold(X, y, part, learner)


def _out_of_fold(
    X: NDArray[Any], plan: Sequence[Fold], boosters: Sequence[Booster], rounds: Sequence[int]
) -> NDArray[np.float64]:
    score = np.empty(len(X))
    for part, booster, count in zip(plan, boosters, rounds, strict=True):
        score[part.valid] = predict_scores(booster, X[part.valid], count)
    return score


def _checked(X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Check that X is a matrix of numbers and y its labels, 0 or 1."""
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or X.shape[1] == 0 or X.dtype.kind not in "fiub":
        raise UsageError(
            f"X must be a matrix of numbers, (patients, features), but has shape {X.shape} and dtype {X.dtype}"
        )
    if X.dtype.kind == "f" and not np.isfinite(X).any(axis=1).all():
        raise UsageError("X has a row without a finite number", fix="leave such patients out")
    if y.shape != (len(X),):
        raise UsageError(f"y must have one label for each of the {len(X)} rows of X, but has shape {y.shape}")
    if y.dtype.kind not in "fiub" or not np.isin(y, (0, 1)).all():
        raise UsageError("y has values other than the labels 0 and 1", fix="give only 0 and 1")
    return X, y.astype(np.float64)
