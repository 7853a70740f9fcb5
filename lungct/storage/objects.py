"""Objects in a store, used like files: `ObjectPath` has those methods of `pathlib.Path` that lungct needs.

The store is opened by its URL alone, with the credentials that each cloud's own tools would find: environment
variables, an instance's role, a workload's identity; for S3 also the profiles of the AWS command line, where boto3 is
installed. A public bucket is read unsigned with ``AWS_SKIP_SIGNATURE=true`` (``GOOGLE_``, ``AZURE_``). Nothing of it is
ever on a command line or in a sentence of ours.

Requests are retried by the store's client (503s, dropped connections) before a fault is one.
"""

from __future__ import annotations

import fnmatch
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from lungct.errors import StorageError

SCHEMES = ("s3", "gs", "abfs", "abfss")
# A request without a byte for so long is tried again; a whole one may take longer, and longer objects are cut.
READ_TIMEOUT = timedelta(seconds=30)
REQUEST_TIMEOUT = timedelta(minutes=5)
RETRY_SECONDS = float(os.environ.get("LUNGCT_STORAGE_RETRY_SECONDS", "60"))
# What changes a table is small and must not linger: with its retries it is over well before an heir's grace is.
QUICK_SECONDS = 20.0


@dataclass(frozen=True)
class Version:
    """Which writing of an object one is, in the words of its store: S3 and Azure go by the ETag, GCS by the generation.

    Attributes
    ----------
    e_tag
        The object's ETag.
    generation
        What obstore calls its version; None where the store keeps none.

    """

    e_tag: str
    generation: str | None


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or the prefix of some, in a store.

    Attributes
    ----------
    root
        The store: ``s3://bucket``.
    key
        What stands behind it, without slashes at either end; "" is the whole store.

    """

    root: str
    key: str

    @classmethod
    def from_url(cls, url: str) -> ObjectPath:
        """Take an URL apart: ``s3://bucket/a/b``."""
        scheme, _, rest = url.partition("://")
        authority, _, key = rest.partition("/")
        return cls(f"{scheme}://{authority}", "/".join(part for part in key.split("/") if part))

    def __str__(self) -> str:
        return f"{self.root}/{self.key}" if self.key else self.root

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.root, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part of the key; the store's own name where there is no key."""
        return self.key.rsplit("/", 1)[-1] or self.root.rsplit("/", 1)[-1]

    @property
    def parent(self) -> ObjectPath:
        """What lies above."""
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    # --- reading ---

    def read_bytes(self) -> bytes:
        """Read the whole object."""
        import obstore

        with _faults(f"{self} cannot be read"):
            return bytes(obstore.get(self._store, self.key).bytes())

    def read_text(self) -> str:
        """Read the whole object as UTF-8."""
        return self.read_bytes().decode()

    def read_range(self, start: int, end: int) -> bytes:
        """Read bytes ``start`` to ``end``, the last one not included."""
        import obstore

        with _faults(f"{self} cannot be read"):
            return bytes(obstore.get_range(self._store, self.key, start=start, end=end))

    def size(self) -> int:
        """Ask for the object's length in bytes."""
        return int(self.head()["size"])

    def head(self, *, quick: bool = False) -> dict[str, Any]:
        """Ask for what the store knows of the object: size, last_modified, e_tag, version."""
        import obstore

        with _faults(f"{self} cannot be read"):
            return dict(obstore.head(_open_store(self.root, quick=quick), self.key))

    def version(self) -> Version | None:
        """Ask which writing of the object is there now; None where the store tells none apart.

        An answer that takes long is none: what it says would no longer be so.
        """
        return _version(self.head(quick=True))

    def exists(self) -> bool:
        """Whether there is an object of that key, or any below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object of that key."""
        try:
            self.head()
        except FileNotFoundError:
            return False
        return True

    def is_marker(self) -> bool:
        """Whether the key is there as an empty directory: an empty object whose key ends in a slash."""
        import obstore

        with _faults(f"{self} cannot be listed"):
            chunk = next(iter(obstore.list(self._store, prefix=self.key, chunk_size=2)), [])
        return any(meta["path"] == self.key and not meta["size"] for meta in chunk)

    def is_dir(self) -> bool:
        """Whether there is any object below that key."""
        import obstore

        with _faults(f"{self} cannot be listed"):
            for chunk in obstore.list(self._store, prefix=self.key or None, chunk_size=2):
                if any(_is_below(meta["path"], self.key) for meta in chunk):
                    return True
        return False

    def walk(self) -> Iterator[tuple[ObjectPath, int]]:
        """List every object below, with its size, in no order that matters."""
        import obstore

        with _faults(f"{self} cannot be listed"):
            for chunk in obstore.list(self._store, prefix=self.key or None, chunk_size=1000):
                for meta in chunk:
                    if _is_below(meta["path"], self.key):
                        yield ObjectPath(self.root, meta["path"]), int(meta["size"])

    def visible(self) -> Iterator[tuple[ObjectPath, int]]:
        """List what `walk` does but for hidden names and empty objects.

        Empty objects stand for directories where their keys end in a slash, and no client tells which do.
        """
        for place, size in self.walk():
            if size and "/." not in f"/{place.relative_to(self)}":
                yield place, size

    def relative_to(self, above: ObjectPath) -> str:
        """Give the key's part behind that of a prefix above it."""
        return self.key[len(above.key) + 1 :] if above.key else self.key

    def entries(self) -> tuple[list[ObjectPath], list[ObjectPath]]:
        """List what is directly below: prefixes (directories) and objects, each sorted."""
        import obstore

        with _faults(f"{self} cannot be listed"):
            found = obstore.list_with_delimiter(self._store, prefix=self.key or None)
        below = [ObjectPath(self.root, key.rstrip("/")) for key in found["common_prefixes"]]
        objects = [
            ObjectPath(self.root, meta["path"]) for meta in found["objects"] if _is_below(meta["path"], self.key)
        ]
        return sorted(below), sorted(objects)

    def iterdir(self) -> Iterator[ObjectPath]:
        """List what is directly below."""
        for found in self.entries():
            yield from found

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """List the objects directly below whose names fit a pattern."""
        _, objects = self.entries()
        return (path for path in objects if fnmatch.fnmatchcase(path.name, pattern))

    def open(self) -> io.BufferedReader:
        """Open the object to read parts of it; each part is a request."""
        return io.BufferedReader(_Ranges(self), 1 << 16)

    # --- writing ---

    def write_bytes(self, data: bytes) -> None:
        """Put a whole object in the place of what was there."""
        self._put(data, "overwrite")

    def create(self, data: bytes) -> Version | None:
        """Put a whole object where there is none; FileExistsError where there is."""
        return self._put(data, "create", quick=True)

    def replace(self, data: bytes, version: Version) -> Version | None:
        """Put a whole object in the place of one that is still that version; else FileExistsError."""
        condition = {"e_tag": version.e_tag}
        if version.generation is not None:
            condition["version"] = version.generation
        return self._put(data, condition, quick=True)

    def _put(self, data: bytes, mode: Any, *, quick: bool = False) -> Version | None:
        import obstore

        with _faults(f"{self} cannot be written"):
            # Never in several parts: only a single request can be made on a condition.
            store = _open_store(self.root, quick=quick)
            return _version(obstore.put(store, self.key, data, mode=mode, use_multipart=False))

    def copy_to(self, target: ObjectPath) -> None:
        """Have the store copy the object in one step."""
        import obstore

        with _faults(f"{target} cannot be written"):
            store = _open_store(self.root, quick=True)
            obstore.copy(store, self.key, target.key, overwrite=True)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object."""
        import obstore

        try:
            with _faults(f"{self} cannot be removed"):
                obstore.delete(self._store, self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_below(self) -> None:
        """Remove every object below, many with each request where the store can."""
        import obstore

        with _faults(f"{self} cannot be emptied"):
            for chunk in obstore.list(self._store, prefix=self.key or None, chunk_size=1000):
                keys = [meta["path"] for meta in chunk if _is_below(meta["path"], self.key)]
                _delete(self._store, keys)

    def modified(self) -> datetime:
        """Say when the object was last written, by the store's clock."""
        moment: datetime = self.head()["last_modified"]
        return moment

    @property
    def _store(self) -> Any:
        return _open_store(self.root)


