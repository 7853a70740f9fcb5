"""lungct.prediction: no patient is scored by a booster that was fitted on them."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import re
import shutil
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
from support.planted import cohort, patient, write_labels, write_table

import lungct
from lungct import training
from lungct.cluster import Session
from lungct.errors import LungCTWarning, UsageError
from lungct.features import Row, pooled, read_features
from lungct.prediction import predict, predict_to_csv

pytestmark = pytest.mark.ray  # the run that they predict with was trained on Ray

FAST: dict[str, Any] = {"params": {"learning_rate": 0.05, "min_data_in_leaf": 3}, "rounds": 60, "early_stopping": 15}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, ray_session: Session) -> Path:
    """A run trained on 45 patients of a table of 50, one of whom has no features."""
    directory = tmp_path_factory.mktemp("trained")
    rows, labels = cohort(50)
    broken = Row("broken", error="The files are no CT.", error_code="no_ct")
    write_table(directory / "features", [*rows, broken])
    known = dict(list(labels.items())[:45])
    write_labels(directory / "labels.csv", known)
    training.train(directory / "features", directory / "labels.csv", directory / "run", folds=4, **FAST)
    return directory


def boosters(run: Path) -> list[tuple[lightgbm.Booster, int]]:
    metrics = json.loads((run / "metrics.json").read_text())
    return [
        (lightgbm.Booster(model_file=run / f"models/repeat-0-fold-{k}.txt"), fold["rounds"])
        for k, fold in enumerate(metrics["folds"])
    ]


def scores(run: Path) -> dict[str, dict[str, str]]:
    with open(run / "scores.csv", newline="") as file:
        return {row["patient_id"]: row for row in csv.DictReader(file)}


def by_id(table: pa.Table) -> dict[str, float]:
    return dict(zip(*(column.to_pylist() for column in table.columns), strict=True))


def edit(run: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a file of a run, and its checksum in metrics.json with it."""
    (run / name).write_text(change((run / name).read_text()))
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["sha256"][name] = hashlib.sha256((run / name).read_bytes()).hexdigest()
    (run / "metrics.json").write_text(json.dumps(metrics))


def expected(run: Path, rows: list[Row], folds: list[int] | None = None) -> list[float]:
    """Plain LightGBM: the mean of some folds' boosters, clipped."""
    X = np.stack([row.features.astype(np.float64).mean(axis=0) for row in rows if row.features is not None])
    chosen = [b for k, b in enumerate(boosters(run)) if folds is None or k in folds]
    each = [booster.predict(X.astype(np.float32), num_iteration=rounds) for booster, rounds in chosen]
    means: list[float] = np.clip(np.mean(each, axis=0), 0, 1).tolist()
    return means


def test_on_its_own_table_a_run_gives_its_out_of_fold_scores(trained: Path) -> None:
    table = lungct.predict(trained / "run", trained / "features")
    assert table.schema == pa.schema([("id", pa.string()), ("cancer", pa.float64())])
    found = by_id(table)
    assert list(found) == [f"p{i:03d}" for i in range(50)]
    known = scores(trained / "run")
    for name, row in known.items():
        assert found[name] == min(1.0, max(0.0, float(row["score"])))
    new, _ = cohort(50)
    fresh = [row for row in new if row.patient_id not in known]
    assert [found[row.patient_id] for row in fresh] == pytest.approx(expected(trained / "run", fresh), rel=1e-14)


def test_new_patients_get_the_mean_of_all_boosters_clipped(trained: Path, tmp_path: Path) -> None:
    rows, _ = cohort(12, prefix="new")
    assert rows[0].features is not None
    rows[0].features[:] += 40  # beyond what was seen
    table = write_table(tmp_path / "f", rows)
    found = by_id(predict(trained / "run", table))
    plain = dict(zip((r.patient_id for r in rows), expected(trained / "run", rows), strict=True))
    assert found == pytest.approx(plain, rel=1e-14)
    assert all(0 <= value <= 1 for value in found.values())


