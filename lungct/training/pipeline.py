"""One training, from its checks to its summary."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct._version import __version__
from lungct.arguments import one_of, spelled
from lungct.features import POOLINGS, Pooling, read_feature_columns, read_settings
from lungct.metrics import power
from lungct.progress import Progress, print_message
from lungct.reporting import closing_lines, in_brackets, render
from lungct.rundir import SCHEMA, EarlierRun, Run, RunWriter, Scores, earlier_run, usable_run
from lungct.storage import Place, locate, storage_faults
from lungct.training import characteristics
from lungct.training.cohort import Cohort, build_cohort
from lungct.training.labels import read_labels
from lungct.training.on_ray import run_on_ray
from lungct.training.params import read_params

if TYPE_CHECKING:
    from lungct.boosting import CVResult, Fold, Learner, Objective


@dataclass(frozen=True)
class TrainSummary:
    """The result of a training; each number as in metrics.json."""

    out: str
    patients: int
    positives: int
    matched: dict[str, int]
    folds: int
    auc: dict[str, float | None]
    log_loss: dict[str, float | None]
    brier: dict[str, float | None]
    optimistic: dict[str, dict[str, float | None]] | None
    linear: dict[str, dict[str, float | None]]
    baseline: dict[str, dict[str, float | None]]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON line of ``lungct train``."""
        return {"command": "train", **asdict(self)}


_IN_SUMMARY = (
    *("patients", "positives", "matched", "auc", "log_loss", "brier"),
    *("optimistic", "linear", "baseline", "seconds"),
)


def train(
    dir: str | os.PathLike[str],
    labels: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    id_column: str = "id",
    label_column: str = "cancer",
    group_column: str | None = None,
    positive: str | None = None,
    allow_unmatched: bool = False,
    folds: int = 5,
    pooling: Pooling = "mean",
    objective: Objective = "l2",
    params: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    rounds: int = 5000,
    early_stopping: int = 300,
    inner: bool = False,
    seed: int = 42,
    address: str | None = None,
    quiet: bool = True,
) -> TrainSummary:
    """Cross-validate a model on a feature table and write the run directory, with its report.

    Parameters
    ----------
    dir
        The feature table: the ``out`` of an extraction.
    labels
        A CSV with an id column and a label column of 0 and 1: columns separated by commas, semicolons or tabs, in
        UTF-8, UTF-16 or Windows-1252. A blank label is a patient without one.
    out
        RUN: a new directory, an empty one, or an earlier run, which is replaced once the new one is complete.
    id_column, label_column
        The names of these columns; predictions are written under the same names.
    group_column
        A column of the labels: patients with the same text in it (scans of one person, members of a family) stay within
        one fold. A blank is a patient by themselves. The table's persons, and patients with one scan, stay together in
        any case.
    positive
        Which of the label column's two texts counts as 1: "yes".
    allow_unmatched
        Train even if fewer than half of the labelled ids (or of the patients with features, if those are fewer) match.
    folds, objective, rounds, early_stopping, inner, seed
        See `lungct.cross_validate`.
    pooling
        ``mean``, ``max``, ``meanmax`` or ``meanstd``.
    params
        LightGBM parameters that override some of 2017's, or a JSON file of them.
    address
        A Ray cluster; None: Ray in this process.
    quiet
        Show no progress, do not name the run that is replaced, and print no results on stderr.

    Raises
    ------
    UsageError
        If options, labels, table or RUN cannot be used; an earlier run is left as it was.
    NothingUsableError
        If no booster could split its patients; an earlier run is left as it was.
    StorageError, ClusterError
        If the storage or Ray fails; an earlier run is left as it was.

    Warns
    -----
    LungCTWarning
        If there are labels without a patient as well as patients without a label (mistyped ids?), one scan has several
        ids, or the labels' encoding was a guess.

    """
    from lungct.boosting import count_jobs, fit_and_score, make_learner, plan_folds
    from lungct.cluster import connect

    begun = time.monotonic()
    one_of(pooling, POOLINGS, "pooling")
    overrides = params if isinstance(params, Mapping) or params is None else read_params(params)
    place = usable_run(out)
    table_settings = read_settings(dir)
    known = read_labels(
        labels,
        id_column=id_column,
        label_column=label_column,
        group_column=group_column,
        positive=positive,
        hide_ids=table_settings.pseudonym_key is not None,
    )
    cohort = build_cohort(dir, known, pooling=pooling, allow_unmatched=allow_unmatched, quiet=quiet)
    plan = plan_folds(cohort.y, folds=folds, seed=seed, inner=inner, groups=cohort.groups)
    learner = make_learner(
        objective=objective,
        params=overrides,
        rounds=rounds,
        early_stopping=early_stopping,
        seed=int(seed),
        columns=cohort.X.shape[1],
    )
    settings = {
        "schema": SCHEMA,
        "kind": "run",
        "lungct": __version__,
        "table": {"path": str(locate(dir, argument="DIR")), "settings": table_settings.as_dict()},
        "labels": _describe_labels(labels),
        "id_column": id_column,
        "label_column": label_column,
        "group_column": group_column,
        "positive": positive,
        "pooling": pooling,
        "objective": objective,
        "params": dict(learner.params),
        "overrides": _overrides(learner),
        "folds": int(folds),
        "repeats": 1,
        "grouped": cohort.groups is not None,
        "rounds": int(rounds),
        "early_stopping": int(early_stopping),
        "inner": inner,
        "seed": int(seed),
        "versions": _versions(),
    }
    known_scans = read_feature_columns(dir, characteristics.COLUMNS)
    described = characteristics.describe(known_scans, dict(zip(cohort.ids, cohort.y.tolist(), strict=True)))
    if sentence := _too_few(cohort, plan, learner):
        print_message(sentence, quiet=quiet)
    if replaced := earlier_run(place):
        print_message(_will_be_replaced(place, replaced), quiet=quiet)
    with RunWriter(place) as writer:
        fits = count_jobs(int(folds), inner=inner)
        with connect(address) as session, Progress(fits, noun="fits", quiet=quiet) as progress:
            jobs = run_on_ray(session, progress)
            y = cohort.y.astype(np.float64)
            result = fit_and_score(cohort.X, y, plan, learner, groups=cohort.groups, run_jobs=jobs)
        run = _to_run(place, settings, cohort, result, described, seconds=time.monotonic() - begun)
        writer.write(run, render(run))
    if not quiet:
        print(closing_lines(run), file=sys.stderr, flush=True)
    return TrainSummary(out=str(out), folds=int(folds), **{name: run.metrics[name] for name in _IN_SUMMARY})


