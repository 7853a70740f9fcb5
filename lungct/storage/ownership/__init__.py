"""The right to change one table, which one process holds at a time.

    owner.py   what an owner can do, and the record that says whose a table is and since when
    disk.py    on a local disk: a lock of the operating system, which ends with the process that holds it
    store.py   in an object store: the record alone, renewed by a heartbeat

On a disk the lock decides and the record only describes its holder. A store has no locks, so there the record decides:
it is created on the condition that there is none, and every 30 s it is written again on the condition that it is still
what this process wrote last. Two processes can therefore never both hold it.

A commit in a store begins with a check that the record is unchanged, unless that was checked within the last 5 s, and
with a heartbeat if the last one is more than 30 s old. There a process that has lost its table finds out, while the new
owner waits for a minute before it writes. A record without a heartbeat for 5 minutes, by the store's own clock, is
stale and may be taken over. One thing no store can prevent: a process that sleeps for 4 minutes between the check and
the commit.
"""

from __future__ import annotations

from lungct.storage.objects import ObjectPath
from lungct.storage.ownership import disk, store
from lungct.storage.ownership.disk import check_locks
from lungct.storage.ownership.owner import Owner, held_error
from lungct.storage.places import Place, check_directory

__all__ = ["Owner", "check_free", "check_locks", "own"]


def own(table: Place, *, take_over: bool = False, quiet: bool = False) -> Owner:
    """Become the one process that may change a table.

    Parameters
    ----------
    table
        The table's directory; its ``.lungct`` is created.
    take_over
        Take the table even from a living process, which then stops at its next commit. In a store that commit may be
        a minute away and is waited for.
    quiet
        Do not report the wait on stderr.

    Raises
    ------
    UsageError
        If a living process holds the table; the error says which, and since when.
    StorageError
        If the storage fails.

    """
    if isinstance(table, ObjectPath):
        return store.StoreOwner.acquire(table, take_over=take_over, quiet=quiet)
    return disk.DiskOwner.acquire(table, take_over=take_over)


def check_free(table: Place, *, take_over: bool = False) -> None:
    """Check that `own` would succeed now, without writing anything.

    Raises
    ------
    UsageError
        If the table cannot be written, or a living process holds it.

    """
    check_directory(table, argument="out")
    if take_over:
        return
    record = store.living_record(table) if isinstance(table, ObjectPath) else disk.living_record(table)
    if record:
        raise held_error(table, record)
