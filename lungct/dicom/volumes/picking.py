"""Which of a patient's volume files is the scan: the one the user names, the only one, or the one above all others.

Sets that were segmented have the scan with its masks in directories below it (TotalSegmentator) or beside it (KiTS).
The first is the volume at the top; of the second, only the user can say which is which.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lungct.dicom.discovery import FileListing
from lungct.errors import SeriesError
from lungct.storage.volumefiles import is_header, is_volume, is_voxels

VOLUMES = "volume files"
ONLY = "a volume file"
"""Why a volume was chosen if there is no other."""


@dataclass(frozen=True)
class PickedVolume:
    """The volume file that is the scan.

    Attributes
    ----------
    path
        The file.
    reason
        Why it was chosen, without its name.

    """

    path: str
    reason: str = ONLY


def set_apart(listing: FileListing) -> tuple[tuple[str, ...], FileListing]:
    """Separate a patient's volume files from the files that may be DICOM.

    Returns
    -------
    volumes
        The volume files.
    others
        All other files but those of a header's voxels; the volumes are counted among the files passed over.

    """
    volumes = tuple(file for file in listing.files if is_volume(file))
    if not volumes:
        return (), listing
    with_header = {os.path.dirname(file) for file in volumes if is_header(file)}
    others = tuple(
        file
        for file in listing.files
        if not is_volume(file) and not (is_voxels(file) and os.path.dirname(file) in with_header)
    )
    return volumes, FileListing(others, listing.passed_over | {VOLUMES: len(volumes)})


def matching_volume(volumes: Sequence[str], directory: str, pattern: str | None) -> PickedVolume | None:
    """Return the volume that a pattern picks; None if it matches none, or if there is no pattern.

    Parameters
    ----------
    volumes
        A patient's volume files.
    directory
        The patient's directory.
    pattern
        What the path below the directory, or the name, must match.

    Raises
    ------
    SeriesError
        ``volumes``, if several match.

    """
    if pattern is None:
        return None
    found = [file for file in volumes if _matches(os.path.relpath(file, directory), pattern)]
    if len(found) > 1:
        raise SeriesError(
            f"--volume matches {len(found)} of the {len(volumes)} volume files",
            code="volumes",
            fix="give a pattern that matches one",
        )
    if not found:
        return None
    return PickedVolume(
        found[0], f"a volume file, picked from {len(volumes)} by --volume" if len(volumes) > 1 else ONLY
    )


def topmost_volume(volumes: Sequence[str], pattern: str | None) -> PickedVolume:
    """Return the only volume, or the one in whose directory, at any depth, all others lie.

    Parameters
    ----------
    volumes
        A patient's volume files, at least one.
    pattern
        A pattern that matched none of them, if there was one.

    Raises
    ------
    SeriesError
        ``volumes``, if there is no such volume, or a pattern was given.

    """
    count = len(volumes)
    if pattern is not None:
        none = f"matches none of the {count} volume files" if count > 1 else "does not match the only volume file"
        raise SeriesError(f"--volume {none}", code="volumes")
    for file in volumes:
        if all(other == file or _lies_below(other, file) for other in volumes):
            return PickedVolume(file, f"a volume file ({count - 1} more below it)") if count > 1 else PickedVolume(file)
    raise SeriesError(
        f"there are {count} volume files side by side, and nothing shows which one is the scan",
        code="volumes",
        fix="pick one with --volume",
    )


def _matches(path: str, pattern: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(os.path.basename(path), pattern)


def _lies_below(file: str, other: str) -> bool:
    """Return whether a file lies in a directory below the one of another file."""
    return os.path.dirname(file).startswith(os.path.join(os.path.dirname(other), ""))
