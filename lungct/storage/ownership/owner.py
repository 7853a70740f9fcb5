"""What the owner of a table can do, and the record that describes it."""

from __future__ import annotations

import json
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from lungct.arguments import spelled
from lungct.errors import StorageError, UsageError
from lungct.storage.places import Place

Record = dict[str, Any]


class Owner(ABC):
    """The right to change one table, held by one process.

    Attributes
    ----------
    table
        The table's directory.
    name
        The name under which this process holds the table. No other process ever has the same.

    """

    def __init__(self, table: Place, name: str) -> None:
        self.table, self.name = table, name

    @property
    def staging(self) -> Place:
        """Where this process alone writes what is not yet part of the table."""
        return self.table / ".lungct" / "staging" / self.name

    @abstractmethod
    def check(self) -> None:
        """Raise StorageError if another process has taken the table over."""

    @contextmanager
    @abstractmethod
    def committing(self) -> Iterator[None]:
        """Keep other processes out while one change is made; raise StorageError if the table was taken over."""
        yield

    @abstractmethod
    def release(self) -> None:
        """Release the table and remove this process's staging."""

    def _lost_error(self, record: Record) -> StorageError:
        return StorageError(
            f"{self.table} was taken over by {describe_record(record)}, so this process stops without touching it again"
        )


def new_record(name: str) -> bytes:
    """Return a record that describes this process as the owner of that name."""
    record = {
        "run": name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": now(),
    }
    return json.dumps(record).encode()


def read_record(place: Place) -> Record:
    """Read an owner's record; an empty one if it is missing or damaged."""
    try:
        record = json.loads(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def describe_record(record: Record) -> str:
    """Return which process a record names, and since when."""
    if "pid" not in record:
        return "another process"
    return f"process {record.get('pid')} on {record.get('host')}, since {record.get('since')}"


def held_error(table: Place, record: Record) -> UsageError:
    """Return the error for a table that a living process holds."""
    return UsageError(
        f"{table} belongs to a running extract ({describe_record(record)})",
        fix=f"wait for it, stop it, or give {spelled('take_over', True)}",
    )


def now() -> str:
    """Return the time in UTC, to the second, as a record has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
