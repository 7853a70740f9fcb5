"""What a run holds, as plain columns, and the same as files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.csvfile import csv_bytes
from lungct.storage import Place

SCHEMA = 1

SETTINGS_KEYS = (
    *("schema", "kind", "lungct", "table", "labels", "id_column", "label_column", "pooling", "objective", "params"),
    *("folds", "repeats", "grouped", "rounds", "early_stopping", "inner", "seed", "versions"),
)
METRICS_KEYS = (
    *("schema", "patients", "positives", "folds", "auc", "log_loss", "brier", "optimistic", "baseline"),
    *("left_out", "seconds"),
)
SCORES_HEADER = ("patient_id", "person", "label", "repeat", "fold", "score", "optimistic_score", "pixel_hash")
CURVES_HEADER = ("repeat", "fold", "round", "loss")
PAIR_CURVES_HEADER = ("repeat", "fold", "without", "round", "loss")

_FILES = r"settings\.json|scores\.csv|(?:pair_)?curves\.csv|report\.html|metrics\.json|models/repeat-\d+-fold-\d+\.txt"
_UNFINISHED = r"(?:models/)?\.[^/]+\.[0-9a-f]{8}\.tmp"  # as `lungct.storage.write_atomically` names what it stages
_WRITTEN_BY_LUNGCT = re.compile(f"(?:{_FILES}|{_UNFINISHED})")


@dataclass(frozen=True)
class Scores:
    """Out-of-fold scores: a row for each patient and repeat, ordered by repeat and patient_id.

    Attributes
    ----------
    patient_id
        n ids.
    person
        n texts: whose scan it is; "" if the id is the person.
    label
        int64 (n,), 0 or 1.
    repeat, fold
        int64 (n,): which repeat of the cross-validation the row is of, and which of its folds holds the patient.
    score
        float64 (n,), as the booster returns it: a regression's score may lie outside [0, 1].
    optimistic_score
        float64 (n,); None in a run with ``inner``.
    pixel_hash
        n hashes of the patients' triplets; "" if the table has none.

    """

    patient_id: Sequence[str]
    person: Sequence[str]
    label: NDArray[np.int64]
    repeat: NDArray[np.int64]
    fold: NDArray[np.int64]
    score: NDArray[np.float64]
    optimistic_score: NDArray[np.float64] | None
    pixel_hash: Sequence[str]


@dataclass(frozen=True)
class Run:
    """What a run directory holds.

    Attributes
    ----------
    place
        The directory, for messages.
    settings, metrics
        settings.json and metrics.json.
    scores
        scores.csv.
    curves
        ``(repeat, fold)`` to float64 (rounds until early stopping,): the validation loss, from round 1.
    models
        ``(repeat, fold)`` to a booster in LightGBM's text format.
    pair_curves
        ``(repeat, fold, without)`` to float64 (rounds until early stopping,): the loss on ``fold`` of the booster that
        was fitted outside ``fold`` and ``without``, from round 1; empty with ``inner``.

    """

    place: Place
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    scores: Scores = field(repr=False)
    curves: Mapping[tuple[int, ...], NDArray[np.float64]] = field(repr=False)
    models: Mapping[tuple[int, int], str] = field(repr=False)
    pair_curves: Mapping[tuple[int, ...], NDArray[np.float64]] = field(repr=False, default_factory=dict)


def model_name(repeat: int, fold: int) -> str:
    """Return the name of a booster's file, relative to RUN."""
    return f"models/repeat-{repeat}-fold-{fold}.txt"


def written_by_lungct(name: str) -> bool:
    """Return whether a file of this name, relative to RUN, is one that lungct writes, finished or not."""
    return _WRITTEN_BY_LUNGCT.fullmatch(name) is not None


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return a JSON file's bytes."""
    return json.dumps(values, indent=1, allow_nan=False).encode()


def to_files(run: Run) -> dict[str, bytes]:
    """Return the files that metrics.json has checksums of, by name."""
    scores = run.scores
    optimistic = [None] * len(scores.patient_id)
    if scores.optimistic_score is not None:
        optimistic = scores.optimistic_score.tolist()
    rows = zip(
        scores.patient_id,
        scores.person,
        scores.label.tolist(),
        scores.repeat.tolist(),
        scores.fold.tolist(),
        scores.score.tolist(),
        optimistic,
        scores.pixel_hash,
        strict=True,
    )
    files = {
        "settings.json": json_bytes(run.settings),
        "scores.csv": csv_bytes(SCORES_HEADER, rows),
        "curves.csv": csv_bytes(CURVES_HEADER, _losses(run.curves)),
    }
    if run.pair_curves:
        files["pair_curves.csv"] = csv_bytes(PAIR_CURVES_HEADER, _losses(run.pair_curves))
    return files | {model_name(*key): text.encode() for key, text in sorted(run.models.items())}


def _losses(curves: Mapping[tuple[int, ...], NDArray[np.float64]]) -> Iterator[tuple[object, ...]]:
    """Yield a row for each round of each curve: the curve's key, the round and the loss."""
    for key, curve in sorted(curves.items()):
        for number, loss in enumerate(curve.tolist(), start=1):
            yield (*key, number, loss)


def checksums(run: Run) -> dict[str, str]:
    """Return the SHA-256 of each of a run's files, as metrics.json has them or will have them."""
    written: dict[str, str] | None = run.metrics.get("sha256")
    return written or {name: hashlib.sha256(data).hexdigest() for name, data in to_files(run).items()}


def scores_from_csv(data: bytes) -> Scores:
    """Read scores.csv; raise ValueError if it is something else."""
    ids, persons, labels, repeats, folds, scores, optimistic, hashes = _columns(data, SCORES_HEADER)
    label, score = np.array(labels, dtype=np.int64), np.array(scores, dtype=np.float64)
    if not np.isin(label, (0, 1)).all() or not np.isfinite(score).all():
        raise ValueError("a label is not 0 or 1, or a score is not a number")
    return Scores(
        patient_id=ids,
        person=persons,
        label=label,
        repeat=np.array(repeats, dtype=np.int64),
        fold=np.array(folds, dtype=np.int64),
        score=score,
        optimistic_score=np.array(optimistic, dtype=np.float64) if any(optimistic) else None,
        pixel_hash=hashes,
    )


def curves_from_csv(data: bytes, header: Sequence[str] = CURVES_HEADER) -> dict[tuple[int, ...], NDArray[np.float64]]:
    """Read curves.csv or pair_curves.csv; raise ValueError if it is something else."""
    *keys, _, losses = _columns(data, header)
    curves: dict[tuple[int, ...], list[float]] = {}
    for key, loss in zip(zip(*keys, strict=True), losses, strict=True):
        curves.setdefault(tuple(map(int, key)), []).append(float(loss))
    return {key: np.array(values) for key, values in curves.items()}


def _columns(data: bytes, header: Sequence[str]) -> list[list[str]]:
    """Return the columns of a CSV that `csv_bytes` wrote with this header and at least one row."""
    try:
        first, *rows = csv.reader(io.StringIO(data.decode(), newline=""), strict=True)
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if first != list(header) or not rows:
        raise ValueError(f"it must have the columns {', '.join(header)} and at least one row")
    return [list(column) for column in zip(*rows, strict=True)]
