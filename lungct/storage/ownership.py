"""The right to change one table, held by one run at a time.

On a local disk it is a lock of the operating system, so it dies with its holder, whatever killed it; the record beside
the lock says whose it is and since when. In an object store it is the record alone: created on the condition that
there is none, and written again every 30 s on the condition that it is still what this run wrote last, so that two
runs can never both hold it. A commit begins with asking whether it still is, unless that was seen in the last 5 s, and
with a sign of life where the last one is older than that; so a run that has lost its table learns it there, while its
heir waits for a minute. A record without a sign of life for 5 minutes, by the store's own clock, is stale and is taken
over. What no store can prevent is a process that sleeps for 4 minutes between its asking and its commit.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from lungct.errors import StorageError, UsageError
from lungct.progress import say
from lungct.storage import local
from lungct.storage.objects import ObjectPath, Version
from lungct.storage.places import Place, check_directory, new_run_id, remove

RENEW_SECONDS = float(os.environ.get("LUNGCT_RENEW_SECONDS", "30"))
STALE_AFTER = 10 * RENEW_SECONDS
# A change holds a table on a disk still for milliseconds; a holder that was stopped in it, for ever.
MUTEX_SECONDS = 60.0
# A living owner's commit that was under way when its table was taken over is through, or given up, after this: it has
# seen the table to be its own not longer ago than the first, or by an answer that took at most 20 s, and a request that
# changes a table ends, with its retries, within 40 s (`lungct.storage.objects.QUICK_SECONDS`).
SEEN_FOR = RENEW_SECONDS / 6
GRACE_SECONDS = 2 * RENEW_SECONDS

Record = dict[str, Any]


class Owner(ABC):
    """The right to change one table, held by one run.

    Attributes
    ----------
    table
        The table.
    run
        This run's name.

    """

    def __init__(self, table: Place, run: str) -> None:
        self.table, self.run = table, run

    @property
    def staging(self) -> Place:
        """Where this run, and nobody else, writes what is not yet part of the table."""
        return self.table / ".lungct" / "staging" / self.run

    @abstractmethod
    def check(self) -> None:
        """Refuse if another run has taken the table over (StorageError)."""

    @contextmanager
    @abstractmethod
    def committing(self) -> Iterator[None]:
        """Hold the table still while one change is made; refuse if another run has taken it over (StorageError)."""
        yield

    @abstractmethod
    def release(self) -> None:
        """Give the table back; staging of this run goes too."""

    def _lost(self, record: Record) -> StorageError:
        return StorageError(
            f"{self.table} was taken over by another run ({_whose(record)}): this run stops without touching it again"
        )


def check_free(table: Place, *, take_over: bool = False) -> None:
    """See that `own` would give the table now, without touching anything.

    Raises
    ------
    UsageError
        If it cannot be written, or a living run holds it.

    """
    check_directory(table, argument="out")
    if take_over:
        return
    if isinstance(table, Path):
        record = _read_record(table / ".lungct" / "owner.json")
        alive = bool(record) and _lock_is_held(table / ".lungct", record)
    else:
        place = table / ".lungct" / "owner.json"
        record = _read_record(place)
        # Without a write, only this machine's clock is at hand: a record is called alive when in doubt.
        age = datetime.now(UTC) - place.modified() if record else timedelta()
        alive = bool(record.get("run")) and age < timedelta(seconds=STALE_AFTER)
    if alive:
        raise _held(table, record)


def own(table: Place, *, take_over: bool = False, quiet: bool = False) -> Owner:
    """Become the one run that may change ``table``.

    Parameters
    ----------
    table
        The table's directory; its ``.lungct`` is created.
    take_over
        Take it even from a run that is alive; that run stops at its next commit. In a store that may be a minute
        away, and is waited for.
    quiet
        Do not say on stderr what is waited for.

    Raises
    ------
    UsageError
        If a living run holds it: the sentence says whose it is and since when.
    StorageError
        If the store refuses.

    """
    if isinstance(table, ObjectPath):
        return _StoreOwner.take(table, take_over=take_over, quiet=quiet)
    return _DiskOwner.take(table, take_over=take_over)


# --- on a disk ---


class _DiskOwner(Owner):
    def __init__(self, table: Path, run: str, lock: int) -> None:
        super().__init__(table, run)
        self._control, self._lock = table / ".lungct", lock

    @classmethod
    def take(cls, table: Path, *, take_over: bool) -> _DiskOwner:
        control = table / ".lungct"
        try:
            (control / "staging").mkdir(parents=True, exist_ok=True)
            with _mutex(control):
                record = _read_record(control / "owner.json")
                if record and not take_over and _lock_is_held(control, record):
                    raise _held(table, record)
                run = new_run_id()
                lock = os.open(control / f"lock-{run}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                fcntl.flock(lock, fcntl.LOCK_EX)
                local.write_atomically(control / "owner.json", _new_record(run))
                # What runs that were killed left: their locks, and records that were not yet in place.
                for old in (*control.glob("lock-*"), *control.glob(".owner.json.*")):
                    if old.name != f"lock-{run}":
                        old.unlink(missing_ok=True)
                for old in (control / "staging").iterdir():
                    shutil.rmtree(old, ignore_errors=True)
                (control / "staging" / run).mkdir()
        except OSError as error:
            if error.errno == errno.ENOLCK:
                raise UsageError(f"{table}: its file system has no locks; give another --out") from error
            raise UsageError(f"--out {table} cannot be written: {error.strerror}") from error
        return cls(table, run, lock)

    def check(self) -> None:
        record = _read_record(self._control / "owner.json")
        if record.get("run") != self.run:
            raise self._lost(record)

    @contextmanager
    def committing(self) -> Iterator[None]:
        with _mutex(self._control):
            self.check()
            yield

    def release(self) -> None:
        with suppress(OSError, StorageError), _mutex(self._control):
            shutil.rmtree(self._control / "staging" / self.run, ignore_errors=True)
            if _read_record(self._control / "owner.json").get("run") == self.run:
                (self._control / "owner.json").unlink(missing_ok=True)
            (self._control / f"lock-{self.run}").unlink(missing_ok=True)
        os.close(self._lock)


@contextmanager
def _mutex(control: Path) -> Iterator[None]:
    """Keep two processes from examining and changing the owner's record at once."""
    with local.storage_faults(f"{control.parent} cannot be locked"):
        fd = os.open(control / "mutex", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + MUTEX_SECONDS
        while not _locked(fd):
            if time.monotonic() > deadline:
                raise StorageError(
                    f"{control.parent} is in the middle of a change by {_whose(_read_record(control / 'owner.json'))}, "
                    "which does not end: end that process"
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_is_held(control: Path, record: Record) -> bool:
    """Whether the run of a record still holds its lock."""
    try:
        fd = os.open(control / f"lock-{record.get('run')}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True  # another account's: as good as held
    try:
        # Shared: two that look at the same time must not take each other for the owner.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


# --- in an object store ---


class _StoreOwner(Owner):
    """Holds the record by its version: once the record is another, the table is lost."""

    def __init__(self, table: ObjectPath, run: str, record: bytes, version: Version) -> None:
        super().__init__(table, run)
        self._place = table / ".lungct" / "owner.json"
        self._record, self._version = record, version
        # By the wall clock, which goes on while a machine sleeps: when this run last wrote its record, and last saw it.
        self._signed = self._seen = time.time()
        self._gone = False
        # One change of the record at a time: the sign of life, a commit's own, the release.
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="lungct owner", daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, table: ObjectPath, *, take_over: bool, quiet: bool) -> _StoreOwner:
        run = new_run_id()
        record = _new_record(run)
        try:
            version, living = _claim(table, run, record, take_over=take_over)
        except FileNotFoundError:
            raise StorageError(f"{table} cannot be written: there is no such bucket") from None
        if version is None:
            raise UsageError(f"--out {table}: that store gives no ETags, which ownership needs")
        owner = cls(table, run, record, version)
        try:
            if living:
                say(
                    f"waiting {GRACE_SECONDS:.0f} s for a last write of the run that {table} is taken over from",
                    quiet=quiet,
                )
                time.sleep(GRACE_SECONDS)
                owner.check()
            (table / ".lungct" / "staging").remove_below()
            remove(list((table / ".lungct").glob("clock-*")))
        except BaseException:
            owner.release()
            raise
        return owner

    def check(self) -> None:
        with self._turn:
            if self._gone or not self._is_still_ours():
                self._lose()

    @contextmanager
    def committing(self) -> Iterator[None]:
        with self._turn:
            self._confirm()
            yield

    def release(self) -> None:
        self._ended.set()
        with suppress(StorageError, FileNotFoundError):
            _as_objects(self.staging).remove_below()
        with self._turn, suppress(StorageError, OSError):
            if not self._gone:
                # Never deleted: a deletion cannot be made on a condition.
                self._place.replace(b'{"run": null}', self._version)
            self._gone = True

    def _keep_alive(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            # A store that does not answer is asked again; a lost table is noticed by the next commit.
            with suppress(StorageError), self._turn:
                if self._gone or self._ended.is_set():
                    return
                self._sign()

    def _confirm(self) -> None:
        """See that the table is this run's (StorageError), and that its last sign of life is a young one.

        Most commits need no request for it: what was seen `SEEN_FOR` ago holds, since an heir waits longer. Nor is
        each a sign of life: GCS lets one object be written once a second.
        """
        now = time.time()
        if self._gone or not 0 <= now - self._signed <= RENEW_SECONDS:
            self._sign()
        elif not 0 <= now - self._seen <= SEEN_FOR and not self._is_still_ours():
            self._lose()

    def _sign(self) -> None:
        """Give a sign of life: write the record again, if it is still this run's."""
        if self._gone:
            self._lose()
        begun = time.time()
        record = json.loads(self._record) | {"alive": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            version = self._place.replace(json.dumps(record).encode(), self._version)
            self._version = version or self._version
        except (FileExistsError, FileNotFoundError):
            # A request that was answered, and whose answer was lost, is refused when it is sent again.
            if not self._is_still_ours():
                self._lose()
        self._signed = self._seen = begun

    def _is_still_ours(self) -> bool:
        """Ask the store whether the record is this run's, and remember which version it is."""
        begun = time.time()
        try:
            version = self._place.version()
        except FileNotFoundError:
            return False
        if version is None:
            return False
        if version != self._version and _read_record(self._place).get("run") != self.run:
            return False
        self._version, self._seen = version, begun
        return True

    def _lose(self) -> NoReturn:
        self._gone = True
        raise self._lost(_read_record(self._place))


def _claim(
    table: ObjectPath, run: str, record: bytes, *, take_over: bool, attempts: int = 5
) -> tuple[Version | None, bool]:
    """Put this run's record in the place of none, of a stale one, or of a living run's that is taken over.

    Returns the record's version, and whether a living run had the table.
    """
    place = table / ".lungct" / "owner.json"
    living = False
    try:
        if not place.is_file():
            return place.create(record), living
        was = place.version()
        before = _read_record(place)
        living = bool(before.get("run")) and _age(table, place) < STALE_AFTER
        if living and not take_over:
            raise _held(table, before)
        return (place.replace(record, was) if was else None), living
    except FileExistsError:
        now = _read_record(place)
        if now.get("run") == run:  # our request was answered, and sent again
            return place.version(), living
        if take_over and attempts > 1:  # its owner gave a sign of life in the same moment
            return _claim(table, run, record, take_over=True, attempts=attempts - 1)
        # Another run was quicker by a moment.
        raise _held(table, now) from None


def _age(table: ObjectPath, place: ObjectPath) -> float:
    """Say how long ago a record was written, in seconds, by the store's clock alone."""
    clock = table / ".lungct" / f"clock-{new_run_id()}"
    clock.write_bytes(b"")
    try:
        return (clock.modified() - place.modified()).total_seconds()
    finally:
        clock.unlink(missing_ok=True)


def _as_objects(place: Place) -> ObjectPath:
    assert isinstance(place, ObjectPath)
    return place


# --- the record ---


def _new_record(run: str) -> bytes:
    record = {
        "run": run,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return json.dumps(record).encode()


def _read_record(place: Place) -> Record:
    try:
        record = json.loads(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _held(table: Place, record: Record) -> UsageError:
    return UsageError(
        f"{table} belongs to a running extract ({_whose(record)}): wait for it, stop it, or give --take-over"
    )


def _whose(record: Record) -> str:
    return f"process {record.get('pid')} on {record.get('host')}, since {record.get('since')}"
