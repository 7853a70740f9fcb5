"""Rows -> boosters and their curves, and a fold's scores. Boosters cross processes as LightGBM's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
from lightgbm.callback import CallbackEnv, EarlyStopException
from numpy.typing import NDArray

from lungct.boosting.folds import Fold, Pair
from lungct.boosting.modeltext import load_booster, predict_scores, refuse_wrong_model, to_text
from lungct.boosting.parameters import Learner, lightgbm_errors
from lungct.boosting.rounds import EarlyStopping
from lungct.errors import UsageError


@dataclass(frozen=True)
class FoldFit:
    """The result of one fold's fit, small enough to cross processes.

    Attributes
    ----------
    model
        The booster with all its rounds, in LightGBM's text format.
    rounds
        The number of rounds that its scores use.
    curve
        float64 (rounds until early stopping,): the validation loss (with ``inner``, on the inner part).
    best_iteration
        The round of the curve's minimum.
    score
        float64 (held-out patients,): predictions at ``rounds``.
    optimistic_score
        float64 (held-out patients,): predictions at ``best_iteration``; None with ``inner``.
    splits
        How many splits the trees of the first ``rounds`` rounds have.

    """

    model: str
    rounds: int
    curve: NDArray[np.float64]
    best_iteration: int
    score: NDArray[np.float64]
    optimistic_score: NDArray[np.float64] | None
    splits: int


@dataclass(frozen=True)
class PairFit:
    """The result of one pair's fit.

    Attributes
    ----------
    model
        The booster with all its rounds, in LightGBM's text format; None under DART, whose first trees are no model.
    curves
        For each fold of the pair, its loss: float64 (rounds until early stopping,).
    splits
        How many splits its trees have.

    """

    model: str | None
    curves: tuple[NDArray[np.float64], NDArray[np.float64]]
    splits: int


def fit_pair(
    X: NDArray[Any], y: NDArray[np.float64], pair: Pair, learner: Learner, *, threads: int | None = None
) -> PairFit:
    """Fit the booster of a pair of folds, outside both, until the curves of both have ended.

    Parameters
    ----------
    X, y, threads
        See `fit_fold`.

    """
    with lightgbm_errors():
        fit = _fit_until_stopped(X, y, pair.train, pair.valid, learner, threads)
        of_first, of_second = fit.curves()
        return PairFit(
            model=None if learner.dart else fit.text(),
            curves=(of_first, of_second),
            splits=count_splits(fit.booster),
        )


def fit_fold(
    X: NDArray[Any],
    y: NDArray[np.float64],
    part: Fold,
    learner: Learner,
    *,
    rounds: int | None = None,
    threads: int | None = None,
) -> FoldFit:
    """Fit one fold's booster.

    Parameters
    ----------
    X
        (n, P) features of any real dtype; LightGBM bins them as they are. Only the fold's rows are read.
    y
        float64 (n,) labels.
    rounds
        The number of rounds that the scores use; None with ``inner``, where the fold's inner parts choose it.
    threads
        LightGBM's threads; None: all cores. With ``deterministic`` (one of 2017's parameters here) their number
        changes no tree; the curve is a sum over patients, whose last bit may depend on it.

    Raises
    ------
    UsageError
        If LightGBM refuses the parameters, or the loss is not a finite number.

    """
    with lightgbm_errors():
        if rounds is None:
            return _fit_inner(X, y, part, learner, threads)
        fit = _fit_until_stopped(X, y, part.train, [part.valid], learner, threads)
        (curve,) = fit.curves()
        best = int(np.argmin(curve)) + 1
        if learner.dart:
            # Later rounds have changed the earlier trees.
            model, at_best = (_fit_rounds(X, y, part.train, r, learner, threads).text() for r in (rounds, best))
            booster, best_booster = load_booster(model), load_booster(at_best)
        else:
            fit.go_on(rounds)
            model = fit.text()
            booster = best_booster = load_booster(model)
        return FoldFit(
            model=model,
            rounds=rounds,
            curve=curve,
            best_iteration=best,
            score=predict_scores(booster, X[part.valid], rounds),
            optimistic_score=predict_scores(best_booster, X[part.valid], best),
            splits=count_splits(booster, rounds),
        )


def _fit_inner(X: NDArray[Any], y: NDArray[np.float64], part: Fold, learner: Learner, threads: int | None) -> FoldFit:
    """Choose the round on the inner part, then fit that many rounds on the whole training part."""
    assert part.inner_train is not None
    assert part.inner_valid is not None
    (curve,) = _fit_until_stopped(X, y, part.inner_train, [part.inner_valid], learner, threads).curves()
    best = int(np.argmin(curve)) + 1
    fit = _fit_rounds(X, y, part.train, best, learner, threads)
    return FoldFit(
        model=fit.text(),
        rounds=best,
        curve=curve,
        best_iteration=best,
        score=predict_scores(fit.booster, X[part.valid], best),
        optimistic_score=None,
        splits=count_splits(fit.booster, best),
    )


class _Fit:
    """A booster that is being fitted, as LightGBM's callback: it counts trees and ends the fit.

    The fit ends when early stopping has ended the curve of every held-out part. LightGBM's own callback ends it when
    one curve has ended, and does nothing under DART.

    Parameters
    ----------
    learner
        How it is fitted.
    patients
        The number of patients that it is fitted on.
    held_out
        The number of held-out parts.

    """

    before_iteration = False
    order = 0

    def __init__(self, learner: Learner, patients: int, held_out: int = 0) -> None:
        self.booster: lightgbm.Booster
        self._learner = learner
        self._patients = patients
        self._curves = [EarlyStopping(learner.early_stopping) for _ in range(held_out)]
        self._trees: list[int] = []  # after each round

    def __call__(self, env: CallbackEnv) -> None:
        trees = env.model.num_trees()
        # Threads add up a loss in an order of their own, so that its last bits may differ though no tree was added. On
        # a flat curve they would choose the rounds.
        flat = self._trees[-1:] == [trees]
        self._trees.append(trees)
        for curve, result in zip(self._curves, env.evaluation_result_list or [], strict=True):
            curve.add(curve.losses[-1] if flat else float(result[2]))
        if self._curves and all(curve.ended for curve in self._curves):
            raise EarlyStopException(env.iteration, env.evaluation_result_list)

    def curves(self) -> list[NDArray[np.float64]]:
        """Return the loss of each held-out part, round by round, until early stopping."""
        self._refuse_wrong_model()
        curves = [np.array(curve.losses) for curve in self._curves]
        if not all(np.isfinite(curve).all() for curve in curves):
            raise UsageError(
                "the validation loss is not a finite number with these LightGBM parameters",
                fix="give a smaller learning_rate",
            )
        return curves

    def go_on(self, rounds: int) -> None:
        """Go on to a number of rounds as if the fit had not ended; nothing to do if it has had that many."""
        while len(self._trees) < rounds:
            self.booster.update()
            self._trees.append(self.booster.num_trees())

    def text(self) -> str:
        """Return the booster with all its rounds, in LightGBM's text format."""
        self._refuse_wrong_model()
        return to_text(self.booster, self._trees)

    def _refuse_wrong_model(self) -> None:
        refuse_wrong_model(self.booster, self._trees, self._learner, self._patients)


