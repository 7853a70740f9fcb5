"""A patient's objects -> files on this machine's disk, fetched by many requests at once and removed afterwards.

Code that decodes untrusted bytes is given files and nothing else, so it needs no credentials and no network. A patient
on a disk is read in place. Memory holds at most `REQUESTS` parts of `PART_BYTES`, however long the objects are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

from lungct.errors import LungCTError, SeriesError, StorageError
from lungct.storage.client import SCHEMES, StoreError, UnreadableKeyError
from lungct.storage.local import storage_faults
from lungct.storage.objects import ObjectPath
from lungct.storage.volumefiles import MAX_HEADER_BYTES, has_text_header, named_data_file

# At 50 ms a request, 150 slices of half a megabyte take a quarter of a second.
REQUESTS = 32
PART_BYTES = 8 << 20
MOST_BYTES = 32 << 30
MOST_OBJECTS = 200_000
_PREFIX = "lungct-fetched-"

Location = str | Sequence[str]
"""A patient's directory or file, or a list of its files; on a disk or in a store."""


@contextmanager
def local_copy(location: Location) -> Iterator[str | list[str]]:
    """Keep a copy of a patient's files on this machine's disk within the block.

    Yields the location of the copy; for a patient who is on a disk already, the location itself.

    Raises
    ------
    StorageError
        If the store or the disk fails.
    SeriesError
        ``limits``, if there are more bytes or objects than one patient may have; ``object_key``, if one of them has a
        key that is not a path.

    """
    copy, remove = fetch_copy(location)
    try:
        yield copy
    finally:
        remove()


def local_copies(locations: Sequence[Location]) -> Iterator[str | list[str] | LungCTError]:
    """Yield one patient after another as `local_copy` does, and fetch the next while one is read.

    A patient who cannot be fetched yields the error instead. A copy is removed as soon as the next one is asked for.
    """
    if not any(is_remote(location) for location in locations):
        yield from (item if isinstance(item, str) else list(item) for item in locations)
        return
    with ThreadPoolExecutor(1) as pool:
        fetch = pool.submit(_fetch_or_error, locations[0])
        for following in (*locations[1:], None):
            copy, remove = fetch.result()
            if following is not None:
                fetch = pool.submit(_fetch_or_error, following)
            try:
                yield copy
            except GeneratorExit:
                if following is not None:  # fetched ahead, and no longer needed
                    _, remove_following = fetch.result()
                    remove_following()
                raise
            finally:
                remove()


def fetch_copy(location: Location) -> tuple[str | list[str], Callable[[], None]]:
    """Fetch a patient as `local_copy` does; return the copy's location and a function that removes the copy."""
    if not is_remote(location):
        return location if isinstance(location, str) else list(location), _nothing
    _remove_leftovers()
    with storage_faults("the patient's files cannot be written to this machine's disk"):
        directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    remove = partial(shutil.rmtree, directory, ignore_errors=True)
    try:
        with _nameless_errors():
            return _fetch(location, directory), remove
    except BaseException:
        remove()
        raise


def is_remote(location: Location) -> bool:
    """Return whether a patient is in an object store."""
    first = location if isinstance(location, str) else next(iter(location), "")
    return first.partition("://")[0] in SCHEMES and "://" in first


@contextmanager
def _nameless_errors() -> Iterator[None]:
    """Raise a store's errors without an object's key: it contains the directory's name, which may be a person's."""
    try:
        yield
    except FileNotFoundError:
        raise StorageError("the patient's files no longer exist") from None
    except UnreadableKeyError:
        raise SeriesError(
            "one of the patient's objects has a key with // or /./ or a control character, which is not a path",
            code="object_key",
            fix="rename it",
        ) from None
    except StoreError as error:
        raise StorageError(f"one of the patient's objects cannot be read ({error.reason})", fix=error.fix) from None


def _fetch_or_error(location: Location) -> tuple[str | list[str] | LungCTError, Callable[[], None]]:
    try:
        return fetch_copy(location)
    except LungCTError as error:
        return error, _nothing


def _nothing() -> None:
    """Remove nothing: there is no copy."""


def _fetch(location: Location, directory: Path) -> str | list[str]:
    """Fetch a patient into ``directory``, under the objects' names."""
    if not isinstance(location, str):
        objects = [ObjectPath.from_url(url) for url in location]
        # One person's files from several places: names may be equal, and mean nothing.
        names = [f"{number:06d}" for number in range(len(objects))]
        paths = _download([(place, place.size()) for place in objects], names, directory)
        return [os.fspath(path) for path in paths]
    place = ObjectPath.from_url(location)
    found = sorted(place.visible())
    if not found and place.is_file():
        return _fetch_volume(place, directory)
    if not found and not (place.is_dir() or place.is_marker()):
        raise FileNotFoundError(location)
    target = directory / (place.name or "patient")
    target.mkdir()
    _download(found, [_safe(o.relative_to(place)) for o, _ in found], target)
    return os.fspath(target)


def _fetch_volume(place: ObjectPath, directory: Path) -> str:
    """Fetch one volume file, and the file of its voxels if its header names one beside it."""
    files = [(place, place.size())]
    if has_text_header(place.name):
        header = place.read_range(0, min(files[0][1], MAX_HEADER_BYTES)) if files[0][1] else b""
        name = named_data_file(header)
        if name is not None and (place.parent / name).is_file():
            files.append((place.parent / name, (place.parent / name).size()))
    _download(files, [o.name for o, _ in files], directory)
    return os.fspath(directory / place.name)


def _safe(name: str) -> str:
    """Return a name that cannot lead out of its directory and that a file system accepts."""
    parts = name.split("/")
    if ".." in parts or any(len(part.encode()) > 200 for part in parts) or len(parts) > 32:
        return hashlib.sha256(name.encode()).hexdigest()
    return name


def _download(objects: Sequence[tuple[ObjectPath, int]], names: Sequence[str], directory: Path) -> list[Path]:
    total = sum(size for _, size in objects)
    if total > MOST_BYTES or len(objects) > MOST_OBJECTS:
        raise SeriesError(
            f"there are {len(objects)} objects of {total / 2**30:.1f} GiB in total, more than one patient may have "
            f"({MOST_OBJECTS} objects, {MOST_BYTES >> 30} GiB)",
            code="limits",
        )
    # A store may have both an object "a" and an object "a/b"; a disk cannot.
    directories = {parent for name in names for parent in map(str, Path(name).parents)}
    paths = [directory / (f"{name}~" if name in directories else name) for name in names]
    with storage_faults("the patient's files cannot be written to this machine's disk"):
        for parent in {path.parent for path in paths}:
            parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(REQUESTS) as pool:
            for _ in pool.map(_download_one, (o for o, _ in objects), (s for _, s in objects), paths):
                pass
    return paths


def _download_one(source: ObjectPath, size: int, path: Path) -> None:
    try:
        _download_parts(source, size, path)
    except FileNotFoundError:
        raise StorageError("one of the patient's objects no longer exists") from None


def _download_parts(source: ObjectPath, size: int, path: Path) -> None:
    with open(path, "wb") as file:
        if size <= PART_BYTES:
            file.write(source.read_bytes())
        else:
            for start in range(0, size, PART_BYTES):
                file.write(source.read_range(start, min(start + PART_BYTES, size)))
        if file.tell() != size:
            raise StorageError("one of the patient's objects changed while it was read", fix="repeat the command")


@cache
def _remove_leftovers() -> None:
    """Remove, once per process, what killed processes left behind."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = path.name[len(_PREFIX) :].split("-", 1)[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            with suppress(OSError):
                shutil.rmtree(path)
