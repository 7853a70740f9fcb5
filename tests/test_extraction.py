"""Extraction on real Ray, with real files and a real ResNet-18 of random weights."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.commands import lungct as run
from support.commands import refused
from support.ct_files import write_series
from support.tables import SETTINGS, rows, shard_bytes, state, write_cohort

import lungct
from lungct.cluster import Session
from lungct.errors import LungCTWarning, NothingUsableError, StorageError, UsageError
from lungct.extraction.status import status

NETWORK: dict[str, Any] = {"backbone": "resnet18", "weights": "random:3"}
FLAGS = ("--backbone", "resnet18", "--weights", "random:3")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients; one of them (p4) has nothing but a text file."""
    src = tmp_path_factory.mktemp("cohort")
    return write_cohort(src, 10, slices=lambda i: 10 + i)


@pytest.fixture(scope="module")
def table(cohort: Path, ray_session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of that cohort, extracted undisturbed; tests only read it."""
    out = tmp_path_factory.mktemp("table")
    summary = lungct.extract(cohort, out, shard_patients=4, **NETWORK)
    assert (summary.patients, summary.extracted, summary.failed, summary.skipped) == (10, 9, 1, 0)
    return out


@pytest.mark.ray
def test_rows_are_what_the_stages_compute_by_themselves(cohort: Path, table: Path) -> None:
    from lungct.backbone import Backbone, load_weights, parse_weights

    weights = load_weights("resnet18", parse_weights("random:3"))
    alone = Backbone("resnet18", weights, device="cpu", precision="fp32", batch_size=16, threads=1)
    have = rows(table)
    assert sorted(have) == [f"p{i}" for i in range(10)]
    for i in (0, 5, 9):
        triplets, series = lungct.triplets(cohort / f"p{i}"), lungct.read_series(cohort / f"p{i}")
        row = have[f"p{i}"]
        assert np.array_equal(np.array(row["features"], np.float32), alone.features(triplets.pixels))
        assert row["positions_mm"] == triplets.positions_mm.tolist()
        assert row["pixel_hash"] == triplets.pixel_hash
        assert row["slices"] == len(series) == 10 + i
        assert tuple(row["spacing_mm"]) == series.spacing_mm
        assert row["error"] is None
    failed = have["p4"]
    assert failed["error_code"] == "no_images"
    assert failed["notes"] == []
    assert all(failed[name] is None for name in failed if name not in ("patient_id", "error", "error_code", "notes"))
    settings = json.loads((table / "settings.json").read_text())
    assert settings["weights_sha256"] == weights.sha256
    assert (settings["preset"], settings["precision"], settings["dim"]) == ("dsb2017", "fp32", 512)


@pytest.mark.ray
def test_the_number_of_workers_changes_no_byte(cohort: Path, table: Path, tmp_path: Path) -> None:
    lungct.extract(cohort, tmp_path, shard_patients=4, workers=2, **NETWORK)
    assert shard_bytes(tmp_path) == shard_bytes(table)


@pytest.mark.ray
def test_the_same_extraction_again_writes_nothing(cohort: Path, table: Path) -> None:
    before = state(table)
    summary = lungct.extract(cohort, table)
    assert (summary.extracted, summary.failed, summary.skipped) == (0, 0, 10)
    assert summary.usable == 9
    assert state(table) == before


@pytest.mark.ray
def test_a_table_grows_to_the_same_rows_from_any_parts(cohort: Path, table: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.csv"
    ids.write_text("note,id\nx,p7\ny,p2\n")
    out = tmp_path / "out"
    first = lungct.extract(cohort, out, patients=ids, **NETWORK)
    assert (first.patients, first.extracted) == (2, 2)
    before = state(out)
    assert lungct.extract(cohort, out, limit=3, shard_patients=2).extracted == 2
    assert lungct.extract(cohort, out, shard_patients=3).skipped == 4
    assert before.items() <= state(out).items()
    assert rows(out) == rows(table)


@pytest.mark.ray
def test_error_rows_are_retried_only_when_asked(cohort: Path, table: Path, tmp_path: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    shutil.copytree(cohort, src)
    shutil.copytree(table, out)
    write_series(src / "p4", slices=9, rows=64, columns=64, seed=4)
    assert lungct.extract(src, out).skipped == 10
    names = {path.name for path in (out / "features").iterdir()}
    summary = lungct.extract(src, out, retry_errors=True)
    assert (summary.extracted, summary.failed, summary.skipped) == (1, 0, 9)
    assert {path.name for path in (out / "features").iterdir()} == names
    assert rows(out)["p4"]["slices"] == 9
    assert {k: v for k, v in rows(out).items() if k != "p4"} == {k: v for k, v in rows(table).items() if k != "p4"}


@pytest.mark.ray
def test_overwriting_replaces_the_table_and_nothing_else(cohort: Path, tmp_path: Path) -> None:
    lungct.extract(cohort, tmp_path, limit=2, **NETWORK)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="does not exist"):
        lungct.extract(cohort / "missing", tmp_path, overwrite=True, **NETWORK)
    assert sorted(rows(tmp_path)) == ["p0", "p1"]
    lungct.extract(cohort, tmp_path, limit=1, overwrite=True, preset="lung", max_errors=2, **NETWORK)
    assert list(rows(tmp_path)) == ["p0"]
    assert rows(tmp_path)["p0"]["error_code"] == "no_lungs"
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.ray
def test_settings_other_than_the_tables_are_refused_with_both_values(cohort: Path, table: Path) -> None:
    before = state(table)
    others: list[tuple[dict[str, Any], str]] = [
        ({"preset": "lung"}, "'dsb2017' against 'lung'"),
        ({"backbone": "resnet34"}, "'resnet18' against 'resnet34'"),
        ({"weights": "random:4"}, "weights_sha256"),
        ({"batch_size": 8}, "16 against 8"),
        ({"precision": "bf16"}, "'fp32' against 'bf16'"),
    ]
    for option, sentence in others:
        with pytest.raises(UsageError, match=sentence):
            lungct.extract(cohort, table, **option)
    assert state(table) == before


@pytest.mark.ray
def test_too_many_error_rows_end_an_extraction(tmp_path: Path, ray_session: Session) -> None:
    for i in range(6):
        (tmp_path / "src" / f"p{i}").mkdir(parents=True)
    with pytest.raises(NothingUsableError, match=r"stopped after 2 error rows \(max_errors=2\)") as caught:
        lungct.extract(tmp_path / "src", tmp_path / "out", max_errors=2, shard_patients=2, **NETWORK)
    counted = caught.value.summary
    assert isinstance(counted, lungct.ExtractSummary)
    assert (counted.patients, counted.failed, counted.skipped) == (2, 2, 0)
    summary = lungct.extract(tmp_path / "src", tmp_path / "out")
    assert summary.failed + summary.skipped == 6
    assert summary.usable == 0


@pytest.mark.ray
def test_pseudonyms_leave_no_directory_name(cohort: Path, table: Path, tmp_path: Path) -> None:
    from lungct.pseudonyms import read_key

    keyfile = tmp_path / "key"
    keyfile.write_bytes(b"k" * 32)
    out = tmp_path / "out"
    lungct.extract(cohort, out, limit=3, pseudonyms=keyfile, **NETWORK)
    key = read_key(keyfile)
    names = {key.pseudonym(f"p{i}"): f"p{i}" for i in range(10)}
    for pseudonym, row in rows(out).items():
        assert row["features"] == rows(table)[names[pseudonym]]["features"]
        assert row["pixel_hash"] != rows(table)[names[pseudonym]]["pixel_hash"]
    (tmp_path / "other").write_bytes(b"o" * 32)
    for other in (None, tmp_path / "other"):
        with pytest.raises(UsageError, match="give the table's own key with pseudonyms"):
            lungct.extract(cohort, out, pseudonyms=other)


@pytest.mark.ray
def test_a_failure_of_the_storage_makes_no_error_row(
    cohort: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src, out = tmp_path / "src", tmp_path / "out"
    src.mkdir()
    for i in range(3):
        shutil.copytree(cohort / f"p{i}", src / f"p{i}")
    lost = next((src / "p1").iterdir())
    lost.unlink()
    lost.symlink_to("/proc/self/mem")  # opens, and every read of its start is EIO
    with pytest.raises(StorageError, match=r"1 patient could not be read .*first p1"):
        lungct.extract(src, out, shard_patients=1, **NETWORK)
    assert sorted(rows(out)) == ["p0", "p2"]
    shutil.rmtree(src / "p1")
    shutil.copytree(cohort / "p1", src / "p1")
    assert lungct.extract(src, out).extracted == 1
    assert rows(out) == {k: v for k, v in rows(table).items() if k in ("p0", "p1", "p2")}


def test_a_mistake_of_the_user_is_one_line_and_exit_code_2(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").write_text("not a directory")
    (tmp_path / "ids").write_text("p1\nnobody\n")
    for arguments, sentence in (
        ((tmp_path / "missing", "--out", out), "does not exist"),
        ((tmp_path / "file", "--out", out), "is not a directory"),
        ((empty, "--out", out), "has no patient"),
        ((cohort, "--out", tmp_path / "file", *FLAGS), "a file is in the way"),
        ((cohort, "--out", out, "--backbone", "vgg16"), "vgg16"),
        ((cohort, "--out", out, "--preset", "2017"), "--preset must be one of dsb2017, lung, not '2017'"),
        ((cohort, "--out", out, "--weights", tmp_path / "missing.pt"), "missing.pt"),
        ((cohort, "--out", out, "--limit", "0"), "--limit must be a whole number of at least 1, not 0"),
        ((cohort, "--out", out, "--limit", "many"), "--limit"),
        ((cohort, "--out", out, "--depth", "4"), "4 levels below"),
        ((cohort, "--out", out, "--patients", tmp_path / "ids"), "no patient 'nobody'"),
        ((cohort, "--out", out, "--patients", tmp_path / "none"), "does not exist"),
        ((cohort, "--out", out, "--unknown"), "--unknown"),
        ((cohort, "--out", cohort / "p1" / "out"), "inside a patient"),
        ((cohort, "--out", "ftp://host/x"), "cannot open ftp://"),
        ((cohort,), "--out"),
    ):
        assert sentence in refused("extract", *arguments)
        assert not out.exists()


def test_help_and_version_are_on_stdout() -> None:
    assert run("--version").stdout == f"lungct {lungct.__version__}\n"
    assert "lungct extract scans --out features" in run("extract", "--help").stdout


@pytest.mark.ray
def test_files_are_grouped_by_the_person_whom_they_name(tmp_path: Path, ray_session: Session) -> None:
    src, out = tmp_path / "export", tmp_path / "out"
    src.mkdir()
    for person in ("A1", "B2"):
        made = tmp_path / person
        write_series(made, slices=10, rows=64, columns=64, seed=ord(person[0]), patient_id=person)
        for i, path in enumerate(sorted(made.iterdir())):
            path.rename(src / f"IM{i:03d}{'x' if person == 'A1' else 'y'}")
    (src / "notes.txt").write_text("text")
    mixed = lungct.extract(src, tmp_path / "mixed", **NETWORK)
    assert (mixed.extracted, mixed.failed) == (0, 1)
    assert "by PatientID" in rows(tmp_path / "mixed")["export"]["error"]
    with pytest.warns(LungCTWarning, match="2 ids name people in the table"):
        summary = lungct.extract(src, out, by_patient_id=True, **NETWORK)
    assert (summary.patients, summary.extracted) == (2, 2)
    assert {name: row["slices"] for name, row in rows(out).items()} == {"A1": 10, "B2": 10}
    assert json.loads((out / "settings.json").read_text())["depth"] == "patient-id"
    assert lungct.extract(src, out).skipped == 2
    with pytest.raises(UsageError, match="leave depth out"):
        lungct.extract(src, out, by_patient_id=True, depth=2)


@pytest.mark.ray
def test_one_warning_says_that_directories_are_named_after_people(tmp_path: Path, ray_session: Session) -> None:
    for name, tags in (("Doe_Jane", {}), ("coded", {}), ("P1", {"PatientIdentityRemoved": "YES"})):
        write_series(
            tmp_path / "src" / name,
            slices=6,
            rows=64,
            columns=64,
            tags={"PatientName": "Doe^Jane", **tags},
        )
    # Before the work: nothing is written when the warning comes.
    with warnings.catch_warnings():
        warnings.simplefilter("error", LungCTWarning)
        with pytest.raises(LungCTWarning, match=r"^1 id names a person in the table"):
            lungct.extract(tmp_path / "src", tmp_path / "out", **NETWORK)
    assert not (tmp_path / "out").exists()
    with pytest.warns(LungCTWarning) as warned:
        lungct.extract(tmp_path / "src", tmp_path / "out", **NETWORK)
    assert len(warned) == 1
    (tmp_path / "key").write_bytes(b"k" * 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LungCTWarning)
        lungct.extract(tmp_path / "src", tmp_path / "hidden", pseudonyms=tmp_path / "key", **NETWORK)
        lungct.extract(tmp_path / "src", tmp_path / "out")  # nothing to do


@pytest.mark.ray
def test_a_scan_of_a_person_carries_the_person(cohort: Path, tmp_path: Path, ray_session: Session) -> None:
    from lungct.pseudonyms import read_key

    for i, scan in enumerate(("ann/one", "ann/two", "bob/one", "bob/none")):
        shutil.copytree(cohort / f"p{i + 1}", tmp_path / "src" / scan)
    plain, hidden = tmp_path / "plain", tmp_path / "hidden"
    lungct.extract(tmp_path / "src", plain, depth=2, **NETWORK)
    wanted = {"ann/one": "ann", "ann/two": "ann", "bob/one": "bob", "bob/none": "bob"}
    assert {name: row["person"] for name, row in rows(plain).items()} == wanted
    assert rows(plain)["bob/none"]["error_code"] == "no_images"
    (tmp_path / "key").write_bytes(b"k" * 32)
    key = read_key(tmp_path / "key")
    lungct.extract(tmp_path / "src", hidden, depth=2, pseudonyms=tmp_path / "key", **NETWORK)
    assert {name: row["person"] for name, row in rows(hidden).items()} == {
        key.pseudonym(name): key.pseudonym(person) for name, person in wanted.items()
    }
    assert all(name.startswith(f"{row['person']}/") for name, row in rows(hidden).items())
    assert status(hidden, tmp_path / "src", pseudonyms=tmp_path / "key").left == 0
    (tmp_path / "ids").write_text("sep=;\nwho;id\nx;bob/none\nx;ann/two\n")
    again: dict[str, Any] = {"patients": tmp_path / "ids", "retry_errors": True, "pseudonyms": tmp_path / "key"}
    summary = lungct.extract(tmp_path / "src", hidden, **again)
    assert (summary.extracted, summary.failed, summary.skipped) == (0, 1, 1)


@pytest.mark.ray
def test_a_table_of_the_old_schema_is_refused_and_can_be_overwritten(cohort: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(table, out)
    settings = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps(settings | {"schema": 1}))
    with pytest.raises(UsageError, match=r"has schema 1, .*: extract again, .* with overwrite=True"):
        lungct.extract(cohort, out, **NETWORK)
    assert "--overwrite" in refused("extract", cohort, "--out", out, *FLAGS)
    assert lungct.extract(cohort, out, limit=2, overwrite=True, **NETWORK).extracted == 2
    assert sorted(rows(out)) == ["p0", "p1"]
    assert json.loads((out / "settings.json").read_text())["schema"] == 2


def test_what_is_not_given_is_the_tables(tmp_path: Path) -> None:
    from lungct.dicom.options import NO_OPTIONS
    from lungct.extraction.options import choose_options, may_contradict
    from lungct.extraction.request import ExtractRequest

    given: dict[str, Any] = dict.fromkeys(ExtractRequest.__dataclass_fields__)
    given |= {"src": tmp_path, "out": tmp_path / "out", "device": "auto", "precision": "auto"}
    given |= {"series": NO_OPTIONS}
    request = ExtractRequest(**given)
    defaults = choose_options(request, None)
    assert (defaults.preset, defaults.backbone, defaults.depth) == ("dsb2017", "resnet152", 1)
    table = replace(SETTINGS, device="cuda", batch_size=64, depth=2)
    chosen = choose_options(request, table)
    assert (chosen.backbone, chosen.device, chosen.batch_size, chosen.depth) == ("resnet18", "cuda", 64, 2)
    assert not may_contradict(request, table)
    assert may_contradict(replace(request, device="cpu"), table)
    assert choose_options(replace(request, device="cpu"), table).device == "cpu"


@pytest.mark.parametrize("option", ["series_include", "series_exclude", "body_part", "volume"])
def test_an_empty_text_for_the_choice_of_series_is_refused_before_any_work(option: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{option} is empty"):
        lungct.extract(tmp_path / "missing", tmp_path / "out", **{option: " "})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_person_says_which_series_is_the_scan(tmp_path: Path) -> None:
    src = tmp_path / "src"
    for number, text in enumerate(["Thorax 1.0 Br40", "Thorax 1.0 Bl57"]):
        tags = {"SeriesDescription": text}
        write_series(src / "p0" / text[-4:], series=f"{number}", slices=9 + number, rows=32, columns=32, tags=tags)
    write_series(src / "p1", slices=9, rows=32, columns=32, patient_id="P2", tags={"SeriesDescription": "Thorax Bl57"})
    out = tmp_path / "out"
    run("extract", src, "--out", out, "--series-exclude", "bl57", *FLAGS)
    found = rows(out)
    assert found["p0"]["slices"] == 9
    assert found["p0"]["series_reason"] == "the only one of 2 CT series that fits the options"
    assert found["p1"]["error_code"] == "no_series"
    assert "Bl57" not in json.dumps(found, default=str)
