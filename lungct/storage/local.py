"""Local disks: a file is written beside its final place, synced and renamed, and then its directory is synced."""

from __future__ import annotations

import errno
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lungct.arguments import spelled
from lungct.errors import StorageError, UsageError


@contextmanager
def storage_faults(what: str) -> Iterator[None]:
    """Raise every failure of the disk within the context as a StorageError about ``what``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"{what} ({reason})") from error


def make_directory(path: Path, *, argument: str) -> None:
    """Create a directory for output and check that it can be written to.

    Raises
    ------
    UsageError
        If it is a file, or cannot be created or written.

    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (FileExistsError, NotADirectoryError):
        raise _file_in_the_way(path, argument) from None
    except OSError as error:
        raise _unwritable(path, argument, error.strerror) from error


def check_directory(path: Path, *, argument: str) -> None:
    """Check, without creating it, that a directory can be created or written to.

    Raises
    ------
    UsageError
        If a file is in the way, or nothing can be written there.

    """
    nearest = path
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if not nearest.is_dir():
        raise _file_in_the_way(path, argument)
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unwritable(path, argument, f"no permission to write to {nearest}")


def output_file(path: Path, *, argument: str) -> Path:
    """Return the path at which a file can be written; for a link, its target.

    Raises
    ------
    UsageError
        If it is anything but a file (a directory, a device, a pipe), or its directory does not exist or cannot be
        written.

    """
    path = path.resolve()
    if path.is_dir():
        raise UsageError(f"{spelled(argument)} {path} is a directory", fix="give a file")
    if path.exists() and not path.is_file():
        raise UsageError(
            f"{spelled(argument)} {path} is a device or a pipe, which would be replaced", fix="give a file"
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"{spelled(argument)} {path}: the directory {path.parent} does not exist", fix="create it, or give another"
        )
    make_directory(path.parent, argument=argument)
    return path


def _file_in_the_way(path: Path, argument: str) -> UsageError:
    message = f"{spelled(argument)} {path}: a file is in the way of that directory"
    return UsageError(message, fix="give another directory")


def _unwritable(path: Path, argument: str, reason: str | None) -> UsageError:
    return UsageError(f"{spelled(argument)} {path} cannot be written ({reason})", fix="give another directory")


def sync_directory(path: Path) -> None:
    """Write a directory's names to the disk, so that they survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_synced(path: Path, data: bytes | memoryview) -> None:
    """Write a new file and wait until it is on the disk."""
    with storage_faults(f"{path} cannot be written"), open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file in one step, or leave what was there.

    Raises
    ------
    StorageError
        If the disk fails.

    """
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        write_synced(staged, data)
        publish(staged, path)
    finally:
        with suppress(OSError):
            staged.unlink()


def publish(staged: Path, final: Path) -> None:
    """Make a finished, synced file visible under its name, in one step; both are on the same file system."""
    with storage_faults(f"{final} cannot be written"):
        os.rename(staged, final)
        sync_directory(final.parent)


def list_levels(root: Path, depth: int) -> tuple[list[str], list[str]]:
    """List the directories ``depth`` levels below ``root``, and the files above them, as sorted relative paths.

    What is hidden is left out; links to directories count as directories.
    """
    directories: list[str] = []
    files: list[str] = []

    def descend(directory: Path, prefix: str, left: int) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                relative = f"{prefix}{entry.name}"
                kind = _kind(entry)
                if kind == "file":
                    files.append(relative)
                elif kind == "directory" and left == 1:
                    directories.append(relative)
                elif kind == "directory":
                    descend(Path(entry.path), f"{relative}/", left - 1)

    with storage_faults(f"{root} cannot be listed"):
        descend(root, "", depth)
    return sorted(directories), sorted(files)


def _kind(entry: os.DirEntry[str]) -> str | None:
    """Return "directory" or "file", also for a link to one; None for anything else, such as a link to itself."""
    try:
        return "directory" if entry.is_dir() else "file" if entry.is_file() else None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
