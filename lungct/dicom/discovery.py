"""A patient's directory -> the files in it that may be DICOM, in an order that depends on their names only.

Everything below the directory belongs to the patient. The kind of a file is decided later, by its content
(``headers.py``). Only what no reader should open is passed over and counted here: hidden files, DICOMDIR (an index that
may point anywhere, so it is never followed), pipes, sockets and devices, and dangling links.

Links to files are followed wherever they lead: archives that keep contents apart (DataLad, git-annex) consist of them.
Links to directories are followed where they add nobody else's files: within the patient, and out of the archive. A link
to another patient of the archive, or to a directory above, is passed over and counted. Each directory is read once, so
links may form loops.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lungct.errors import SeriesError, UsageError
from lungct.storage import storage_faults

MAX_FILES = 100_000
"""Files of one patient."""
MAX_DEPTH = 64
"""Levels of nested directories."""

HIDDEN = "hidden files"
DICOMDIR = "DICOMDIR files"
DANGLING = "links that lead nowhere"
UPWARDS = "links to a directory above"
OTHER_PATIENTS = "links to other patients"
SPECIAL = "pipes, sockets or devices"

_APPLE_DOUBLE = "._"
_UNLISTED = "a directory of the patient cannot be listed"


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
        Paths, sorted, of those that may stand in an image's place: hidden files (as cloud storage leaves for a file
        that it has not fetched) and dangling links. Neither DICOMDIR nor ``._*``, which macOS writes beside a file.

    """

    files: tuple[str, ...]
    passed_over: dict[str, int]
    unopened: tuple[str, ...] = ()


def find_files(patient_dir: str | os.PathLike[str], *, archive: str | os.PathLike[str] | None = None) -> FileListing:
    """List a patient's files; a path to a single file is that file.

    Parameters
    ----------
    patient_dir
        The patient's directory, or a file.
    archive
        The directory whose other directories are other patients, one or more levels above; None: the one directly
        above.

    Raises
    ------
    UsageError
        If the directory does not exist.
    SeriesError
        ``limits``, if there are more than `MAX_FILES` files, or directories nested too deep.
    StorageError
        If a directory cannot be listed.

    """
    walk = _Walk(patient_dir, archive)
    with storage_faults(_UNLISTED):
        files = sorted(walk.files())
    return FileListing(tuple(files), dict(walk.passed_over), tuple(sorted(walk.unopened)))


def files_at(location: str | Sequence[str], archive: str | None) -> FileListing:
    """Return a patient's files: those of a directory, as `find_files` lists them, or the list that was given."""
    if isinstance(location, str):
        return find_files(location, archive=archive)
    return FileListing(tuple(sorted(location)), {})


def first_files(
    patient_dir: str | os.PathLike[str], count: int, *, archive: str | os.PathLike[str] | None = None
) -> list[str]:
    """Return a few of the files that `find_files` lists, without listing the others; it raises the same errors."""
    with storage_faults(_UNLISTED):
        return list(islice(_Walk(patient_dir, archive).files(), count))


def check_exists(patient_dir: str | os.PathLike[str]) -> None:
    """Raise the UsageError of `find_files` if a patient's directory or file does not exist, without looking into it."""
    path = Path(patient_dir)
    with storage_faults(_UNLISTED):
        if not (path.is_dir() or path.is_file()):
            raise _missing(path)


def _missing(path: Path) -> UsageError:
    return UsageError(f"{path} does not exist", fix="give a directory with one patient's files")


@contextmanager
def open_file(path: str | os.PathLike[str]) -> Iterator[int]:
    """Open one of a patient's files for reading and yield its descriptor.

    Raises
    ------
    StorageError
        If the file cannot be opened or read within the block; the error does not name it.

    """
    with storage_faults("a file of the patient cannot be read"):
        # O_NONBLOCK: do not wait for a writer if the path is now a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield fd
        finally:
            os.close(fd)