def test_a_known_scan_under_a_new_id_is_scored_by_its_own_folds_booster(trained: Path, tmp_path: Path) -> None:
    known = scores(trained / "run")
    rows = [patient(f"new{i}", 0, pixel_hash=known[f"p{i:03d}"]["pixel_hash"]) for i in range(6)]
    found = by_id(predict(trained / "run", write_table(tmp_path / "f", rows)))
    for i, row in enumerate(rows):
        fold = int(known[f"p{i:03d}"]["fold"])
        assert [found[row.patient_id]] == expected(trained / "run", [row], [fold])


def test_a_known_id_with_other_pixels_is_scored_by_its_own_fold_and_named(trained: Path, tmp_path: Path) -> None:
    rows = [patient("p003", 1, seed=9), patient("fresh", 1)]
    table = write_table(tmp_path / "f", rows)
    with pytest.warns(LungCTWarning, match="'p003': the run was trained on other pixels") as caught:
        found = by_id(predict(trained / "run", table))
    assert len(caught) == 1
    assert "fresh" not in str(caught[0].message)
    fold = int(scores(trained / "run")["p003"]["fold"])
    assert [found["p003"]] == expected(trained / "run", rows[:1], [fold])


def test_a_known_id_with_another_known_patients_pixels_goes_by_the_pixels(trained: Path, tmp_path: Path) -> None:
    known = scores(trained / "run")
    other = next(row for row in known.values() if row["fold"] != known["p000"]["fold"])
    swapped = patient("p000", 1, pixel_hash=other["pixel_hash"])
    with pytest.warns(LungCTWarning, match="'p000'"):
        found = by_id(predict(trained / "run", write_table(tmp_path / "f", [swapped])))
    assert [found["p000"]] == expected(trained / "run", [swapped], [int(other["fold"])])


def test_another_scan_of_a_known_person_is_scored_by_that_persons_fold(
    trained: Path, tmp_path: Path, ray_session: Session
) -> None:
    labels = {f"person{i:02d}/scan{j}": int(i % 2) for i in range(16) for j in range(2)}
    rows = [patient(name, label) for name, label in labels.items()]
    table = write_table(tmp_path / "f", rows, depth=2)
    path = write_labels(tmp_path / "l.csv", labels)
    training.train(table, path, tmp_path / "run", folds=4, **FAST)
    later = patient("person03/scan9", 1)
    found = by_id(predict(tmp_path / "run", write_table(tmp_path / "g", [later], depth=2)))
    fold = int(scores(tmp_path / "run")["person03/scan0"]["fold"])
    assert [found["person03/scan9"]] == expected(tmp_path / "run", [later], [fold])


