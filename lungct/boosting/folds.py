"""Labels -> stratified folds, and the pairs of them that choose the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.arguments import at_least, spelled
from lungct.errors import UsageError

INNER_PARTS = 5
"""With ``inner``, the training part is divided into this many parts, and one of them chooses the round."""


@dataclass(frozen=True)
class Fold:
    """Which rows of X one fold's booster is fitted on, and which are held out.

    Attributes
    ----------
    fold
        The fold's number, from 0.
    train
        Rows that the booster is fitted on.
    valid
        Rows that are held out.
    inner_train, inner_valid
        With ``inner``, the two parts of ``train`` that choose the round; otherwise None.

    """

    fold: int
    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    inner_train: NDArray[np.int64] | None = None
    inner_valid: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Pair:
    """Two folds, and the rows outside both, on which a booster is fitted that has seen neither.

    Attributes
    ----------
    folds
        The numbers of the two folds.
    train
        Rows outside both, ascending.
    valid
        The rows of each of the two.

    """

    folds: tuple[int, int]
    train: NDArray[np.int64]
    valid: tuple[NDArray[np.int64], NDArray[np.int64]]


def plan_pairs(plan: Sequence[Fold]) -> list[Pair]:
    """Return each pair of a plan's folds; none of a plan whose folds have inner parts."""
    if plan[0].inner_train is not None:
        return []
    return [
        Pair((j.fold, k.fold), np.intersect1d(j.train, k.train), (j.valid, k.valid)) for j, k in combinations(plan, 2)
    ]


def plan_folds(
    y: NDArray[Any],
    *,
    folds: int,
    seed: int,
    inner: bool = False,
    groups: Sequence[Any] | NDArray[Any] | None = None,
) -> list[Fold]:
    """Divide the rows into stratified folds.

    The folds are those of scikit-learn's ``StratifiedKFold(folds, shuffle=True, random_state=seed)``, or of
    ``StratifiedGroupKFold`` with ``groups``. With ``inner``, each training part is split once more, by
    ``train_test_split(test_size=0.2, stratify=…, random_state=seed)`` or as the first split of
    ``StratifiedGroupKFold(5, …)``.

    Raises
    ------
    UsageError
        If there are too few rows of a class, or too few groups.

    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    at_least(folds, 2, "folds")
    if folds == 2 and not inner:
        raise UsageError(
            f"{spelled('folds', 2)} leaves no patients outside a pair of folds, where the number of rounds is chosen",
            fix=f"give at least 3 folds, or {spelled('inner', True)}",
        )
    at_least(seed, 0, "seed", most=2**31 - 1)
    _refuse_small_classes(y, folds)
    labels = y.astype(np.int64)
    if groups is None:
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(labels, labels)
    else:
        groups = np.asarray(groups)
        if groups.shape != labels.shape:
            raise UsageError(f"groups has shape {groups.shape} for {len(labels)} labels")
        persons = len(np.unique(groups))
        if persons < folds:
            raise UsageError(
                f"{spelled('folds', folds)} needs at least {folds} persons, because a person's scans stay in one fold, "
                f"and there {'is' if persons == 1 else 'are'} only {persons}",
                fix="give fewer folds or more persons",
            )
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        splits = splitter.split(labels, labels, groups)
    plan = [Fold(k, train, valid) for k, (train, valid) in enumerate(splits)]
    for part in plan:
        if len(part.valid) == 0 or len(np.unique(labels[part.train])) < 2:
            raise UsageError(
                f"the persons cannot be divided into {folds} folds so that every training part has both labels",
                fix="give fewer folds, or more persons of the rarer label",
            )
    if inner:
        return [_with_inner(part, labels, seed, groups) for part in plan]
    _refuse_pairs_of_one_class(plan, labels)
    return plan


def _refuse_pairs_of_one_class(plan: Sequence[Fold], labels: NDArray[np.int64]) -> None:
    for pair in plan_pairs(plan):
        if len(np.unique(labels[pair.train])) < 2:
            raise UsageError(
                f"outside folds {pair.folds[0]} and {pair.folds[1]} there are patients of one label only, and the "
                "number of rounds is chosen by boosters that are fitted outside two folds",
                fix=f"give {spelled('inner', True)}, or more patients of the rarer label",
            )


def _with_inner(part: Fold, labels: NDArray[np.int64], seed: int, groups: NDArray[Any] | None) -> Fold:
    """Split a training part into the rows that are fitted on and the fifth that chooses the round."""
    from sklearn.model_selection import StratifiedGroupKFold, train_test_split

    try:
        if groups is None:
            fits, chooses = train_test_split(
                part.train,
                test_size=1 / INNER_PARTS,
                stratify=labels[part.train],
                random_state=seed,
            )
        else:
            splitter = StratifiedGroupKFold(INNER_PARTS, shuffle=True, random_state=seed)
            inside = (labels[part.train], labels[part.train], groups[part.train])
            first, second = next(splitter.split(*inside))
            fits, chooses = part.train[first], part.train[second]
    except ValueError:
        fits = chooses = part.train[:0]
    if len(np.unique(labels[fits])) < 2 or len(np.unique(labels[chooses])) < 2:
        raise UsageError(
            f"{spelled('inner', True)}: the training part of fold {part.fold} ({len(part.train)} patients, "
            f"{int(labels[part.train].sum())} positive) cannot be split so that both parts have both labels",
            fix=f"leave {spelled('inner')} out, or train on more patients",
        )
    return Fold(part.fold, part.train, part.valid, fits, chooses)


def _refuse_small_classes(y: NDArray[Any], folds: int) -> None:
    positives = int((y == 1).sum())
    negatives = len(y) - positives
    if min(positives, negatives) == 0:
        only = "0" if positives == 0 else "1"
        raise UsageError(
            f"every patient with features ({len(y)} in all) has the label {only}", fix="give patients of both labels"
        )
    if min(positives, negatives) < folds:
        raise UsageError(
            f"too few patients for {spelled('folds', folds)} ({positives} with the label 1 and {negatives} with the "
            "label 0), because every fold needs one of each",
            fix="give fewer folds or more patients",
        )
