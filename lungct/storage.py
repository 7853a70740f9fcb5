"""Where bytes are kept: list, read, put whole or not at all, own a table.

Everything written through this module appears in one step or not at all: a file is written beside its place, synced,
renamed, and its directory synced. Ownership of a table is a lock of the operating system, so it dies with its holder,
whatever killed it; the record beside the lock says whose it is and since when.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lungct.errors import StorageError, UsageError


def local_path(location: str | os.PathLike[str], *, option: str) -> Path:
    """Turn what the user typed into a path of this machine.

    Raises
    ------
    UsageError
        If it names an object store, which this version does not open, or is empty.

    """
    text = os.fspath(location)
    if not text:
        raise UsageError(f"{option} is empty: give a directory")
    if "://" in text:
        scheme = text.split("://", 1)[0]
        raise UsageError(
            f"{option} {text}: {scheme}:// is not supported yet; copy or mount it and give a local path"
        )
    return Path(text).absolute()


def new_run_id() -> str:
    """Draw a name for one run of a command, that no other run has."""
    return secrets.token_hex(8)


@contextmanager
def storage_faults(what: str) -> Iterator[None]:
    """Say every fault of the disk below as a StorageError about ``what``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"{what}: {reason}") from error


def make_directory(path: Path, *, option: str) -> None:
    """Create a directory for output and see that it can be written to.

    Raises
    ------
    UsageError
        If it is a file, or cannot be created or written.

    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise UsageError(f"{option} {path}: a file is in the way of that directory") from None
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be written: {error.strerror}") from error


def output_file(location: str | os.PathLike[str], *, option: str) -> Path:
    """Turn what the user typed into a path that a file can be put at: behind a link, what it leads to.

    Raises
    ------
    UsageError
        If it is anything but a file (a directory, a device, a pipe), or its own directory is not there or cannot be
        written.

    """
    path = local_path(location, option=option).resolve()
    if path.is_dir():
        raise UsageError(f"{option} {path} is a directory: give a file")
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{option} {path} is a device or a pipe, which a file would replace: give a file"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no directory {path.parent}")
    make_directory(path.parent, option=option)
    return path


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Write a new file and wait until the disk has it."""
    with storage_faults(f"{path} cannot be written"), open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes) -> None:
    """Put a whole file in place in one step, or leave what was there.

    Raises
    ------
    StorageError
        If the disk refuses.

    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write_synced(staged, data)
        publish(staged, path)
    finally:
        with suppress(OSError):
            staged.unlink()


def publish(staged: Path, final: Path) -> None:
    """Make a finished, synced file of the same file system visible under its name, in one step."""
    with storage_faults(f"{final} cannot be written"):
        os.rename(staged, final)
        sync_directory(final.parent)


def subdirectories(root: Path, depth: int = 1) -> list[str]:
    """List the directories ``depth`` levels below ``root``, as paths relative to it, sorted.

    Hidden directories are passed over; links to directories count as directories.
    """
    found: list[str] = []

    def descend(directory: Path, prefix: str, left: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not _is_directory(entry):
                    continue
                relative = f"{prefix}{entry.name}"
                if left == 1:
                    found.append(relative)
                else:
                    descend(Path(entry.path), f"{relative}/", left - 1)

    with storage_faults(f"{root} cannot be listed"):
        descend(root, "", depth)
    return sorted(found)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a directory, or a link to one; a link that leads in a circle is none."""
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise


@dataclass(frozen=True)
class Owner:
    """The right to change one table, held by one run.

    Attributes
    ----------
    control
        The directory of the owner's record and of staging.
    run
        This run's name.

    """

    control: Path
    run: str
    _lock: int

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Hold the table still while one change is made; refuse if another run has taken it over.

        Raises
        ------
        StorageError
            If the table is no longer this run's.

        """
        with _mutex(self.control):
            record = _read_record(self.control)
            if record.get("run") != self.run:
                raise StorageError(
                    f"{self.control.parent} was taken over by another run "
                    f"({_whose(record)}): this run stops without touching it again"
                )
            yield

    def release(self) -> None:
        """Give the table back; staging of this run goes too."""
        with suppress(OSError), _mutex(self.control):
            shutil.rmtree(self.control / "staging" / self.run, ignore_errors=True)
            if _read_record(self.control).get("run") == self.run:
                (self.control / "owner.json").unlink(missing_ok=True)
            (self.control / f"lock-{self.run}").unlink(missing_ok=True)
        os.close(self._lock)


def own(table: Path, *, take_over: bool = False) -> Owner:
    """Become the one run that may change ``table``.

    Parameters
    ----------
    table
        The table's directory; its ``.lungct`` is created.
    take_over
        Take it even from a run that is alive; that run stops at its next commit.

    Raises
    ------
    UsageError
        If a living run holds it: the sentence says whose it is and since when.

    """
    control = table / ".lungct"
    try:
        (control / "staging").mkdir(parents=True, exist_ok=True)
        with _mutex(control):
            record = _read_record(control)
            if record and not take_over and _alive(control, record):
                raise UsageError(
                    f"{table} belongs to a running extract ({_whose(record)}): wait for it, stop it, "
                    "or give --take-over"
                )
            run = new_run_id()
            lock = os.open(control / f"lock-{run}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
            new = {
                "run": run,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            write_atomically(control / "owner.json", json.dumps(new).encode())
            for old in control.glob("lock-*"):
                if old.name != f"lock-{run}":
                    old.unlink(missing_ok=True)
            for old in (control / "staging").iterdir():
                shutil.rmtree(old, ignore_errors=True)
            (control / "staging" / run).mkdir()
    except OSError as error:
        if error.errno == errno.ENOLCK:
            raise UsageError(
                f"{table}: its file system has no locks; give another --out"
            ) from error
        raise UsageError(f"--out {table} cannot be written: {error.strerror}") from error
    return Owner(control, run, lock)


@contextmanager
def _mutex(control: Path) -> Iterator[None]:
    """Keep two processes from examining and changing the owner's record at once."""
    fd = os.open(control / "mutex", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _read_record(control: Path) -> dict[str, object]:
    try:
        record = json.loads((control / "owner.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _alive(control: Path, record: dict[str, object]) -> bool:
    """Whether the run of a record still holds its lock."""
    try:
        fd = os.open(control / f"lock-{record.get('run')}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _whose(record: dict[str, object]) -> str:
    return f"process {record.get('pid')} on {record.get('host')}, since {record.get('since')}"
