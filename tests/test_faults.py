"""Kills, full disks and refusing stores at seeded moments: the table comes out as if nothing had happened.

No matter what fails, the extraction finishes, or finishes when the same command is repeated, and every row is equal to
the undisturbed one, feature bytes included. Each moment is drawn from a seed, between the first shard and the time by
which an undisturbed extraction has written the last.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from support import stores
from support.commands import lungct as run
from support.commands import start
from support.hosts import wait_until
from support.tables import row_list, write_cohort

import lungct
from lungct.storage import ObjectPath

pytestmark = pytest.mark.faults
FLAGS = ("--backbone", "resnet18", "--weights", "random:3", "--shard-patients", 1, "--quiet")
NETWORK: dict[str, Any] = {"backbone": "resnet18", "weights": "random:3", "shard_patients": 1}
PATIENTS = 16
SEEDS = (1, 2, 3)
# Time from the first shard to the last of an undisturbed extraction on two cores: the span in which faults happen.
SPAN_SECONDS = 4.0


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen patients, one of them (p04) with nothing but text."""
    return write_cohort(tmp_path_factory.mktemp("cohort"), PATIENTS, slices=lambda i: 40, digits=2)


@pytest.fixture(scope="module")
def undisturbed(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The rows of an extraction that nothing disturbs."""
    out = tmp_path_factory.mktemp("undisturbed")
    ran = run("extract", cohort, "--out", out, *FLAGS)
    assert ran.code == 0, ran
    return row_list(out)


def check_table(table: str | Path) -> None:
    """Check that every file of a table is whole."""
    ran = run("status", table, "--check")
    assert ran.code == 0, ran


def descendants(pid: int) -> dict[int, str]:
    """Return the process's descendants: pid -> command line."""
    parents: dict[int, int] = {}
    lines: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
            lines[int(entry.name)] = line
    below = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in below} - below
        if not more:
            return {child: lines[child] for child in below - {pid}}
        below |= more


def count_shards(table: Path) -> int:
    return len(list(table.glob("features/part-*.parquet")))