def test_a_scan_that_every_booster_has_seen_is_named(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    edit(run, "scores.csv", lambda text: re.sub(",[0-9a-f]{64}\n", "," + "ab" * 32 + "\n", text))
    table = write_table(tmp_path / "f", [patient("new", 0, pixel_hash="ab" * 32)])
    with pytest.warns(LungCTWarning, match="'new': .* same scan in several folds"):
        predict(run, table)


def test_the_csv_holds_every_bit_and_the_runs_columns(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "submission.csv"
    summary = predict_to_csv(trained / "run", trained / "features", out)
    line = summary.as_dict()
    assert list(line) == ["command", "out", "patients", "seconds"]
    assert (line["command"], line["out"], line["patients"]) == ("predict", str(out), 50)
    lines = out.read_text().splitlines()
    assert lines[0] == "id,cancer"
    found = {name: float(value) for name, value in (row.split(",") for row in lines[1:])}
    assert found == by_id(predict(trained / "run", trained / "features"))


def test_other_column_names_come_back(trained: Path, tmp_path: Path, ray_session: Session) -> None:
    text = (trained / "labels.csv").read_text().replace("id,cancer", "PatientID,malignant")
    (tmp_path / "l.csv").write_text(text)
    training.train(
        trained / "features",
        tmp_path / "l.csv",
        tmp_path / "run",
        id_column="PatientID",
        label_column="malignant",
        folds=3,
        pooling="meanstd",
        **FAST,
    )
    (tmp_path / "ids.csv").write_text("PatientID,malignant\np049,0.5\n")
    out = tmp_path / "out.csv"
    predict_to_csv(tmp_path / "run", trained / "features", out, ids=tmp_path / "ids.csv")
    assert out.read_text().startswith("PatientID,malignant\np049,0.")


def test_ids_keep_their_order_and_only_they_are_predicted(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_bytes("\ufeffid,cancer\r\np048,0.5\r\np002,0.5\r\n".encode())
    out = tmp_path / "out.csv"
    summary = predict_to_csv(trained / "run", trained / "features", out, ids=tmp_path / "ids.csv")
    assert summary.patients == 2
    everybody = by_id(predict(trained / "run", trained / "features"))
    rows = [f"{name},{everybody[name]!r}" for name in ("p048", "p002")]
    assert out.read_text() == "\n".join(["id,cancer", *rows]) + "\n"


def test_only_the_wanted_are_warned_of(trained: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "f", [patient("p003", 1, seed=9), patient("fresh", 1)])
    (tmp_path / "ids.csv").write_text("id\nfresh\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict_to_csv(trained / "run", table, tmp_path / "o.csv", ids=tmp_path / "ids.csv")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id\nbroken\np001\n", r"1 of 2 ids without features .*'broken'"),
        ("id\nnobody\n", "'nobody'"),
        ("id\np001\np002\np001\n", r"1 id is there more than once \(.p001. again in line 4\)"),
        ("id,x\np001,1\n,2\n", r"1 row has no id \(line 3\)"),
        ("id\n", "no rows"),
        ("patient\np001\n", "no column 'id'; it has 'patient'"),
        ("", "is empty"),
        (None, "does not exist"),
    ],
)
def test_ids_that_cannot_be_predicted_are_refused_and_nothing_is_written(
    trained: Path, tmp_path: Path, text: str | None, words: str
) -> None:
    if text is not None:
        (tmp_path / "ids.csv").write_text(text)
    out = tmp_path / "out.csv"
    with pytest.raises(UsageError, match=words) as caught:
        predict_to_csv(trained / "run", trained / "features", out, ids=tmp_path / "ids.csv")
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_ids_without_features_get_a_blank_or_the_prevalence(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_bytes("sep=;\nid;x\nbroken;1\np001;1\nnobody;1\n".encode("utf-16"))
    run, out = trained / "run", tmp_path / "out.csv"
    known = by_id(predict(run, trained / "features"))["p001"]
    metrics = json.loads((run / "metrics.json").read_text())
    share = metrics["positives"] / metrics["patients"]
    for missing, value in (("blank", ""), ("prevalence", repr(share))):
        with pytest.warns(
            LungCTWarning, match="2 of 3 ids without features .*'broken', 'nobody'; 1 has an error"
        ) as said:
            summary = predict_to_csv(run, trained / "features", out, ids=tmp_path / "ids.csv", missing=missing)  # type: ignore[arg-type]
        assert len(said) == 1
        assert summary.patients == 3
        assert out.read_text() == f"id,cancer\nbroken,{value}\np001,{known!r}\nnobody,{value}\n"
    with pytest.raises(UsageError, match="say with missing what they get"):
        predict_to_csv(run, trained / "features", out, ids=tmp_path / "ids.csv")
    (tmp_path / "ids.csv").write_text("id\nnobody\n")
    with pytest.warns(LungCTWarning, match="1 of 1 id without features"):
        predict_to_csv(run, trained / "features", out, ids=tmp_path / "ids.csv", missing="blank")
    assert out.read_text() == "id,cancer\nnobody,\n"


def test_missing_is_about_ids(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="missing='blank' says what the ids of ids without features get"):
        predict_to_csv(trained / "run", trained / "features", tmp_path / "out.csv", missing="blank")
    with pytest.raises(UsageError, match="missing must be one of refuse, blank, prevalence, not 'zero'"):
        predict_to_csv(trained / "run", trained / "features", tmp_path / "out.csv", missing="zero")  # type: ignore[arg-type]


def test_ids_that_nearly_match_are_explained_but_names_are_not_shown(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.csv").write_text("id\np001.0\np002\n")
    with pytest.raises(UsageError, match=r"1 would match but for '\.0' at the end \('p001\.0', in the table 'p001'\)"):
        predict_to_csv(trained / "run", trained / "features", tmp_path / "out.csv", ids=tmp_path / "ids.csv")
    hidden = write_table(tmp_path / "f", [patient("0" * 32, 0)], pseudonym_key="0123456789abcdef")
    (tmp_path / "ids.csv").write_text(f"id\nDoe^Jane\n{'1' * 32}\n")
    with pytest.raises(UsageError, match=f"line 2, '{'1' * 32}'") as caught:
        predict_to_csv(trained / "run", hidden, tmp_path / "out.csv", ids=tmp_path / "ids.csv")
    assert "Doe" not in str(caught.value)


@pytest.mark.parametrize("out", ["{dir}", "{dir}/file/x.csv", "/proc/none/x.csv"])
def test_an_output_that_cannot_be_written_is_refused(trained: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="out "):
        predict_to_csv(trained / "run", trained / "features", out.format(dir=tmp_path))


def test_a_table_of_other_settings_is_refused_with_both_values(trained: Path, tmp_path: Path) -> None:
    rows, _ = cohort(3)
    other = write_table(tmp_path / "f", rows, preset="lung", batch_size=64, series_include="LUNG")
    with pytest.raises(UsageError) as caught:
        predict(trained / "run", other)
    assert "preset: 'dsb2017' against 'lung'; series_include: None against 'LUNG'" in str(caught.value)
    assert "batch_size" not in str(caught.value)


def test_another_device_precision_or_batch_size_is_warned_of(trained: Path, tmp_path: Path) -> None:
    rows, _ = cohort(6, prefix="new")
    here, elsewhere = (
        write_table(tmp_path / name, rows, **settings)
        for name, settings in (("f", {}), ("g", {"device": "cuda", "precision": "bf16", "batch_size": 64}))
    )
    with pytest.warns(
        LungCTWarning, match="device: 'cpu' against 'cuda'; precision: 'fp32' against 'bf16'; batch_size"
    ):
        found = by_id(predict(trained / "run", elsewhere))
    assert found == by_id(predict(trained / "run", here))


def test_another_depth_may_be_predicted_and_another_key_is_warned_of(trained: Path, tmp_path: Path) -> None:
    rows, _ = cohort(3, prefix="new")
    assert predict(trained / "run", write_table(tmp_path / "f", rows, depth=2)).num_rows == 3
    hidden = write_table(tmp_path / "g", rows, pseudonym_key="0123456789abcdef")
    with pytest.warns(LungCTWarning, match="pseudonyms under the key 0123456789abcdef, .* nothing shows who was used"):
        assert predict(trained / "run", hidden).num_rows == 3


def test_an_id_is_known_in_whatever_unicode_form(trained: Path, tmp_path: Path, ray_session: Session) -> None:
    names = [f"Ren\u00e9e{i:02d}" for i in range(24)]
    rows = [patient(name, i % 2) for i, name in enumerate(names)]
    otherwise = {unicodedata.normalize("NFD", name): i % 2 for i, name in enumerate(names)}
    labels = write_labels(tmp_path / "l.csv", otherwise)
    training.train(write_table(tmp_path / "f", rows), labels, tmp_path / "run", folds=4, **FAST)
    assert list(scores(tmp_path / "run")) == names
    moved = [dataclasses.replace(row, patient_id=unicodedata.normalize("NFD", row.patient_id)) for row in rows]
    found = by_id(predict(tmp_path / "run", write_table(tmp_path / "g", moved)))
    for name, row in scores(tmp_path / "run").items():
        assert found[unicodedata.normalize("NFD", name)] == min(1.0, max(0.0, float(row["score"])))
    (tmp_path / "ids.csv").write_text(f"id\n{names[3]}\n", encoding="utf-8")
    predict_to_csv(tmp_path / "run", tmp_path / "g", tmp_path / "out.csv", ids=tmp_path / "ids.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[1].split(",")[0] == names[3]


def test_a_person_of_a_group_column_is_known_by_it(trained: Path, tmp_path: Path, ray_session: Session) -> None:
    rows = [patient(f"s{i:02d}", i // 2 % 2) for i in range(48)]
    text = "id,cancer,who\n" + "".join(f"s{i:02d},{i // 2 % 2},who{i // 2}\n" for i in range(48))
    (tmp_path / "l.csv").write_text(text)
    run = tmp_path / "run"
    training.train(write_table(tmp_path / "f", rows), tmp_path / "l.csv", run, folds=4, group_column="who", **FAST)
    known = scores(run)
    assert {row["person"] for row in known.values()} == {f"who{i}" for i in range(24)}
    assert all(known[f"s{2 * i:02d}"]["fold"] == known[f"s{2 * i + 1:02d}"]["fold"] for i in range(24))
    later = [patient("who3/later", 1), dataclasses.replace(patient("x", 0), person="who4"), patient("who5", 0)]
    found = by_id(predict(run, write_table(tmp_path / "g", later, depth=2)))
    for row, first in zip(later, ("s06", "s08", "s10"), strict=True):
        assert [found[row.patient_id]] == expected(run, [row], [int(known[first]["fold"])])


def test_a_slash_in_a_patient_id_of_headers_names_no_person(trained: Path, tmp_path: Path) -> None:
    new = patient("p003/later", 1)
    fold = int(scores(trained / "run")["p003"]["fold"])
    scan = by_id(predict(trained / "run", write_table(tmp_path / "f", [new], depth=2)))
    assert [scan[new.patient_id]] == expected(trained / "run", [new], [fold])
    whole = by_id(predict(trained / "run", write_table(tmp_path / "g", [new], depth="patient-id")))
    assert [whole[new.patient_id]] == pytest.approx(expected(trained / "run", [new]), rel=1e-14)


def test_the_version_and_the_name_of_the_weights_are_for_information(trained: Path, tmp_path: Path) -> None:
    rows, _ = cohort(3)
    other = write_table(tmp_path / "f", rows, weights="copy.pt", lungct="0.0.9")
    assert predict(trained / "run", other).num_rows == 3


def test_a_table_without_features_gives_no_rows(trained: Path, tmp_path: Path) -> None:
    none = [Row("a", error="no CT", error_code="no_ct")]
    assert predict(trained / "run", write_table(tmp_path / "f", none)).num_rows == 0


def test_a_run_that_did_not_end_is_refused(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    (run / "metrics.json").unlink()
    with pytest.raises(UsageError, match=r"no metrics\.json"):
        predict(run, trained / "features")


def test_what_is_no_run_or_no_table_is_refused(trained: Path, tmp_path: Path) -> None:
    for nothing in (tmp_path, tmp_path / "absent", trained / "features", trained / "labels.csv"):
        with pytest.raises(UsageError, match=r"^run "):
            predict(nothing, trained / "features")
    with pytest.raises(UsageError, match="feature table"):
        predict(trained / "run", tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", "{"),
        ("settings.json", '{"kind": "run"}'),
        ("scores.csv", ""),
        ("models/repeat-0-fold-2.txt", "no booster"),
    ],
)
def test_a_damaged_run_is_refused_in_a_line(trained: Path, tmp_path: Path, name: str, text: str) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    (run / name).write_text(text)
    with pytest.raises(UsageError, match="is damaged") as caught:
        predict(run, trained / "features")
    assert caught.value.fix == "train again"
    assert "\n" not in str(caught.value)
    if name != "metrics.json":
        edit(run, name, lambda text: text)
        with pytest.raises(UsageError, match="is damaged"):
            predict(run, trained / "features")


def test_a_run_on_a_table_of_an_older_schema_is_refused_with_the_way_out(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    edit(
        run,
        "settings.json",
        lambda text: text.replace('"settings": {\n   "schema": 2', '"settings": {\n   "schema": 1'),
    )
    with pytest.raises(UsageError, match="feature table that this lungct cannot read") as caught:
        predict(run, trained / "features")
    assert caught.value.fix == "extract and train again"


def test_features_pool_as_the_run_says(trained: Path) -> None:
    ids, X = pooled(read_features(trained / "features"), "mean")
    booster, rounds = boosters(trained / "run")[0]
    known = scores(trained / "run")
    i = next(i for i, name in enumerate(ids) if name in known and known[name]["fold"] == "0")
    assert float(known[ids[i]]["score"]) == booster.predict(X[i : i + 1], num_iteration=rounds)[0]
