"""Where the files of a series are, as a location that a later command can read: a directory, a prefix or a file.

A location is absolute: a path, or the URL of an object store. Paths here are texts whose parts a ``/`` separates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from lungct.patients import Patient


def directory_of(files: Iterable[str]) -> str:
    """Return the deepest directory that holds all of some files.

    >>> directory_of(["/scans/7/a/1.dcm", "/scans/7/b/1.dcm"]), directory_of(["s3://scans/7/1.dcm"])
    ('/scans/7', 's3://scans/7')
    """
    parts = [file.split("/")[:-1] for file in files]
    shared = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return "/".join(shared) or "/"


def is_below(path: str, directory: str) -> bool:
    """Return whether a path leads into a directory.

    >>> is_below("/scans/71", "/scans/7"), is_below("/scans/7/1.dcm", "/scans/7")
    (False, True)
    """
    return path.startswith(f"{directory.rstrip('/')}/")


def of_patient(patient: Patient) -> str:
    """Return where all of a patient's files are."""
    location = patient.location
    return location if isinstance(location, str) else directory_of(location)


def of_each_series(
    patient: Patient, copy: str | Sequence[str], series: Sequence[Sequence[str]], shared: frozenset[str]
) -> list[str]:
    """Return where each of a patient's series is.

    That is the directory of its files if they have one of their own, with no image of another series in it and no file
    of another patient; otherwise, and for an only series, it is where all of the patient's files are.

    Parameters
    ----------
    patient
        The patient.
    copy
        Where the patient's files were read: in the same order, or below a directory of the same structure.
    series
        The files of each series, as they were read.
    shared
        Directories that hold files of several patients (`shared_directories`).

    """
    whole = of_patient(patient)
    if len(series) < 2:
        return [whole] * len(series)
    original = [_original(patient, copy, files) for files in series]
    found = []
    for number, files in enumerate(original):
        own = directory_of(files)
        others = (file for i, those in enumerate(original) if i != number for file in those)
        alone = is_below(own, whole) and own not in shared and not any(is_below(file, own) for file in others)
        found.append(own if alone else whole)
    return found


def shared_directories(patients: Sequence[Patient]) -> frozenset[str]:
    """Return the directories that hold, at any depth, files of several of the patients who are lists of files."""
    owners: dict[str, int] = {}
    shared: set[str] = set()
    for number, patient in enumerate(patients):
        if isinstance(patient.location, str):
            continue
        for directory in {file.rpartition("/")[0] for file in patient.location}:
            while directory and directory not in shared:
                if owners.setdefault(directory, number) != number:
                    shared.add(directory)
                directory = directory.rpartition("/")[0]
    return frozenset(shared)


def _original(patient: Patient, copy: str | Sequence[str], files: Sequence[str]) -> list[str]:
    """Return the files' places in the archive, given those of their copies."""
    if not isinstance(patient.location, str):
        places = dict(zip(copy, patient.location, strict=True))
        return [places[file] for file in files]
    assert isinstance(copy, str)
    return [f"{patient.location}/{PurePath(file).relative_to(copy)}" for file in files]
