"""Ownership in an object store: a record that a heartbeat renews, each time on the condition that it is unchanged."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from lungct.arguments import spelled
from lungct.errors import StorageError, UsageError
from lungct.progress import print_message
from lungct.storage.objects import ObjectPath, Version
from lungct.storage.ownership.owner import Owner, Record, held_error, new_record, now, read_record
from lungct.storage.places import remove, unique_name

HEARTBEAT_SECONDS = 30.0


@dataclass(frozen=True)
class Timing:
    """How often an owner renews its record, and the waits that follow from it, in seconds.

    Attributes
    ----------
    heartbeat
        Between two heartbeats.

    """

    heartbeat: float

    @classmethod
    def from_environment(cls) -> Timing:
        """Return the default timing, or what ``LUNGCT_RENEW_SECONDS`` sets."""
        return cls(float(os.environ.get("LUNGCT_RENEW_SECONDS", HEARTBEAT_SECONDS)))

    @property
    def stale(self) -> float:
        """Age from which a record counts as that of a dead process."""
        return 10 * self.heartbeat

    @property
    def trusted(self) -> float:
        """How long a commit may rely on what was last seen of the record."""
        return self.heartbeat / 6

    @property
    def grace(self) -> float:
        """How long a new owner waits for the last commit of the living process it takes the table from.

        Such a commit saw the record at most `trusted` seconds before it began, or by an answer that took at most 20 s,
        and a request that changes a table ends, with its retries, within 40 s
        (`lungct.storage.client.QUICK_SECONDS`). After this time it is through or given up.
        """
        return 2 * self.heartbeat


class StoreOwner(Owner):
    """Holds the record by its version: once the record has another version, the table is lost."""

    def __init__(self, table: ObjectPath, name: str, record: bytes, version: Version, timing: Timing) -> None:
        super().__init__(table, name)
        self._place = table / ".lungct" / "owner.json"
        self._record, self._version, self._timing = record, version, timing
        # When this process last wrote its record, and last saw it. By the wall clock, which goes on while a machine
        # sleeps.
        self._written = self._seen = time.time()
        self._gone = False
        # The record is changed by one thread at a time: that of the heartbeat, of a commit or of the release.
        self._turn = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._keep_alive, name="lungct owner", daemon=True).start()

    @classmethod
    def acquire(cls, table: ObjectPath, *, take_over: bool, quiet: bool) -> StoreOwner:
        """Become the owner; raise UsageError if a living process holds the table, StorageError if the store fails."""
        name, timing = unique_name(), Timing.from_environment()
        record = new_record(name)
        try:
            version, from_living = _claim(table, name, record, timing, take_over=take_over)
        except FileNotFoundError:
            raise StorageError(
                f"the record of {table}'s owner was removed while it was read", fix="run the same command again"
            ) from None
        if version is None:
            raise UsageError(
                f"{spelled('out', str(table))}: this store returns no ETags, without which a table cannot be owned",
                fix="give another store",
            )
        owner = cls(table, name, record, version, timing)
        try:
            if from_living:
                print_message(
                    f"waiting {timing.grace:.0f} s for the last write of the process that held {table}",
                    quiet=quiet,
                )
                time.sleep(timing.grace)
                owner.check()
            (table / ".lungct" / "staging").remove_below()
            remove(list((table / ".lungct").glob("clock-*")))
        except BaseException:
            owner.release()
            raise
        return owner

    def check(self) -> None:
        """Raise StorageError if another process has taken the table over."""
        with self._turn:
            if self._gone or not self._is_unchanged():
                self._lose()

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Confirm that the table is still held, and stop the heartbeat while one change is made."""
        with self._turn:
            self._confirm()
            yield

    def release(self) -> None:
        """Release the table and remove this process's staging."""
        self._ended.set()
        assert isinstance(self.staging, ObjectPath)
        with suppress(StorageError, FileNotFoundError):
            self.staging.remove_below()
        with self._turn, suppress(StorageError, OSError):
            if not self._gone:
                # Emptied and not deleted: a deletion cannot be conditional.
                self._place.replace(b'{"run": null}', self._version)
            self._gone = True

    def _keep_alive(self) -> None:
        while not self._ended.wait(self._timing.heartbeat):
            # A store that does not answer is asked again. If the table is lost, the next commit notices.
            with suppress(StorageError), self._turn:
                if self._gone or self._ended.is_set():
                    return
                self._renew()

    def _confirm(self) -> None:
        """Raise StorageError if the table is lost; write a heartbeat if the last one is old.

        Most commits need no request for this: what was seen less than `Timing.trusted` ago still holds, since a new
        owner waits longer. Nor does each commit write a heartbeat: GCS allows one write per second to one object.
        """
        moment = time.time()
        if self._gone or not 0 <= moment - self._written <= self._timing.heartbeat:
            self._renew()
        elif not 0 <= moment - self._seen <= self._timing.trusted and not self._is_unchanged():
            self._lose()

    def _renew(self) -> None:
        """Write a heartbeat: the record again, on the condition that it is still this process's."""
        if self._gone:
            self._lose()
        begun = time.time()
        record = json.loads(self._record) | {"alive": now()}
        try:
            version = self._place.replace(json.dumps(record).encode(), self._version)
            self._version = version or self._version
        except (FileExistsError, FileNotFoundError):
            # A request whose answer was lost is sent again, and then refused.
            if not self._is_unchanged():
                self._lose()
        self._written = self._seen = begun

    def _is_unchanged(self) -> bool:
        """Return whether the record in the store is this process's, and remember its version."""
        begun = time.time()
        try:
            version = self._place.version()
        except FileNotFoundError:
            return False
        if version is None:
            return False
        if version != self._version and read_record(self._place).get("run") != self.name:
            return False
        self._version, self._seen = version, begun
        return True

    def _lose(self) -> NoReturn:
        self._gone = True
        raise self._lost_error(read_record(self._place))


