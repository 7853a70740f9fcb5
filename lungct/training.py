"""A feature table and a CSV of labels -> a run directory: boosters, out-of-fold scores and metrics.

The run directory, in the order in which it is written::

    RUN/settings.json                 {"schema": 1, "kind": "run", "lungct", "table": {"path", "settings"},
                                       "labels": {"path", "sha256"}, "id_column", "label_column", "pooling",
                                       "objective", "params", "folds", "repeats", "grouped", "rounds",
                                       "early_stopping", "inner", "seed", "versions": {"python", "lightgbm", ...}}
    RUN/scores.csv                    patient_id,label,fold,score,optimistic_score,pixel_hash
                                      (optimistic_score is empty with ``inner``; pixel_hash may be empty)
    RUN/curves.csv                    repeat,fold,round,loss: the validation loss ("l2": mean squared error,
                                      "binary": log loss) round by round, rounds from 1
    RUN/models/repeat-0-fold-K.txt    LightGBM's text format, with every round that was fitted
    RUN/report.html                   written by the caller's ``before_commit(run, metrics)``: training knows no report
    RUN/metrics.json                  last, so that a RUN without it is not a run

``before_commit`` is called once, with RUN's path and the very dict that will stand in metrics.json, when every other
file is in place: a report reads settings.json, scores.csv and curves.csv from RUN and takes the metrics as a dict.
In metrics.json ``optimistic`` is null with ``inner``, and an AUC that cannot be told (a fold of one class) is null.

Nothing is written before everything that can be refused was looked at. An existing RUN then loses its metrics.json
first, so that whatever kills the training, no half-written RUN is ever taken for one; only files that lungct writes
are replaced or removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct import __version__, csvfile
from lungct.csvfile import csv_bytes, named
from lungct.errors import LungCTError, LungCTWarning, UsageError
from lungct.features import POOLINGS, Settings, pooled, read_columns, read_settings
from lungct.progress import Progress
from lungct.storage import (
    Place,
    check_directory,
    locate,
    make_directory,
    storage_faults,
    write_atomically,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lungct.boosting import CVResult, FitFolds, Fold, FoldFit, Learner
    from lungct.cluster import Session

SCHEMA = 1
BeforeCommit = Callable[[Place, dict[str, Any]], object]

# What a RUN holds besides metrics.json, which goes first, and settings.json, which is replaced in one step.
_WRITTEN = ("scores.csv", "curves.csv", "report.html", "models/repeat-*-fold-*.txt")


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


@dataclass(frozen=True)
class Cohort:
    """Patients who have features and a label, ordered by id, and who was left out.

    Attributes
    ----------
    ids
        n patients.
    X
        float32 (n, P) pooled features.
    y
        int64 (n,) labels.
    pixel_hashes
        n hashes of the patients' triplets; None where the table has none.
    groups
        n persons, where ids are paths (``person/scan``); else None.
    left_out
        ``(patient_id, why)``, ordered by id.

    """

    ids: list[str]
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    pixel_hashes: list[str | None]
    groups: list[str] | None
    left_out: list[tuple[str, str]]


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
    run = _usable_run(out)
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
    _warn_of_shared_scans(cohort, plan)

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
        _begin(run, settings)
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
            fit_folds=_fit_on_ray(session, progress),
        )
    _write_results(run, cohort, result)
    metrics = _metrics(cohort, result, seconds=time.monotonic() - begun)
    if before_commit is not None:
        before_commit(run, metrics)
    write_atomically(run / "metrics.json", _json(metrics))
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


# --- what the user hands in ---


def read_labels(
    path: str | os.PathLike[str], *, id_column: str = "id", label_column: str = "cancer"
) -> dict[str, int]:
    """Read a CSV of labels.

    Returns
    -------
    dict
        The label, 0 or 1, of each id. Ids are text, as they stand: ``007`` is not 7.

    Raises
    ------
    UsageError
        If the file cannot be read, lacks a column, has an id twice, or any label that is not 0 or 1; the sentence
        names the first few ids.

    """
    where = f"--labels {os.fspath(path)}"
    if id_column == label_column:
        raise UsageError(f"--id-column and --label-column are both {id_column!r}")
    rows = csvfile.read_columns(path, (id_column, label_column), option="--labels")
    if not rows:
        raise UsageError(f"{where} has a header and no rows")
    nameless = [line for line, (patient_id, _) in rows if not patient_id]
    if nameless:
        raise UsageError(f"{where} has no id in line {named(nameless)}")
    labels: dict[str, int] = {}
    twice: dict[str, None] = {}
    wrong: list[str] = []
    for _, (patient_id, text) in rows:
        if patient_id in labels:
            twice[patient_id] = None
        label = _label(text)
        if label is None:
            wrong.append(f"{patient_id!r} ({text!r})" if text else f"{patient_id!r} (blank)")
        labels[patient_id] = label or 0
    if wrong:
        shown = named(_Verbatim(text) for text in wrong)
        raise UsageError(
            f"{where}: {label_column} must be 0 or 1, and {_count(len(wrong), 'label is', 'labels are')} "
            f"something else: {shown}; correct them, or remove the rows of patients without a label"
        )
    if twice:
        raise UsageError(
            f"{where} has {_count(len(twice), 'id', 'ids')} more than once: {named(twice)}; keep one row for each"
        )
    return labels


def read_params(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read LightGBM parameters from a JSON file: one object of names and values.

    Raises
    ------
    UsageError
        If it cannot be read, is no JSON object, or gives a name twice.

    """
    where = f"--params {os.fspath(path)}"

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise UsageError(f"{where} gives {named(double)} twice")
        return dict(pairs)

    try:
        text = locate(path, option="--params").read_bytes()
        values = json.loads(text, object_pairs_hook=once)
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f'{where} must hold one object of names and values: {{"num_leaves": 7}}')
    return values