def removed_at_once(place: ObjectPath) -> int:
    """How many objects of its store one round of requests removes: S3 takes a list, others are asked ten times."""
    return 500 if place.root.startswith("s3://") else 10


def remove_objects(objects: Sequence[ObjectPath]) -> None:
    """Remove objects of one store; what is gone already is no fault."""
    with _faults(f"{objects[0].parent} cannot be emptied"):
        store = _open_store(objects[0].root, quick=True)
        _delete(store, [place.key for place in objects])


def _delete(store: Any, keys: Sequence[str]) -> None:
    """Delete what is there of ``keys``."""
    import obstore

    try:
        if keys:
            obstore.delete(store, keys)
    except FileNotFoundError:
        # GCS minds an object that is not there (S3 does not), also when a deletion is sent again after its answer
        # was lost; the objects behind it were then not asked for.
        for key in keys:
            with suppress(FileNotFoundError):
                obstore.delete(store, key)


def _version(known: Any) -> Version | None:
    """Take the version out of what obstore tells of an object or of a put."""
    return Version(known["e_tag"], known["version"]) if known["e_tag"] else None


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


def _is_below(key: str, prefix: str) -> bool:
    """Whether an object lies below a prefix; an empty object that stands for the prefix itself does not."""
    return not prefix or key.startswith(f"{prefix}/")