def _fit_until_stopped(
    X: NDArray[Any],
    y: NDArray[np.float64],
    rows: NDArray[np.int64],
    held_out: Sequence[NDArray[np.int64]],
    learner: Learner,
    threads: int | None,
) -> _Fit:
    """Fit until early stopping has ended the curve of each held-out part."""
    train = lightgbm.Dataset(X[rows], y[rows])
    fit = _Fit(learner, len(rows), len(held_out))
    fit.booster = lightgbm.train(
        _with_threads(learner, threads),
        train,
        num_boost_round=learner.rounds,
        valid_sets=[lightgbm.Dataset(X[part], y[part], reference=train) for part in held_out],
        valid_names=[str(i) for i in range(len(held_out))],
        callbacks=[fit],
        # Otherwise LightGBM returns a copy that cannot go on.
        keep_training_booster=True,
    )
    return fit


def _fit_rounds(
    X: NDArray[Any],
    y: NDArray[np.float64],
    rows: NDArray[np.int64],
    rounds: int,
    learner: Learner,
    threads: int | None,
) -> _Fit:
    """Fit exactly ``rounds`` rounds."""
    fit = _Fit(learner, len(rows))
    fit.booster = lightgbm.train(
        _with_threads(learner, threads),
        lightgbm.Dataset(X[rows], y[rows]),
        num_boost_round=rounds,
        callbacks=[fit],
        keep_training_booster=True,
    )
    return fit


def _with_threads(learner: Learner, threads: int | None) -> dict[str, Any]:
    return dict(learner.params) if threads is None else {**learner.params, "num_threads": threads}


def count_splits(booster: lightgbm.Booster, rounds: int | None = None) -> int:
    """Return the number of splits of a booster's trees, or of those of its first ``rounds`` rounds."""
    return int(booster.feature_importance("split", iteration=rounds).sum())
