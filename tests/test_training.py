"""lungct.training: labels and features joined, and what a training leaves or refuses to do."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from support.planted import cohort, patient, write_labels, write_table
from support.runs import write_run

from lungct import reporting, training
from lungct.cluster import Session
from lungct.errors import LungCTWarning, NothingUsableError, UsageError
from lungct.features import Row, pooled

# One label of the table has no patient, and one of its patients has no label.
pytestmark = pytest.mark.filterwarnings("ignore:matched 60 of 61 labelled ids")

FAST: dict[str, Any] = {"params": {"learning_rate": 0.05}, "rounds": 60, "early_stopping": 15}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 labelled patients, one without a label, one with an error row; and the label of an unknown patient."""
    directory = tmp_path_factory.mktemp("cohort")
    rows, labels = cohort(60)
    broken = Row("broken", error="The files are no CT.", error_code="no_ct")
    write_table(directory / "features", [*rows, patient("unlabelled", 0), broken])
    write_labels(directory / "labels.csv", {**labels, "unknown": 1})
    return directory


def test_params_come_from_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"num_leaves": 7, "learning_rate": 0.05}')
    assert training.read_params(path) == {"num_leaves": 7, "learning_rate": 0.05}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("", "is not JSON"),
        ("num_leaves: 7", "is not JSON"),
        ("[1]", "one object"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_params_that_cannot_be_used_are_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "p.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        training.read_params(path)
    assert "\n" not in str(caught.value)


def test_who_is_in_and_who_was_left_out_and_why(table: Path) -> None:
    known = training.read_labels(table / "labels.csv")
    labels = known.known
    with pytest.warns(LungCTWarning, match="matched 60 of 61 labelled ids and of 61 patients with features"):
        found = training.build_cohort(table / "features", known, pooling="mean")
    assert found.ids == sorted(set(labels) - {"unknown"})
    assert found.y.tolist() == [labels[name] for name in found.ids]
    assert found.groups is None
    assert found.persons == [None] * 60
    assert found.left_out == [
        ("broken", "The files are no CT."),
        ("unknown", "labelled, but not in the feature table"),
        ("unlabelled", "features, but no label"),
    ]
    ids, X = pooled(table / "features", "mean")
    np.testing.assert_array_equal(found.X, X[[ids.index(name) for name in found.ids]])


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """An earlier run."""
    return write_run(tmp_path / "run", folds=8)


def listing(directory: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pooling": "median"}, "pooling must be one of mean, max, meanmax, meanstd, not 'median'"),
        ({"objective": "l1"}, "objective must be one of l2, binary"),
        ({"folds": 1}, "folds must be a whole number"),
        ({"folds": 21}, "too few patients for folds=21"),
        ({"rounds": 0}, "rounds must be"),
        ({"early_stopping": -1}, "early_stopping must be"),
        ({"seed": -1}, "seed must be"),
        ({"params": {"n_estimators": 3}}, "'n_estimators'"),
        ({"params": "missing.json"}, "params missing.json cannot be read"),
        ({"label_column": "malignant"}, "no column 'malignant'"),
        ({"id_column": "PatientID"}, "no column 'PatientID'"),
    ],
)
def test_a_refusal_leaves_an_earlier_run_as_it_was(
    table: Path, finished: Path, options: dict[str, Any], words: str
) -> None:
    before = listing(finished.parent)
    with pytest.raises(UsageError, match=words) as caught:
        training.train(table / "features", table / "labels.csv", finished, **options)
    assert "\n" not in str(caught.value)
    assert listing(finished.parent) == before


