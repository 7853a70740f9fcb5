"""The fits of a cross-validation as jobs, each of which any process can do that has X and y.

Whoever has machines to spread them over passes `fit_and_score` a `RunJobs`; else they run here, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from lungct.boosting.fitting import FoldFit, PairFit, fit_fold, fit_pair
from lungct.boosting.folds import Fold, Pair
from lungct.boosting.linear import fit_linear
from lungct.boosting.parameters import Learner


class Job(Protocol):
    """One fit.

    Attributes
    ----------
    parallel
        Whether it is faster with several threads.

    """

    parallel: ClassVar[bool]

    def run(self, X: NDArray[Any], y: NDArray[np.float64], threads: int | None = None) -> Any:
        """Fit, with so many threads (None: all cores); their number changes no result."""


RunJobs = Callable[[NDArray[Any], NDArray[np.float64], Sequence[Job]], Sequence[Any]]
"""Runs jobs on X and y and returns their results in the jobs' order. It is called twice with the same arrays."""


@dataclass(frozen=True)
class PairJob:
    """Fit the booster of a pair of folds."""

    parallel: ClassVar[bool] = True
    pair: Pair = field(repr=False)
    learner: Learner = field(repr=False)

    def run(self, X: NDArray[Any], y: NDArray[np.float64], threads: int | None = None) -> PairFit:
        """See `Job`."""
        return fit_pair(X, y, self.pair, self.learner, threads=threads)


@dataclass(frozen=True)
class FoldJob:
    """Fit a fold's booster; ``rounds`` is None with ``inner``."""

    parallel: ClassVar[bool] = True
    part: Fold = field(repr=False)
    learner: Learner = field(repr=False)
    rounds: int | None = None

    def run(self, X: NDArray[Any], y: NDArray[np.float64], threads: int | None = None) -> FoldFit:
        """See `Job`."""
        return fit_fold(X, y, self.part, self.learner, rounds=self.rounds, threads=threads)


@dataclass(frozen=True)
class LinearJob:
    """Fit a fold's linear reference, on one thread."""

    parallel: ClassVar[bool] = False
    part: Fold = field(repr=False)
    seed: int
    groups: NDArray[Any] | None = field(repr=False, default=None)

    def run(self, X: NDArray[Any], y: NDArray[np.float64], threads: int | None = None) -> NDArray[np.float64]:
        """See `Job`."""
        return fit_linear(X, y, self.part, self.seed, self.groups)


def run_here(X: NDArray[Any], y: NDArray[np.float64], jobs: Sequence[Job]) -> list[Any]:
    """Run jobs in this process."""
    return [job.run(X, y) for job in jobs]


def count_jobs(folds: int, *, inner: bool) -> int:
    """Return the number of fits of a cross-validation: pairs of folds, folds, and linear references."""
    return 2 * folds + (0 if inner else folds * (folds - 1) // 2)
