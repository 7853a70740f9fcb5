"""Machines that lack something, made real: little shared memory, no account, a long TMPDIR, no locks, odd bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import ROOT
from support.commands import FinishedCommand
from support.commands import lungct as run
from support.tables import rows, write_cohort

from lungct import machine, ray_storage
from lungct.errors import UsageError
from lungct.ray_storage import MOST_DIRECTORY_BYTES, SHARED_MEMORY, find_ray_storage

FLAGS = ("--backbone", "resnet18", "--weights", "random:1", "--quiet")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change namespaces and user ids")
# The id of nobody on this machine; the capabilities let it read a Python that is installed in root's home.
NOBODY = 12345
WITHOUT_ACCOUNT = (
    *("setpriv", f"--reuid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_override,+dac_read_search", "--ambient-caps=+dac_override,+dac_read_search"),
    *("env", "-i", f"PATH={os.environ['PATH']}", f"PYTHONPATH={ROOT}"),
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), 2, slices=lambda i: 8)


def finished(*command: object, **environment: str) -> FinishedCommand:
    ran = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=240, env=os.environ | environment
    )
    return FinishedCommand(ran.returncode, ran.stdout, ran.stderr)


def in_namespace(script: str, *command: object, **environment: str) -> FinishedCommand:
    """Run a command of lungct in a mount namespace of its own, after a script has changed the mounts."""
    program = (sys.executable, "-m", "lungct.cli", *command)
    return finished("unshare", "-m", "bash", "-c", f'{script} && exec "$@"', "bash", *program, **environment)


@as_root
@pytest.mark.ray
def test_docker_gives_64_mib_of_shared_memory(cohort: Path, tmp_path: Path) -> None:
    small = f"mount -t tmpfs -o size=64m tmpfs {SHARED_MEMORY}"
    ran = in_namespace(small, "extract", cohort, "--out", tmp_path, *FLAGS)
    assert ran.code == 0, ran
    assert ran.line["extracted"] == 2
    (warning,) = ran.stderr.splitlines()
    assert "/dev/shm has only 64 MiB free" in warning
    assert "--shm-size" in warning


@as_root
@pytest.mark.parametrize("home", [None, "/", "/none"])
def test_torchvision_is_imported_without_an_account(home: str | None, tmp_path: Path) -> None:
    script = "from lungct.backbone.options import torch_module; torch_module(); import torchvision; print('imported')"
    environment = [f"TMPDIR={tmp_path}", *([] if home is None else [f"HOME={home}"])]
    tmp_path.chmod(0o777)
    ran = finished(*WITHOUT_ACCOUNT, *environment, sys.executable, "-c", script)
    assert ran.stdout == "imported\n", ran
    if home != "/":  # which the capabilities let this process write to
        (made,) = tmp_path.glob("lungct-home-*")
        assert (made.stat().st_uid, made.stat().st_mode & 0o777) == (NOBODY, 0o700)


@as_root
@pytest.mark.ray
def test_an_extraction_runs_without_an_account(cohort: Path) -> None:
    program = (sys.executable, "-m", "lungct.cli", "extract", cohort)
    with tempfile.TemporaryDirectory(dir="/tmp") as public:  # pytest's own directories are root's alone
        os.chmod(public, 0o777)
        ran = finished(*WITHOUT_ACCOUNT, *program, "--out", f"{public}/out", *FLAGS)
    assert ran.code == 0, ran
    assert ran.stderr == ""
    assert ran.line["extracted"] == 2


def test_a_home_that_belongs_to_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"lungct-home-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    home = Path(machine._temporary_home())
    assert home.is_dir()
    assert not home.is_symlink()


def test_an_account_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOGNAME", "someone")
    monkeypatch.setenv("HOME", str(tmp_path))
    account = machine.ensure_account()
    assert account == machine.Account("someone", str(tmp_path), substituted=False)


def test_a_directory_that_suits_ray_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/var/tmp")
    assert find_ray_storage().directory == "/var/tmp/ray"
    assert find_ray_storage().directory_warning is None
    longest = "/tmp/" + "x" * (MOST_DIRECTORY_BYTES - len("/tmp//ray"))
    monkeypatch.setenv("TMPDIR", longest)
    assert find_ray_storage().directory == f"{longest}/ray"
    for bad, why in ((f"{longest}x", "too long"), ("/tmp/\udce9", "not UTF-8"), ("/dev/null", "cannot be written")):
        monkeypatch.setenv("TMPDIR", bad)
        found = find_ray_storage()
        assert found.directory.startswith("/tmp/ray")
        assert why in (found.directory_warning or "")
        assert "TMPDIR" in (found.directory_warning or "")
        (found.directory_warning or "").encode()
    monkeypatch.setattr(ray_storage, "_problem", lambda directory: "cannot be written")
    with pytest.raises(UsageError, match="TMPDIR"):
        find_ray_storage()


@pytest.mark.parametrize(
    ("memory", "shared", "disk", "where", "size"),
    [
        (64 << 30, 32 << 30, 0, SHARED_MEMORY, 4 << 30),  # a large machine
        (8 << 30, 1 << 30, 0, SHARED_MEMORY, int(0.9 * (1 << 30))),  # little shared memory, but enough
        (8 << 30, 64 << 20, 100 << 30, "/tmp", int(0.3 * (8 << 30))),  # docker's default
        (8 << 30, 64 << 20, 1 << 30, "/tmp", 512 << 20),  # and a small disk
        (512 << 20, 256 << 20, 0, SHARED_MEMORY, int(0.3 * (512 << 20))),  # a small container
        (100 << 20, 1 << 30, 0, SHARED_MEMORY, 75 << 20),  # Ray's least
        (8 << 30, 64 << 20, 64 << 20, None, 0),
    ],
)
def test_objects_are_kept_where_there_is_room(
    memory: int, shared: int, disk: int, where: str | None, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {SHARED_MEMORY: shared, "/tmp": disk}
    monkeypatch.setattr(ray_storage, "usable_memory", lambda: memory)
    monkeypatch.setattr(ray_storage, "_free_bytes", free.__getitem__)
    monkeypatch.setattr(ray_storage, "_find_directory", lambda: ("/tmp/ray", None))
    if where is None:
        with pytest.raises(UsageError, match="/dev/shm has only 64 MiB free, and /tmp 64 MiB"):
            find_ray_storage()
        return
    found = find_ray_storage()
    assert (found.objects, found.object_bytes) == (where, size)
    assert (found.objects_warning is not None) == (where != SHARED_MEMORY)


def test_a_containers_limit_counts_as_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = machine.usable_memory()
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (str(limit), str(tmp_path / "none")))
    limit.write_text("max\n")
    assert machine.usable_memory() >= unlimited
    limit.write_text(f"{256 << 20}\n")
    assert machine.usable_memory() == 256 << 20


@pytest.mark.ray
def test_sockets_fit_although_tmpdir_is_long(cohort: Path, tmp_path: Path) -> None:
    long = tmp_path / "/".join(["directory"] * 12)
    long.mkdir(parents=True)
    ran = run("extract", cohort, "--out", tmp_path / "out", *FLAGS, TMPDIR=str(long))
    assert ran.code == 0, ran
    (warning,) = ran.stderr.splitlines()
    assert f"TMPDIR {long} is too long for a socket's path" in warning
    assert not (long / "ray").exists()


@pytest.mark.ray
def test_paths_may_have_bytes_that_are_not_utf8(cohort: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(cohort, odd / "scans")
    ran = run("extract", odd / "scans", "--out", odd / "table", *FLAGS)
    assert ran.code == 0, ran
    assert ran.line["out"] == str(odd / "table")
    assert list(rows(odd / "table")) == ["p0", "p1"]
    assert run("status", odd / "table", odd / "scans", "--check").code == 0


def test_rays_own_paths_must_be_utf8(cohort: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    command = (sys.executable, "-m", "lungct.cli", "extract", cohort, "--out", tmp_path / "out", *FLAGS)
    ran = finished("env", "-C", odd, *command, PYTHONPATH=str(ROOT))
    assert (ran.code, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert rf"the current directory {tmp_path}/caf\xe9 is not UTF-8" in line


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process in which flock answers as on a Lustre file system that is mounted without it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("without_locks")
    source, library = directory / "flock.c", directory / "flock.so"
    source.write_text("#include <errno.h>\nint flock(int fd, int how) { errno = ENOSYS; return -1; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library)}


def test_a_table_on_a_file_system_without_locks_is_refused(without_locks: dict[str, str], tmp_path: Path) -> None:
    script = "import sys; from lungct.storage import check_free, locate, own; f = locate(sys.argv[1], argument='out')\n"
    (tmp_path / ".lungct").mkdir()
    (tmp_path / ".lungct" / "owner.json").write_text('{"run": "1", "pid": 1}')
    (tmp_path / ".lungct" / "lock-1").touch()
    for call in ("own", "check_free"):
        ran = finished(sys.executable, "-c", f"{script}{call}(f)", tmp_path, **without_locks)
        error = ran.stderr.splitlines()[-1]
        assert error.startswith("lungct.errors.UsageError: out="), ran
        assert "has no file locks (Function not implemented)" in error
        assert "Lustre: -o flock" in error


@pytest.mark.ray
def test_the_refusal_is_one_line(cohort: Path, without_locks: dict[str, str], tmp_path: Path) -> None:
    ran = run("extract", cohort, "--out", tmp_path / "out", *FLAGS, **without_locks)
    assert (ran.code, ran.stdout) == (2, "")
    (line,) = ran.stderr.splitlines()
    assert f"--out {tmp_path / 'out'}: its file system has no file locks" in line


@as_root
@pytest.mark.ray
def test_doctor_looks_for_each(without_locks: dict[str, str], tmp_path: Path) -> None:
    long = tmp_path / "/".join(["directory"] * 12)
    long.mkdir(parents=True)
    ran = in_namespace(
        f"mount -t tmpfs -o size=64m tmpfs {SHARED_MEMORY}",
        *("doctor", "--device", "cpu", "--json"),
        **(without_locks | {"TMPDIR": str(long)}),
    )
    assert (ran.code, ran.stderr) == (1, ""), ran
    checks = {check["name"]: check for check in ran.line["checks"]}
    assert checks["account"]["state"] == "pass"
    assert checks["TMPDIR"]["state"] == checks[SHARED_MEMORY]["state"] == "warning"
    assert checks["file locks"]["state"] == "failure"
    assert all(checks[name]["fix"] for name in ("TMPDIR", SHARED_MEMORY, "file locks"))
    assert checks["ray"]["state"] == "pass"
