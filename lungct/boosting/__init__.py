"""(X, y) -> boosters and out-of-fold scores: cross-validated LightGBM, the only package that imports lightgbm.

Terms
-----
fold
    A part of the patients, held out: booster k is fitted on all but fold k (its *training part*).
round
    One tree added; where nothing can be split, one that adds 0. *rounds*: the number of a booster's first trees that
    its scores use.
curve
    The validation loss round by round (mean squared error for ``l2``, log loss for ``binary``), from round 1.
best iteration
    The round of a curve's minimum, the first one on a tie; the 2017 system stopped there.

Each patient has two scores, both from the booster that was not fitted on the patient's fold. The *optimistic score*
uses the best iteration of the very fold that is then scored: the way of 2017, and flattering. The *score* uses a number
of rounds chosen by boosters that never saw that fold: each *pair* of folds (j, k) has a booster fitted outside both;
its curve on fold j helps to choose the rounds of fold k, and the other way round. With ``inner`` the number of rounds
is chosen on a fifth of the training part instead.

Two more are for comparison. The *linear score* is that of a logistic regression under the same folds. The *averaged
score* stands for what a patient whom no booster saw gets, the average of all boosters: it is the average of the pairs'
boosters that did not see the patient's fold. They were fitted on fewer patients, so it is a little pessimistic.

Arrays in, arrays out: nothing here depends on files or Ray. A caller with machines to spread the fits over passes
`fit_and_score` a ``run_jobs``. Boosters cross processes as LightGBM's text, which keeps every bit of a prediction.

    folds.py        labels -> folds, and pairs of them
    parameters.py   options -> LightGBM's parameters
    jobs.py         the fits, as jobs that any process can do
    fitting.py      a pair or a fold -> its booster, curves and scores
    modeltext.py    a booster <-> LightGBM's text; a booster -> scores
    rounds.py       losses -> curves until early stopping; the pairs' curves -> rounds
    splits.py       boosters that split nothing are no result
    linear.py       a fold -> the linear reference's scores
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightgbm import Booster
from numpy.typing import ArrayLike, NDArray

from lungct import metrics
from lungct.arguments import counted
from lungct.boosting.fitting import FoldFit, PairFit
from lungct.boosting.folds import Fold, Pair, plan_folds, plan_pairs
from lungct.boosting.jobs import FoldJob, Job, LinearJob, PairJob, RunJobs, count_jobs, run_here
from lungct.boosting.modeltext import load_booster, predict_scores
from lungct.boosting.parameters import OBJECTIVES, PARAMETERS_2017, Learner, Objective, make_learner
from lungct.boosting.rounds import choose_rounds, summed_curve
from lungct.boosting.splits import refuse_no_splits
from lungct.errors import UsageError

__all__ = [
    "OBJECTIVES",
    "PARAMETERS_2017",
    "Booster",
    "CVResult",
    "Fold",
    "Job",
    "Learner",
    "Objective",
    "RunJobs",
    "choose_rounds",
    "count_jobs",
    "cross_validate",
    "fit_and_score",
    "load_booster",
    "make_learner",
    "plan_folds",
    "predict_scores",
    "summed_curve",
]


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
    linear_score
        float64 (n,): out of fold, of the linear reference.
    averaged_score
        float64 (n,): out of fold, averages of the pairs' boosters; None with ``inner`` and under DART.
    boosters
        Each fold's booster; its ``predict`` uses ``rounds`` unless told otherwise.
    rounds
        For each fold, the number of its booster's rounds that ``score`` uses.
    best_iteration
        For each fold, the round of its curve's minimum.
    curves
        For each fold, its validation loss round by round, until early stopping.
    pair_curves
        ``(j, k)`` to the loss on fold j, round by round until early stopping, of the booster fitted outside folds j and
        k; empty with ``inner``.
    metrics
        What `lungct.metrics.evaluate` returns, and ``folds``: each fold's patients, positives, rounds, best_iteration,
        auc and log_loss.
    params
        LightGBM's parameters as they were used.

    """

    fold: NDArray[np.int64]
    score: NDArray[np.float64]
    optimistic_score: NDArray[np.float64] | None
    linear_score: NDArray[np.float64]
    averaged_score: NDArray[np.float64] | None
    boosters: list[Booster] = field(repr=False)
    rounds: list[int]
    best_iteration: list[int]
    curves: list[NDArray[np.float64]] = field(repr=False)
    pair_curves: dict[tuple[int, int], NDArray[np.float64]] = field(repr=False)
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
    run_jobs: RunJobs | None = None,
) -> CVResult:
    """Cross-validate LightGBM.

    Parameters
    ----------
    X
        (n, P) features; NaN is a missing value to LightGBM.
    y
        (n,) labels, 0 or 1.
    folds
        The number of folds, at least 3 (2 with ``inner``).
    seed
        Seed of the folds and of LightGBM.
    objective
        ``l2`` (regression, as in 2017) or ``binary``.
    rounds
        The maximum number of rounds.
    early_stopping
        The number of rounds without a smaller validation loss after which a fit ends.
    params
        LightGBM parameters that override some of 2017's.
    inner
        Choose the number of rounds on a stratified fifth of each training part, then fit that number of rounds on the
        whole training part: 5 fits instead of 15 with 5 folds. There is then no optimistic score.
    groups
        (n,) groups that are never divided between folds (a person's scans).
    run_jobs
        See `fit_and_score`.

    Returns
    -------
    CVResult

    Raises
    ------
    UsageError
        If X, labels, folds, groups or parameters cannot be used; the message says which and why.
    NothingUsableError
        If no booster could split its patients.

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
    return fit_and_score(X, y, plan, learner, groups=groups, run_jobs=run_jobs)


def fit_and_score(
    X: NDArray[Any],
    y: NDArray[np.float64],
    plan: Sequence[Fold],
    learner: Learner,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    run_jobs: RunJobs | None = None,
) -> CVResult:
    """Fit the folds of a plan and score their held-out patients.

    Parameters
    ----------
    X
        (n, P) features.
    y
        float64 (n,) labels, 0 or 1.
    plan
        The folds, as `plan_folds` returns them for ``y`` and ``groups``.
    learner
        As `make_learner` returns it for P columns.
    groups
        (n,) groups that the plan does not divide, or None.
    run_jobs
        Does the fits elsewhere: it is called with X, y and jobs, first those of the pairs and of the linear reference,
        then those of the folds, and returns the jobs' results in their order. None: here, one after another.

    Raises
    ------
    NothingUsableError
        If no booster could split its patients.

    """
    run, seed = run_jobs or run_here, int(learner.params["seed"])
    together = None if groups is None else np.asarray(groups)
    pairs = plan_pairs(plan)
    done = run(X, y, [*(PairJob(p, learner) for p in pairs), *(LinearJob(part, seed, together) for part in plan)])
    pair_fits, linear_scores = done[: len(pairs)], done[len(pairs) :]
    pair_curves = _by_pair(pairs, pair_fits)
    sizes = [len(part.valid) for part in plan]
    rounds: Sequence[int | None] = choose_rounds(pair_curves, sizes) if pairs else [None] * len(plan)
    jobs = [FoldJob(part, learner, count) for part, count in zip(plan, rounds, strict=True)]
    fits: Sequence[FoldFit] = run(X, y, jobs)
    refuse_no_splits(X, learner, plan, fits, pairs, pair_fits)

    fold = _assembled(plan, [np.full(len(part.valid), part.fold) for part in plan])
    score = _assembled(plan, [fit.score for fit in fits])
    optimistic = _assembled(plan, [fit.optimistic_score for fit in fits]) if pairs else None
    linear = _assembled(plan, linear_scores)
    averaged = _averaged(X, plan, pairs, pair_fits, [fit.rounds for fit in fits])
    measured = metrics.evaluate(
        y,
        fold,
        score,
        optimistic_score=optimistic,
        linear_score=linear,
        averaged_score=averaged,
        groups=together,
        seed=seed,
    )
    measured["folds"] = [
        {
            "repeat": 0,
            "fold": part.fold,
            "patients": len(part.valid),
            "positives": int(y[part.valid].sum()),
            "rounds": fit.rounds,
            "best_iteration": fit.best_iteration,
            **metrics.evaluate_fold(y[part.valid], score[part.valid]),
        }
        for part, fit in zip(plan, fits, strict=True)
    ]
    return CVResult(
        fold=fold,
        score=score,
        optimistic_score=optimistic,
        linear_score=linear,
        averaged_score=averaged,
        boosters=[load_booster(fit.model, fit.rounds) for fit in fits],
        rounds=[fit.rounds for fit in fits],
        best_iteration=[fit.best_iteration for fit in fits],
        curves=[fit.curve for fit in fits],
        pair_curves=pair_curves,
        metrics=measured,
        params=dict(learner.params),
    )


def _by_pair(pairs: Sequence[Pair], fits: Sequence[PairFit]) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Return the curves by (the fold that is scored, the other fold of the pair)."""
    curves = {}
    for pair, fit in zip(pairs, fits, strict=True):
        (j, k), (of_j, of_k) = pair.folds, fit.curves
        curves[j, k], curves[k, j] = of_j, of_k
    return curves


