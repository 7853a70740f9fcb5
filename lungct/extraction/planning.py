"""Which patients an extraction is about, with which options, and the units of work that they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from lungct.arguments import spelled
from lungct.errors import UsageError
from lungct.extraction.grouping import group_by_person
from lungct.extraction.options import RowOptions, check_key, choose_options, may_contradict
from lungct.extraction.request import ExtractRequest
from lungct.features import (
    BY_PATIENT_ID,
    Settings,
    TableEntry,
    list_shards,
    looks_like_settings,
    read_entries,
    read_settings,
)
from lungct.ids import canonical
from lungct.patients import NamingError, Patient, check_found, list_patients, named_patients, read_ids
from lungct.pseudonyms import Key
from lungct.storage import Place, locate, storage_faults


@dataclass(frozen=True)
class ExtractPlan:
    """What an extraction will do.

    Attributes
    ----------
    options
        The options of the rows to be made.
    table
        The settings of the table that exists and is kept; None if there is none.
    entries
        The patients in that table.
    patients
        The patients that were asked for, ordered by the id that they have in the table.
    nothing_to_do
        Whether the table has them all already, made with the options that were given.

    """

    options: RowOptions
    table: Settings | None
    entries: dict[str, TableEntry]
    patients: list[Patient]
    nothing_to_do: bool


def plan_extraction(request: ExtractRequest, start_ray: Callable[[], object]) -> ExtractPlan:
    """Find out which patients are asked for, and how much of that the table has.

    Parameters
    ----------
    request
        The request, checked.
    start_ray
        Called before patients are grouped by PatientID, which is done in Ray tasks.

    Raises
    ------
    UsageError
        If SRC or OUT cannot be used, or the key is not the table's.

    """
    if request.overwrite:
        _check_overwritable(request.out)
    table = None if request.overwrite else table_settings(request.out)
    if table:
        check_key(table, request.key, str(request.out))
    options = choose_options(request, table)
    entries = read_entries(request.out) if table else {}
    if options.depth == BY_PATIENT_ID:
        start_ray()
    patients = _as_in_table(_select_patients(request, options), entries)
    nothing_to_do = (
        table is not None
        and not may_contradict(request, table)
        and not any(_is_missing(patient, entries, retry=request.retry_errors) for patient in patients)
    )
    return ExtractPlan(options, table, entries, patients, nothing_to_do)


def missing_patients(request: ExtractRequest, plan: ExtractPlan) -> list[Patient]:
    """Return the patients whose rows are to be made."""
    return [p for p in plan.patients if _is_missing(p, plan.entries, retry=request.retry_errors)]


def table_settings(directory: Place) -> Settings | None:
    """Read the settings of an existing table; None if there is no table.

    Raises
    ------
    UsageError
        If there are shards without settings, or settings of another schema.

    """
    if (directory / "settings.json").exists():
        return read_settings(directory)
    if list_shards(directory):
        raise UsageError(
            f"{directory} has shards but no settings.json, so what they were made with is unknown",
            fix=f"give another {spelled('out')}, or {spelled('overwrite', True)}",
        )
    return None


def _check_overwritable(directory: Place) -> None:
    """Raise UsageError if ``overwrite`` would replace a settings.json that is not a feature table's."""
    path = directory / "settings.json"
    if list_shards(directory) or not path.is_file():
        return
    try:
        with storage_faults(f"{path} cannot be read"):
            values = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        values = None
    if not looks_like_settings(values):
        raise UsageError(f"{path} does not belong to a feature table", fix=f"give another {spelled('out')}")


def _select_patients(request: ExtractRequest, options: RowOptions) -> list[Patient]:
    """List the patients of SRC that are asked for, under the ids that they have in the table, ordered by them."""
    try:
        found = _find_patients(request, options)
    except NamingError as error:
        if request.key:
            raise UsageError(error.nameless, fix=error.fix) from None
        raise
    if request.key:
        found = [_pseudonymous(patient, request.key) for patient in found]
        found.sort(key=lambda patient: patient.id)
    return found[: request.limit]


def _find_patients(request: ExtractRequest, options: RowOptions) -> list[Patient]:
    src = request.src
    ids = None if request.patients is None else read_ids(locate(request.patients, argument="patients"))
    if isinstance(options.depth, str):
        return _with_ids(group_by_person(src, without=request.out), ids, src)
    if ids is not None:
        return named_patients(src, ids, depth=options.depth)
    return list_patients(src, depth=options.depth, without=request.out)


def _with_ids(found: list[Patient], ids: Sequence[str] | None, src: Place) -> list[Patient]:
    """Return the patients with these ids (None: all of them); NamingError if one is missing."""
    if ids is None:
        return found
    check_found(src, ids, {patient.id for patient in found})
    wanted = set(map(canonical, ids))
    return [patient for patient in found if canonical(patient.id) in wanted]


def _as_in_table(patients: list[Patient], entries: Mapping[str, TableEntry]) -> list[Patient]:
    """Return patients under the ids that the table has, if it has them in another Unicode form; ordered by id.

    An archive that was copied from macOS to Linux may have its names in another form, and is still the same archive.
    """
    if all(patient.id in entries or patient.id.isascii() for patient in patients):
        return patients
    own = {canonical(patient_id): patient_id for patient_id in entries}
    found = [replace(patient, id=own.get(canonical(patient.id), patient.id)) for patient in patients]
    return sorted(found, key=lambda patient: patient.id)


def _pseudonymous(patient: Patient, key: Key) -> Patient:
    person = None if patient.person is None else key.pseudonym(patient.person)
    return replace(patient, id=key.pseudonym(patient.id), person=person)


def _is_missing(patient: Patient, entries: Mapping[str, TableEntry], *, retry: bool) -> bool:
    """Return whether a patient has no row yet, or an error row that is to be made again."""
    return patient.id not in entries or (retry and entries[patient.id].failed)


def cut_units(
    patients: Sequence[Patient], entries: Mapping[str, TableEntry], shard_patients: int, *, retry: bool
) -> list[list[Patient]]:
    """Divide patients into groups of ``shard_patients``; those of a group without a row are one unit, and one file.

    With ``retry``, patients with error rows follow, one unit for each file that has some.
    """
    units = [
        [p for p in patients[i : i + shard_patients] if p.id not in entries]
        for i in range(0, len(patients), shard_patients)
    ]
    again: dict[str, list[Patient]] = {}
    if retry:
        for patient in patients:
            if patient.id in entries and entries[patient.id].failed:
                again.setdefault(entries[patient.id].file, []).append(patient)
    return [unit for unit in (*units, *again.values()) if unit]
