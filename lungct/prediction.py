"""A run and a feature table -> a prediction for each patient: a table, or the CSV that a challenge takes.

A patient whom the run does not know gets the mean of its boosters' predictions, each at its fold's ``rounds``, clipped
to [0, 1]. No prediction may come from a booster that was fitted on that person: a patient of the run's own scores is
scored by the booster of its own fold alone, the one that never saw it. A patient is known by, in this order,

1. its id, unless its pixels are those of another patient of the run;
2. where ids are paths (``person/scan``), the person, whose scans are all in one fold;
3. its pixel_hash: the same scan under another id.

The run is read as `lungct.training` wrote it, and only if it has its metrics.json: what a kill left half-written is
refused. Nothing here knows what LightGBM's text means.
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
from lungct.arguments import listed
from lungct.csvfile import csv_bytes
from lungct.errors import LungCTWarning, UsageError
from lungct.features import Settings, pooled, read_feature_columns, read_settings
from lungct.storage import Place, locate, make_directory, output_file, write_atomically

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from lungct.boosting import Booster

    Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PredictSummary:
    """What a prediction came to."""

    out: str
    patients: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Give the JSON line of ``lungct predict``."""
        return {"command": "predict", **asdict(self)}


@dataclass(frozen=True)
class Model:
    """One booster of a run: ``rounds`` of its rounds predict, and it never saw the patients of ``fold``."""

    fold: int
    rounds: int
    booster: Booster


@dataclass(frozen=True)
class Run:
    """What a run directory holds, as far as predictions need it.

    Attributes
    ----------
    id_column, label_column
        Of the labels that the run was trained on, and of the predictions.
    pooling
        How a patient's features become one vector.
    grouped
        Whether ids are ``person/scan``.
    table
        The settings of the table that the run was trained on.
    models
        Its boosters.
    scored
        ``(patient_id, fold, pixel_hash or "")`` of the patients that it was trained on.

    """

    path: Place
    id_column: str
    label_column: str
    pooling: str
    grouped: bool
    table: Settings
    models: tuple[Model, ...]
    scored: tuple[tuple[str, int, str], ...]


def predict(run: str | os.PathLike[str], dir: str | os.PathLike[str]) -> pa.Table:
    """Predict every patient of a feature table who has features.

    Parameters
    ----------
    run
        What ``train`` wrote.
    dir
        A feature table made with the settings that the run was trained on.

    Returns
    -------
    pyarrow.Table
        The run's id column (string) and label column (double, in [0, 1]), ordered by id.

    Raises
    ------
    UsageError
        If RUN is no finished run, DIR no feature table, or their settings differ.

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
    """Predict, and write a CSV in one step: RUN's id and label columns.

    Parameters
    ----------
    run, dir
        See `predict`.
    out
        The CSV; an older one is replaced.
    ids
        A CSV with RUN's id column: only these patients, in its order.

    Raises
    ------
    UsageError
        As `predict`; and if an id of ``ids`` has no features or stands twice, or ``out`` cannot be written.

    """
    begun = time.monotonic()
    loaded = read_run(run)
    wanted = None if ids is None else _read_ids(ids, loaded.id_column)
    table = _predict(loaded, dir, wanted, ids_name=os.fspath(ids or ""))
    make_directory(locate(out, argument="out").parent, argument="out")
    path = output_file(out, argument="out")
    columns = (column.to_pylist() for column in table.columns)
    write_atomically(path, csv_bytes(table.column_names, zip(*columns, strict=True)))
    return PredictSummary(str(out), table.num_rows, round(time.monotonic() - begun, 3))


# --- reading a run ---


def read_run(run: str | os.PathLike[str]) -> Run:
    """Read a run directory, boosters included.

    Raises
    ------
    UsageError
        If it is no run, or one that was not finished or was changed by hand; the sentence says which.

    """
    from lungct.boosting import load_booster

    path = locate(run, argument="RUN")
    if not path.is_dir():
        raise UsageError(f"RUN {run} is not there: give the --out of a train")
    settings = _read_json(path, "settings.json", run)
    if settings.get("kind") != "run":
        raise UsageError(f"RUN {run} is not a run: give the --out of a train")
    metrics = _read_json(path, "metrics.json", run)
    try:
        models = tuple(
            Model(
                fold=int(entry["fold"]),
                rounds=int(entry["rounds"]),
                booster=load_booster((path / f"models/repeat-{entry['repeat']}-fold-{entry['fold']}.txt").read_text()),
            )
            for entry in metrics["folds"]
        )
        columns = ("patient_id", "fold", "pixel_hash")
        rows = csvfile.read_columns(path / "scores.csv", columns, argument="RUN")
        scored = tuple((name, int(fold), pixel_hash) for _, (name, fold, pixel_hash) in rows)
        table = Settings.from_json(json.dumps(settings["table"]["settings"]), where=f"{path}/settings.json")
        return Run(
            path=path,
            id_column=str(settings["id_column"]),
            label_column=str(settings["label_column"]),
            pooling=str(settings["pooling"]),
            grouped=bool(settings["grouped"]),
            table=table,
            models=models,
            scored=scored,
        )
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        reason = f"no {error} in its files" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"RUN {run} is damaged ({reason}): train it again") from error


def _read_json(path: Place, name: str, run: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        values = json.loads((path / name).read_bytes())
    except FileNotFoundError:
        if name == "metrics.json":
            raise UsageError(f"RUN {run} has no metrics.json, so its training did not end: train it again") from None
        raise UsageError(f"RUN {run} is not a run (it has no {name}): give the --out of a train") from None
    except OSError as error:
        raise UsageError(f"RUN {run}: {name} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"RUN {run} is damaged ({name} is not JSON): train it again") from error
    if not isinstance(values, dict):
        raise UsageError(f"RUN {run} is damaged ({name} is no object): train it again")
    return values


# --- predicting ---


def _predict(run: Run, dir: str | os.PathLike[str], wanted: Sequence[str] | None, *, ids_name: str = "") -> pa.Table:
    """Predict a table's patients, or the wanted ones in their order."""
    import pyarrow as pa

    _refuse_other_settings(run, read_settings(dir), os.fspath(dir))
    table = read_feature_columns(dir, ("patient_id", "pixel_hash"))
    ids, X = pooled(dir, run.pooling)  # type: ignore[arg-type]
    hashes: dict[str, str | None] = dict(
        zip(*(table.column(name).to_pylist() for name in ("patient_id", "pixel_hash")), strict=True)
    )
    if wanted is not None:
        place = {patient_id: i for i, patient_id in enumerate(ids)}
        missing = [patient_id for patient_id in wanted if patient_id not in place]
        if missing:
            raise UsageError(
                f"--ids {ids_name} has {len(missing)} of {len(wanted)} ids without features in "
                f"{os.fspath(dir)}: {listed(missing)}"
            )
        X = X[[place[patient_id] for patient_id in wanted]]
        ids = list(wanted)
    folds = own_folds(run, ids, hashes)
    predictions = _scores(run.models, X, folds)
    return pa.table({run.id_column: pa.array(ids, pa.string()), run.label_column: pa.array(predictions)})


