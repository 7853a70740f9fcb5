"""Boosters that split nothing: their scores are constants, which are no result."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lungct.arguments import counted, listed, spelled
from lungct.boosting.fitting import FoldFit, PairFit
from lungct.boosting.folds import Fold, Pair
from lungct.boosting.parameters import Learner
from lungct.errors import LungCTWarning, NothingUsableError

_MORE_PATIENTS = "train on more patients"
_LIMITS = ("min_data_in_leaf", "min_sum_hessian_in_leaf", "min_gain_to_split", "lambda_l1", "max_delta_step")


def refuse_no_splits(
    X: NDArray[Any],
    learner: Learner,
    plan: Sequence[Fold],
    fits: Sequence[FoldFit],
    pairs: Sequence[Pair],
    pair_fits: Sequence[PairFit],
) -> None:
    """Raise NothingUsableError if no fold's booster split anything within its rounds; warn if some did not.

    Parameters
    ----------
    X
        (n, P) features.
    plan, fits
        The folds and what was fitted for each.
    pairs, pair_fits
        The same of pairs of folds; none with ``inner``.

    """
    empty = [part for part, fit in zip(plan, fits, strict=True) if fit.splits == 0]
    if empty:
        why, fix = _reason(X, learner, max(len(part.train) for part in empty))
        if len(empty) == len(plan):
            raise NothingUsableError(
                f"no booster could split its patients, so every score is a constant: {why}", fix=fix
            )
        folds = f"{'fold' if len(empty) == 1 else 'folds'} {listed(part.fold for part in empty)}"
        _warn(f"{folds}: the booster could not split its patients, so the scores are constants: {why}: {fix}")
    blind = [pair for pair, fit in zip(pairs, pair_fits, strict=True) if fit.splits == 0]
    if blind:
        why, fix = _reason(X, learner, max(len(pair.train) for pair in blind))
        _warn(
            f"{len(blind)} of the {counted(len(pairs), 'booster', 'boosters')} that choose the numbers of rounds could "
            f"not split their patients, so these numbers mean little: {why}: {fix}, or give {spelled('inner', True)}"
        )


def _reason(X: NDArray[Any], learner: Learner, patients: int) -> tuple[str, str]:
    """Return why boosters of so many patients at most split nothing, and what to do about it."""
    params = learner.params
    if (X[0] == X).all():
        return "every feature has one value only", "give features that differ between patients"
    least, bag = int(params["min_data_in_leaf"]), patients
    if params["bagging_freq"]:
        bag = int(patients * params["bagging_fraction"])
    if bag < 2 * least:
        drawn = f", of whom each round draws about {bag}" if bag < patients else ""
        return (
            f"a split needs {2 * least} (twice min_data_in_leaf) and they had {patients} at most{drawn}",
            f"{_MORE_PATIENTS}, or give {spelled('params')} with a smaller min_data_in_leaf",
        )
    limits = [f"{name} {params[name]}" for name in _LIMITS if params.get(name)]
    return (
        f"with {patients} patients at most, no split meets {', '.join(limits)}",
        f"{_MORE_PATIENTS}, or give {spelled('params')} with smaller values",
    )


def _warn(message: str) -> None:
    warnings.warn(message, LungCTWarning, stacklevel=4)
