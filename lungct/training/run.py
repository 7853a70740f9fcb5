"""One training from its checks to its summary."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from platform import python_version
from typing import Any

from lungct._version import __version__
from lungct.errors import UsageError
from lungct.features import POOLINGS, Settings, read_settings
from lungct.progress import Progress
from lungct.storage import (
    locate,
    storage_faults,
    write_atomically,
)
from lungct.training.cohort import gather, read_labels, read_params, warn_of_shared_scans
from lungct.training.directory import (
    SCHEMA,
    BeforeCommit,
    begin,
    measured,
    to_json,
    usable_run,
    write_results,
)
from lungct.training.on_ray import fit_on_ray


@dataclass(frozen=True)
class TrainSummary:
    """What a training came to; each number as in metrics.json."""

    out: str
    patients: int
    positives: int
    folds: int
    auc: dict[str, float | None]
    log_loss: dict[str, float | None]
    brier: dict[str, float | None]
    optimistic: dict[str, dict[str, float | None]] | None
    baseline: dict[str, dict[str, float | None]]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Give the JSON line of ``lungct train``."""
        return {"command": "train", **asdict(self)}


def train(
    dir: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    id_column: str = "id",
    label_column: str = "cancer",
    folds: int = 5,
    pooling: str = "mean",
    objective: str = "l2",
    params: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    rounds: int = 5000,
    early_stopping: int = 300,
    inner: bool = False,
    seed: int = 42,
    address: str | None = None,
    before_commit: BeforeCommit | None = None,
    quiet: bool = True,
) -> TrainSummary:
    """Cross-validate a model on a feature table and write the run directory.

    Parameters
    ----------
    dir
        The feature table: the ``--out`` of an extract.
    labels
        A CSV with an id column and a label column of 0 and 1.
    out
        RUN: a new directory, an empty one, or an older run, which is replaced.
    id_column, label_column
        Their names; predictions are written under the same ones.
    folds, objective, rounds, early_stopping, inner, seed
        See `lungct.cross_validate`.
    pooling
        ``mean``, ``max``, ``meanmax`` or ``meanstd``.
    params
        LightGBM parameters that override single ones of 2017's, or a JSON file of them.
    address
        A Ray cluster; None: Ray in this process.
    before_commit
        Called with RUN and the metrics when all but metrics.json is written: writes the report.
    quiet
        Show no progress.

    Raises
    ------
    UsageError
        If options, labels, table or RUN cannot be used; an existing RUN is then as it was.
    StorageError, ClusterError
        If the disk, or Ray, fails.

    """
    from lungct.boosting import cross_validate, make_learner, plan_folds
    from lungct.cluster import connect

    begun = time.monotonic()
    if pooling not in POOLINGS:
        raise UsageError(f"--pooling {pooling} is unknown: take one of {', '.join(POOLINGS)}")
    overrides = params if isinstance(params, Mapping) or params is None else read_params(params)
    run = usable_run(out)
    table_settings = read_settings(dir)
    known = read_labels(labels, id_column=id_column, label_column=label_column)
    cohort = gather(dir, known, pooling=pooling, labels_name=os.fspath(labels))
    plan = plan_folds(cohort.y, folds=folds, seed=seed, inner=inner, groups=cohort.groups)
    learner = make_learner(
        objective=objective,
        params=overrides,
        rounds=rounds,
        early_stopping=early_stopping,
        seed=seed,
        columns=cohort.X.shape[1],
    )
    warn_of_shared_scans(cohort, plan)

    settings = {
        "schema": SCHEMA,
        "kind": "run",
        "lungct": __version__,
        "table": _describe_table(dir, table_settings),
        "labels": _describe_labels(labels),
        "id_column": id_column,
        "label_column": label_column,
        "pooling": pooling,
        "objective": objective,
        "params": dict(learner.params),
        "folds": folds,
        "repeats": 1,
        "grouped": cohort.groups is not None,
        "rounds": rounds,
        "early_stopping": early_stopping,
        "inner": inner,
        "seed": seed,
        "versions": _versions(),
    }
    with connect(address) as session, Progress(folds, noun="folds", quiet=quiet) as progress:
        begin(run, settings)
        result = cross_validate(
            cohort.X,
            cohort.y,
            folds=folds,
            seed=seed,
            objective=objective,
            rounds=rounds,
            early_stopping=early_stopping,
            params=overrides,
            inner=inner,
            groups=cohort.groups,
            fit_folds=fit_on_ray(session, progress),
        )
    write_results(run, cohort, result)
    metrics = measured(cohort, result, seconds=time.monotonic() - begun)
    if before_commit is not None:
        before_commit(run, metrics)
    write_atomically(run / "metrics.json", to_json(metrics))
    shown = (
        "patients",
        "positives",
        "auc",
        "log_loss",
        "brier",
        "optimistic",
        "baseline",
        "seconds",
    )
    return TrainSummary(out=str(out), folds=folds, **{name: metrics[name] for name in shown})


def _describe_table(dir: str | os.PathLike[str], settings: Settings) -> dict[str, Any]:
    return {"path": str(locate(dir, argument="DIR")), "settings": settings.as_dict()}


def _describe_labels(labels: str | os.PathLike[str]) -> dict[str, str]:
    path = locate(labels, argument="labels")
    with storage_faults(f"--labels {path} cannot be read"):
        return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _versions() -> dict[str, str]:
    packages = ("lightgbm", "scikit-learn", "numpy", "pyarrow", "ray")
    return {"python": python_version(), **{name: version(name) for name in packages}}
