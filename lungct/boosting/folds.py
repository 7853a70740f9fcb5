"""Labels -> folds, each class evenly; curves -> the round that each fold's scores use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.errors import UsageError

INNER_PARTS = 5  # with ``inner``, one of so many parts of the training part chooses the round

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """One fold's fit: who is in it.

    Attributes
    ----------
    fold
        Its number, from 0.
    train
        Rows of X that the booster is fitted on.
    valid
        Rows of X that are held out.
    inner_train, inner_valid
        With ``inner``, the two parts of ``train`` that choose the round; else None.

    """

    fold: int
    train: Indices
    valid: Indices
    inner_train: Indices | None = None
    inner_valid: Indices | None = None


def plan_folds(
    y: NDArray[Any],
    *,
    folds: int,
    seed: int,
    inner: bool = False,
    groups: Sequence[Any] | NDArray[Any] | None = None,
) -> list[Fold]:
    """Cut the rows into folds, each class evenly.

    scikit-learn's ``StratifiedKFold(folds, shuffle=True, random_state=seed)``, or with ``groups``
    ``StratifiedGroupKFold``; with ``inner``, each training part again: ``train_test_split(test_size=0.2, stratify=…,
    random_state=seed)``, or the first split of ``StratifiedGroupKFold(5, …)``.

    Raises
    ------
    UsageError
        If there are too few rows of a class, or too few groups.

    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if not is_count(folds) or folds < 2:
        raise UsageError(f"--folds {folds} cannot be used: give a whole number of 2 or more")
    if not is_count(seed) or seed > 2**31 - 1:
        raise UsageError(f"--seed {seed} cannot be used: give a whole number from 0 to 2147483647")
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
                f"--folds {folds} needs at least so many persons, whose scans stay together, and there "
                f"{'is' if persons == 1 else 'are'} {persons}"
            )
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        splits = splitter.split(labels, labels, groups)
    plan = [Fold(k, train, valid) for k, (train, valid) in enumerate(splits)]
    for part in plan:
        if len(part.valid) == 0 or len(np.unique(labels[part.train])) < 2:
            raise UsageError(
                f"the persons' scans cannot be cut into --folds {folds} with both labels to learn from in each: "
                "give fewer folds, or more persons of the rarer label"
            )
    return [_with_inner(part, labels, seed, groups) for part in plan] if inner else plan


def _with_inner(part: Fold, labels: Indices, seed: int, groups: NDArray[Any] | None) -> Fold:
    """Split a training part into the part that fits and the fifth that chooses the round."""
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
            f"--inner cannot split the training part of fold {part.fold} "
            f"({len(part.train)} patients, {int(labels[part.train].sum())} positive) so that both parts have both "
            "labels: leave --inner out, or train on more patients"
        )
    return Fold(part.fold, part.train, part.valid, fits, chooses)


def choose_rounds(curves: Sequence[Floats], patients: Sequence[int]) -> list[int]:
    """Choose each fold's round from the other folds' curves.

    The round r that minimises the mean of the other folds' curves, weighted by their patients, over r from 1 to the
    length of the shortest curve of all; the first such r on a tie.

    Parameters
    ----------
    curves
        A fold: (rounds fitted,) validation loss.
    patients
        A fold: its held-out patients.

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
            f"all {len(y)} patients with features have the label {only}: a model needs patients of both labels"
        )
    if min(positives, negatives) < folds:
        raise UsageError(
            f"{positives} patients with features have the label 1 and {negatives} the label 0, which is too few "
            f"for --folds {folds}: every fold needs one of each; give fewer folds or more patients"
        )


def is_count(value: Any) -> bool:
    """Whether a value is a whole number, not below 0."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0
