"""A patient's objects -> files on this machine's disk, many requests at once, gone again afterwards.

Readers of strangers' bytes get files and nothing else: they need no credentials and no network. A patient on a disk is
read where it is. Memory holds `REQUESTS` parts of `PART_BYTES` at the most, whatever an object's length.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from lungct.errors import LungCTError, SeriesError, StorageError
from lungct.storage.local import storage_faults
from lungct.storage.objects import SCHEMES, ObjectPath, StoreError
from lungct.storage.volumefiles import is_header

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
    """Give a patient's location on this machine's disk; what was fetched for it is removed at the end.

    Raises
    ------
    StorageError
        If the store or the disk refuses.
    SeriesError
        ``limits``: if there are more bytes or objects than one patient may have.

    """
    if not is_remote(location):
        yield location if isinstance(location, str) else list(location)
        return
    _sweep()
    with storage_faults("the patient's files cannot be put on this machine's disk"):
        directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    try:
        try:
            copy = _fetch(location, directory)
        except FileNotFoundError:
            raise StorageError("the patient's files are not there any more") from None
        except StoreError as error:
            # Never an object's key: it holds the directory's name, which may be a person's.
            raise StorageError(f"an object of the patient's cannot be read: {error.reason}") from None
        yield copy
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def local_copies(
    locations: Sequence[Location],
) -> Iterator[str | list[str] | LungCTError]:
    """Give one patient after another as `local_copy` does, the next being fetched while one is read.

    A patient that cannot be had is its error, in its place.
    """
    if not any(is_remote(location) for location in locations):
        yield from (item if isinstance(item, str) else list(item) for item in locations)
        return
    with ThreadPoolExecutor(1) as pool:
        waiting: list[tuple[Future[str | list[str]], object]] = []

        def begin(location: Location) -> None:
            context = local_copy(location)
            waiting.append((pool.submit(context.__enter__), context))

        for i, location in enumerate(locations):
            if i == 0:
                begin(location)
            (future, context) = waiting.pop()
            try:
                copy: str | list[str] | LungCTError = future.result()
            except LungCTError as error:
                copy = error
            if i + 1 < len(locations):
                begin(locations[i + 1])
            try:
                yield copy
            finally:
                if not isinstance(copy, LungCTError):
                    context.__exit__(None, None, None)  # type: ignore[attr-defined]


def kept_copy(location: Location) -> tuple[str | list[str], Callable[[], None]]:
    """Give a patient's location on this machine's disk, and what removes it again."""
    stack = ExitStack()
    return stack.enter_context(local_copy(location)), stack.close


def is_remote(location: Location) -> bool:
    """Whether a patient lies in an object store."""
    first = location if isinstance(location, str) else next(iter(location), "")
    return first.partition("://")[0] in SCHEMES and "://" in first


def _fetch(location: Location, directory: Path) -> str | list[str]:
    """Fetch a patient below ``directory``, under the names that its objects have."""
    if not isinstance(location, str):
        objects = [ObjectPath.from_url(url) for url in location]
        sizes = [(place, place.size()) for place in objects]
        # Files of one person from anywhere: names may be equal, and mean nothing.
        names = [f"{number:06d}" for number in range(len(objects))]
        return [os.fspath(path) for path in _download(sizes, names, directory)]
    place = ObjectPath.from_url(location)
    found = sorted(place.visible())
    if not found and place.is_file():
        # One volume file; where it is only a header, also what lies beside it under the same name.
        beside = [place]
        if is_header(place.name):
            stem = place.name.rpartition(".")[0]
            beside = [o for o in place.parent.entries()[1] if o.name.startswith(f"{stem}.")]
        _download([(o, o.size()) for o in beside], [o.name for o in beside], directory)
        return os.fspath(directory / place.name)
    if not found and not (place.is_dir() or place.is_marker()):
        raise FileNotFoundError(location)
    target = directory / (place.name or "patient")
    target.mkdir()
    _download(found, [_safe(o.relative_to(place)) for o, _ in found], target)
    return os.fspath(target)


def _safe(name: str) -> str:
    """Give a name that leads nowhere but below, and that a disk takes."""
    parts = name.split("/")
    if ".." in parts or any(len(part.encode()) > 200 for part in parts) or len(parts) > 32:
        return hashlib.sha256(name.encode()).hexdigest()
    return name


def _download(objects: Sequence[tuple[ObjectPath, int]], names: Sequence[str], directory: Path) -> list[Path]:
    total = sum(size for _, size in objects)
    if total > MOST_BYTES or len(objects) > MOST_OBJECTS:
        raise SeriesError(
            f"there are {len(objects)} objects of {total / 2**30:.1f} GiB in all, more than one patient may have "
            f"({MOST_OBJECTS} of {MOST_BYTES >> 30} GiB)",
            code="limits",
        )
    taken = {parent for name in names for parent in map(str, Path(name).parents)}
    paths = [directory / (f"{name}~" if name in taken else name) for name in names]
    with storage_faults("the patient's files cannot be put on this machine's disk"):
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
        raise StorageError("an object of the patient's is not there any more") from None


def _download_parts(source: ObjectPath, size: int, path: Path) -> None:
    with open(path, "wb") as file:
        if size <= PART_BYTES:
            file.write(source.read_bytes())
        else:
            for start in range(0, size, PART_BYTES):
                file.write(source.read_range(start, min(start + PART_BYTES, size)))
        if file.tell() != size:
            raise StorageError("an object of the patient's changed while it was read")


@cache
def _sweep() -> None:
    """Remove, once a process, what processes that were killed have left."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = path.name[len(_PREFIX) :].split("-", 1)[0]
        if owner.isdigit() and not os.path.exists(f"/proc/{owner}"):
            with suppress(OSError):
                shutil.rmtree(path)
