"""Which patients a run is asked for, and the units of work that they make."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lungct.arguments import listed
from lungct.errors import UsageError
from lungct.extraction.grouping import group_by_person
from lungct.extraction.options import BY_PATIENT_ID, Asked
from lungct.features import Known
from lungct.patients import NamingError, Patient, list_patients, named_patients, read_ids
from lungct.storage import Place, locate


def select_patients(
    src: Place,
    directory: Place,
    wanted: Asked,
    patients: str | os.PathLike[str] | None,
    limit: int | None,
) -> list[Patient]:
    """List the patients of SRC that a run is asked for, ordered by the id that they have in the table.

    Grouping by PatientID needs a running Ray.

    Raises
    ------
    UsageError
        If SRC is not there, has no patient, or lacks one of ``patients``.

    """
    ids = None if patients is None else read_ids(locate(patients, argument="patients"))
    try:
        found = _find(src, directory, wanted, ids)
    except NamingError as error:
        if wanted.key:
            raise UsageError(error.nameless) from None
        raise
    if wanted.key:
        found = [Patient(wanted.key.pseudonym(p.id), p.location) for p in found]
        found.sort(key=lambda patient: patient.id)
    return found[:limit]


def _find(src: Place, directory: Place, wanted: Asked, ids: Sequence[str] | None) -> list[Patient]:
    if wanted.depth == BY_PATIENT_ID:
        return _named(group_by_person(src, without=directory), ids, src)
    if ids is not None:
        return named_patients(src, ids, depth=_levels(wanted))
    return list_patients(src, depth=_levels(wanted), without=directory)


def _levels(wanted: Asked) -> int:
    assert isinstance(wanted.depth, int)
    return wanted.depth


def _named(found: list[Patient], ids: Sequence[str] | None, src: Place) -> list[Patient]:
    """Keep the patients of some ids, all of which must be there."""
    if ids is None:
        return found
    asked_for = set(ids)
    missing = sorted(asked_for - {patient.id for patient in found})
    if missing:
        raise NamingError(
            f"--patients: SRC {src} has no patient {listed(missing)}",
            f"--patients: SRC lacks {len(missing)} of the {len(asked_for)} patients",
        )
    return [patient for patient in found if patient.id in asked_for]


def pending(selected: Sequence[Patient], known: dict[str, Known], *, retry: bool) -> bool:
    """Whether the table lacks any of these patients, or has an error row that is to be done again."""
    return any(p.id not in known or (retry and known[p.id].failed) for p in selected)


def cut_units(
    selected: Sequence[Patient], known: dict[str, Known], shard_patients: int, *, retry: bool
) -> list[list[Patient]]:
    """Cut patients into runs; what of a run is missing is one unit. Error rows to retry go by their files."""
    runs = [
        [p for p in selected[i : i + shard_patients] if p.id not in known]
        for i in range(0, len(selected), shard_patients)
    ]
    again: dict[str, list[Patient]] = {}
    if retry:
        for patient in selected:
            if patient.id in known and known[patient.id].failed:
                again.setdefault(known[patient.id].file, []).append(patient)
    return [unit for unit in (*runs, *again.values()) if unit]
