"""What a user typed -> a place, and the operations on places of either kind."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lungct.arguments import spelled
from lungct.errors import UsageError
from lungct.storage import local
from lungct.storage.client import SCHEMES
from lungct.storage.objects import ObjectPath, remove_objects, removed_at_once

Place = Path | ObjectPath
"""A file or directory on a disk, or an object or prefix in a store."""

# Directories listed at the same time if each listing is a request.
LISTINGS = 16


def locate(location: str | os.PathLike[str] | ObjectPath, *, argument: str) -> Place:
    """Return the place that the user typed.

    Raises
    ------
    UsageError
        If it is empty, or of a kind that lungct cannot open.

    """
    if isinstance(location, ObjectPath):
        return location
    text = os.fspath(location)
    if not text:
        raise UsageError(f"{spelled(argument)} is empty", fix="give a path")
    scheme, sign, rest = text.partition("://")
    if not sign:
        return _absolute(text)
    if scheme not in SCHEMES:
        raise UsageError(
            f"{spelled(argument)} {text}: lungct cannot open {scheme}://",
            fix="give a local path, or " + ", ".join(f"{known}://" for known in SCHEMES),
        )
    if not rest.split("/", 1)[0]:
        raise UsageError(f"{spelled(argument)} {text} names no bucket", fix=f"give {scheme}://BUCKET/…")
    return ObjectPath.from_url(text)


def _absolute(text: str) -> Path:
    try:
        return Path(text).absolute()
    except FileNotFoundError:
        raise UsageError("the current directory no longer exists", fix="change to one that does") from None


def local_path(location: str | os.PathLike[str], *, argument: str) -> Path:
    """Return the path on this machine that the user typed, for what cannot be in an object store.

    Raises
    ------
    UsageError
        If it is empty, or in an object store.

    """
    place = locate(location, argument=argument)
    if isinstance(place, ObjectPath):
        raise UsageError(f"{spelled(argument)} {place} is not on this machine", fix="give a local path")
    return place


def unique_name() -> str:
    """Return a random name that no process has had before: 16 hex digits."""
    return secrets.token_hex(8)


def same_place(one: Place, other: Place) -> bool:
    """Return whether two places are the same, also through links."""
    return _real(one) == _real(other)


def depth_below(inner: Place, outer: Place) -> int | None:
    """Return how many levels one place is below another; None if it is not below it."""
    a, b = _real(inner), _real(outer)
    return len(a) - len(b) if a[: len(b)] == b and len(a) > len(b) else None


def _real(place: Place) -> tuple[str, ...]:
    if isinstance(place, ObjectPath):
        return (place.root, *place.key.split("/")) if place.key else (place.root,)
    return Path(os.path.realpath(place)).parts


def list_levels(root: Place, depth: int = 1) -> tuple[list[str], list[str]]:
    """List the directories ``depth`` levels below ``root``, and the files above them that the listing passes.

    Returns
    -------
    directories, files
        Sorted paths relative to ``root``, without hidden ones.

    """
    if isinstance(root, Path):
        return local.list_levels(root, depth)
    level, files = [root], list[ObjectPath]()
    with ThreadPoolExecutor(LISTINGS) as pool:
        for _ in range(depth):
            listed = list(pool.map(ObjectPath.entries, level))
            level = [place for below, _ in listed for place in below if place.name[0] != "."]
            markers = set(level)  # an object that marks a directory has the directory's name
            files += [o for _, objects in listed for o in objects if o.name[0] != "." and o not in markers]
    return sorted(place.relative_to(root) for place in level), sorted(place.relative_to(root) for place in files)


def check_directory(place: Place, *, argument: str) -> None:
    """Raise UsageError if a directory cannot be created or written to; create nothing.

    In a store nothing is tried: only a write can show what may be written there.
    """
    if isinstance(place, Path):
        local.check_directory(place, argument=argument)
    elif place.key and place.is_file():
        raise UsageError(f"{spelled(argument)} {place} is an object, not a directory", fix="give another directory")


def make_directory(place: Place, *, argument: str) -> None:
    """Create a directory for output; raise UsageError if it cannot be written to. A store needs no directories."""
    if isinstance(place, Path):
        local.make_directory(place, argument=argument)


def output_file(location: str | os.PathLike[str], *, argument: str) -> Place:
    """Return the place that the user typed, after checking that a file can be written there.

    Raises
    ------
    UsageError
        If it is anything but a file (a directory, a device, a pipe), or its directory does not exist or cannot be
        written.

    """
    place = locate(location, argument=argument)
    if isinstance(place, Path):
        return local.output_file(place, argument=argument)
    if not place.key:
        raise UsageError(f"{spelled(argument)} {place} is a bucket", fix="give a file in it")
    return place


def write_atomically(place: Place, data: bytes) -> None:
    """Write a whole file in one step, or leave what was there and raise StorageError."""
    if isinstance(place, Path):
        local.write_atomically(place, data)
    else:
        place.write_bytes(data)


def stage(place: Place, data: bytes) -> None:
    """Write a new file that nobody reads yet, and wait until it is stored; raise StorageError if that fails."""
    if isinstance(place, Path):
        local.write_synced(place, data)
    else:
        place.write_bytes(data)


def publish(staged: Place, final: Place) -> None:
    """Make a staged file of the same storage visible under its name in one step; raise StorageError if that fails.

    In a store the staged object stays until its owner removes all its staging: one request less per commit.
    """
    if isinstance(staged, Path) and isinstance(final, Path):
        local.publish(staged, final)
    else:
        assert isinstance(staged, ObjectPath)
        assert isinstance(final, ObjectPath)
        staged.copy_to(final)


def discard(staged: Place) -> None:
    """Remove a staged file that is no longer needed; in a store its owner removes it with all its staging."""
    if isinstance(staged, Path):
        staged.unlink(missing_ok=True)


def removal_batches(places: Sequence[Place]) -> Iterator[Sequence[Place]]:
    """Divide files of one storage into parts that `remove` can remove in one round of requests each."""
    first = next(iter(places), None)
    at_once = removed_at_once(first) if isinstance(first, ObjectPath) else 500
    for start in range(0, len(places), at_once):
        yield places[start : start + at_once]


def remove(places: Sequence[Place]) -> None:
    """Remove files of one storage, whether or not they still exist; raise StorageError if that fails."""
    objects = [place for place in places if isinstance(place, ObjectPath)]
    if objects:
        remove_objects(objects)
    for place in places:
        if isinstance(place, Path):
            with local.storage_faults(f"{place} cannot be removed"):
                place.unlink(missing_ok=True)


def open_parquet(place: Place) -> Any:
    """Return what pyarrow can open: a path, or a file; of an object, one that is read in ranges."""
    if isinstance(place, Path) and is_utf8(str(place)):
        return place
    return place.open("rb") if isinstance(place, Path) else place.open()


def is_utf8(path: str) -> bool:
    """Return whether a path is text; some paths have bytes that are not, which Python keeps as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
