"""Objects in a store, used like files: `ObjectPath` has those methods of `pathlib.Path` that lungct needs."""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lungct.storage import oddkeys
from lungct.storage.client import UnreadableKeyError, open_store, store_faults


@dataclass(frozen=True)
class Version:
    """A version of an object: S3 and Azure identify it by the ETag, GCS by the generation.

    Attributes
    ----------
    e_tag
        The object's ETag.
    generation
        What obstore calls its version; None if the store keeps none.

    """

    e_tag: str
    generation: str | None


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object in a store, or a prefix of objects.

    Attributes
    ----------
    root
        The store: ``s3://bucket``.
    key
        The rest, without slashes at either end; "" is the whole store.

    """

    root: str
    key: str

    @classmethod
    def from_url(cls, url: str) -> ObjectPath:
        """Return the object that a URL names: ``s3://bucket/a/b``."""
        scheme, _, rest = url.partition("://")
        authority, _, key = rest.partition("/")
        return cls(f"{scheme}://{authority}", "/".join(part for part in key.split("/") if part))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.root, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part of the key; the store's own name if there is no key."""
        return self.key.rsplit("/", 1)[-1] or self.root.rsplit("/", 1)[-1]

    @property
    def parent(self) -> ObjectPath:
        """The prefix above."""
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    def relative_to(self, above: ObjectPath) -> str:
        """Return the part of the key that follows a prefix above it."""
        return self.key[len(above.key) + 1 :] if above.key else self.key

    def read_bytes(self) -> bytes:
        """Read the whole object."""
        import obstore

        with store_faults(f"{self} cannot be read"):
            return bytes(obstore.get(self._store, self.key).bytes())

    def read_text(self) -> str:
        """Read the whole object as UTF-8."""
        return self.read_bytes().decode()

    def read_range(self, start: int, end: int) -> bytes:
        """Read bytes ``start`` to ``end``, without the last one."""
        import obstore

        with store_faults(f"{self} cannot be read"):
            return bytes(obstore.get_range(self._store, self.key, start=start, end=end))

    def open(self) -> io.BufferedReader:
        """Open the object to read parts of it; each part is a request."""
        return io.BufferedReader(_Ranges(self), 1 << 16)

    def head(self, *, quick: bool = False) -> dict[str, Any]:
        """Request the object's size, last_modified, e_tag and version."""
        import obstore

        with store_faults(f"{self} cannot be read"):
            return dict(obstore.head(open_store(self.root, quick=quick), self.key))

    def size(self) -> int:
        """Return the object's length in bytes."""
        return int(self.head()["size"])

    def modified(self) -> datetime:
        """Return when the object was last written, by the store's clock."""
        moment: datetime = self.head()["last_modified"]
        return moment

    def version(self) -> Version | None:
        """Return the object's present version; None if the store distinguishes none.

        A slow answer counts as none, since by then the version may have changed.
        """
        return _version(self.head(quick=True))

    def exists(self) -> bool:
        """Return whether there is an object of this key, or any below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Return whether there is an object of this key."""
        try:
            self.head()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Return whether there is any object below this key."""
        import obstore

        try:
            with store_faults(f"{self} cannot be listed"):
                for chunk in obstore.list(self._store, prefix=self.key or None, chunk_size=2):
                    if any(_is_below(meta["path"], self.key) for meta in chunk):
                        return True
        except UnreadableKeyError:
            return True
        return False

    def is_marker(self) -> bool:
        """Return whether the key marks an empty directory: an empty object whose key ends in a slash."""
        import obstore

        with store_faults(f"{self} cannot be listed"):
            chunk = next(iter(obstore.list(self._store, prefix=self.key, chunk_size=2)), [])
        return any(meta["path"] == self.key and not meta["size"] for meta in chunk)

    def walk(self) -> Iterator[tuple[ObjectPath, int]]:
        """List every object below, with its size, in any order."""
        import obstore

        with store_faults(f"{self} cannot be listed"):
            for chunk in obstore.list(self._store, prefix=self.key or None, chunk_size=1000):
                for meta in chunk:
                    if _is_below(meta["path"], self.key):
                        yield ObjectPath(self.root, meta["path"]), int(meta["size"])

    def visible(self) -> Iterator[tuple[ObjectPath, int]]:
        """List what `walk` does, without hidden names and empty objects.

        An empty object whose key ends in a slash marks a directory, and clients drop the slash, so empty objects cannot
        be distinguished from markers.
        """
        for place, size in self.walk():
            if size and "/." not in f"/{place.relative_to(self)}":
                yield place, size

    def entries(self) -> tuple[list[ObjectPath], list[ObjectPath]]:
        """List the prefixes (directories) and the objects directly below, each sorted.

        Of S3, keys with an empty part are left out with a warning; elsewhere they are a UsageError.
        """
        import obstore

        try:
            with store_faults(f"{self} cannot be listed"):
                found = obstore.list_with_delimiter(self._store, prefix=self.key or None)
        except UnreadableKeyError:
            if not self.root.startswith("s3://"):
                raise
            prefixes, names = oddkeys.list_directory(self.root, self.key)
            below, objects = ([ObjectPath(self.root, key) for key in keys] for keys in (prefixes, names))
            return sorted(below), sorted(objects)
        below = [ObjectPath(self.root, key.rstrip("/")) for key in found["common_prefixes"]]
        objects = [
            ObjectPath(self.root, meta["path"]) for meta in found["objects"] if _is_below(meta["path"], self.key)
        ]
        return sorted(below), sorted(objects)

    def iterdir(self) -> Iterator[ObjectPath]:
        """List everything directly below."""
        for found in self.entries():
            yield from found

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """List the objects directly below whose names match a pattern."""
        _, objects = self.entries()
        return (path for path in objects if fnmatch.fnmatchcase(path.name, pattern))

    def write_bytes(self, data: bytes) -> None:
        """Write a whole object, replacing any that exists."""
        self._put(data, "overwrite")

    def create(self, data: bytes) -> Version | None:
        """Write a whole object; raise FileExistsError if there is one already."""
        return self._put(data, "create", quick=True)

    def replace(self, data: bytes, version: Version) -> Version | None:
        """Replace the object if it still has this version; otherwise raise FileExistsError."""
        condition = {"e_tag": version.e_tag}
        if version.generation is not None:
            condition["version"] = version.generation
        return self._put(data, condition, quick=True)

    def _put(self, data: bytes, mode: Any, *, quick: bool = False) -> Version | None:
        import obstore

        with store_faults(f"{self} cannot be written"):
            # Never in several parts: only a single request can be conditional.
            store = open_store(self.root, quick=quick)
            return _version(obstore.put(store, self.key, data, mode=mode, use_multipart=False))

    def copy_to(self, target: ObjectPath) -> None:
        """Copy the object within the store, in one step."""
        import obstore

        with store_faults(f"{target} cannot be written"):
            store = open_store(self.root, quick=True)
            obstore.copy(store, self.key, target.key, overwrite=True)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        import obstore

        try:
            with store_faults(f"{self} cannot be removed"):
                obstore.delete(self._store, self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_below(self) -> None:
        """Remove every object below, many with each request if the store allows it."""
        import obstore

        with store_faults(f"{self} cannot be emptied"):
            for chunk in obstore.list(self._store, prefix=self.key or None, chunk_size=1000):
                keys = [meta["path"] for meta in chunk if _is_below(meta["path"], self.key)]
                _delete(self._store, keys)

    @property
    def _store(self) -> Any:
        return open_store(self.root)


def removed_at_once(place: ObjectPath) -> int:
    """Return how many objects one round of requests removes: S3 takes a list, other stores ten requests at a time."""
    return 500 if place.root.startswith("s3://") else 10


def remove_objects(objects: Sequence[ObjectPath]) -> None:
    """Remove objects of one store, whether or not they still exist."""
    with store_faults(f"{objects[0].parent} cannot be emptied"):
        store = open_store(objects[0].root, quick=True)
        _delete(store, [place.key for place in objects])


def _delete(store: Any, keys: Sequence[str]) -> None:
    """Delete those of ``keys`` that exist."""
    import obstore

    try:
        if keys:
            obstore.delete(store, keys)
    except FileNotFoundError:
        # GCS reports an error for what does not exist (S3 does not), also if a deletion is sent again because its
        # answer was lost. The objects after that one were then not deleted.
        for key in keys:
            with suppress(FileNotFoundError):
                obstore.delete(store, key)


def _version(answer: Any) -> Version | None:
    """Return the version in obstore's answer to a head or put request."""
    return Version(answer["e_tag"], answer["version"]) if answer["e_tag"] else None


def _is_below(key: str, prefix: str) -> bool:
    """Return whether an object is below a prefix; an empty object that marks the prefix itself is not."""
    return not prefix or key.startswith(f"{prefix}/")


class _Ranges(io.RawIOBase):
    """An object as a file that is read in ranges."""

    def __init__(self, path: ObjectPath) -> None:
        self._path, self._size, self._at = path, path.size(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._path.read_range(self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
