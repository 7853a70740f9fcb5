"""Extraction as a process: killed, stopped, its table taken over, repeated."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

import pytest
from support.commands import lungct as run
from support.commands import refused, start
from support.tables import rows, state, write_cohort

pytestmark = pytest.mark.ray
FLAGS = ("--backbone", "resnet18", "--weights", "random:3")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten patients; one of them (p4) has nothing but a text file."""
    src = tmp_path_factory.mktemp("cohort")
    return write_cohort(src, 10, slices=lambda i: 10 + i)


def await_a_shard(table: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(table.glob("features/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_killed_extraction_continues_to_the_same_table(cohort: Path, tmp_path: Path) -> None:
    command = ("extract", cohort, "--out", tmp_path, "--shard-patients", 1, *FLAGS)
    process = start(*command)
    await_a_shard(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = state(tmp_path)
    assert any(name.startswith("features/") for name in done)
    ran = run(*command, "--quiet")
    assert ran.code == 0, ran
    assert ran.stderr == ""
    line = ran.line
    assert line["extracted"] + line["failed"] + line["skipped"] == line["patients"] == 10
    assert line["skipped"] == len(done) - 1
    assert done.items() <= state(tmp_path).items()
    undisturbed = run("extract", cohort, "--out", tmp_path / "undisturbed", *FLAGS)
    assert undisturbed.code == 0, undisturbed
    assert rows(tmp_path) == rows(tmp_path / "undisturbed")


def test_sigterm_ends_it_cleanly(cohort: Path, tmp_path: Path) -> None:
    process = start("extract", cohort, "--out", tmp_path, "--shard-patients", 1, *FLAGS)
    await_a_shard(tmp_path)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 143, stderr
    assert stdout == ""
    assert stderr.splitlines()[-1].startswith("lungct: stopped by a signal")
    assert not (tmp_path / ".lungct" / "owner.json").exists()


def stop_between_commits(pid: int, table: Path) -> None:
    """Suspend a process at a moment when it holds no lock on its table, so that the table can be taken over."""
    while True:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        with open(table / ".lungct" / "mutex") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.05)
                continue
        return


def test_a_process_whose_table_was_taken_over_says_so_in_one_line(cohort: Path, tmp_path: Path) -> None:
    command = ("extract", cohort, "--out", tmp_path, "--shard-patients", 1, "--quiet", *FLAGS)
    first = start(*command)
    await_a_shard(tmp_path)
    stop_between_commits(first.pid, tmp_path)
    assert f"belongs to a running extract (process {first.pid}" in refused(*command)
    second = start(*command, "--take-over")
    while str(second.pid) not in (tmp_path / ".lungct/owner.json").read_text():
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGCONT)
    stdout, stderr = first.communicate(timeout=120)
    assert (first.returncode, stdout) == (3, "")
    (line,) = stderr.splitlines()
    assert "was taken over by process" in line
    assert second.wait(timeout=180) == 0
    assert sorted(rows(tmp_path)) == [f"p{i}" for i in range(10)]


def test_nothing_usable_is_exit_code_1_with_its_summary(tmp_path: Path) -> None:
    (tmp_path / "src" / "p").mkdir(parents=True)
    ran = run("extract", tmp_path / "src", "--out", tmp_path / "out", "--quiet", *FLAGS)
    assert ran.code == 1
    assert ran.line["failed"] == ran.line["patients"] == 1
    assert len(ran.stderr.splitlines()) == 1
