"""A run and a feature table -> a prediction for each patient: a table, or the CSV that a challenge takes.

A patient who is not in the run gets the mean of its boosters' predictions, each at its fold's ``rounds``, clipped to
[0, 1]. No prediction comes from a booster that was fitted on that person: patients used in training are scored only by
the booster that did not see them, that of their own fold. A patient is recognised by, in this order,

1. the id, unless the pixels are those of another patient of the run;
2. the person, whose scans are all in one fold (ids of the form ``person/scan``);
3. the pixel_hash: the same scan under another id.

This module does not depend on LightGBM's text format.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct import csvfile
from lungct.arguments import listed, spelled
from lungct.csvfile import csv_bytes
from lungct.errors import LungCTWarning, UsageError
from lungct.features import Settings, pooled, read_feature_columns, read_settings
from lungct.patients import person_in_id
from lungct.rundir import Run, damaged_error, read_run
from lungct.storage import locate, make_directory, output_file, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from lungct.boosting import Booster


@dataclass(frozen=True)
class PredictSummary:
    """The result of a prediction."""

    out: str
    patients: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON line of ``lungct predict``."""
        return {"command": "predict", **asdict(self)}


@dataclass(frozen=True)
class Model:
    """One booster of a run: its first ``rounds`` rounds predict, and it was not fitted on the patients of ``fold``."""

    fold: int
    rounds: int
    booster: Booster


def predict(run: str | os.PathLike[str], dir: str | os.PathLike[str]) -> pa.Table:
    """Predict every patient of a feature table who has features.

    Parameters
    ----------
    run
        The directory that ``train`` wrote.
    dir
        A feature table made with the same settings as the one that the run was trained on.

    Returns
    -------
    pyarrow.Table
        The run's id column (string) and label column (double, in [0, 1]), ordered by id.

    Raises
    ------
    UsageError
        If RUN is not a finished run, DIR is not a feature table, or their settings differ.

    Warns
    -----
    LungCTWarning
        If an id that the run knows has other pixels here.

    """
    return _predict(read_run(run), dir, None)


def predict_to_csv(
    run: str | os.PathLike[str],
    dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    ids: str | os.PathLike[str] | None = None,
) -> PredictSummary:
    """Predict, and write a CSV with the run's id and label columns in one step.

    Parameters
    ----------
    run, dir
        See `predict`.
    out
        The CSV; an existing file is replaced.
    ids
        A CSV with the run's id column: only these patients, in its order.

    Raises
    ------
    UsageError
        As for `predict`; also if an id of ``ids`` has no features or appears twice, or ``out`` cannot be written.

    """
    begun = time.monotonic()
    loaded = read_run(run)
    wanted = None if ids is None else _read_ids(ids, loaded.settings["id_column"])
    table = _predict(loaded, dir, wanted, ids_name=os.fspath(ids or ""))
    make_directory(locate(out, argument="out").parent, argument="out")
    path = output_file(out, argument="out")
    columns = (column.to_pylist() for column in table.columns)
    write_atomically(path, csv_bytes(table.column_names, zip(*columns, strict=True)))
    return PredictSummary(str(out), table.num_rows, round(time.monotonic() - begun, 3))


def _predict(run: Run, dir: str | os.PathLike[str], wanted: Sequence[str] | None, *, ids_name: str = "") -> pa.Table:
    """Predict a table's patients, or the wanted ones in their order."""
    import pyarrow as pa

    _refuse_other_settings(run, read_settings(dir), os.fspath(dir))
    models = _load_models(run)
    table = read_feature_columns(dir, ("patient_id", "person", "pixel_hash"))
    known = {row["patient_id"]: row for row in table.to_pylist()}
    ids, X = pooled(dir, run.settings["pooling"])
    if wanted is not None:
        place = {patient_id: i for i, patient_id in enumerate(ids)}
        missing = [patient_id for patient_id in wanted if patient_id not in place]
        if missing:
            raise UsageError(
                f"{spelled('ids')} {ids_name} has {len(missing)} of {len(wanted)} ids without features in "
                f"{os.fspath(dir)}, {listed(missing)}",
                fix="leave them out, or extract them first",
            )
        X = X[[place[patient_id] for patient_id in wanted]]
        ids = list(wanted)
    folds = own_folds(run, [known[patient_id] for patient_id in ids])
    predictions = pa.array(_scores(models, X, folds))
    return pa.table({run.settings["id_column"]: pa.array(ids, pa.string()), run.settings["label_column"]: predictions})


def _load_models(run: Run) -> list[Model]:
    """Return a run's boosters; raise UsageError if a text is not a booster."""
    from lungct.boosting import load_booster

    models = []
    for entry in run.metrics["folds"]:
        try:
            booster = load_booster(run.models[entry["repeat"], entry["fold"]])
        except UsageError as error:
            raise damaged_error(run.place, error) from error
        models.append(Model(fold=entry["fold"], rounds=entry["rounds"], booster=booster))
    return models