def gather(
    dir: str | os.PathLike[str], labels: Mapping[str, int], *, pooling: str, labels_name: str
) -> Cohort:
    """Bring features and labels together.

    Parameters
    ----------
    labels_name
        What to call the labels in errors.

    Raises
    ------
    UsageError
        If no patient has both.

    """
    table = read_columns(dir, ("patient_id", "error", "pixel_hash"))
    ids, X = pooled(dir, pooling)
    errors = dict(_column_pairs(table, "error"))
    hashes = dict(_column_pairs(table, "pixel_hash"))
    keep = [i for i, patient_id in enumerate(ids) if patient_id in labels]
    if not keep:
        pseudonymised = read_settings(dir).pseudonym_key is not None
        raise UsageError(
            _no_overlap(ids, errors, labels, os.fspath(dir), labels_name, pseudonymised)
        )
    kept = [ids[i] for i in keep]
    with_features = set(ids)
    left_out = [
        (name, "labelled, but not in the feature table") for name in labels if name not in errors
    ]
    for name, error in errors.items():
        if name not in with_features:
            left_out.append((name, error or "no features"))
        elif name not in labels:
            left_out.append((name, "features, but no label"))
    grouped = any("/" in patient_id for patient_id in kept)
    return Cohort(
        ids=kept,
        X=X[keep],
        y=np.array([labels[patient_id] for patient_id in kept], dtype=np.int64),
        pixel_hashes=[hashes[patient_id] for patient_id in kept],
        groups=[patient_id.split("/", 1)[0] for patient_id in kept] if grouped else None,
        left_out=sorted(left_out),
    )


class _Verbatim:
    """A text that a sentence shows as it is, without quotes."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return self.text


def _label(text: str) -> int | None:
    """Give 0 or 1, also for 0.0 and 1.0; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (0.0, 1.0) else None


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _no_overlap(
    ids: Sequence[str],
    errors: Mapping[str, str | None],
    labels: Mapping[str, int],
    table: str,
    labels_name: str,
    pseudonymised: bool,
) -> str:
    if not ids:
        return f"no patient in {table} has features ({len(errors)} have an error row): nothing to train on"
    if any(patient_id in errors for patient_id in labels):
        return f"every labelled patient in {table} has an error row: nothing to train on"
    if pseudonymised:
        # The labels' ids may be names: none of them is shown.
        return (
            f"no id of --labels {labels_name} is in {table}, whose ids are pseudonyms: "
            "make the labels' with `lungct pseudonyms` and the table's key"
        )
    return (
        f"no id of --labels {labels_name} is in {table}: the labels begin with {next(iter(labels))!r}, "
        f"the table with {ids[0]!r}; --id-column names the column that holds the table's ids"
    )


def _column_pairs(table: Any, column: str) -> Iterator[tuple[str, str | None]]:
    return zip(
        table.column("patient_id").to_pylist(), table.column(column).to_pylist(), strict=True
    )


def _warn_of_shared_scans(cohort: Cohort, plan: Sequence[Fold]) -> None:
    """Say when one scan stands under ids of different folds: its booster has then seen it."""
    seen: dict[str, dict[int, str]] = {}
    for part in plan:
        for i in part.valid:
            pixel_hash = cohort.pixel_hashes[i]
            if pixel_hash is not None:
                seen.setdefault(pixel_hash, {}).setdefault(part.fold, cohort.ids[i])
    shared = [sorted(folds.values()) for folds in seen.values() if len(folds) > 1]
    if shared:
        pairs = named(_Verbatim(" = ".join(map(repr, names[:3]))) for names in sorted(shared))
        warnings.warn(
            f"{_count(len(shared), 'scan stands', 'scans stand')} under several ids in different folds, so the "
            f"metrics are too good: {pairs}",
            LungCTWarning,
            stacklevel=3,
        )


# --- the folds, as Ray tasks ---


