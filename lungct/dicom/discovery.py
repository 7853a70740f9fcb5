"""A patient's directory -> the files in it that may be DICOM, in an order that depends on nothing but their names.

Everything below the directory belongs to the patient. Files are told apart by content, later (``headers.py``); here
only what no reader should open is passed over and counted: hidden files, DICOMDIR (an index that may point anywhere:
never followed), pipes, sockets and devices, and links that lead nowhere. Links to directories are followed once, so
that loops end.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lungct.errors import SeriesError, StorageError, UsageError

MAX_FILES = 100_000
"""Files of one patient."""
MAX_DEPTH = 64

HIDDEN = "hidden files"
DICOMDIR = "DICOMDIR files"
DANGLING = "links that lead nowhere"
UPWARDS = "links to a directory above"
SPECIAL = "pipes, sockets or devices"


@dataclass(frozen=True, slots=True)
class Found:
    """The files of one patient.

    Attributes
    ----------
    files
        In order of their path below the directory.
    passed_over
        How many files of which kind were not looked into.

    """

    files: tuple[str, ...]
    passed_over: dict[str, int]


def find_files(patient_dir: str | os.PathLike[str]) -> Found:
    """List a patient's files; a path to a single file is that file.

    Raises
    ------
    UsageError
        There is no such directory.
    SeriesError
        ``limits``: more than `MAX_FILES` files, or directories nested too deep.
    StorageError
        A directory cannot be listed.

    """
    root = Path(patient_dir)
    above = {os.fspath(parent) for parent in Path(os.path.realpath(root)).parents}
    try:
        if not root.is_dir():
            if root.is_file():
                return Found((os.fspath(root),), {})
            raise UsageError(f"{root}: there is no such directory")
        files: list[str] = []
        passed: Counter[str] = Counter()
        status = root.stat()
        _descend(os.fspath(root), files, passed, {(status.st_dev, status.st_ino)}, above, 0)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"a directory of the patient cannot be listed: {reason}") from error
    return Found(tuple(sorted(files)), dict(passed))


def _descend(
    directory: str,
    files: list[str],
    passed: Counter[str],
    seen: set[tuple[int, int]],
    above: set[str],
    depth: int,
) -> None:
    if depth > MAX_DEPTH:
        raise SeriesError(f"the patient's directories are nested more than {MAX_DEPTH} deep", code="limits")
    with os.scandir(directory) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            passed[HIDDEN] += 1
            continue
        kind = _mode(entry)
        if stat.S_ISDIR(kind):
            status = os.stat(entry.path)
            identity = (status.st_dev, status.st_ino)
            if entry.is_symlink() and os.path.realpath(entry.path) in above:
                passed[UPWARDS] += 1  # it would bring other patients in
            elif identity not in seen:
                seen.add(identity)
                _descend(entry.path, files, passed, seen, above, depth + 1)
        elif not stat.S_ISREG(kind):
            passed[SPECIAL if kind else DANGLING] += 1
        elif entry.name.upper() == "DICOMDIR":
            passed[DICOMDIR] += 1
        else:
            files.append(entry.path)
            if len(files) > MAX_FILES:
                raise SeriesError(f"the patient has more than {MAX_FILES} files", code="limits")


def _mode(entry: os.DirEntry[str]) -> int:
    """Return the mode of what an entry leads to, 0 for a link that leads nowhere or round in a circle."""
    try:
        return entry.stat().st_mode
    except OSError as error:
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return 0
        raise