def _too_few(cohort: Cohort, plan: Sequence[Fold], learner: Learner) -> str | None:
    """Say that there are too few patients or events for what is asked; None if there are enough."""
    fold = np.empty(len(cohort.ids), dtype=np.int64)
    for part in plan:
        fold[part.valid] = part.fold
    bagging = learner.params["bagging_fraction"] if learner.params["bagging_freq"] else 1.0
    return power.too_few(
        cohort.y,
        fold,
        min_data_in_leaf=learner.params["min_data_in_leaf"],
        bagging_fraction=bagging,
        inner=plan[0].inner_train is not None,
        groups=cohort.groups,
    )


def _will_be_replaced(place: Place, run: EarlierRun) -> str:
    return (
        f"{place} holds a run of {run.finished:%Y-%m-%d %H:%M} ({run.patients} patients, "
        f"AUC {in_brackets(run.auc)}), which this training replaces when it is done"
    )


def _overrides(learner: Learner) -> dict[str, Any]:
    """Return the parameters that are not 2017's: what ``params`` must hold for the same training."""
    from lungct.boosting import PARAMETERS_2017

    decided = ("objective", "metric", "seed")
    return {
        name: value
        for name, value in learner.params.items()
        if name not in decided and not (name in PARAMETERS_2017 and PARAMETERS_2017[name] == value)
    }


def _to_run(
    place: Place,
    settings: Mapping[str, Any],
    cohort: Cohort,
    result: CVResult,
    described: list[dict[str, Any]],
    *,
    seconds: float,
) -> Run:
    """Return what the run directory will hold."""
    numbers = result.metrics
    metrics = {
        "schema": SCHEMA,
        "patients": len(cohort.ids),
        "positives": int(cohort.y.sum()),
        "folds": numbers["folds"],
        **{name: value for name, value in numbers.items() if name != "folds"},
        "matched": cohort.matched,
        "flow": cohort.flow,
        "characteristics": described,
        "left_out": [{"patient_id": name, "why": why} for name, why in cohort.left_out],
        "seconds": round(seconds, 3),
    }
    scores = Scores(
        patient_id=cohort.ids,
        person=[person or "" for person in cohort.persons],
        label=cohort.y,
        repeat=np.zeros(len(cohort.ids), dtype=np.int64),
        fold=result.fold,
        score=result.score,
        optimistic_score=result.optimistic_score,
        pixel_hash=[pixel_hash or "" for pixel_hash in cohort.pixel_hashes],
    )
    return Run(
        place=place,
        settings=settings,
        metrics=metrics,
        scores=scores,
        curves={(0, fold): curve for fold, curve in enumerate(result.curves)},
        pair_curves={(0, *pair): curve for pair, curve in sorted(result.pair_curves.items())},
        # num_iteration=-1: all rounds, not only those up to the best one.
        models={(0, fold): booster.model_to_string(num_iteration=-1) for fold, booster in enumerate(result.boosters)},
    )


def _describe_labels(labels: str | os.PathLike[str]) -> dict[str, str]:
    path = locate(labels, argument="labels")
    with storage_faults(f"{spelled('labels')} {path} cannot be read"):
        return {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _versions() -> dict[str, str]:
    packages = ("lightgbm", "scikit-learn", "numpy", "pyarrow", "ray")
    return {"python": python_version(), **{name: version(name) for name in packages}}
