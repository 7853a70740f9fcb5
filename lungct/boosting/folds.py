"""Labels -> stratified folds; curves -> the number of rounds that each fold's scores use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    return [_with_inner(part, labels, seed, groups) for part in plan] if inner else plan


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


def choose_rounds(curves: Sequence[NDArray[np.float64]], patients: Sequence[int]) -> list[int]:
    """Choose each fold's number of rounds from the other folds' curves.

    It is the round r, from 1 to the length of the shortest curve of all, at which the mean of the other folds' curves,
    weighted by their patients, is least; the first one on a tie.

    Parameters
    ----------
    curves
        For each fold, its validation loss: (rounds fitted,).
    patients
        For each fold, the number of its held-out patients.

    """
    shortest = min(len(curve) for curve in curves)
    stacked = np.stack([curve[:shortest] for curve in curves])
    weights = np.asarray(patients, dtype=np.float64)
    chosen = []
    for k in range(len(curves)):
        others = np.arange(len(curves)) != k
        mean = np.average(stacked[others], axis=0, weights=weights[others])
        chosen.append(int(np.argmin(mean)) + 1)
    return chosen


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