@lru_cache(maxsize=64)
def _open_store(root: str, *, quick: bool = False) -> Any:
    """Open a store once a process; ``quick``: to give up after `QUICK_SECONDS`."""
    from obstore.store import from_url

    retry = min(RETRY_SECONDS, QUICK_SECONDS) if quick else RETRY_SECONDS
    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": READ_TIMEOUT,
            "timeout": timedelta(seconds=QUICK_SECONDS) if quick else REQUEST_TIMEOUT,
        }
        | ({"allow_http": True} if _plain_http() else {}),
        "retry_config": {"max_retries": 10, "retry_timeout": timedelta(seconds=retry)},
    }
    provider = _profile_credentials() if root.startswith("s3://") else None
    if provider is not None:
        options["credential_provider"] = provider
    with _faults(f"{root} cannot be opened"):
        return from_url(root, **options)


def _plain_http() -> bool:
    """Whether the environment names an endpoint without TLS: a store on this machine, an emulator."""
    aws = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3")
    names = (*aws, "AZURITE_BLOB_STORAGE_URL", "GOOGLE_BASE_URL")
    return any(os.environ.get(name, "").startswith("http://") for name in names)


def _profile_credentials() -> Any:
    """Use the AWS command line's profiles where they are what there is, and boto3 is here to read them."""
    plain = ("AWS_ACCESS_KEY_ID", "AWS_SKIP_SIGNATURE", "AWS_WEB_IDENTITY_TOKEN_FILE")
    if any(os.environ.get(name) for name in plain):
        return None
    named = os.environ.get("AWS_PROFILE")
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", os.path.expanduser("~/.aws/credentials"))
    if not named and not os.path.exists(file):
        return None
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        if named:
            raise StorageError(
                f"AWS_PROFILE is {named} and boto3, which reads profiles, is not installed: pip install boto3"
            ) from None
        return None
    try:
        return Boto3CredentialProvider()
    except Exception as error:
        raise StorageError(
            f"the AWS profile cannot be used ({type(error).__name__}): see `aws configure list`"
        ) from error


@contextmanager
def _faults(what: str) -> Iterator[None]:
    """Say a store's refusals as ours: FileNotFoundError, FileExistsError, else a StorageError about ``what``.

    A store's own text is never passed on: it may quote a key's name or a signed URL.
    """
    from obstore import exceptions

    try:
        yield
    except (exceptions.NotFoundError, FileNotFoundError) as error:
        raise FileNotFoundError(f"{what}: it is not there") from error
    except (exceptions.AlreadyExistsError, exceptions.PreconditionError) as error:
        raise FileExistsError(f"{what}: it is there already, or has changed") from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise StoreError(what, _DENIED) from error
    except exceptions.BaseError as error:
        raise StoreError(what, _reason(error)) from error


class StoreError(StorageError):
    """A store's refusal; ``reason`` says why, and names no object."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: {reason}")
        self.what, self.reason = what, reason

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the reason when the error crosses a process boundary."""
        return StoreError, (self.what, self.reason)


_DENIED = (
    "access was denied; look at this machine's credentials for that store (a public bucket: "
    "AWS_SKIP_SIGNATURE=true, and GOOGLE_ or AZURE_)"
)


def _reason(error: Exception) -> str:
    text = str(error)
    # A machine without credentials asks its cloud's address for them, and that answer is not the store's.
    if any(sign in text.lower() for sign in ("credential", "169.254.169.254", "metadata.google")):
        return "no credentials for that store were found on this machine"
    if "path" in text.lower() and ("segment" in text.lower() or "illegal" in text.lower()):
        return "an object below has a key that is no path (// or /./ or a control character in it): rename it"
    status = re.search(r"\b([45]\d\d) [A-Z][a-z]", text)
    if status and status.group(1) == "404":
        return "there is no such bucket (the store answered 404)"
    if status:
        return f"the store answered {status.group(1)}"
    for sign, reason in (
        ("dns error", "the store's name is not known"),
        ("timed out", "the store did not answer in time"),
        ("Connection refused", "nothing answers at the store's address"),
        ("redirect", "the bucket lies in another region (AWS_REGION names it)"),
    ):
        if sign.lower() in text.lower():
            return reason
    return "the store did not answer as a store does"
