"""Rows -> boosters and their curves; a booster and rows -> scores. Boosters cross processes as LightGBM's text.

A *round* is one tree added. LightGBM may find nothing to split in a round (a small bag of patients, say) and add no
tree; such a round is no point of a curve here, so that the first r trees are always the model of round r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
from lightgbm.callback import CallbackEnv, EarlyStopException
from numpy.typing import NDArray

from lungct.boosting.folds import Fold, Pair
from lungct.boosting.parameters import Learner, lightgbm_errors
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

    """

    model: str | None
    curves: tuple[NDArray[np.float64], NDArray[np.float64]]


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
        booster, curves = _fit_until_stopped(X, y, pair.train, pair.valid, learner, threads)
    return PairFit(None if learner.dart else _text(booster), (curves[0], curves[1]))


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
        booster, (curve,) = _fit_until_stopped(X, y, part.train, [part.valid], learner, threads)
        best = int(np.argmin(curve)) + 1
        at_best = booster
        if learner.dart:
            # Later rounds have changed the earlier trees.
            booster, at_best = (_fit_rounds(X, y, part.train, r, learner, threads) for r in (rounds, best))
        else:
            _go_on(booster, rounds, learner.rounds)
        return _fold_fit(booster, rounds, curve, best, X[part.valid], predict_scores(at_best, X[part.valid], best))


def _fit_inner(X: NDArray[Any], y: NDArray[np.float64], part: Fold, learner: Learner, threads: int | None) -> FoldFit:
    """Choose the round on the inner part, then fit that many rounds on the whole training part."""
    assert part.inner_train is not None
    assert part.inner_valid is not None
    _, (curve,) = _fit_until_stopped(X, y, part.inner_train, [part.inner_valid], learner, threads)
    best = int(np.argmin(curve)) + 1
    return _fold_fit(_fit_rounds(X, y, part.train, best, learner, threads), best, curve, best, X[part.valid], None)


def _fold_fit(
    booster: lightgbm.Booster,
    rounds: int,
    curve: NDArray[np.float64],
    best: int,
    held_out: NDArray[Any],
    optimistic: NDArray[np.float64] | None,
) -> FoldFit:
    rounds = min(rounds, booster.current_iteration())
    return FoldFit(
        model=_text(booster),
        rounds=rounds,
        curve=curve,
        best_iteration=best,
        score=predict_scores(booster, held_out, rounds),
        optimistic_score=optimistic,
        splits=int(booster.feature_importance("split", iteration=rounds).sum()),
    )


def _fit_until_stopped(
    X: NDArray[Any],
    y: NDArray[np.float64],
    rows: NDArray[np.int64],
    held_out: Sequence[NDArray[np.int64]],
    learner: Learner,
    threads: int | None,
) -> tuple[lightgbm.Booster, list[NDArray[np.float64]]]:
    """Fit until early stopping has ended the curve of each held-out part."""
    train = lightgbm.Dataset(X[rows], y[rows])
    curves = [_Curve(learner.early_stopping) for _ in held_out]
    booster = lightgbm.train(
        _with_threads(learner, threads),
        train,
        num_boost_round=learner.rounds,
        valid_sets=[lightgbm.Dataset(X[part], y[part], reference=train) for part in held_out],
        valid_names=[str(i) for i in range(len(held_out))],
        callbacks=[_Recorder(curves)],
        # Otherwise LightGBM returns a copy that cannot go on.
        keep_training_booster=True,
    )
    losses = [np.array(curve.losses) for curve in curves]
    if not all(np.isfinite(curve).all() for curve in losses):
        raise UsageError(
            "the validation loss is not a finite number with these LightGBM parameters",
            fix="give a smaller learning_rate",
        )
    return booster, losses


def _fit_rounds(
    X: NDArray[Any],
    y: NDArray[np.float64],
    rows: NDArray[np.int64],
    rounds: int,
    learner: Learner,
    threads: int | None,
) -> lightgbm.Booster:
    """Fit exactly ``rounds`` rounds, or fewer where nothing more can be split."""

    def stop(env: CallbackEnv) -> None:
        if env.model.current_iteration() >= rounds:
            raise EarlyStopException(env.iteration, [])

    return lightgbm.train(
        _with_threads(learner, threads),
        lightgbm.Dataset(X[rows], y[rows]),
        num_boost_round=learner.rounds,
        callbacks=[stop],
        keep_training_booster=True,
    )


def _go_on(booster: lightgbm.Booster, rounds: int, most: int) -> None:
    """Let a booster that was stopped go on to ``rounds`` rounds, as if it had not been stopped.

    ``most`` ends the attempts of a booster that cannot split any further.
    """
    for _ in range(most):
        if booster.current_iteration() >= rounds:
            return
        booster.update()


@dataclass
class _Curve:
    """The losses of one held-out part, round by round, until LightGBM's own early stopping would end the fit."""

    patience: int
    losses: list[float] = field(default_factory=list)
    ended: bool = False
    _least: float = np.inf
    _least_at: int = 0

    def add(self, loss: float, attempt: int, *, is_round: bool) -> None:
        """Record what an attempt to add a tree came to; an attempt that added none counts towards the end alone."""
        if self.ended:
            return
        if is_round:
            self.losses.append(loss)
            if loss < self._least:
                self._least, self._least_at = loss, attempt
        self.ended = attempt - self._least_at >= self.patience


class _Recorder:
    """A callback that records curves and ends the fit once all of them have ended.

    LightGBM's own callback ends it as soon as one has, and does nothing under DART.
    """

    before_iteration = False
    order = 0

    def __init__(self, curves: Sequence[_Curve]) -> None:
        self._curves = curves
        self._trees = 0

    def __call__(self, env: CallbackEnv) -> None:
        trees = env.model.current_iteration()
        is_round, self._trees = trees > self._trees, trees
        for curve, result in zip(self._curves, env.evaluation_result_list, strict=True):
            curve.add(float(result[2]), env.iteration, is_round=is_round)
        if all(curve.ended for curve in self._curves):
            raise EarlyStopException(env.iteration, env.evaluation_result_list)


def _with_threads(learner: Learner, threads: int | None) -> dict[str, Any]:
    return dict(learner.params) if threads is None else {**learner.params, "num_threads": threads}


def _text(booster: lightgbm.Booster) -> str:
    # num_iteration=-1: all rounds. By default only those up to the best one are written; `rounds` may be beyond it.
    return str(booster.model_to_string(num_iteration=-1))


def load_booster(model: str, rounds: int = 0) -> lightgbm.Booster:
    """Read a booster from LightGBM's text format.

    Parameters
    ----------
    rounds
        The number of rounds that its ``predict`` uses by default; 0: all.

    Raises
    ------
    UsageError
        If the text is not in that format.

    """
    with lightgbm_errors():
        # Without this first line LightGBM prints its own message and aborts.
        if not model.startswith("tree\n"):
            raise UsageError("not a booster in LightGBM's text format")
        booster = lightgbm.Booster(model_str=model)
    booster.best_iteration = rounds
    return booster


def predict_scores(booster: lightgbm.Booster, X: NDArray[Any], rounds: int) -> NDArray[np.float64]:
    """Return the predictions of a booster's first ``rounds`` rounds: float64 (n,)."""
    if len(X) == 0:
        return np.empty(0)
    return np.asarray(booster.predict(X, num_iteration=rounds), dtype=np.float64)
