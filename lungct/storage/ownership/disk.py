"""Ownership on a local disk: a lock of the operating system, which ends with the process that holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lungct.arguments import spelled
from lungct.errors import StorageError, UsageError
from lungct.storage import local
from lungct.storage.ownership.owner import Owner, Record, describe_record, held_error, new_record, read_record
from lungct.storage.places import unique_name

# A change locks others out for milliseconds, but a process suspended in the middle of one does so forever.
MUTEX_SECONDS = 60.0
# What flock answers on a file system without locks: Lustre that is mounted without the option flock says ENOSYS.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


class DiskOwner(Owner):
    """Holds a lock on ``.lungct/lock-NAME``; ``.lungct/owner.json`` says which process that is."""

    def __init__(self, table: Path, name: str, lock: int) -> None:
        super().__init__(table, name)
        self._control, self._lock = table / ".lungct", lock

    @classmethod
    def acquire(cls, table: Path, *, take_over: bool) -> DiskOwner:
        """Become the owner; raise UsageError if a living process holds the table, or nothing can be written there."""
        control = table / ".lungct"
        with _refusals(spelled("out", str(table))):
            (control / "staging").mkdir(parents=True, exist_ok=True)
            with _mutex(control):
                record = read_record(control / "owner.json")
                if record and not take_over and _lock_is_held(control, record):
                    raise held_error(table, record)
                name = unique_name()
                lock = os.open(control / f"lock-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                fcntl.flock(lock, fcntl.LOCK_EX)
                local.write_atomically(control / "owner.json", new_record(name))
                _remove_leftovers(control, name)
                (control / "staging" / name).mkdir()
        return cls(table, name, lock)

    def check(self) -> None:
        """Raise StorageError if another process has taken the table over."""
        record = read_record(self._control / "owner.json")
        if record.get("run") != self.name:
            raise self._lost_error(record)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Hold the table's mutex while one change is made."""
        with _mutex(self._control):
            self.check()
            yield

    def release(self) -> None:
        """Release the table and remove this process's staging."""
        with suppress(OSError, StorageError), _mutex(self._control):
            shutil.rmtree(self._control / "staging" / self.name, ignore_errors=True)
            if read_record(self._control / "owner.json").get("run") == self.name:
                (self._control / "owner.json").unlink(missing_ok=True)
            (self._control / f"lock-{self.name}").unlink(missing_ok=True)
        os.close(self._lock)


def living_record(table: Path) -> Record:
    """Return the record of the living process that holds a table; an empty one if none does."""
    control = table / ".lungct"
    record = read_record(control / "owner.json")
    with _refusals(spelled("out", str(table))):
        return record if record and _lock_is_held(control, record) else {}


def check_locks(directory: Path) -> None:
    """Check, with a file that has no name, that a table in a directory could be owned.

    Raises
    ------
    UsageError
        If nothing can be written there, or the file system has no locks.

    """
    with _refusals(str(directory)), tempfile.TemporaryFile(dir=directory) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _refusals(where: str) -> Iterator[None]:
    """Raise a failure of the system as a UsageError: the user must give another directory."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise UsageError(
                f"{where}: its file system has no file locks ({error.strerror}), which keep two runs apart",
                fix="mount it with them (Lustre: -o flock), or give a directory on another disk and move it later",
            ) from error
        raise UsageError(f"{where} cannot be written ({error.strerror})", fix="give another directory") from error


def _remove_leftovers(control: Path, name: str) -> None:
    """Remove what killed processes left: their locks, their staging, and records that were not yet in place."""
    for old in (*control.glob("lock-*"), *control.glob(".owner.json.*")):
        if old.name != f"lock-{name}":
            old.unlink(missing_ok=True)
    for old in (control / "staging").iterdir():
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _mutex(control: Path) -> Iterator[None]:
    """Keep two processes from reading and changing the owner's record at the same time."""
    with local.storage_faults(f"{control.parent} cannot be locked"):
        fd = os.open(control / "mutex", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + MUTEX_SECONDS
        while not _locked(fd):
            if time.monotonic() > deadline:
                holder = describe_record(read_record(control / "owner.json"))
                raise StorageError(
                    f"{control.parent} has been locked for {MUTEX_SECONDS:.0f} s by {holder}", fix="end that process"
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    """Lock a file for this process, and return whether that succeeded."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_is_held(control: Path, record: Record) -> bool:
    """Return whether the process of a record still holds its lock."""
    try:
        fd = os.open(control / f"lock-{record.get('run')}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # it belongs to another account: as good as held
    try:
        # A shared lock, or two processes that check at the same time would take each other for the owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
