"""Whom files are about: what `extract` has the child read before any pixels."""

from __future__ import annotations

from dataclasses import asdict

from lungct.errors import SeriesError
from lungct.sandbox.messages import Answer, Location


def first_person(location: Location, *, files: int, archive: str | None) -> Answer:
    """Read the person whom the first of a patient's files are about; None if none of them says.

    Parameters
    ----------
    location
        The patient's directory or single file, or a list of the patient's files.
    files
        How many are opened at most.
    archive
        The directory in which other patients are; None: the one above the patient's.

    Raises
    ------
    SeriesError
        If a file is damaged.
    StorageError
        If a file cannot be read.

    """
    from lungct.dicom import read_person
    from lungct.dicom.discovery import first_files

    paths = first_files(location, files, archive=archive) if isinstance(location, str) else location[:files]
    person = next((person for person in map(read_person, paths) if person is not None), None)
    return Answer({"person": None if person is None else asdict(person)})


def identities(location: Location) -> Answer:
    """Read the identity in each of a list of files: None if it is not DICOM, two empty texts if it names nobody.

    Raises
    ------
    StorageError
        If a file cannot be read.

    """
    return Answer({"identities": [_identity(path) for path in location]})


def _identity(path: str) -> tuple[str, str] | None:
    from lungct.dicom import read_identity

    try:
        return read_identity(path)
    except SeriesError:
        return "", ""
