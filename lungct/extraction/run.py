"""One extraction from its checks to its summary."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from lungct.checks import check_decoders, check_nodes
from lungct.cluster import connect
from lungct.errors import LungCTWarning, NothingUsableError, StorageError, UsageError
from lungct.extraction.options import (
    BY_PATIENT_ID,
    Asked,
    at_least_one,
    check_key,
    check_same,
    settle,
    weights_sha256,
)
from lungct.extraction.pipeline import UnitResult, run_units
from lungct.extraction.placement import find_device
from lungct.extraction.selection import cut_units, pending, select_patients
from lungct.features import (
    Known,
    Settings,
    TableWriter,
    index,
    list_shards,
    read_settings,
    remove_table,
)
from lungct.patients import Patient
from lungct.progress import Progress
from lungct.pseudonyms import read_key
from lungct.storage import Owner, Place, check_free, depth_below, locate, own, same_place

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
    """What a run has committed so far, what was there before, and what the storage did not give."""

    begun: float
    skipped: int = 0
    rows: int = 0
    failed: int = 0
    identified: int = 0
    slices: int = 0
    triplets: int = 0
    faults: list[tuple[str, str]] = field(default_factory=list)
    other_devices: set[str] = field(default_factory=set)

    def add(self, result: UnitResult) -> None:
        """Count one unit's result."""
        self.rows += len(result.staged.ids) if result.staged else 0
        self.failed += len(result.staged.failed) if result.staged else 0
        self.identified += result.identified
        self.slices += result.slices
        self.triplets += result.triplets
        self.faults += result.faults
        if result.other_device and result.other_device not in self.other_devices:
            self.other_devices.add(result.other_device)
            warnings.warn(
                LungCTWarning(
                    f"a worker computes on {result.other_device}, where the table was begun on another kind: its "
                    "features are the same only within the precision's tolerance"
                ),
                stacklevel=2,
            )


def extract(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    preset: str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    device: str = "auto",
    default_device: str = "auto",
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
    default_device
        What ``auto`` asks for where there is no table yet: a job of a cluster asks for ``cuda``.
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
        raise UsageError("--by-patient-id looks at every file, whatever its depth: leave --depth out")
    level = BY_PATIENT_ID if by_patient_id else depth
    asked = Asked(*(preset, backbone, weights, device, precision, batch_size, level, key), default_device)
    for value, option in (
        (workers, "--workers"),
        (shard_patients, "--shard-patients"),
        (limit, "--limit"),
        (max_errors, "--max-errors"),
    ):
        at_least_one(value, option)
    if overwrite and retry_errors:
        raise UsageError("--overwrite begins anew, so --retry-errors has nothing to retry: give one of them")
    source, directory = locate(src, argument="SRC"), locate(out, argument="out")
    if same_place(source, directory):
        raise UsageError(f"--out {directory} is SRC itself: give another directory")
    if not by_patient_id and (depth_below(directory, source) or 0) > (depth or 1):
        raise UsageError(f"--out {directory} lies inside a patient of SRC: give another directory")
    table = None if overwrite else _table_settings(directory)
    if table:
        check_key(table, key, str(directory))
    wanted = asked.over(table)
    known = index(directory) if table else {}
    tally = Tally(begun)
    with ExitStack() as stack:
        session = stack.enter_context(connect(address)) if wanted.depth == BY_PATIENT_ID else None
        selected = select_patients(source, directory, wanted, patients, limit)
        if table and not asked.contradicts(table) and not pending(selected, known, retry=retry_errors):
            tally.skipped = len(selected)
            return _summary(directory, selected, known, tally)
        check_free(directory, take_over=take_over)
        check_decoders()
        sha256 = weights_sha256(wanted, quiet=quiet)
        session = session or stack.enter_context(connect(address))
        found = find_device(wanted.device or "auto", wanted.precision or "auto", session, quiet=quiet)
        settings = settle(wanted, sha256, found)
        if table:
            check_same(table, settings, str(directory))
        owner = own(directory, take_over=take_over, quiet=quiet)
        stack.callback(owner.release)
        if session.nodes > 1:
            check_nodes(source, owner)
        writer = _begin_table(directory, owner, settings, overwrite=overwrite)
        units = cut_units(selected, writer.known, shard_patients, retry=retry_errors)
        total = sum(len(unit) for unit in units)
        tally.skipped = len(selected) - total
        progress = stack.enter_context(Progress(total, noun="patients", quiet=quiet))
        results = run_units(units, settings, found, str(owner.staging), session, workers=workers, key=key)
        # Closed while Ray is there: its threads would begin a Ray of their own after the end of this one.
        with _unless_taken_over(owner), closing(results):
            for result in results:
                _take(result, tally, writer, progress)
                if max_errors is not None and tally.failed >= max_errors:
                    raise NothingUsableError(
                        f"{tally.failed} patients gave error rows, which --max-errors {max_errors} does not "
                        f"allow: read the column error of {directory}; what is finished is kept",
                        summary=_summary(directory, selected, writer.known, tally),
                    )
        summary = _summary(directory, selected, writer.known, tally)
    _warn_of_names(tally, selected if wanted.depth == BY_PATIENT_ID and not key else [])
    _refuse_faults(tally, directory)
    return summary


def _begin_table(directory: Place, owner: Owner, settings: Settings, *, overwrite: bool) -> TableWriter:
    """Make the table ready to be written by its owner: emptied, or seen to be of the same settings."""
    if overwrite:
        remove_table(directory, owner)
    elif (table := _table_settings(directory)) is not None:
        check_same(table, settings, str(directory))
    writer = TableWriter(directory, owner, settings)
    writer.begin()
    return writer


@contextmanager
def _unless_taken_over(owner: Owner) -> Iterator[None]:
    """Where the work fails because another run took the table over (its staging is gone), say that instead."""
    try:
        yield
    except NothingUsableError:
        raise
    except Exception:
        owner.check()
        raise


def _take(result: UnitResult, tally: Tally, writer: TableWriter, progress: Progress) -> None:
    """Commit one result and count it; give up where the storage itself is down."""
    if result.staged is not None:
        writer.commit(result.staged)
    tally.add(result)
    rows, failed = (len(result.staged.ids), len(result.staged.failed)) if result.staged else (0, 0)
    progress.advance(rows + len(result.faults), failed=failed + len(result.faults))
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


def _refuse_faults(tally: Tally, directory: Place) -> None:
    if tally.faults:
        patient_id, sentence = tally.faults[0]
        count = f"{len(tally.faults)} patients" if len(tally.faults) > 1 else "a patient"
        raise StorageError(
            f"{count} could not be read and stay missing in {directory} (first {patient_id}: {sentence}): "
            "mend the storage and run the same command again"
        )


def _table_settings(directory: Place) -> Settings | None:
    """Give the settings of the table that is there, or None; refuse shards without settings."""
    if (directory / "settings.json").exists():
        return read_settings(directory)
    if list_shards(directory):
        raise UsageError(
            f"{directory} has shards and no settings.json, so nobody knows what they were made with: "
            "give another --out, or --overwrite"
        )
    return None


def _summary(directory: Place, selected: Sequence[Patient], known: dict[str, Known], tally: Tally) -> ExtractSummary:
    extracted = tally.rows - tally.failed
    return ExtractSummary(
        out=str(directory),
        patients=extracted + tally.failed + tally.skipped,
        extracted=extracted,
        failed=tally.failed,
        skipped=tally.skipped,
        slices=tally.slices,
        triplets=tally.triplets,
        seconds=round(time.monotonic() - tally.begun, 3),
        usable=sum(1 for p in selected if p.id in known and not known[p.id].failed),
    )
