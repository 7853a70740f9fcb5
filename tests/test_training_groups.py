"""Trainings on scans of persons, families and copies: nobody is in two folds, and runs say so."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold
from support.planted import DIM, cohort, patient, write_labels, write_table

from lungct import training
from lungct.cluster import Session
from lungct.errors import LungCTWarning
from lungct.features import Row
from lungct.pseudonyms import Key, pseudonymise_csv

pytestmark = pytest.mark.ray

KEY = Key(b"a secret of enough bytes")
FAST: dict[str, Any] = {"params": {"learning_rate": 0.1, "min_data_in_leaf": 5}, "rounds": 40, "early_stopping": 15}


def read_scores(run: Path) -> list[dict[str, str]]:
    with open(run / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


def same_folds(rows: Sequence[dict[str, str]], groups: Sequence[str], *, folds: int, seed: int) -> bool:
    """Return whether rows are in the folds of plain scikit-learn."""
    y = np.array([int(row["label"]) for row in rows])
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(y, y, groups)
    return all({rows[i]["fold"] for i in valid} == {str(k)} for k, (_, valid) in enumerate(splits))


def scans_of_persons(persons: int, *, seed: int) -> tuple[list[Row], dict[str, int]]:
    """Return three scans of each person, whose features tell the person and nothing about the label."""
    rng = np.random.default_rng(seed)
    rows, labels = [], {}
    for number in range(persons):
        own, label = rng.normal(size=DIM), number % 2
        for scan in range(3):
            row = patient(f"Doe{number:02d}/{scan}", 0)
            assert row.features is not None
            features = own + 0.1 * rng.normal(size=row.features.shape)
            rows.append(dataclasses.replace(row, features=features.astype(np.float32)))
            labels[row.patient_id] = label
    return rows, labels


def test_pseudonyms_keep_a_persons_scans_together(tmp_path: Path, ray_session: Session) -> None:
    """With one hash for the whole of person/scan, this cohort with nothing to find had an AUC of 1.000."""
    rows, labels = scans_of_persons(60, seed=0)
    hidden = [
        dataclasses.replace(
            row, patient_id=KEY.pseudonym(row.patient_id), person=KEY.pseudonym(row.patient_id.split("/")[0])
        )
        for row in rows
    ]
    table = write_table(tmp_path / "features", hidden, depth=2, pseudonym_key=KEY.fingerprint)
    pseudonymise_csv(write_labels(tmp_path / "named.csv", labels), KEY, tmp_path / "labels.csv")
    summary = training.train(table, tmp_path / "labels.csv", tmp_path / "run", seed=0, **FAST)
    scores = read_scores(tmp_path / "run")
    persons = [row["patient_id"].split("/")[0] for row in scores]
    assert [row["person"] for row in scores] == persons
    assert same_folds(scores, persons, folds=5, seed=0)
    auc = summary.auc["value"]
    assert auc is not None
    assert 0.35 < auc < 0.65


def test_a_group_column_decides_the_folds_and_the_run_tells(tmp_path: Path, ray_session: Session) -> None:
    rows, labels = cohort(60)
    families = {name: f"family {i // 4}" if i < 40 else "" for i, name in enumerate(labels)}
    text = "id;malignant;family\n" + "".join(
        f"{name};{'yes' if label else 'no'};{families[name]}\n" for name, label in labels.items()
    )
    (tmp_path / "l.csv").write_bytes(text.encode("utf-16"))
    table = write_table(tmp_path / "features", rows)
    options: dict[str, Any] = {"label_column": "malignant", "positive": "yes", "group_column": "family"}
    summary = training.train(table, tmp_path / "l.csv", tmp_path / "run", folds=4, seed=1, **options, **FAST)
    assert (summary.patients, summary.positives) == (60, 20)
    assert summary.matched == {"labels": 60, "table": 60, "both": 60}
    scores = read_scores(tmp_path / "run")
    assert [row["person"] for row in scores] == [families[row["patient_id"]] for row in scores]
    groups = [families[row["patient_id"]] or row["patient_id"] for row in scores]
    assert same_folds(scores, groups, folds=4, seed=1)
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert (settings["grouped"], settings["group_column"], settings["positive"]) == (True, "family", "yes")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["matched"] == summary.matched
    assert metrics["flow"]["used"] == 60
    assert list(metrics["flow"]) == [
        "table",
        "labels",
        "labelled_not_in_table",
        "labelled_without_features",
        "unlabelled",
        "used",
    ]


def test_one_scan_under_two_ids_is_in_one_fold(tmp_path: Path, ray_session: Session) -> None:
    rows, labels = cohort(40)
    hashes = [f"{i // 2:064x}" for i in range(40)]
    rows = [patient(row.patient_id, i // 2 % 2, pixel_hash=hashes[i]) for i, row in enumerate(rows)]
    labels = {name: i // 2 % 2 for i, name in enumerate(labels)}
    table = write_table(tmp_path / "features", rows)
    with pytest.warns(LungCTWarning, match=r"20 scans are in the table under several ids \(40 in all\)"):
        training.train(table, write_labels(tmp_path / "l.csv", labels), tmp_path / "run", folds=4, **FAST)
    scores = read_scores(tmp_path / "run")
    first = [scores[i - i % 2]["patient_id"] for i in range(40)]
    assert same_folds(scores, first, folds=4, seed=42)
