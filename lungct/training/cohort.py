"""The user's files -> the cohort to train on: labels, LightGBM's parameters, and labels joined with features."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct import csvfile
from lungct.arguments import counted, listed, listed_texts, spelled
from lungct.errors import LungCTWarning, UsageError
from lungct.features import Pooling, pooled, read_feature_columns, read_settings
from lungct.patients import person_in_id
from lungct.storage import locate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lungct.boosting import Fold


@dataclass(frozen=True)
class Cohort:
    """The patients who have features and a label, ordered by id, and those who were left out.

    Attributes
    ----------
    ids
        n patients.
    X
        float32 (n, P) pooled features.
    y
        int64 (n,) labels.
    persons
        n persons, from the table; None if the id is the person.
    pixel_hashes
        n hashes of the patients' triplets; None if the table has none.
    groups
        n persons, if ids are scans of persons (``person/scan``, or the table knows a person); else None.
    left_out
        ``(patient_id, why)``, ordered by id.

    """

    ids: list[str]
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    persons: list[str | None]
    pixel_hashes: list[str | None]
    groups: list[str] | None
    left_out: list[tuple[str, str]]


def read_labels(path: str | os.PathLike[str], *, id_column: str = "id", label_column: str = "cancer") -> dict[str, int]:
    """Read a CSV of labels.

    Returns
    -------
    dict
        The label, 0 or 1, of each id. Ids are text, exactly as written: ``007`` is not 7.

    Raises
    ------
    UsageError
        If the file cannot be read, lacks a column, has an id twice or a label other than 0 and 1; the message names
        the first few ids.

    """
    where = f"{spelled('labels')} {os.fspath(path)}"
    if id_column == label_column:
        raise UsageError(
            f"{spelled('id_column')} and {spelled('label_column')} are both {id_column!r}", fix="give two columns"
        )
    rows = csvfile.read_columns(path, (id_column, label_column), argument="labels")
    if not rows:
        raise UsageError(f"{where} has a header and no rows", fix="add a row for each patient")
    nameless = [line for line, (patient_id, _) in rows if not patient_id]
    if nameless:
        raise UsageError(f"{where} has no id in line {listed(nameless)}", fix="give each row an id, or remove it")
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
        raise UsageError(
            f"{where}: {label_column} must be 0 or 1, but {counted(len(wrong), 'label is', 'labels are')} "
            f"something else: {listed_texts(wrong)}",
            fix="correct them, or remove the rows of patients without a label",
        )
    if twice:
        raise UsageError(
            f"{where} has {counted(len(twice), 'id', 'ids')} more than once: {listed(twice)}",
            fix="keep one row of each",
        )
    return labels


def read_params(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read LightGBM parameters from a JSON file: one object of names and values.

    Raises
    ------
    UsageError
        If the file cannot be read, does not hold a JSON object, or has a name twice.

    """
    where = f"{spelled('params')} {os.fspath(path)}"

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise UsageError(f"{where} has {listed(double)} twice", fix="keep one of each")
        return dict(pairs)

    try:
        text = locate(path, argument="params").read_bytes()
        values = json.loads(text, object_pairs_hook=without_duplicates)
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error.strerror})", fix="give a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON ({error})", fix="correct it") from error
    if not isinstance(values, dict):
        raise UsageError(
            f"{where} must hold one object of names and values", fix='write, for example, {"num_leaves": 7}'
        )
    return values


