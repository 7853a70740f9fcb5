"""An archive whose directories mean nothing -> its patients, by (PatientID, IssuerOfPatientID) in the files' headers.

Headers are read by Ray tasks, a chunk of files each, in their child processes: a task that crashed would be tried again
and again. The id is PatientID; where several issuers use the same PatientID,
the issuer follows it in brackets. Files that are not DICOM are ignored. DICOM files that name no patient are left out
with a warning that counts them, because it is unknown which patients they belong to.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from lungct.arguments import counted, spelled
from lungct.dicom.persons import Identity, persons_by_identity
from lungct.errors import LungCTWarning, SeriesError, UsageError
from lungct.patients import Patient, check_src, check_unique
from lungct.sandbox import process_sandbox
from lungct.sandbox.persons import identities
from lungct.storage import ObjectPath, Place, depth_below, local_copy, storage_faults

FILES_PER_TASK = 512
# Tasks that may be submitted and not yet collected: the driver holds the paths and results of that many chunks.
TASKS_IN_FLIGHT = 256


def group_by_person(src: Place, *, without: Place) -> list[Patient]:
    """Group the files below SRC by the person whom they name; needs a running Ray.

    Parameters
    ----------
    src
        The archive.
    without
        A directory that is not part of it although it may lie in it: the table itself.

    Returns
    -------
    list of Patient
        Ordered by id; the id is the person, so ``person`` is None.

    Raises
    ------
    UsageError
        If SRC does not exist, or no file in it names a person.
    StorageError
        If a file cannot be read.

    Warns
    -----
    LungCTWarning
        If DICOM files name no patient.

    """
    check_src(src)
    people: dict[Identity, list[str]] = {}
    nameless = 0
    for files, found_in_files in _identified(_chunks(src, without)):
        for path, identity in zip(files, found_in_files, strict=True):
            if identity is None:
                continue
            if identity[0]:
                people.setdefault(identity, []).append(path)
            else:
                nameless += 1
    if not people:
        raise UsageError(
            f"{spelled('SRC')} {src} has no DICOM file that names a patient",
            fix=f"leave {spelled('by_patient_id', True)} out if its directories are the patients",
        )
    if nameless:
        warnings.warn(
            LungCTWarning(f"{counted(nameless, 'DICOM file', 'DICOM files')} left out: they have no PatientID"),
            stacklevel=2,
        )
    people = _joined(people)
    shared = Counter(patient_id for patient_id, _ in people)
    found = sorted(
        (
            Patient(
                patient_id if shared[patient_id] == 1 else f"{patient_id} [{issuer or 'no issuer'}]",
                tuple(sorted(files)),
            )
            for (patient_id, issuer), files in people.items()
        ),
        key=lambda patient: patient.id,
    )
    check_unique(found)
    return found


def _joined(people: dict[Identity, list[str]]) -> dict[Identity, list[str]]:
    """Return the files of each person, under all of the person's identities."""
    files: dict[Identity, list[str]] = {}
    for identity, person in persons_by_identity(people).items():
        files.setdefault(person, []).extend(people[identity])
    return files


def identify(files: list[str]) -> list[Identity | None]:
    """Read the identity in each file: None if it is not DICOM, an empty PatientID if it names nobody.

    A file that crashes the child process that reads it, or exceeds its time, names nobody.
    """
    with local_copy(files) as copies:
        try:
            return _identities(copies)
        except SeriesError:
            return [identity for path in copies for identity in _identity_or_nobody(path)]


def _identities(files: Sequence[str]) -> list[Identity | None]:
    text, _ = process_sandbox().call(identities, files)
    return [None if identity is None else (identity[0], identity[1]) for identity in text["identities"]]


def _identity_or_nobody(path: str) -> list[Identity | None]:
    try:
        return _identities([path])
    except SeriesError:
        return [("", "")]


def _identified(
    chunks: Iterator[list[str]],
) -> Iterator[tuple[list[str], list[Identity | None]]]:
    import ray

    task = ray.remote(num_cpus=1)(identify)
    under_way = {task.remote(files): files for files in islice(chunks, TASKS_IN_FLIGHT)}
    while under_way:
        (done,), _ = ray.wait(list(under_way), num_returns=1)
        files = under_way.pop(done)
        for more in islice(chunks, 1):
            under_way[task.remote(more)] = more
        yield files, ray.get(done)


def _chunks(src: Place, without: Place) -> Iterator[list[str]]:
    files = (
        _files(src, os.path.realpath(os.fspath(without)) if isinstance(without, Path) else "")
        if isinstance(src, Path)
        else _objects(src, without)
    )
    while chunk := list(islice(files, FILES_PER_TASK)):
        yield chunk


def _objects(src: ObjectPath, without: Place) -> Iterator[str]:
    """Yield every visible object below SRC that is not the table's."""
    for place, _ in src.visible():
        if place.name.upper() != "DICOMDIR" and not depth_below(place, without):
            yield str(place)


def _files(src: Path, without: str) -> Iterator[str]:
    """Yield every visible file below SRC once, following links, in no particular order."""
    seen: set[str] = {without}
    waiting = [str(src)]
    with storage_faults(f"{spelled('SRC')} {src} cannot be listed"):
        while waiting:
            directory = waiting.pop()
            real = os.path.realpath(directory)
            if real in seen:
                continue
            seen.add(real)
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif entry.is_file() and entry.name.upper() != "DICOMDIR":
                        yield entry.path
