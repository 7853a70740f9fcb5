"""The child process that decodes: real children, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from support import ROOT
from support.ct_files import write_series

import lungct
from lungct.errors import KilledError, SeriesError, StorageError, UsageError
from lungct.sandbox import Answer, Sandbox, parent


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    write_series(tmp_path / "patient", slices=12, rows=64, columns=64)
    return tmp_path / "patient"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "KILL_PAUSES_S", (0.0, 0.0))
    # The child imports functions of this file and what it imports.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")


@contextmanager
def signaller(sandbox: Sandbox, *, times: int, number: int = signal.SIGKILL) -> Iterator[list[int]]:
    """Send the sandbox's child a signal as soon as it is ready, ``times`` times, each to another child."""
    sent: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while len(sent) < times and not over.is_set():
            pid = sandbox.pid
            if pid is not None and pid not in sent:
                os.kill(pid, number)
                sent.append(pid)
            time.sleep(0.001)

    thread = threading.Thread(target=hunt)
    thread.start()
    try:
        yield sent
    finally:
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


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE])
def test_a_crash_is_the_patients_after_the_second_time(patient: Path, number: int) -> None:
    with Sandbox() as sandbox, signaller(sandbox, times=1, number=number) as sent:
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3
    assert len(sent) == 1
    with Sandbox() as sandbox, signaller(sandbox, times=2, number=number):
        with pytest.raises(SeriesError, match=f"was ended by {signal.Signals(number).name}, twice") as death:
            sandbox.prepare(str(patient), "dsb2017")
        assert death.value.code == "undecodable"
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_kill_from_outside_is_never_the_patients(patient: Path, number: int) -> None:
    """A third attempt still counts; after three kills the error is not a SeriesError, and the next patient is read."""
    with Sandbox() as sandbox, signaller(sandbox, times=2, number=number) as sent:
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3
    assert len(sent) == 2
    with Sandbox() as sandbox, signaller(sandbox, times=3, number=number) as sent:
        with pytest.raises(KilledError, match=r"was killed 3 times") as kill:
            sandbox.prepare(str(patient), "dsb2017")
        assert len(sent) == 3
        assert kill.value.exit_code == 3
        assert kill.value.fix
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3


def test_a_child_that_is_killed_before_it_is_ready_is_no_fault_of_the_installation(
    patient: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(child: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        child.kill()
        return child

    spawn = Sandbox._spawn
    monkeypatch.setattr(Sandbox, "_spawn", lambda sandbox: kill(spawn(sandbox)))
    with Sandbox() as sandbox, pytest.raises(KilledError):
        sandbox.prepare(str(patient), "dsb2017")


def called_in_child(location: str, *, seconds: float = 0.0, end: str = "") -> Answer:
    """What tests call in the child: it waits, ends its process or raises an error, or answers."""
    time.sleep(seconds)
    if end == "usage":
        raise UsageError("volume files need an extra", fix="pip install it")
    if end:
        os.kill(os.getpid(), int(end))
    return Answer({"read": location}, (np.arange(3, dtype=np.uint8),))


def test_any_function_of_a_patients_files_can_be_called_in_the_child(patient: Path) -> None:
    with Sandbox() as sandbox:
        assert sandbox.call(called_in_child, str(patient)) == ({"read": str(patient)}, bytearray([0, 1, 2]))


def test_what_the_user_must_change_is_said_as_it_is(patient: Path) -> None:
    """A missing extra is not a patient whose files have gone."""
    with Sandbox() as sandbox:
        with pytest.raises(UsageError, match="volume files need an extra") as error:
            sandbox.call(called_in_child, str(patient), end="usage")
        assert error.value.fix == "pip install it"
        with pytest.raises(StorageError, match="no longer exist"):
            sandbox.call(called_in_child, str(patient / "missing"), end="usage")


def test_time_is_allowed_by_bytes(tmp_path: Path) -> None:
    """Two MiB give a second each beyond the base, in one file or in many; the time of a short file is the base."""
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_bytes(bytes(2 << 20))
    (tmp_path / "many").mkdir()
    for i in range(64):
        (tmp_path / "many" / f"{i}").write_bytes(bytes(32 << 10))
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "file").write_bytes(b"x")
    listed = [str(path) for path in (tmp_path / "many").iterdir()]
    with Sandbox(base_seconds=0.25, seconds_per_mib=1.0) as sandbox:
        sandbox.start()
        for location in (str(tmp_path / "one"), str(tmp_path / "many"), str(tmp_path / "one" / "file"), listed):
            sandbox.call(called_in_child, location, seconds=1.0)
        with pytest.raises(SeriesError, match="took more than") as late:
            sandbox.call(called_in_child, str(tmp_path / "short"), seconds=1.0)
        assert late.value.code == "limits"


@pytest.mark.slow
def test_a_patient_has_limits_of_time_and_memory(patient: Path) -> None:
    with Sandbox(base_seconds=0.0, seconds_per_mib=0.0001) as sandbox:
        with pytest.raises(SeriesError, match="took more than") as late:
            sandbox.prepare(str(patient), "dsb2017")
        assert late.value.code == "limits"
    write_series(patient.parent / "large", slices=4, rows=4096, columns=4096)
    with Sandbox(memory_bytes=150 << 20) as sandbox:
        assert len(sandbox.prepare(str(patient), "dsb2017").pixels) == 3
        with pytest.raises(SeriesError) as large:
            sandbox.prepare(str(patient.parent / "large"), "dsb2017")
        assert large.value.code == "limits"


def test_the_child_ends_with_its_parent() -> None:
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