def build_cohort(
    dir: str | os.PathLike[str], labels: Mapping[str, int], *, pooling: Pooling, labels_name: str
) -> Cohort:
    """Join features and labels.

    Parameters
    ----------
    labels_name
        The name of the labels in errors.

    Raises
    ------
    UsageError
        If no patient has both.

    """
    table = read_feature_columns(dir, ("patient_id", "error", "person", "pixel_hash"))
    errors, known_persons, hashes = (_by_patient(table, name) for name in ("error", "person", "pixel_hash"))
    ids, X = pooled(dir, pooling)
    keep = [i for i, patient_id in enumerate(ids) if patient_id in labels]
    if not keep:
        pseudonymised = read_settings(dir).pseudonym_key is not None
        raise _no_overlap(ids, errors, labels, os.fspath(dir), labels_name, pseudonymised)
    kept = [ids[i] for i in keep]
    persons = [known_persons[patient_id] for patient_id in kept]
    return Cohort(
        ids=kept,
        X=X[keep],
        y=np.array([labels[patient_id] for patient_id in kept], dtype=np.int64),
        persons=persons,
        pixel_hashes=[hashes[patient_id] for patient_id in kept],
        groups=_groups(kept, persons),
        left_out=_left_out(errors, frozenset(ids), labels),
    )


def _groups(ids: Sequence[str], persons: Sequence[str | None]) -> list[str] | None:
    """Return each id's person: the table's, else the id up to its first slash; None if every id is a person."""
    known = [person or person_in_id(patient_id) for patient_id, person in zip(ids, persons, strict=True)]
    if not any(known):
        return None
    return [person or patient_id for patient_id, person in zip(ids, known, strict=True)]


def _left_out(
    errors: Mapping[str, str | None], with_features: frozenset[str], labels: Mapping[str, int]
) -> list[tuple[str, str]]:
    left_out = [(name, "labelled, but not in the feature table") for name in labels if name not in errors]
    for name, error in errors.items():
        if name not in with_features:
            left_out.append((name, error or "no features"))
        elif name not in labels:
            left_out.append((name, "features, but no label"))
    return sorted(left_out)


def _label(text: str) -> int | None:
    """Return 0 or 1, also for 0.0 and 1.0; None for anything else."""
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
) -> UsageError:
    """Return the error that explains why no patient has both features and a label."""
    if not ids:
        return UsageError(
            f"no patient in {table} has features ({counted(len(errors), 'has an error row', 'have error rows')}), "
            "so there is nothing to train on",
            fix="read the column error of the table",
        )
    if any(patient_id in errors for patient_id in labels):
        return UsageError(
            f"every labelled patient in {table} has an error row, so there is nothing to train on",
            fix="read the column error of the table",
        )
    no_match = f"no id of {spelled('labels')} {labels_name} is in {table}"
    if pseudonymised:
        # The labels' ids may be names, so none of them is shown.
        return UsageError(
            f"{no_match}, whose ids are pseudonyms",
            fix="replace the ids of the labels with `lungct pseudonyms` and the table's key",
        )
    return UsageError(
        f"{no_match} (the labels begin with {next(iter(labels))!r}, the table with {ids[0]!r})",
        fix=f"give the column that holds the table's ids as {spelled('id_column')}",
    )


def _by_patient(table: Any, column: str) -> dict[str, str | None]:
    return dict(zip(table.column("patient_id").to_pylist(), table.column(column).to_pylist(), strict=True))


def warn_of_shared_scans(cohort: Cohort, plan: Sequence[Fold]) -> None:
    """Warn if one scan has several ids in different folds: the booster that scores it was fitted on it, too."""
    seen: dict[str, dict[int, str]] = {}
    for part in plan:
        for i in part.valid:
            pixel_hash = cohort.pixel_hashes[i]
            if pixel_hash is not None:
                seen.setdefault(pixel_hash, {}).setdefault(part.fold, cohort.ids[i])
    shared = [sorted(folds.values()) for folds in seen.values() if len(folds) > 1]
    if shared:
        pairs = listed_texts(" = ".join(map(repr, names[:3])) for names in sorted(shared))
        subject = "the same scan appears" if len(shared) == 1 else f"{len(shared)} scans appear"
        warnings.warn(
            f"{subject} under several ids in different folds, so the metrics are optimistic: {pairs}",
            LungCTWarning,
            stacklevel=3,
        )