def grown(table: Path, shards: int) -> bool:
    return count_shards(table) > shards


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("victim", ["NetworkActor", "decode_unit", "lungct.sandbox"])
def test_a_killed_worker_changes_nothing(
    victim: str, seed: int, cohort: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    draw = random.Random(f"{victim} {seed}")
    process = start("extract", cohort, "--out", tmp_path, *FLAGS)
    wait_until(lambda: count_shards(tmp_path), 180, "the first shard")
    killed = 0
    end = time.monotonic() + 60
    time.sleep(draw.uniform(0, SPAN_SECONDS / 2))
    while process.poll() is None and killed < 2 and time.monotonic() < end:
        found = [pid for pid, line in descendants(process.pid).items() if victim in line]
        if found:
            os.kill(draw.choice(sorted(found)), signal.SIGKILL)
            killed += 1
            time.sleep(draw.uniform(0.2, SPAN_SECONDS / 2))
        time.sleep(0.01)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, (stdout, stderr)
    assert killed or count_shards(tmp_path) == PATIENTS
    assert row_list(tmp_path) == undisturbed
    check_table(tmp_path)


def reads(pid: int, directory: Path) -> bool:
    """Return whether a process has a file below a directory open."""
    with suppress(OSError):
        for link in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(link.path).startswith(f"{directory}/"):
                    return True
    return False


def test_a_patient_whose_decoder_is_always_killed_stays_missing_and_costs_no_other(
    cohort: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """As the out-of-memory killer does with a patient that needs too much: every child that opens p07 is killed."""
    process = start("extract", cohort, "--out", tmp_path, *FLAGS)
    killed: set[int] = set()
    found: list[int] = []
    looked = 0.0
    while process.poll() is None:
        if time.monotonic() - looked > 0.1:
            found = [pid for pid, line in descendants(process.pid).items() if "lungct.sandbox.child" in line]
            looked = time.monotonic()
        for pid in found:
            if pid not in killed and reads(pid, cohort / "p07"):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    stdout, stderr = process.communicate(timeout=240)
    # Three that decode; before, up to three that ask whether the id names a person.
    assert 3 <= len(killed) <= 6, (stdout, stderr)
    assert process.returncode == 3, (stdout, stderr)
    (line,) = stderr.splitlines()
    assert "1 patient could not be decoded" in line
    assert "first p07" in line
    assert "killed 3 times" in line
    assert row_list(tmp_path) == [row for row in undisturbed if row["patient_id"] != "p07"]
    again = run("extract", cohort, "--out", tmp_path, *FLAGS)
    assert again.code == 0, again
    assert row_list(tmp_path) == undisturbed
    check_table(tmp_path)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_killed_driver_is_resumed(seed: int, cohort: Path, undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    draw = random.Random(f"driver {seed}")
    for _ in range(2):
        process = start("extract", cohort, "--out", tmp_path, *FLAGS)
        wait_until(partial(grown, tmp_path, count_shards(tmp_path)), 180, "one more shard")
        time.sleep(draw.uniform(0, SPAN_SECONDS / 4))
        process.kill()
        process.communicate()
    ran = run("extract", cohort, "--out", tmp_path, *FLAGS)
    assert ran.code == 0, ran
    assert row_list(tmp_path) == undisturbed
    check_table(tmp_path)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head that takes no work, and two nodes of one core each."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 200 << 20})
    for _ in range(2):
        nodes.add_node(num_cpus=1, object_store_memory=200 << 20)
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("lost", ["raylet", "node"])
def test_a_lost_node_changes_nothing(
    lost: str,
    seed: int,
    cluster: Cluster,
    cohort: Path,
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    draw = random.Random(f"{lost} {seed}")
    summaries: list[lungct.ExtractSummary] = []
    work = threading.Thread(target=lambda: summaries.append(lungct.extract(cohort, tmp_path, **NETWORK)), daemon=True)
    work.start()
    wait_until(lambda: count_shards(tmp_path), 180, "the first shard")
    time.sleep(draw.uniform(0, SPAN_SECONDS / 2))
    victim = draw.choice(sorted(cluster.worker_nodes, key=lambda node: node.node_id))
    if lost == "raylet":
        victim.kill_raylet()
    else:
        cluster.remove_node(victim, allow_graceful=False)
    cluster.add_node(num_cpus=1, object_store_memory=200 << 20)
    work.join(300)
    assert summaries, "the extraction has not ended, or has failed"
    assert (summaries[0].extracted, summaries[0].failed) == (PATIENTS - 1, 1)
    assert row_list(tmp_path) == undisturbed
    check_table(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_ends_the_extraction_without_an_error_row(
    cohort: Path, undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", disk], check=True)
    try:
        ran = run("extract", cohort, "--out", disk / "out", *FLAGS)
        assert ran.code == 3, ran
        assert len(ran.stderr.splitlines()) == 1
        assert "No space left" in ran.stderr
        done = row_list(disk / "out")
        assert 0 < len(done) < PATIENTS
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        again = run("extract", cohort, "--out", disk / "out", *FLAGS)
        assert again.code == 0, again
        assert again.line["skipped"] == len(done)
        assert row_list(disk / "out") == undisturbed
        check_table(disk / "out")
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_begins_to_refuse_requests_changes_nothing(
    seed: int, cohort: Path, undisturbed: list[dict[str, Any]]
) -> None:
    draw = random.Random(f"store {seed}")
    lock = threading.Lock()
    answered = 0
    most = draw.randrange(200, 500)

    def refuse(method: str, path: str) -> bool:
        nonlocal answered
        with lock:
            answered += 1
            return answered > most

    with stores.moto() as direct, stores.environment(direct):
        stores.upload(cohort, ObjectPath("s3://scans", "cohort"))
        out = ObjectPath("s3://scans", "features")
        command = ("extract", "s3://scans/cohort", "--out", out, *FLAGS)
        port = int(direct["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
        with stores.proxy(port, stores.Faults(refuse=refuse)) as faulty:
            through = stores.s3_environment(faulty) | {"LUNGCT_STORAGE_RETRY_SECONDS": "1"}
            ran = run(*command, **through)
        assert ran.code == 3, ran
        assert len(ran.stderr.splitlines()) == 1
        done = row_list(str(out)) if (out / "settings.json").is_file() else []
        assert all(row["error_code"] in (None, "no_images") for row in done)
        again = run(*command, "--take-over", **(direct | {"LUNGCT_RENEW_SECONDS": "1"}))
        assert again.code == 0, again
        assert row_list(str(out)) == undisturbed
        check_table(str(out))
