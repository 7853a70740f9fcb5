"""An archive whose folders mean nothing -> its patients, by (PatientID, IssuerOfPatientID) from the files' headers.

Headers are read by Ray tasks, a chunk of files each. The id is PatientID; where two issuers gave one PatientID, the
issuer stands behind it in brackets. Files that are not DICOM are nobody's; DICOM files that name nobody are counted
and said, because what they show cannot be told from what is missing.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from lungct.errors import LungCTWarning, SeriesError, UsageError
from lungct.patients import Patient, check_src, refuse_doubles
from lungct.storage import ObjectPath, Place, depth_below, local_copy, storage_faults

FILES_A_TASK = 512
# Finished chunks wait in the driver until they are taken up; so many may be under way.
TASKS_IN_FLIGHT = 256

Identity = tuple[str, str]


def group_by_person(src: Place, *, without: Place) -> list[Patient]:
    """Group the files below SRC by the person that they name, ordered by id; needs a running Ray.

    Parameters
    ----------
    src
        The archive.
    without
        A directory that is not part of it though it may lie in it: the table itself.

    Raises
    ------
    UsageError
        If SRC is not there, or no file in it names a person.
    StorageError
        If a file cannot be read.

    """
    check_src(src)
    people: dict[Identity, list[str]] = {}
    nameless = 0
    for files, identities in _identified(_chunks(src, without)):
        for path, identity in zip(files, identities, strict=True):
            if identity is None:
                continue
            if identity[0]:
                people.setdefault(identity, []).append(path)
            else:
                nameless += 1
    if not people:
        raise UsageError(
            f"SRC {src} has no DICOM file that names a patient: leave --by-patient-id out, if its directories do"
        )
    if nameless:
        warnings.warn(
            LungCTWarning(f"{nameless} DICOM files name no patient (PatientID is empty) and are left out"),
            stacklevel=2,
        )
    _join_without_issuer(people)
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
    refuse_doubles(found)
    return found


def _join_without_issuer(people: dict[Identity, list[str]]) -> None:
    """Give files that name no issuer to the one issuer of their PatientID, where there is just one."""
    issuers: dict[str, list[str]] = {}
    for patient_id, issuer in people:
        if issuer:
            issuers.setdefault(patient_id, []).append(issuer)
    for patient_id, found in issuers.items():
        if len(found) == 1 and (patient_id, "") in people:
            people[patient_id, found[0]] += people.pop((patient_id, ""))


def identify(files: list[str]) -> list[Identity | None]:
    """Read whom each file is about: None where it is not DICOM, an empty PatientID where it does not say."""
    from lungct.dicom import person_of

    found: list[Identity | None] = []
    with local_copy(files) as copies:
        for path in copies:
            try:
                found.append(person_of(path))
            except SeriesError:
                found.append(("", ""))
    return found


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
    while chunk := list(islice(files, FILES_A_TASK)):
        yield chunk


def _objects(src: ObjectPath, without: Place) -> Iterator[str]:
    """List every visible object below SRC that is not the table's."""
    for place, _ in src.visible():
        if place.name.upper() != "DICOMDIR" and not depth_below(place, without):
            yield str(place)


def _files(src: Path, inside: str) -> Iterator[str]:
    """List every visible file below SRC once, through links too, in no order that matters."""
    seen: set[str] = {inside}
    waiting = [str(src)]
    with storage_faults(f"SRC {src} cannot be listed"):
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