def test_a_directory_that_is_not_a_table_and_labels_of_one_class_are_refused(table: Path, tmp_path: Path) -> None:
    for missing in (tmp_path / "absent", tmp_path):
        with pytest.raises(UsageError, match=r"settings\.json"):
            training.train(missing, table / "labels.csv", tmp_path / "run")
    ones = write_labels(tmp_path / "l.csv", dict.fromkeys([f"p{i:03d}" for i in range(60)], 1))
    with pytest.raises(UsageError, match=r"every patient with features \(60 in all\) has the label 1"):
        training.train(table / "features", ones, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", ["/proc/lungct-run", "{file}/run", "{dir}", "{table}"])
def test_a_run_that_cannot_be_written_is_refused(table: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    out = out.format(file=tmp_path / "file", dir=tmp_path, table=table / "features")
    before = listing(tmp_path), listing(table)
    with pytest.raises(UsageError, match="out "):
        training.train(table / "features", table / "labels.csv", out, **FAST)
    assert (listing(tmp_path), listing(table)) == before


@pytest.fixture(scope="module")
def trained(
    table: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: Session
) -> tuple[Path, training.TrainSummary]:
    """A run and its summary."""
    run = tmp_path_factory.mktemp("run") / "deep" / "run"
    return run, training.train(table / "features", table / "labels.csv", run, **FAST)


def read_scores(run: Path) -> list[dict[str, str]]:
    with open(run / "scores.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.ray
def test_files_equal_plain_lightgbm_and_scikit_learn(table: Path, trained: tuple[Path, training.TrainSummary]) -> None:
    run, summary = trained
    metrics = json.loads((run / "metrics.json").read_text())
    rows = read_scores(run)
    labels = training.read_labels(table / "labels.csv").known
    ids, X = pooled(table / "features", "mean")
    keep = [i for i, name in enumerate(ids) if name in labels]
    X, y = X[keep], np.array([labels[ids[i]] for i in keep])
    assert [row["patient_id"] for row in rows] == [ids[i] for i in keep]
    assert {(row["person"], row["repeat"]) for row in rows} == {("", "0")}
    assert [int(row["label"]) for row in rows] == y.tolist()
    assert len(rows) == summary.patients == metrics["patients"] == 60
    assert summary.positives == metrics["positives"] == 20

    params = json.loads((run / "settings.json").read_text())["params"]
    curves = read_curves(run)
    splits = StratifiedKFold(5, shuffle=True, random_state=42).split(y, y)
    for k, (train, valid) in enumerate(splits):
        data = lightgbm.Dataset(X[train], y[train])
        history: dict[str, dict[str, list[float]]] = {}
        booster = lightgbm.train(
            params,
            data,
            60,
            valid_sets=[data.create_valid(X[valid], y[valid])],
            callbacks=[
                lightgbm.early_stopping(15, verbose=False),
                lightgbm.record_evaluation(history),
            ],
            keep_training_booster=True,
        )
        undisturbed = lightgbm.train(params, lightgbm.Dataset(X[train], y[train]), 60)
        entry = metrics["folds"][k]
        assert entry["best_iteration"] == booster.best_iteration
        np.testing.assert_allclose(curves[k], history["valid_0"]["l2"], rtol=1e-12)
        mine = [rows[i] for i in valid]
        assert {row["fold"] for row in mine} == {str(k)}
        for column, rounds in (
            ("score", entry["rounds"]),
            ("optimistic_score", entry["best_iteration"]),
        ):
            expected = undisturbed.predict(X[valid], num_iteration=rounds)
            assert [float(row[column]) for row in mine] == expected.tolist()
            stored = lightgbm.Booster(model_file=run / f"models/repeat-0-fold-{k}.txt")
            assert stored.predict(X[valid], num_iteration=rounds).tolist() == expected.tolist()


def read_curves(run: Path) -> list[list[float]]:
    curves: dict[int, list[float]] = {}
    with open(run / "curves.csv", newline="") as file:
        for row in csv.DictReader(file):
            curve = curves.setdefault(int(row["fold"]), [])
            assert int(row["round"]) == len(curve) + 1
            curve.append(float(row["loss"]))
    return [curves[k] for k in sorted(curves)]


@pytest.mark.ray
def test_a_planted_signal_is_found_and_the_summary_has_the_numbers_of_metrics_json(
    trained: tuple[Path, training.TrainSummary],
) -> None:
    run, summary = trained
    metrics = json.loads((run / "metrics.json").read_text())
    line = summary.as_dict()
    assert list(line) == [
        "command",
        "out",
        "patients",
        "positives",
        "matched",
        "folds",
        "auc",
        "log_loss",
        "brier",
        "optimistic",
        "linear",
        "baseline",
        "seconds",
    ]
    for name in ("matched", "auc", "log_loss", "brier", "optimistic", "linear", "baseline", "seconds"):
        assert line[name] == metrics[name]
    assert line["auc"]["low"] > 0.5
    assert line["log_loss"]["value"] < line["baseline"]["log_loss"]["value"]
    assert [left["patient_id"] for left in metrics["left_out"]] == [
        "broken",
        "unknown",
        "unlabelled",
    ]


@pytest.mark.ray
def test_a_run_has_every_file_and_its_report_can_be_written_again(trained: tuple[Path, training.TrainSummary]) -> None:
    run, _ = trained
    models = [f"models/repeat-0-fold-{k}.txt" for k in range(5)]
    names = sorted(os.path.relpath(name, run) for name in listing(run))
    files = ["curves.csv", "metrics.json", "pair_curves.csv", "report.html", "scores.csv", "settings.json"]
    assert names == sorted([*files, *models])
    assert os.listdir(run.parent) == ["run"]
    page = (run / "report.html").read_bytes()
    assert reporting.report(run).read_bytes() == page


@pytest.mark.ray
def test_the_same_training_again_differs_only_in_seconds(
    table: Path, trained: tuple[Path, training.TrainSummary], tmp_path: Path
) -> None:
    run, _ = trained
    training.train(table / "features", table / "labels.csv", tmp_path / "run", **FAST)
    first, again = listing(run), listing(tmp_path / "run")
    names = {os.path.relpath(name, run) for name in first}
    assert names == {os.path.relpath(name, tmp_path / "run") for name in again}
    for name in names - {"metrics.json", "report.html"}:
        assert first[str(run / name)] == again[str(tmp_path / "run" / name)], name
    both = [json.loads((r / "metrics.json").read_text()) for r in (run, tmp_path / "run")]
    assert all(metrics.pop("seconds") >= 0 for metrics in both)
    assert both[0] == both[1]


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_an_earlier_run_is_replaced_as_a_whole(table: Path, finished: Path) -> None:
    (finished / "notes.txt").write_text("mine")
    training.train(table / "features", table / "labels.csv", finished, folds=3, inner=True, **FAST)
    names = sorted(os.path.relpath(name, finished) for name in listing(finished))
    models = [f"models/repeat-0-fold-{k}.txt" for k in range(3)]
    assert names == sorted(
        ["metrics.json", "settings.json", "scores.csv", "curves.csv", "report.html", "notes.txt", *models]
    )
    assert json.loads((finished / "metrics.json").read_text())["optimistic"] is None
    assert {row["optimistic_score"] for row in read_scores(finished)} == {""}


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_a_training_that_fails_leaves_an_earlier_run_as_it_was(table: Path, finished: Path) -> None:
    before = listing(finished.parent)
    unlearnable = {**FAST, "params": {"learning_rate": 1e300}}
    with pytest.raises(UsageError, match="not a finite number") as caught:
        training.train(table / "features", table / "labels.csv", finished, **unlearnable)
    assert "\n" not in str(caught.value)
    assert listing(finished.parent) == before


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_boosters_that_split_nothing_leave_no_run(table: Path, tmp_path: Path) -> None:
    unsplittable = {**FAST, "params": {"min_data_in_leaf": 30}}
    with pytest.raises(NothingUsableError, match="no booster could split") as caught:
        training.train(table / "features", table / "labels.csv", tmp_path / "run", **unsplittable)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
@pytest.mark.usefixtures("ray_session")
def test_scans_of_one_person_are_in_one_fold(tmp_path: Path) -> None:
    labels = {f"person{i:02d}/scan{j}": int(i % 2) for i in range(20) for j in range(2)}
    rows = [patient(name, label) for name, label in labels.items()]
    table = write_table(tmp_path / "features", rows, depth=2)
    path = write_labels(tmp_path / "l.csv", labels)
    enough = {**FAST, "params": {**FAST["params"], "min_data_in_leaf": 5}}
    training.train(table, path, tmp_path / "run", folds=4, seed=1, **enough)
    scores = read_scores(tmp_path / "run")
    y = np.array([int(row["label"]) for row in scores])
    persons = [row["patient_id"].split("/")[0] for row in scores]
    splits = StratifiedGroupKFold(4, shuffle=True, random_state=1).split(y, y, persons)
    for k, (_, valid) in enumerate(splits):
        assert {scores[i]["fold"] for i in valid} == {str(k)}
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["grouped"] is True
