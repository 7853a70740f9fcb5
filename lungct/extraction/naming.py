"""Whether the ids of a table will name people: asked before the work, of all ids and of a few patients' headers.

Ids are directories' names, or PatientIDs, and can be read by whoever has the table. What files say about a person is
read for `SAMPLE` patients spread over all, one file each, so that the question costs seconds however large the archive.
Files are opened in the sandbox's child, because one that crashes or hangs what opens it must not end the extraction.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from itertools import islice

from lungct.arguments import counted, spelled
from lungct.dicom import Person
from lungct.dicom.persons import looks_like_name, names_person
from lungct.errors import LungCTError, LungCTWarning, SeriesError
from lungct.patients import Patient
from lungct.sandbox import Sandbox
from lungct.sandbox.messages import Location
from lungct.sandbox.persons import first_person
from lungct.storage import ObjectPath, is_remote

SAMPLE = 20
"""Patients whose headers are looked at."""
FILES = 8
"""Files of a patient that are opened at most to find one that names a person."""
SECONDS = 10.0
"""Time for the files of a patient."""
START_BYTES = 1 << 16
"""What is fetched of an object: PatientName and PatientID are among the first elements of a data set."""


def warn_of_names(patients: Sequence[Patient], *, grouped: bool) -> None:
    """Warn once if ids are, or contain, the names or PatientIDs of people.

    Parameters
    ----------
    patients
        The patients whose rows are to be made.
    grouped
        Whether their ids are PatientIDs, by which their files were grouped.

    Warns
    -----
    LungCTWarning
        With the number of ids that name people, which is a lower bound if there are more than `SAMPLE` patients.

    """
    named = {patient.id for patient in patients if looks_like_name(patient.id)}
    count = min(SAMPLE, len(patients))
    sample = [patients[number * len(patients) // count] for number in range(count)]
    with Sandbox(base_seconds=SECONDS, seconds_per_mib=0.0) as sandbox:
        for patient, person in _persons(sample, sandbox):
            if names_person(person.patient_id if grouped else patient.id, person):
                named.add(patient.id)
    if named:
        about = "" if len(sample) == len(patients) else "at least "
        warnings.warn(
            LungCTWarning(
                f"{about}{counted(len(named), 'id names a person', 'ids name people')} in the table (a name or "
                "PatientID, as in the files); if they must not be readable there, stop, and extract into a new table "
                f"with {spelled('pseudonyms')}"
            ),
            stacklevel=3,
        )


def _persons(patients: Sequence[Patient], sandbox: Sandbox) -> Iterator[tuple[Patient, Person]]:
    """Yield the patients of whom a file could be read that is about a person, with that person.

    A fault of the storage is left to extraction, which reads every file and says what is wrong.
    """
    for patient in patients:
        remote = is_remote(patient.location)
        try:
            person = _person_in_store(patient, sandbox) if remote else _person_on_disk(patient, sandbox)
        except SeriesError:
            continue
        except (LungCTError, FileNotFoundError):
            if remote:
                return  # each patient would cost a minute of requests that are tried again
            continue
        if person is not None:
            yield patient, person


def _person_on_disk(patient: Patient, sandbox: Sandbox) -> Person | None:
    location = patient.location
    files = location if isinstance(location, str) else location[:FILES]
    return _read(files, sandbox, archive=patient.archive)


def _person_in_store(patient: Patient, sandbox: Sandbox) -> Person | None:
    location = patient.location
    objects: Iterator[ObjectPath] = (
        (place for place, _ in ObjectPath.from_url(location).visible())
        if isinstance(location, str)
        else map(ObjectPath.from_url, location)
    )
    found = (_person_in_object(place, sandbox) for place in islice(objects, FILES))
    return next((person for person in found if person is not None), None)


def _person_in_object(place: ObjectPath, sandbox: Sandbox) -> Person | None:
    with tempfile.NamedTemporaryFile() as start:
        start.write(place.read_range(0, min(place.size(), START_BYTES)))
        start.flush()
        return _read(start.name, sandbox)


def _read(location: Location, sandbox: Sandbox, archive: str | None = None) -> Person | None:
    text, _ = sandbox.call(first_person, location, files=FILES, archive=archive)
    return None if text["person"] is None else Person(**text["person"])
