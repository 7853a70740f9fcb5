"""The main job from object storage to object storage gives what it gives from disk to disk."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import stores
from support.commands import FinishedCommand, refused, start
from support.commands import lungct as run
from support.ct_files import write_series
from support.hosts import wait_until
from support.tables import row_list, write_cohort

import lungct
from lungct.storage import ObjectPath

pytestmark = [pytest.mark.faults, pytest.mark.ray, pytest.mark.stores]
PATIENTS = 12
FLAGS = ("--backbone", "resnet18", "--weights", "random:3", "--shard-patients", 2, "--quiet")


@pytest.fixture(scope="module", autouse=True)
def clients(store: stores.Store) -> Iterator[None]:
    """Make the store known to this process and to the commands that it runs."""
    with stores.environment(store.environment):
        yield


@pytest.fixture(scope="module")
def cohort(store: stores.Store, clients: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients on a disk and in a bucket, one of them (p04) with nothing but text."""
    src = tmp_path_factory.mktemp("cohort")
    write_cohort(src, PATIENTS, slices=lambda i: 10 + i, digits=2)
    rows = "".join(f"p{i:02d},{i % 2}\n" for i in range(PATIENTS))
    (src / "labels.csv").write_text("id,cancer\n" + rows)
    stores.upload(src, ObjectPath(store.root, "cohort"))
    return src


@dataclass(frozen=True)
class Tables:
    """The cohort's feature table in a bucket, made by two commands, and on a disk, made by one."""

    bucket: str
    first: FinishedCommand
    second: FinishedCommand
    disk: Path


