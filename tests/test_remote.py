"""The main job from object storage to object storage, against the same on a disk."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from support import stores
from support.commands import lungct as run
from support.commands import refused, start
from support.ct_files import write_series
from support.tables import row_list, write_cohort

import lungct
from lungct.storage import ObjectPath

pytestmark = pytest.mark.faults
FLAGS = ("--backbone", "resnet18", "--weights", "random:3", "--shard-patients", 2, "--quiet")


@pytest.fixture(scope="module")
def cohort(store: stores.Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients on a disk and in a bucket, one of them (p04) with nothing but text."""
    src = tmp_path_factory.mktemp("cohort")
    write_cohort(src, 12, slices=lambda i: 10 + i, digits=2)
    rows = "".join(f"p{i:02d},{i % 2}\n" for i in range(12))
    (src / "labels.csv").write_text("id,cancer\n" + rows)
    with stores.environment(store.environment):
        stores.upload(src, ObjectPath(store.root, "cohort"))
    return src


@pytest.mark.ray
def test_from_bucket_to_bucket_as_from_disk_to_disk(store: stores.Store, cohort: Path, tmp_path: Path) -> None:
    params = tmp_path / "params.json"
    params.write_text(json.dumps({"min_data_in_leaf": 1, "num_leaves": 3}))
    training = ("--folds", 3, "--rounds", 20, "--early-stopping", 5, "--params", params)
    with stores.environment(store.environment):
        features, labels = f"{store.root}/out/features", f"{store.root}/cohort/labels.csv"
        first = run("extract", f"{store.root}/cohort", "--out", features, *FLAGS, "--limit", 5)
        assert first.code == 0, first
        assert (first.line["extracted"], first.line["failed"]) == (4, 1)
        assert first.line["out"] == features
        second = run("extract", f"{store.root}/cohort", "--out", features, "--shard-patients", 3, "--quiet")
        assert (second.code, second.line["extracted"], second.line["skipped"]) == (0, 7, 5)
        assert "labels" not in second.stderr
        local = run("extract", cohort, "--out", tmp_path / "features", *FLAGS)
        assert local.code == 0, local
        assert row_list(features) == row_list(tmp_path / "features")
        checked = run("status", features, f"{store.root}/cohort", "--check", "--json")
        assert checked.code == 0, checked
        assert json.loads(checked.stdout) | {"failed": []} == {
            "command": "status",
            "out": features,
            "done": 11,
            "failed": [],
            "left": 0,
            "problems": [],
        }
        trained = run("train", features, "--labels", labels, "--out", f"{store.root}/run", *training)
        assert trained.code == 0, trained
        beside = run(
            *("train", tmp_path / "features", "--labels", cohort / "labels.csv"),
            *("--out", tmp_path / "run", *training),
        )
        for name in ("auc", "log_loss", "brier", "optimistic"):
            assert trained.line[name] == beside.line[name]
        assert ObjectPath(store.root, "run/report.html").read_bytes().startswith(b"<!")
        predicted = run("predict", f"{store.root}/run", features, "--out", f"{store.root}/out/p.csv")
        assert predicted.code == 0, predicted
        there = run("predict", tmp_path / "run", tmp_path / "features", "--out", tmp_path / "p.csv")
        assert there.code == 0, there
        assert ObjectPath(store.root, "out/p.csv").read_bytes() == (tmp_path / "p.csv").read_bytes()
        names = [place.name for place, _ in ObjectPath(store.root, "out/features").walk()]
        assert sorted(set(names) - {"settings.json", "owner.json"}) == sorted(
            name for name in names if name.startswith("part-")
        )
        page = run("inspect", f"{store.root}/cohort/p07")
        assert page.code == 0, page
        assert "17 of 64 x 64" in page.stdout
        assert len(lungct.read_series(f"{store.root}/cohort/p03")) == 13


def test_errors_are_tried_again_and_files_grouped_by_patient_id_in_a_bucket(
    store: stores.Store, tmp_path: Path
) -> None:
    src, mended = tmp_path / "src", tmp_path / "mended"
    write_cohort(src, 3, slices=lambda i: 9 + i, digits=2)
    (src / "p03").mkdir()
    (src / "p03" / "1.dcm").write_bytes(b"text")
    write_series(mended, slices=12, rows=64, columns=64, seed=3)
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(3):
        write_series(tmp_path / f"f{i}", slices=9, rows=64, columns=64, seed=i, tags={"PatientID": f"Q{i}"})
        for path in (tmp_path / f"f{i}").iterdir():
            path.rename(flat / f"{i}-{path.name}")
    with stores.environment(store.environment):
        root = ObjectPath(store.root, "again")
        stores.upload(src, root / "src")
        stores.upload(flat, root / "flat")
        command = ("extract", root / "src", "--out", root / "features", *FLAGS)
        first = run(*command)
        assert (first.line["extracted"], first.line["failed"]) == (3, 1), first
        (root / "src" / "p03" / "1.dcm").unlink()
        stores.upload(mended, root / "src" / "p03")
        assert run(*command).line["skipped"] == 4
        again = run(*command, "--retry-errors")
        assert (again.line["extracted"], again.line["skipped"]) == (1, 3), again
        assert [row["error"] for row in row_list(str(root / "features"))] == [None] * 4
        checked = run("status", root / "features", root / "src", "--check")
        assert checked.code == 0, checked
        for scans, out in ((root / "flat", root / "grouped"), (flat, tmp_path / "grouped")):
            grouped = run("extract", scans, "--out", out, *FLAGS, "--by-patient-id")
            assert (grouped.code, grouped.line["extracted"]) == (0, 3), grouped
        assert row_list(str(root / "grouped")) == row_list(tmp_path / "grouped")


def test_a_killed_run_goes_on_in_a_bucket(store: stores.Store, cohort: Path) -> None:
    features = ObjectPath(store.root, "killed/features")
    command = ("extract", f"{store.root}/cohort", "--out", features, *FLAGS)
    quick = store.environment | {"LUNGCT_RENEW_SECONDS": "0.5"}
    with stores.environment(store.environment):
        process = start(*command, **quick)
        deadline = time.monotonic() + 120
        while not list((features / "features").glob("*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = {place.name: place.modified() for place in (features / "features").glob("*")}
        assert done
        assert "belongs to a running extract" in refused(*command)
        time.sleep(6)
        again = run(*command, **quick)
        assert again.code == 0, again
        assert again.line["skipped"] >= 2
        now = {place.name: place.modified() for place in (features / "features").glob("*")}
        assert done.items() <= now.items()
        assert [row["patient_id"] for row in row_list(str(features))] == [f"p{i:02d}" for i in range(12)]


def test_a_bucket_that_is_not_there_or_refuses_is_said(store: stores.Store, tmp_path: Path) -> None:
    with stores.environment(store.environment | {"LUNGCT_STORAGE_RETRY_SECONDS": "1"}):
        assert "No objects found under SRC" in refused("extract", f"{store.root}/nobody", "--out", tmp_path / "out")
        (tmp_path / "src" / "p").mkdir(parents=True)
        ran = run("extract", tmp_path / "src", "--out", f"{store.root}-missing/x", *FLAGS)
        assert ran.code in (2, 3), ran
        assert len(ran.stderr.splitlines()) == 1
        for secret in ("AKIATESTONLY", "secret-of-the-test", "Bearer", "SharedKey"):
            assert secret not in ran.stderr
