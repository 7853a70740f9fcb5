"""Labels, folds and groups, prepared once for every number that is computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Sample:
    """Who is measured.

    Attributes
    ----------
    y
        int64 (n,) labels, 0 or 1.
    fold
        int64 (n,) the fold of each, from 0.
    group
        int64 (n,) the group of each, from 0: a person's scans, or each patient by itself. Groups are independent.

    """

    y: NDArray[np.int64]
    fold: NDArray[np.int64]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, y: ArrayLike, fold: ArrayLike, groups: ArrayLike | None = None) -> Sample:
        """Number folds and groups, which may be of any type that sorts."""
        labels = np.asarray(y).astype(np.int64)
        if len(labels) == 0:
            raise ValueError("there is no patient to measure")
        group = np.arange(len(labels)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
        return cls(labels, np.unique(np.asarray(fold), return_inverse=True)[1], group)

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def folds(self) -> int:
        """The number of folds."""
        return int(self.fold.max()) + 1

    @cached_property
    def groups(self) -> int:
        """The number of groups."""
        return int(self.group.max()) + 1

    @cached_property
    def mixed(self) -> bool:
        """Whether there are both labels."""
        return bool(0 < self.y.sum() < len(self.y))

    @cached_property
    def parts(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """The positives and the negatives of each fold that has both, as positions."""
        both = []
        for members in np.split(np.argsort(self.fold, kind="stable"), np.cumsum(np.bincount(self.fold))[:-1]):
            positive, negative = members[self.y[members] == 1], members[self.y[members] == 0]
            if len(positive) and len(negative):
                both.append((positive, negative))
        return both

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """(parts, 3): of each fold in `parts`, its positives and negatives (both counted in groups) and its weight.

        The weight is the fold's share of all pairs of a positive and a negative.
        """
        pairs = np.array([float(len(positive)) * len(negative) for positive, negative in self.parts])
        groups = np.array([[self.groups_in(members) for members in part] for part in self.parts], dtype=np.float64)
        return np.column_stack([groups.reshape(-1, 2), pairs / pairs.sum()])

    def groups_in(self, members: NDArray[np.int64] | NDArray[np.bool_]) -> int:
        """Return the number of groups that some patients belong to."""
        return len(np.unique(self.group[members]))

    def by_group(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the sum of each group's values."""
        return np.bincount(self.group, values, minlength=self.groups).astype(np.float64)