def own_folds(run: Run, patients: Sequence[Mapping[str, str | None]]) -> list[frozenset[int] | None]:
    """Find the folds whose boosters may score each patient; None if all of them may.

    Parameters
    ----------
    patients
        ``patient_id``, ``person`` and ``pixel_hash`` of each.

    Warns
    -----
    LungCTWarning
        Of ids that the run knows with another pixel_hash, and of scans that are in several of its folds, so that every
        booster was fitted on them.

    """
    by_id: dict[str, tuple[int, str]] = {}
    by_hash: dict[str, set[int]] = {}
    by_person: dict[str, set[int]] = {}
    scores = run.scores
    for name, person, fold, pixel_hash in zip(
        scores.patient_id, scores.person, scores.fold.tolist(), scores.pixel_hash, strict=True
    ):
        by_id[name] = (fold, pixel_hash)
        if pixel_hash:
            by_hash.setdefault(pixel_hash, set()).add(fold)
        if run.settings["grouped"]:
            by_person.setdefault(_person(name, person), set()).add(fold)

    folds: list[frozenset[int] | None] = []
    rescanned, everywhere = [], []
    for patient in patients:
        name, pixel_hash = patient["patient_id"] or "", patient["pixel_hash"] or ""
        own = by_hash.get(pixel_hash, set())
        if name in by_id:
            fold, known_hash = by_id[name]
            if known_hash and pixel_hash and known_hash != pixel_hash:
                rescanned.append(name)
            # The pixels of another patient of the run are better evidence than the id of what a booster has seen.
            folds.append(frozenset(own if own and fold not in own else [fold]))
            continue
        own = by_person.get(_person(name, patient["person"]), set()) or own
        if len(own) > 1:
            everywhere.append(name)
        folds.append(frozenset(own) if own else None)
    if rescanned:
        _warn(
            f"{listed(rescanned)}: the run was trained on other pixels under "
            f"{'this id' if len(rescanned) == 1 else 'these ids'} (a rescan, or another person with that id)"
        )
    if everywhere:
        _warn(
            f"{listed(everywhere)}: the run was trained on the same scan in several folds, so every booster has seen "
            "it, and the prediction is overconfident"
        )
    return folds


def _scores(
    models: Sequence[Model], X: NDArray[np.float32], folds: Sequence[frozenset[int] | None]
) -> NDArray[np.float64]:
    """Average, for each row of X, the boosters that may score it; clipped to [0, 1]."""
    from lungct.boosting import predict_scores

    total, count = np.zeros(len(X)), np.zeros(len(X))
    for model in models:
        rows = np.array([own is None or model.fold in own for own in folds], dtype=bool)
        total[rows] += predict_scores(model.booster, X[rows], model.rounds)
        count[rows] += 1
    return np.clip(total / count, 0.0, 1.0)


def _refuse_other_settings(run: Run, settings: Settings, dir: str) -> None:
    try:
        trained_on = Settings.from_json(
            json.dumps(run.settings["table"]["settings"]), where="its table's settings.json"
        )
    except UsageError as error:
        raise UsageError(
            f"{spelled('RUN')} {run.place} was trained on a feature table that this lungct cannot read "
            f"({error.message})",
            fix="extract and train again",
        ) from error
    except (KeyError, TypeError) as error:
        raise damaged_error(run.place, error) from error
    differences = trained_on.differences(settings)
    if differences:
        raise UsageError(
            f"{spelled('RUN')} {run.place} was trained on features made with other settings than those in {dir} (the "
            f"run's against the table's): {'; '.join(differences)}",
            fix="extract with the run's settings, or train on this table",
        )


def _read_ids(path: str | os.PathLike[str], id_column: str) -> list[str]:
    """Read the ids that the user wants predicted, in their order."""
    rows = csvfile.read_columns(path, (id_column,), argument="ids")
    where = f"{spelled('ids')} {os.fspath(path)}"
    if not rows:
        raise UsageError(f"{where} has a header and no rows", fix="add a row for each id")
    seen: set[str] = set()
    for line, (patient_id,) in rows:
        if not patient_id:
            raise UsageError(f"{where} has no id in line {line}", fix="give the row an id, or remove it")
        if patient_id in seen:
            raise UsageError(f"{where} has the id {patient_id!r} twice (again in line {line})", fix="remove one")
        seen.add(patient_id)
    return [patient_id for _, (patient_id,) in rows]


def _person(patient_id: str, person: str | None) -> str:
    return person or person_in_id(patient_id) or patient_id


def _warn(message: str) -> None:
    warnings.warn(message, LungCTWarning, stacklevel=4)
