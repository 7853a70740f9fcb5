"""A patient's directory -> the files in it that may be DICOM, in an order that depends on their names only.

Everything below the directory belongs to the patient. The kind of a file is decided later, by its content
(``headers.py``). Only what no reader should open is passed over and counted here: hidden files, DICOMDIR (an index that
may point anywhere, so it is never followed), pipes, sockets and devices, and dangling links. Each directory is read
once, so links may form loops.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lungct.errors import SeriesError, StorageError, UsageError

MAX_FILES = 100_000
"""Files of one patient."""
MAX_DEPTH = 64
"""Levels of nested directories."""

HIDDEN = "hidden files"
DICOMDIR = "DICOMDIR files"
DANGLING = "links that lead nowhere"
UPWARDS = "links to a directory above"
SPECIAL = "pipes, sockets or devices"


@dataclass(frozen=True, slots=True)
class FileListing:
    """The files of one patient.

    Attributes
    ----------
    files
        Paths, sorted.
    passed_over
        Number of files of each kind that no reader opens.
    unopened
        Paths of the hidden files and of the links that lead nowhere, sorted: a slice may be missing as either.

    """

    files: tuple[str, ...]
    passed_over: dict[str, int]
    unopened: tuple[str, ...] = ()


def find_files(patient_dir: str | os.PathLike[str]) -> FileListing:
    """List a patient's files; a path to a single file is that file.

    Raises
    ------
    UsageError
        If the directory does not exist.
    SeriesError
        ``limits``, if there are more than `MAX_FILES` files, or directories nested too deep.
    StorageError
        If a directory cannot be listed.

    """
    root = Path(patient_dir)
    above = {os.fspath(parent) for parent in Path(os.path.realpath(root)).parents}
    try:
        if not root.is_dir():
            if root.is_file():
                return FileListing((os.fspath(root),), {})
            raise UsageError(f"{root} does not exist", fix="give a directory with one patient's files")
        files: list[str] = []
        passed: Counter[str] = Counter()
        status = root.stat()
        _descend(os.fspath(root), files, passed, {(status.st_dev, status.st_ino)}, above, 0)
    except OSError as error:
        raise StorageError(f"a directory of the patient cannot be listed ({_reason(error)})") from error
    return FileListing(tuple(sorted(files)), dict(passed))


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[int]:
    """Open one of a patient's files for reading and yield its descriptor.

    Raises
    ------
    StorageError
        If the file cannot be opened or read within the block; the error does not name it.

    """
    try:
        # O_NONBLOCK: do not wait for a writer if the path is now a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield fd
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError(f"a file of the patient cannot be read ({_reason(error)})") from error


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _descend(
    directory: str,
    files: list[str],
    passed: Counter[str],
    seen: set[tuple[int, int]],
    above: set[str],
    depth: int,
) -> None:
    if depth > MAX_DEPTH:
        raise SeriesError(f"the patient's directories are nested more than {MAX_DEPTH} levels deep", code="limits")
    with os.scandir(directory) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            passed[HIDDEN] += 1
            continue
        mode = _mode(entry)
        if stat.S_ISDIR(mode):
            status = os.stat(entry.path)
            identity = (status.st_dev, status.st_ino)
            if entry.is_symlink() and os.path.realpath(entry.path) in above:
                passed[UPWARDS] += 1  # following it would add the files of other patients
            elif identity not in seen:
                seen.add(identity)
                _descend(entry.path, files, passed, seen, above, depth + 1)
        elif not stat.S_ISREG(mode):
            passed[SPECIAL if mode else DANGLING] += 1
        elif entry.name.upper() == "DICOMDIR":
            passed[DICOMDIR] += 1
        else:
            files.append(entry.path)
            if len(files) > MAX_FILES:
                raise SeriesError(f"the patient has more than {MAX_FILES} files", code="limits")


def _mode(entry: os.DirEntry[str]) -> int:
    """Return the mode of an entry, or of what a link leads to; 0 for a dangling or circular link."""
    try:
        return entry.stat().st_mode
    except OSError as error:
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return 0
        raise
