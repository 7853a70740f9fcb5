"""The fits as Ray tasks, each with one core or its share of the cores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.progress import Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lungct.boosting import Job, RunJobs
    from lungct.cluster import Session


def run_on_ray(session: Session, progress: Progress) -> RunJobs:
    """Return a function that runs each job in its own task; X and y go into the object store once."""
    arrays: list[Any] = []
    stored: list[Any] = []

    def run_jobs(X: NDArray[Any], y: NDArray[np.float64], jobs: Sequence[Job]) -> list[Any]:
        import ray

        if not arrays or arrays[0] is not X or arrays[1] is not y:
            arrays[:] = X, y
            stored[:] = ray.put(X), ray.put(y)
        share = _share(session, sum(job.parallel for job in jobs))
        run = ray.remote(_run_task)
        tasks = []
        for job in jobs:
            threads = share if job.parallel else 1
            tasks.append(run.options(num_cpus=threads).remote(*stored, job, threads))
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

    return run_jobs


def _run_task(X: NDArray[Any], y: NDArray[np.float64], job: Job, threads: int) -> Any:
    return job.run(X, y, threads)


def _share(session: Session, jobs: int) -> int:
    """Return the cores of each of so many parallel jobs: its share of the cluster's, at most those of one node."""
    import ray

    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return max(1, min(session.cpus // max(1, jobs), max(nodes, default=1)))
