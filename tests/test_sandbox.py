"""The child process that decodes: real children, really killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support.ct_files import write_series

import lungct
from lungct.errors import SeriesError, StorageError
from lungct.sandbox import Sandbox


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    write_series(tmp_path / "patient", slices=12, rows=64, columns=64)
    return tmp_path / "patient"


@contextmanager
def killer(sandbox: Sandbox, *, times: int) -> Iterator[list[int]]:
    """Kill the sandbox's child as soon as it is ready, ``times`` times."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while len(killed) < times and not over.is_set():
            pid = sandbox.pid
            if pid is not None and pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.001)

    thread = threading.Thread(target=hunt)
    thread.start()
    yield killed
    over.set()
    thread.join()


def test_the_child_prepares_one_patient_after_another_as_the_parent_would(patient: Path) -> None:
    alone = lungct.triplets(patient)
    with Sandbox() as sandbox:
        for _ in range(2):
            prepared = sandbox.prepare(str(patient), "dsb2017")
            assert np.array_equal(prepared.pixels, alone.pixels)
            assert np.array_equal(prepared.positions_mm, alone.positions_mm)
            assert prepared.scan.pixel_hash == alone.pixel_hash
            assert prepared.scan.slices == 12
        pid = sandbox.pid
        assert pid is not None
        with pytest.raises(SeriesError) as refusal:
            sandbox.prepare(str(patient), "lung")
        assert refusal.value.code == "no_lungs"
        assert sandbox.pid == pid


def test_an_error_of_the_child_keeps_message_fix_and_code(patient: Path) -> None:
    write_series(patient / "other", slices=4, rows=64, columns=64, patient_id="P2")
    with pytest.raises(SeriesError) as alone:
        lungct.read_series(patient)
    with Sandbox() as sandbox, pytest.raises(SeriesError) as refusal:
        sandbox.prepare(str(patient), "dsb2017")
    assert vars(refusal.value) == vars(alone.value)
    assert refusal.value.code == "several_persons"
    assert refusal.value.fix is not None


def test_a_patient_is_tried_again_after_one_death_of_the_child_and_refused_after_two(patient: Path) -> None:
    with Sandbox() as sandbox, killer(sandbox, times=1) as killed:
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3
    assert len(killed) == 1
    with Sandbox() as sandbox, killer(sandbox, times=2):
        with pytest.raises(SeriesError, match=r"was ended by SIGKILL, twice") as death:
            sandbox.prepare(str(patient), "dsb2017")
        assert death.value.code == "undecodable"
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3


@pytest.mark.slow
def test_a_patient_has_limits_of_time_and_memory(patient: Path) -> None:
    with Sandbox(base_seconds=0.0, seconds_per_file=0.0001) as sandbox:
        with pytest.raises(SeriesError, match="exceeded its time") as late:
            sandbox.prepare(str(patient), "dsb2017")
        assert late.value.code == "limits"
    write_series(patient.parent / "large", slices=4, rows=4096, columns=4096)
    with Sandbox(memory_bytes=300 << 20) as sandbox:
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3
        with pytest.raises(SeriesError) as large:
            sandbox.prepare(str(patient.parent / "large"), "dsb2017")
        assert large.value.code == "limits"


def test_the_child_ends_with_its_parent() -> None:
    import subprocess
    import sys

    script = (
        "import os, sys; from lungct.sandbox import Sandbox; s = Sandbox(); s.start(); "
        "print(s.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    pid = int(ran.stdout)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_missing_directory_is_a_storage_error(tmp_path: Path) -> None:
    with Sandbox() as sandbox, pytest.raises(StorageError):
        sandbox.prepare(str(tmp_path / "missing"), "dsb2017")
