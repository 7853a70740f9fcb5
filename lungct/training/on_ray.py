"""The folds as Ray tasks, each with its share of the cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lungct.boosting import FitFolds, Fold, FoldFit, Learner
    from lungct.cluster import Session


def fit_on_ray(session: Session, progress: Progress) -> FitFolds:
    """Return a function that fits each fold in its own task; X goes into the object store once."""

    def fit_folds(X: NDArray[Any], y: NDArray[np.float64], plan: Sequence[Fold], learner: Learner) -> list[FoldFit]:
        import ray

        share = _share(session, len(plan))
        task = ray.remote(num_cpus=share)(_fit_task)
        X_in_store, y_in_store = ray.put(X), ray.put(y)
        tasks = [task.remote(X_in_store, y_in_store, part, learner, share) for part in plan]
        waiting = list(tasks)
        try:
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                ray.get(done)
                progress.advance(len(done))
            return list(ray.get(tasks))
        finally:
            for unfinished in waiting:
                ray.cancel(unfinished, force=True)

    return fit_folds


def _fit_task(X: NDArray[Any], y: NDArray[np.float64], part: Fold, learner: Learner, threads: int) -> FoldFit:
    from lungct.boosting import fit_fold

    return fit_fold(X, y, part, learner, threads=threads)


def _share(session: Session, folds: int) -> int:
    """Return the cores of one fold: its share of the cluster's, and no more than the largest node has."""
    import ray

    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return max(1, min(session.cpus // folds, max(nodes, default=1)))
