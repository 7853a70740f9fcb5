"""What the user hands in -> who is trained on: labels, LightGBM's parameters, features and labels together."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct import csvfile
from lungct.arguments import counted, listed, listed_texts
from lungct.errors import LungCTWarning, UsageError
from lungct.features import pooled, read_feature_columns, read_settings
from lungct.storage import (
    locate,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lungct.boosting import Fold


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


def read_labels(path: str | os.PathLike[str], *, id_column: str = "id", label_column: str = "cancer") -> dict[str, int]:
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
    rows = csvfile.read_columns(path, (id_column, label_column), argument="labels")
    if not rows:
        raise UsageError(f"{where} has a header and no rows")
    nameless = [line for line, (patient_id, _) in rows if not patient_id]
    if nameless:
        raise UsageError(f"{where} has no id in line {listed(nameless)}")
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
        shown = listed_texts(wrong)
        raise UsageError(
            f"{where}: {label_column} must be 0 or 1, and {counted(len(wrong), 'label is', 'labels are')} "
            f"something else: {shown}; correct them, or remove the rows of patients without a label"
        )
    if twice:
        raise UsageError(
            f"{where} has {counted(len(twice), 'id', 'ids')} more than once: {listed(twice)}; keep one row for each"
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
            raise UsageError(f"{where} gives {listed(double)} twice")
        return dict(pairs)

    try:
        text = locate(path, argument="params").read_bytes()
        values = json.loads(text, object_pairs_hook=once)
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError(f'{where} must hold one object of names and values: {{"num_leaves": 7}}')
    return values


def gather(dir: str | os.PathLike[str], labels: Mapping[str, int], *, pooling: str, labels_name: str) -> Cohort:
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
    table = read_feature_columns(dir, ("patient_id", "error", "pixel_hash"))
    ids, X = pooled(dir, pooling)  # type: ignore[arg-type]
    errors = dict(_column_pairs(table, "error"))
    hashes = dict(_column_pairs(table, "pixel_hash"))
    keep = [i for i, patient_id in enumerate(ids) if patient_id in labels]
    if not keep:
        pseudonymised = read_settings(dir).pseudonym_key is not None
        raise UsageError(_no_overlap(ids, errors, labels, os.fspath(dir), labels_name, pseudonymised))
    kept = [ids[i] for i in keep]
    with_features = set(ids)
    left_out = [(name, "labelled, but not in the feature table") for name in labels if name not in errors]
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


def _label(text: str) -> int | None:
    """Give 0 or 1, also for 0.0 and 1.0; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (0.0, 1.0) else None


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
    return zip(table.column("patient_id").to_pylist(), table.column(column).to_pylist(), strict=True)


def warn_of_shared_scans(cohort: Cohort, plan: Sequence[Fold]) -> None:
    """Say when one scan stands under ids of different folds: its booster has then seen it."""
    seen: dict[str, dict[int, str]] = {}
    for part in plan:
        for i in part.valid:
            pixel_hash = cohort.pixel_hashes[i]
            if pixel_hash is not None:
                seen.setdefault(pixel_hash, {}).setdefault(part.fold, cohort.ids[i])
    shared = [sorted(folds.values()) for folds in seen.values() if len(folds) > 1]
    if shared:
        pairs = listed_texts(" = ".join(map(repr, names[:3])) for names in sorted(shared))
        warnings.warn(
            f"{counted(len(shared), 'scan stands', 'scans stand')} under several ids in different folds, so the "
            f"metrics are too good: {pairs}",
            LungCTWarning,
            stacklevel=3,
        )