def _averaged(
    X: NDArray[Any], plan: Sequence[Fold], pairs: Sequence[Pair], fits: Sequence[PairFit], rounds: Sequence[int]
) -> NDArray[np.float64] | None:
    """Average, for each fold's patients, the pairs' boosters that did not see that fold, each at the fold's rounds."""
    total = np.zeros(len(X))
    for pair, fit in zip(pairs, fits, strict=True):
        if fit.model is None:
            return None
        booster = load_booster(fit.model)
        for k, rows in zip(pair.folds, pair.valid, strict=True):
            total[rows] += predict_scores(booster, X[rows], min(rounds[k], booster.current_iteration()))
    return total / (len(plan) - 1) if pairs else None


def _assembled(plan: Sequence[Fold], parts: Sequence[Any]) -> NDArray[Any]:
    """Put the folds' values into the order of the patients."""
    values = np.empty(sum(len(part.valid) for part in plan), dtype=parts[0].dtype)
    for part, value in zip(plan, parts, strict=True):
        values[part.valid] = value
    return values


def _checked(X: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Check that X is a matrix of numbers and y its labels, 0 or 1."""
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or X.shape[1] == 0 or X.dtype.kind not in "fiub":
        raise UsageError(
            f"X must be a matrix of numbers, (patients, features), but has shape {X.shape} and dtype {X.dtype}"
        )
    if X.dtype.kind == "f" and np.isinf(X).any():
        rows, columns = (int(np.isinf(X).any(axis=axis).sum()) for axis in (1, 0))
        raise UsageError(
            f"X has infinite values in {counted(rows, 'row', 'rows')} and {counted(columns, 'column', 'columns')}",
            fix="correct them, or give NaN where a value is missing",
        )
    if X.dtype.kind == "f" and not np.isfinite(X).any(axis=1).all():
        raise UsageError("X has a row without a finite number", fix="leave such patients out")
    if y.shape != (len(X),):
        raise UsageError(f"y must have one label for each of the {len(X)} rows of X, but has shape {y.shape}")
    if y.dtype.kind not in "fiub" or not np.isin(y, (0, 1)).all():
        raise UsageError("y has values other than the labels 0 and 1", fix="give only 0 and 1")
    return X, y.astype(np.float64)
