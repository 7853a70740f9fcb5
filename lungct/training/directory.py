"""The run directory, in the order in which it is written::

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

import json
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lungct.arguments import listed
from lungct.csvfile import csv_bytes
from lungct.errors import UsageError
from lungct.storage import (
    Place,
    check_directory,
    locate,
    make_directory,
    storage_faults,
    write_atomically,
)

if TYPE_CHECKING:
    from lungct.boosting import CVResult
    from lungct.training.cohort import Cohort


SCHEMA = 1
BeforeCommit = Callable[[Place, dict[str, Any]], object]

# What a RUN holds besides metrics.json, which goes first, and settings.json, which is replaced in one step.
_WRITTEN = ("scores.csv", "curves.csv", "report.html", "models/repeat-*-fold-*.txt")


def is_run(run: Place) -> bool:
    """Whether a directory was written by ``train``, finished or not."""
    try:
        settings = json.loads((run / "settings.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.get("kind") == "run"


def usable_run(out: str | os.PathLike[str]) -> Place:
    """See that RUN is new, empty, or a run, without touching it."""
    run = locate(out, argument="out")
    check_directory(run, argument="out")
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
            f"--out {out} is a directory that holds something else than a run ({listed(sorted(names))}): give a new one"
        )
    return run


def _is_leftover(name: str) -> bool:
    """Whether a file is one of ours that a kill left unfinished."""
    return name.startswith(".") and name.endswith(".tmp")


def begin(run: Place, settings: Mapping[str, Any]) -> None:
    """Make RUN a run without metrics: the old one stops being a run before anything of it changes."""
    make_directory(run, argument="out")
    with storage_faults(f"{run} cannot be written"):
        (run / "metrics.json").unlink(missing_ok=True)
        write_atomically(run / "settings.json", to_json(settings))
        for pattern in _WRITTEN:
            folder, name = (run / pattern).parent, pattern.rsplit("/", 1)[-1]
            for path in [*folder.glob(name), *folder.glob(f".{name}.*.tmp")]:
                path.unlink()


def write_results(run: Place, cohort: Cohort, result: CVResult) -> None:
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
    make_directory(models, argument="out")
    for fold, booster in enumerate(result.boosters):
        text = booster.model_to_string(num_iteration=-1)
        write_atomically(models / f"repeat-0-fold-{fold}.txt", text.encode())


def measured(cohort: Cohort, result: CVResult, *, seconds: float) -> dict[str, Any]:
    """Give what metrics.json says."""
    numbers = result.metrics
    return {
        "schema": SCHEMA,
        "patients": len(cohort.ids),
        "positives": int(cohort.y.sum()),
        "folds": numbers["folds"],
        **{name: numbers[name] for name in ("auc", "log_loss", "brier", "optimistic", "baseline")},
        "left_out": [{"patient_id": name, "why": why} for name, why in cohort.left_out],
        "seconds": round(seconds, 3),
    }


def to_json(values: Mapping[str, Any]) -> bytes:
    """Give a JSON file's bytes."""
    return json.dumps(values, indent=1, allow_nan=False).encode()