def own_folds(run: Run, ids: Sequence[str], hashes: Mapping[str, str | None]) -> list[frozenset[int] | None]:
    """Find the folds whose boosters may score each patient; None where all of them may.

    Warns
    -----
    LungCTWarning
        Of ids that the run knows with another pixel_hash; of scans that stand in several of its folds, which every
        booster was fitted on.

    """
    by_id = {name: (fold, pixel_hash) for name, fold, pixel_hash in run.scored}
    by_hash: dict[str, set[int]] = {}
    by_person: dict[str, set[int]] = {}
    for name, fold, pixel_hash in run.scored:
        if pixel_hash:
            by_hash.setdefault(pixel_hash, set()).add(fold)
        if run.grouped:
            by_person.setdefault(_person(name), set()).add(fold)

    folds: list[frozenset[int] | None] = []
    rescanned, everywhere = [], []
    for patient_id in ids:
        pixel_hash = hashes[patient_id] or ""
        own = by_hash.get(pixel_hash, set())
        if patient_id in by_id:
            fold, known_hash = by_id[patient_id]
            if known_hash and pixel_hash and known_hash != pixel_hash:
                rescanned.append(patient_id)
            # Another known patient's pixels under this id: pixels say better than a name whom a booster has seen.
            folds.append(frozenset(own if own and fold not in own else [fold]))
            continue
        own = by_person.get(_person(patient_id), set()) or own
        if len(own) > 1:
            everywhere.append(patient_id)
        folds.append(frozenset(own) if own else None)
    if rescanned:
        _warn(
            f"{listed(rescanned)}: the run was trained on other pixels under "
            f"{'this id' if len(rescanned) == 1 else 'these ids'} (a rescan, or another person of that id)"
        )
    if everywhere:
        _warn(
            f"{listed(everywhere)}: the run was trained on the same scan in several folds, so every booster has seen "
            "it, and the prediction is too sure"
        )
    return folds


def _scores(models: Sequence[Model], X: NDArray[np.float32], folds: Sequence[frozenset[int] | None]) -> Floats:
    """Average, for each row of X, the boosters that may score it; clipped to [0, 1]."""
    from lungct.boosting import predict_scores

    total, count = np.zeros(len(X)), np.zeros(len(X))
    for model in models:
        rows = np.array([own is None or model.fold in own for own in folds], dtype=bool)
        total[rows] += predict_scores(model.booster, X[rows], model.rounds)
        count[rows] += 1
    return np.clip(total / np.maximum(count, 1), 0.0, 1.0)


def _refuse_other_settings(run: Run, settings: Settings, dir: str) -> None:
    differences = run.table.differences(settings)
    if differences:
        raise UsageError(
            f"RUN {run.path} was trained on other features than {dir} has (RUN's against DIR's): "
            f"{'; '.join(differences)}: extract DIR with RUN's settings, or train on DIR's"
        )


def _read_ids(path: str | os.PathLike[str], id_column: str) -> list[str]:
    """Read the ids of ``--ids``, in their order."""
    rows = csvfile.read_columns(path, (id_column,), argument="ids")
    where = f"--ids {os.fspath(path)}"
    if not rows:
        raise UsageError(f"{where} has a header and no rows")
    seen: set[str] = set()
    for line, (patient_id,) in rows:
        if not patient_id:
            raise UsageError(f"{where} has no id in line {line}")
        if patient_id in seen:
            raise UsageError(f"{where} has the id {patient_id!r} twice (again in line {line})")
        seen.add(patient_id)
    return [patient_id for _, (patient_id,) in rows]


def _person(patient_id: str) -> str:
    return patient_id.split("/", 1)[0]


def _warn(sentence: str) -> None:
    warnings.warn(sentence, LungCTWarning, stacklevel=4)
