"""One extraction from its checks to its summary."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lungct.cluster import connect
from lungct.csvfile import named
from lungct.errors import LungCTWarning, NothingUsableError, StorageError, UsageError
from lungct.extraction.grouping import group_by_person
from lungct.extraction.options import (
    BY_PATIENT_ID,
    Asked,
    at_least_one,
    check_key,
    check_same,
    settle,
)
from lungct.extraction.pipeline import UnitResult, run_units
from lungct.features import Known, Settings, TableWriter, index, read_settings, remove_table
from lungct.patients import Patient, list_patients, named_patients, read_ids
from lungct.progress import Progress
from lungct.pseudonyms import read_key
from lungct.storage import local_path, make_directory, own

# Patients that the storage does not give are left for the next run; so many, and the storage itself is down.
MOST_FAULTS = 10


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did: patients = extracted + failed + skipped.

    Attributes
    ----------
    extracted, failed
        Rows with features and error rows that this run wrote.
    skipped
        Selected patients that were in the table already.
    slices, triplets
        Counted over this run's extracted patients.
    usable
        Selected patients who have features in the table now.

    """

    out: str
    patients: int
    extracted: int
    failed: int
    skipped: int
    slices: int
    triplets: int
    seconds: float
    usable: int

    def as_dict(self) -> dict[str, Any]:
        """Give the command's JSON line."""
        values = asdict(self)
        del values["usable"]
        return {"command": "extract"} | values


@dataclass
class Tally:
    """What a run has committed so far, and what the storage did not give."""

    rows: int = 0
    failed: int = 0
    identified: int = 0
    slices: int = 0
    triplets: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)

    def add(self, result: UnitResult) -> None:
        """Count one unit's result."""
        self.rows += len(result.staged.ids) if result.staged else 0
        self.failed += result.failed
        self.identified += result.identified
        self.slices += result.slices
        self.triplets += result.triplets
        self.faults += result.faults


def extract(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    preset: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    shard_patients: int = 8,
    depth: int | None = None,
    by_patient_id: bool = False,
    patients: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    pseudonyms: str | os.PathLike[str] | None = None,
    max_errors: int | None = None,
    overwrite: bool = False,
    retry_errors: bool = False,
    take_over: bool = False,
    address: str | None = None,
    quiet: bool = True,
) -> ExtractSummary:
    """Extract deep features of every patient in an archive into a feature table.

    Run again, it does only what is missing and rewrites no file.

    Parameters
    ----------
    src
        The archive: a directory of patients.
    out
        The table's directory.
    preset
        ``dsb2017`` (default) or ``lung``.
    backbone
        ``resnet18``, ``-34``, ``-50``, ``-101`` or ``-152`` (default).
    weights
        ``imagenet`` (default), ``random:SEED`` or a file.
    device, precision
        ``auto``, or ``cpu``/``cuda`` and ``fp32``/``bf16``.
    batch_size
        Triplets a forward pass; part of what makes a row the same bytes.
    workers
        Network actors (default: one a GPU, else one).
    shard_patients
        Patients a file.
    depth
        Directory levels from SRC down to a patient (default 1).
    by_patient_id
        Group SRC's files by (PatientID, IssuerOfPatientID) from their headers; directories mean nothing.
    patients
        A file of ids: only these.
    limit
        The first so many patients in order of id.
    pseudonyms
        A file with a key: ids and pixel hashes are keyed hashes.
    max_errors
        End after so many error rows.
    overwrite
        Remove the old table once all that can be checked is checked.
    retry_errors
        Do the error rows again.
    take_over
        Take the table from another run that holds it.
    address
        A Ray cluster; None: Ray in this process, unless this process is a job of a cluster.
    quiet
        No progress on stderr.

    Returns
    -------
    ExtractSummary

    Raises
    ------
    UsageError
        If an option, SRC, OUT, the weights or the table that is there do not fit.
    NothingUsableError
        After ``max_errors`` error rows.
    StorageError, ClusterError
        If storage or Ray failed for good; what is finished is kept.

    """
    begun = time.monotonic()
    key = read_key(pseudonyms) if pseudonyms is not None else None
    if by_patient_id and depth is not None:
        raise UsageError(
            "--by-patient-id looks at every file, whatever its depth: leave --depth out"
        )
    level = BY_PATIENT_ID if by_patient_id else depth
    asked = Asked(preset, backbone, weights, device, precision, batch_size, level, key)
    for value, option in (
        (workers, "--workers"),
        (shard_patients, "--shard-patients"),
        (limit, "--limit"),
        (max_errors, "--max-errors"),
    ):
        at_least_one(value, option)
    if overwrite and retry_errors:
        raise UsageError(
            "--overwrite begins anew, so --retry-errors has nothing to retry: give one of them"
        )
    source, directory = local_path(src, option="SRC"), local_path(out, option="--out")
    if os.path.realpath(source) == os.path.realpath(directory):
        raise UsageError(f"--out {directory} is SRC itself: give another directory")
    table = None if overwrite else _table_settings(directory)
    if table:
        check_key(table, key, str(directory))
    wanted = asked.over(table)
    known = index(directory) if table else {}
    with ExitStack() as stack:
        session = stack.enter_context(connect(address)) if wanted.depth == BY_PATIENT_ID else None
        selected = _select_patients(source, directory, wanted, patients, limit)
        if table and not asked.contradicts(table) and not _pending(selected, known, retry_errors):
            return _summary(directory, selected, known, Tally(), begun)
        session = session or stack.enter_context(connect(address))
        settings = settle(wanted)
        if table:
            check_same(table, settings, str(directory))
        make_directory(directory, option="--out")
        owner = own(directory, take_over=take_over)
        stack.callback(owner.release)
        if overwrite:
            with owner.committing():
                remove_table(directory)
        elif (again := _table_settings(directory)) is not None:
            check_same(again, settings, str(directory))
        writer = TableWriter(directory, owner, settings)
        writer.begin()
        units = _units(selected, writer.known, shard_patients, retry=retry_errors)
        total = sum(len(unit) for unit in units)
        tally = Tally()
        if units:
            progress = stack.enter_context(Progress(total, noun="patients", quiet=quiet))
            for result in run_units(
                units, settings, writer.staging, session, workers=workers, key=key
            ):
                _take(result, tally, writer, progress, max_errors)
        summary = _summary(directory, selected, writer.known, tally, begun)
    _warn_of_names(tally, selected if wanted.depth == BY_PATIENT_ID and not key else [])
    _refuse_faults(tally, directory)
    return summary