def living_record(table: ObjectPath) -> Record:
    """Return the record of the process that seems to hold a table, without writing; an empty one if none does.

    The store's clock cannot be read without a write, so the record's age is judged by this machine's, and in doubt its
    process counts as alive.
    """
    place = table / ".lungct" / "owner.json"
    record = read_record(place)
    if not record.get("run"):
        return {}
    age = (datetime.now(UTC) - place.modified()).total_seconds()
    return record if age < Timing.from_environment().stale else {}


def _claim(
    table: ObjectPath, name: str, record: bytes, timing: Timing, *, take_over: bool, attempts: int = 5
) -> tuple[Version | None, bool]:
    """Write this process's record if there is none, if it is stale, or if the table is to be taken over.

    Returns the record's version, and whether a living process held the table.
    """
    place = table / ".lungct" / "owner.json"
    living = False
    try:
        if not place.is_file():
            return _create(table, place, record), living
        version = place.version()
        before = read_record(place)
        living = bool(before.get("run")) and _age(table, place) < timing.stale
        if living and not take_over:
            raise held_error(table, read_record(place) or before)
        return (place.replace(record, version) if version else None), living
    except FileExistsError:
        current = read_record(place)
        if current.get("run") == name:  # the request was answered, and sent again because its answer was lost
            return place.version(), living
        if take_over and attempts > 1:  # the owner wrote a heartbeat at the same moment
            return _claim(table, name, record, timing, take_over=True, attempts=attempts - 1)
        # Another process was faster by a moment.
        raise held_error(table, current) from None


def _create(table: ObjectPath, place: ObjectPath, record: bytes) -> Version | None:
    try:
        return place.create(record)
    except FileNotFoundError:
        raise StorageError(f"{table} cannot be written (there is no such bucket)", fix="create the bucket") from None


def _age(table: ObjectPath, place: ObjectPath) -> float:
    """Return how long ago a record was written, in seconds, by the store's clock alone."""
    clock = table / ".lungct" / f"clock-{unique_name()}"
    clock.write_bytes(b"")
    try:
        return (clock.modified() - place.modified()).total_seconds()
    except FileNotFoundError:
        # A process that became the owner at this moment has removed this clock with all others, so its record is new.
        return 0.0
    finally:
        clock.unlink(missing_ok=True)