def _fit_on_ray(session: Session, progress: Progress) -> FitFolds:
    """Fit each fold in a task of its own, with its share of the cores; X goes into the object store once."""

    def fit_folds(
        X: NDArray[Any], y: NDArray[np.float64], plan: Sequence[Fold], learner: Learner
    ) -> list[FoldFit]:
        import ray

        share = _share(session, len(plan))
        task = ray.remote(num_cpus=share)(_fit_task)
        X_in_store, y_in_store = ray.put(X), ray.put(y)
        tasks = [task.remote(X_in_store, y_in_store, part, learner, share) for part in plan]
        waiting = list(tasks)
        try:
            with _unwrapped():
                while waiting:
                    done, waiting = ray.wait(waiting, num_returns=1)
                    ray.get(done)
                    progress.advance(len(done))
                return list(ray.get(tasks))
        finally:
            for unfinished in waiting:
                ray.cancel(unfinished, force=True)

    return fit_folds


def _fit_task(
    X: NDArray[Any], y: NDArray[np.float64], part: Fold, learner: Learner, threads: int
) -> FoldFit:
    from lungct.boosting import fit_fold

    return fit_fold(X, y, part, learner, threads=threads)


def _share(session: Session, folds: int) -> int:
    """Cores of one fold: its share of the cluster's, and no more than the largest node has."""
    import ray

    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return max(1, min(session.cpus // folds, max(nodes, default=1)))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise an error of ours from inside a task as itself, not as Ray's with a traceback for its message."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, LungCTError):
            raise error.cause from None
        raise


# --- the run directory ---


def is_run(run: Place) -> bool:
    """Whether a directory was written by ``train``, finished or not."""
    try:
        settings = json.loads((run / "settings.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("kind") == "run"


def _usable_run(out: str | os.PathLike[str]) -> Place:
    """See that RUN is new, empty, or a run, without touching it."""
    run = locate(out, option="--out")
    check_directory(run, option="--out")
    try:
        if run.exists() and not run.is_dir():
            raise UsageError(f"--out {out} is a file: give a directory")
        names = []
        if run.exists():
            names = [path.name for path in run.iterdir() if not _is_leftover(path.name)]
    except OSError as error:
        raise UsageError(f"--out {out} cannot be read: {error.strerror}") from error
    if names and not is_run(run):
        raise UsageError(
            f"--out {out} is a directory that holds something else than a run ({named(sorted(names))}): "
            "give a new one"
        )
    return run


def _is_leftover(name: str) -> bool:
    """Whether a file is one of ours that a kill left unfinished."""
    return name.startswith(".") and name.endswith(".tmp")


def _begin(run: Place, settings: Mapping[str, Any]) -> None:
    """Make RUN a run without metrics: the old one stops being a run before anything of it changes."""
    make_directory(run, option="--out")
    with storage_faults(f"{run} cannot be written"):
        (run / "metrics.json").unlink(missing_ok=True)
        write_atomically(run / "settings.json", _json(settings))
        for pattern in _WRITTEN:
            folder, name = (run / pattern).parent, pattern.rsplit("/", 1)[-1]
            for path in [*folder.glob(name), *folder.glob(f".{name}.*.tmp")]:
                path.unlink()


def _write_results(run: Place, cohort: Cohort, result: CVResult) -> None:
    """Write scores, curves and boosters."""
    optimistic = [None] * len(cohort.ids)
    if result.optimistic_score is not None:
        optimistic = result.optimistic_score.tolist()
    scores = zip(
        cohort.ids,
        cohort.y.tolist(),
        result.fold.tolist(),
        result.score.tolist(),
        optimistic,
        cohort.pixel_hashes,
        strict=True,
    )
    header = ("patient_id", "label", "fold", "score", "optimistic_score", "pixel_hash")
    write_atomically(run / "scores.csv", csv_bytes(header, scores))
    curves = (
        (0, fold, number, loss)
        for fold, curve in enumerate(result.curves)
        for number, loss in enumerate(curve.tolist(), start=1)
    )
    write_atomically(run / "curves.csv", csv_bytes(("repeat", "fold", "round", "loss"), curves))
    models = run / "models"
    make_directory(models, option="--out")
    for fold, booster in enumerate(result.boosters):
        text = booster.model_to_string(num_iteration=-1)
        write_atomically(models / f"repeat-0-fold-{fold}.txt", text.encode())


def _metrics(cohort: Cohort, result: CVResult, *, seconds: float) -> dict[str, Any]:
    """Give what metrics.json says."""
    measured = result.metrics
    return {
        "schema": SCHEMA,
        "patients": len(cohort.ids),
        "positives": int(cohort.y.sum()),
        "folds": measured["folds"],
        **{name: measured[name] for name in ("auc", "log_loss", "brier", "optimistic", "baseline")},
        "left_out": [{"patient_id": name, "why": why} for name, why in cohort.left_out],
        "seconds": round(seconds, 3),
    }


def _describe_table(dir: str | os.PathLike[str], settings: Settings) -> dict[str, Any]:
    return {"path": str(locate(dir, option="DIR")), "settings": settings.as_dict()}


def _describe_labels(labels: str | os.PathLike[str]) -> dict[str, str]:
    path = locate(labels, option="--labels")
    with storage_faults(f"--labels {path} cannot be read"):
        return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _versions() -> dict[str, str]:
    packages = ("lightgbm", "scikit-learn", "numpy", "pyarrow", "ray")
    return {"python": python_version(), **{name: version(name) for name in packages}}


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=1, allow_nan=False).encode()