class _Walk:
    """One walk through a patient's directories, which counts and keeps what it passes over."""

    def __init__(self, patient_dir: str | os.PathLike[str], archive: str | os.PathLike[str] | None) -> None:
        self.passed_over: Counter[str] = Counter()
        self.unopened: list[str] = []
        self._root = Path(patient_dir)
        self._archive = Path(os.path.abspath(patient_dir)).parent if archive is None else Path(archive)
        self._seen: set[tuple[int, int]] = set()
        self._found = 0

    def files(self) -> Iterator[str]:
        """Yield the files, those of each directory in the order of their names."""
        if self._root.is_dir():
            self._boundaries = _Boundaries(self._root, self._archive)
            yield from self._below(os.fspath(self._root), 0)
        elif self._root.is_file():
            yield os.fspath(self._root)
        else:
            raise _missing(self._root)

    def _below(self, directory: str, depth: int) -> Iterator[str]:
        if depth > MAX_DEPTH:
            raise SeriesError(f"the patient's directories are nested more than {MAX_DEPTH} levels deep", code="limits")
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in self._seen:
            return
        self._seen.add((status.st_dev, status.st_ino))
        with os.scandir(directory) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.startswith("."):
                self._pass_over(HIDDEN, entry, keep=_is_file_or_dangling(entry))
                continue
            mode = _mode(entry)
            if stat.S_ISDIR(mode):
                foreign = self._boundaries.foreign(entry.path) if entry.is_symlink() else None
                if foreign is None:
                    yield from self._below(entry.path, depth + 1)
                else:
                    self._pass_over(foreign, entry, keep=False)
            elif not mode:
                self._pass_over(DANGLING, entry, keep=True)
            elif not stat.S_ISREG(mode):
                self._pass_over(SPECIAL, entry, keep=False)
            elif _is_dicomdir(entry):
                self._pass_over(DICOMDIR, entry, keep=False)
            else:
                self._count()
                yield entry.path

    def _pass_over(self, kind: str, entry: os.DirEntry[str], *, keep: bool) -> None:
        self.passed_over[kind] += 1
        if keep and not _is_dicomdir(entry) and not entry.name.startswith(_APPLE_DOUBLE):
            self._count()
            self.unopened.append(entry.path)

    def _count(self) -> None:
        self._found += 1
        if self._found > MAX_FILES:
            raise SeriesError(f"the patient has more than {MAX_FILES} files", code="limits")


class _Boundaries:
    """Where a patient's directory ends: which links to directories would add the files of other patients."""

    def __init__(self, root: Path, archive: Path) -> None:
        self._own = Path(os.path.realpath(root))
        self._archive = Path(os.path.realpath(archive))
        self._above = {*self._own.parents, *self._archive.parents, self._archive} - {self._own}

    def foreign(self, link: str) -> str | None:
        """Return as what a link to a directory is passed over; None if it is to be followed."""
        target = Path(os.path.realpath(link))
        if target in self._above:
            return UPWARDS
        if target.is_relative_to(self._own):
            return None
        return OTHER_PATIENTS if self._is_in_archive(target) else None

    def _is_in_archive(self, target: Path) -> bool:
        """Return whether a directory lies in the archive, also through a link that the archive has of that name."""
        if self._archive == self._own:
            return False
        if target.is_relative_to(self._archive):
            return True
        return any(
            place.name and os.path.realpath(self._archive / place.name) == os.fspath(place)
            for place in (target, *target.parents)
        )


def _is_dicomdir(entry: os.DirEntry[str]) -> bool:
    return entry.name.upper() == "DICOMDIR"


def _is_file_or_dangling(entry: os.DirEntry[str]) -> bool:
    return entry.is_file(follow_symlinks=False) or (entry.is_symlink() and not os.path.isdir(entry.path))


def _mode(entry: os.DirEntry[str]) -> int:
    """Return the mode of an entry, or of what a link leads to; 0 for a dangling or circular link."""
    try:
        return entry.stat().st_mode
    except OSError as error:
        if entry.is_symlink() and error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
            return 0
        raise