def _take(
    result: UnitResult,
    tally: Tally,
    writer: TableWriter,
    progress: Progress,
    max_errors: int | None,
) -> None:
    """Commit one result, count it, and end the run where it has gone wrong as a whole."""
    if result.staged is not None:
        writer.commit(result.staged)
    tally.add(result)
    rows = len(result.staged.ids) if result.staged else 0
    progress.advance(rows + len(result.faults), failed=result.failed + len(result.faults))
    if max_errors is not None and tally.failed >= max_errors:
        raise NothingUsableError(
            f"{tally.failed} patients gave error rows, which --max-errors {max_errors} does not allow: "
            f"read the column error of {writer.directory}; what is finished is kept"
        )
    if len(tally.faults) >= MOST_FAULTS:
        _refuse_faults(tally, writer.directory)


def _warn_of_names(tally: Tally, grouped: Sequence[Patient]) -> None:
    """Warn once that ids are people's own."""
    if tally.identified or (grouped and tally.rows):
        count = len(grouped) or tally.identified
        warnings.warn(
            LungCTWarning(
                f"ids that name people in the table: {count} (PatientID, or a name, as in the files); "
                "give --pseudonyms KEYFILE if nobody may read them there"
            ),
            stacklevel=3,
        )


def _refuse_faults(tally: Tally, directory: Path) -> None:
    if tally.faults:
        patient_id, sentence = tally.faults[0]
        count = f"{len(tally.faults)} patients" if len(tally.faults) > 1 else "a patient"
        raise StorageError(
            f"{count} could not be read and stay missing in {directory} (first {patient_id}: {sentence}): "
            "mend the storage and run the same command again"
        )


def _table_settings(directory: Path) -> Settings | None:
    """Give the settings of the table that is there, or None; refuse shards without settings."""
    if os.path.lexists(directory / "settings.json"):
        return read_settings(directory)
    if any((directory / "features").glob("part-*.parquet")):
        raise UsageError(
            f"{directory} has shards and no settings.json, so nobody knows what they were made with: "
            "give another --out, or --overwrite"
        )
    return None


def _select_patients(
    src: Path,
    directory: Path,
    wanted: Asked,
    patients: str | os.PathLike[str] | None,
    limit: int | None,
) -> list[Patient]:
    ids = None if patients is None else read_ids(local_path(patients, option="--patients"))
    if wanted.depth == BY_PATIENT_ID:
        found = _named(group_by_person(src, without=directory), ids, src)
    elif ids is not None:
        found = named_patients(src, ids, depth=_levels(wanted))
    else:
        found = list_patients(src, depth=_levels(wanted), without=directory)
    if wanted.key:
        found = [Patient(wanted.key.pseudonym(p.id), p.location) for p in found]
        found.sort(key=lambda patient: patient.id)
    return found[:limit]


def _levels(wanted: Asked) -> int:
    assert isinstance(wanted.depth, int)
    return wanted.depth


def _named(found: list[Patient], ids: Sequence[str] | None, src: Path) -> list[Patient]:
    """Keep the patients of some ids, all of which must be there."""
    if ids is None:
        return found
    asked_for = set(ids)
    missing = sorted(asked_for - {patient.id for patient in found})
    if missing:
        raise UsageError(f"--patients: SRC {src} has no patient {named(missing)}")
    return [patient for patient in found if patient.id in asked_for]


def _pending(selected: Sequence[Patient], known: dict[str, Known], retry: bool) -> bool:
    return any(p.id not in known or (retry and known[p.id].failed) for p in selected)


def _units(
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


def _summary(
    directory: Path,
    selected: Sequence[Patient],
    known: dict[str, Known],
    tally: Tally,
    begun: float,
) -> ExtractSummary:
    return ExtractSummary(
        out=str(directory),
        patients=len(selected),
        extracted=tally.rows - tally.failed,
        failed=tally.failed,
        skipped=len(selected) - tally.rows - len(tally.faults),
        slices=tally.slices,
        triplets=tally.triplets,
        seconds=round(time.monotonic() - begun, 3),
        usable=sum(1 for p in selected if p.id in known and not known[p.id].failed),
    )