@pytest.fixture(scope="module")
def tables(store: stores.Store, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Tables:
    scans, features = f"{store.root}/cohort", f"{store.root}/out/features"
    first = run("extract", scans, "--out", features, *FLAGS, "--limit", 5)
    second = run("extract", scans, "--out", features, "--shard-patients", 3, "--quiet")
    on_disk = tmp_path_factory.mktemp("disk") / "features"
    local = run("extract", cohort, "--out", on_disk, *FLAGS)
    assert local.code == 0, local
    return Tables(features, first, second, on_disk)


@dataclass(frozen=True)
class Trained:
    """A run trained on each of the two tables: where it is, and what `train` printed."""

    bucket: str
    in_bucket: FinishedCommand
    disk: Path
    on_disk: FinishedCommand


@pytest.fixture(scope="module")
def trained(store: stores.Store, cohort: Path, tables: Tables, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    directory = tmp_path_factory.mktemp("trained")
    params = directory / "params.json"
    params.write_text(json.dumps({"min_data_in_leaf": 1, "num_leaves": 3}))
    options = ("--folds", 3, "--rounds", 20, "--early-stopping", 5, "--params", params)
    bucket, disk = f"{store.root}/run", directory / "run"
    labels = f"{store.root}/cohort/labels.csv"
    in_bucket = run("train", tables.bucket, "--labels", labels, "--out", bucket, *options)
    on_disk = run("train", tables.disk, "--labels", cohort / "labels.csv", "--out", disk, *options)
    assert (in_bucket.code, on_disk.code) == (0, 0), (in_bucket, on_disk)
    return Trained(bucket, in_bucket, disk, on_disk)


def test_extract_writes_to_a_bucket_the_rows_that_it_writes_to_a_disk(tables: Tables) -> None:
    assert tables.first.code == 0, tables.first
    assert (tables.first.line["extracted"], tables.first.line["failed"]) == (4, 1)
    assert tables.first.line["out"] == tables.bucket
    assert row_list(tables.bucket) == row_list(tables.disk)


def test_extract_again_does_only_what_is_missing(tables: Tables) -> None:
    assert tables.second.code == 0, tables.second
    assert (tables.second.line["extracted"], tables.second.line["skipped"]) == (7, 5)


def test_files_that_are_not_patients_go_unmentioned(tables: Tables) -> None:
    assert "labels" not in tables.second.stderr


def test_extract_leaves_nothing_but_shards_settings_and_the_owners_record(store: stores.Store, tables: Tables) -> None:
    names = {place.name for place, _ in ObjectPath(store.root, "out/features").walk()}
    assert {name for name in names if not name.startswith("part-")} <= {"settings.json", "owner.json"}


def test_status_counts_and_checks_a_table_in_a_bucket(store: stores.Store, tables: Tables) -> None:
    checked = run("status", tables.bucket, f"{store.root}/cohort", "--check", "--json")
    assert checked.code == 0, checked
    assert json.loads(checked.stdout) | {"failed": []} == {
        "command": "status",
        "out": tables.bucket,
        "done": 11,
        "failed": [],
        "left": 0,
        "problems": [],
    }


def test_train_from_bucket_to_bucket_has_the_metrics_of_a_disk(trained: Trained) -> None:
    for name in ("auc", "log_loss", "brier", "optimistic"):
        assert trained.in_bucket.line[name] == trained.on_disk.line[name]


def test_train_writes_the_report_into_the_bucket(store: stores.Store, trained: Trained) -> None:
    assert ObjectPath(store.root, "run/report.html").read_bytes().startswith(b"<!")


def test_predict_writes_the_same_bytes_to_a_bucket_and_to_a_disk(
    store: stores.Store, tables: Tables, trained: Trained, tmp_path: Path
) -> None:
    for model, table, out in (
        (trained.bucket, tables.bucket, f"{store.root}/out/p.csv"),
        (trained.disk, tables.disk, tmp_path / "p.csv"),
    ):
        predicted = run("predict", model, table, "--out", out)
        assert predicted.code == 0, predicted
    assert ObjectPath(store.root, "out/p.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()


@pytest.mark.usefixtures("cohort")
def test_inspect_shows_a_patient_in_a_bucket(store: stores.Store) -> None:
    page = run("inspect", f"{store.root}/cohort/p07")
    assert page.code == 0, page
    assert "17 of 64 x 64" in page.stdout


@pytest.mark.usefixtures("cohort")
def test_read_series_reads_a_patient_in_a_bucket(store: stores.Store) -> None:
    assert len(lungct.read_series(f"{store.root}/cohort/p03")) == 13


def test_retry_errors_replaces_the_row_of_a_mended_patient(store: stores.Store, tmp_path: Path) -> None:
    src, mended = tmp_path / "src", tmp_path / "mended"
    write_cohort(src, 3, slices=lambda i: 9 + i, digits=2)
    (src / "p03").mkdir()
    (src / "p03" / "1.dcm").write_bytes(b"text")
    write_series(mended, slices=12, rows=64, columns=64, seed=3)
    scans, features = ObjectPath(store.root, "mended/src"), ObjectPath(store.root, "mended/features")
    stores.upload(src, scans)
    command = ("extract", scans, "--out", features, *FLAGS)
    first = run(*command)
    assert (first.line["extracted"], first.line["failed"]) == (3, 1), first
    (scans / "p03" / "1.dcm").unlink()
    stores.upload(mended, scans / "p03")
    assert run(*command).line["skipped"] == 4
    again = run(*command, "--retry-errors")
    assert (again.line["extracted"], again.line["skipped"]) == (1, 3), again
    assert [row["error"] for row in row_list(str(features))] == [None] * 4
    checked = run("status", features, scans, "--check")
    assert checked.code == 0, checked


def test_by_patient_id_groups_the_files_of_a_bucket_as_those_of_a_disk(store: stores.Store, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(3):
        write_series(tmp_path / f"f{i}", slices=9, rows=64, columns=64, seed=i, tags={"PatientID": f"Q{i}"})
        for path in (tmp_path / f"f{i}").iterdir():
            path.rename(flat / f"{i}-{path.name}")
    scans, features = ObjectPath(store.root, "flat/src"), ObjectPath(store.root, "flat/features")
    stores.upload(flat, scans)
    for src, out in ((scans, features), (flat, tmp_path / "features")):
        grouped = run("extract", src, "--out", out, *FLAGS, "--by-patient-id")
        assert (grouped.code, grouped.line["extracted"]) == (0, 3), grouped
    assert row_list(str(features)) == row_list(tmp_path / "features")


def test_a_killed_extract_resumes_in_a_bucket(store: stores.Store, cohort: Path) -> None:
    features = ObjectPath(store.root, "killed/features")

    def shards() -> dict[str, object]:
        return {place.name: place.modified() for place in (features / "features").glob("*")}

    command = ("extract", f"{store.root}/cohort", "--out", features, *FLAGS)
    heartbeat = {"LUNGCT_RENEW_SECONDS": "0.5"}
    process = start(*command, **heartbeat)
    wait_until(shards, 120, "the first shard")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = shards()
    assert "belongs to a running extract" in refused(*command)
    time.sleep(6)  # a record goes stale after ten heartbeats that did not come
    again = run(*command, **heartbeat)
    assert again.code == 0, again
    assert again.line["skipped"] >= 2
    assert done.items() <= shards().items()
    assert [row["patient_id"] for row in row_list(str(features))] == [f"p{i:02d}" for i in range(PATIENTS)]


@pytest.fixture
def impatient(store: stores.Store) -> Iterator[None]:
    """Make clients give up on a store after a second."""
    with stores.environment(store.environment | {"LUNGCT_STORAGE_RETRY_SECONDS": "1"}):
        yield


@pytest.mark.usefixtures("impatient")
def test_a_prefix_without_objects_is_refused(store: stores.Store, tmp_path: Path) -> None:
    assert "No objects found under SRC" in refused("extract", f"{store.root}/nobody", "--out", tmp_path / "out")


@pytest.mark.usefixtures("impatient")
def test_a_missing_bucket_is_one_line_without_a_credential(store: stores.Store, tmp_path: Path) -> None:
    (tmp_path / "src" / "p").mkdir(parents=True)
    ran = run("extract", tmp_path / "src", "--out", f"{store.root}-missing/x", *FLAGS)
    assert ran.code in (2, 3), ran
    assert len(ran.stderr.splitlines()) == 1
    for secret in ("AKIATESTONLY", "secret-of-the-test", "Bearer", "SharedKey"):
        assert secret not in ran.stderr
