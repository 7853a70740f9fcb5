"""The predictions of a run's boosters for a feature table."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.arguments import one_of, spelled
from lungct.csvfile import csv_bytes
from lungct.errors import UsageError
from lungct.features import pooled, read_feature_columns, read_settings
from lungct.prediction.compatibility import check_features, settings_of_training
from lungct.prediction.known import own_folds
from lungct.prediction.wanted import MISSING, Missing, WantedIds
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

    Patients whom the run was trained on, recognised by id, person or pixel_hash, are scored by the booster of their own
    fold alone, which was not fitted on them; on the run's own table that is their out-of-fold score, clipped.

    Parameters
    ----------
    run
        The directory that ``train`` wrote.
    dir
        A feature table made with the same preset, backbone, weights and choice of series as the one that the run was
        trained on.

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
        If an id that the run knows has other pixels here, features were computed on another device or in another
        precision or batch size, or ids are under another key than the run's, so that they cannot show who was used in
        training.

    """
    return _predict(read_run(run), dir, None, "refuse")


def predict_to_csv(
    run: str | os.PathLike[str],
    dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    ids: str | os.PathLike[str] | None = None,
    missing: Missing = "refuse",
) -> PredictSummary:
    """Predict, and write a CSV with the run's id and label columns in one step.

    Parameters
    ----------
    run, dir
        See `predict`.
    out
        The CSV; an existing file is replaced.
    ids
        A CSV with the run's id column: only these patients, in its order and as it writes their ids.
    missing
        What ids of ``ids`` without features get: "refuse" (the default: none of them is predicted), "blank" (an empty
        field) or "prevalence" (the share of positives that the run was trained on, in [0, 1]).

    Raises
    ------
    UsageError
        As for `predict`; also if an id of ``ids`` has no features and ``missing`` is "refuse", or appears twice, or
        ``out`` cannot be written.

    Warns
    -----
    LungCTWarning
        As for `predict`; also of ids without features, with their number.

    """
    begun = time.monotonic()
    one_of(missing, MISSING, "missing")
    if ids is None and missing != "refuse":
        raise UsageError(
            f"{spelled('missing', missing)} says what the ids of {spelled('ids')} without features get",
            fix=f"give {spelled('ids')} too, or leave {spelled('missing')} out",
        )
    table = _predict(read_run(run), dir, ids, missing)
    make_directory(locate(out, argument="out").parent, argument="out")
    path = output_file(out, argument="out")
    columns = (column.to_pylist() for column in table.columns)
    write_atomically(path, csv_bytes(table.column_names, zip(*columns, strict=True)))
    return PredictSummary(str(out), table.num_rows, round(time.monotonic() - begun, 3))


def _predict(
    run: Run, dir: str | os.PathLike[str], wanted: str | os.PathLike[str] | None, missing: Missing
) -> pa.Table:
    """Predict a table's patients, or the wanted ones in their order."""
    import pyarrow as pa

    settings, trained_on, id_column = read_settings(dir), settings_of_training(run), run.settings["id_column"]
    share = run.metrics["positives"] / run.metrics["patients"]
    list_of_ids = None
    if wanted is not None:
        list_of_ids = WantedIds(wanted, id_column, hide_ids=settings.pseudonym_key is not None)
    check_features(run, trained_on, settings, os.fspath(dir))
    models = _load_models(run)
    table = read_feature_columns(dir, ("patient_id", "person", "pixel_hash")).to_pylist()
    ids, X = pooled(dir, run.settings["pooling"])
    names, places = ids, list(range(len(ids)))
    found: list[int | None] = list(places)
    if list_of_ids is not None:
        names = list_of_ids.ids
        everyone = [row["patient_id"] for row in table]
        found = list_of_ids.places(ids, everyone, os.fspath(dir), missing, share)
        places = [place for place in found if place is not None]
    by_id = {row["patient_id"]: row for row in table}
    folds = own_folds(run, trained_on, [by_id[ids[place]] for place in places], settings)
    scores = iter(_scores(models, X[places], folds).tolist())
    instead = share if missing == "prevalence" else None
    values = [instead if place is None else next(scores) for place in found]
    return pa.table(
        {id_column: pa.array(names, pa.string()), run.settings["label_column"]: pa.array(values, pa.float64())}
    )


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
