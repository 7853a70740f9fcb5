"""`extract`: one extraction from its request to its summary, in the process that alone commits to the table."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from lungct.arguments import counted, spelled
from lungct.backbone import BackboneName, Device, Precision
from lungct.cluster import Session, connect
from lungct.dicom import SeriesOptions
from lungct.errors import KilledError, LungCTWarning, NothingUsableError, StorageError
from lungct.extraction.naming import warn_of_names
from lungct.extraction.pipeline import run_units
from lungct.extraction.planning import ExtractPlan, cut_units, missing_patients, plan_extraction
from lungct.extraction.preparation import PreparedTable, check_table_and_weights, prepare_table
from lungct.extraction.request import ExtractRequest
from lungct.extraction.worker import Fault, UnitReport
from lungct.features import BY_PATIENT_ID, TableEntry, TableWriter
from lungct.preprocess import Preset
from lungct.progress import Progress
from lungct.pseudonyms import read_key
from lungct.sandbox import MORE_MEMORY
from lungct.storage import Owner, Place, locate

# Patients whose files the storage fails to deliver are left for the next time; this many mean that it is down.
# A killed process means only that one patient needed more memory than there was: the others may need less.
MOST_STORAGE_FAULTS = 10


@dataclass(frozen=True)
class ExtractSummary:
    """What an extraction did: patients = extracted + failed + skipped.

    Attributes
    ----------
    extracted, failed
        Rows with features and error rows that it wrote.
    skipped
        Selected patients who were in the table already.
    slices, triplets
        Counted over the patients that it extracted.
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
        """Return what the command prints as JSON."""
        values = asdict(self)
        del values["usable"]
        return {"command": "extract"} | values


@dataclass
class ExtractCounts:
    """What an extraction has committed so far, and which patients stay missing.

    Attributes
    ----------
    begun
        When it began, by the monotonic clock.
    skipped
        Selected patients who were in the table before.
    rows, failed
        Rows committed, and how many of them are error rows.
    faults
        The patients who stay missing.

    """

    begun: float
    skipped: int = 0
    rows: int = 0
    failed: int = 0
    slices: int = 0
    triplets: int = 0
    faults: list[Fault] = field(default_factory=list)
    other_devices: set[str] = field(default_factory=set)

    def add(self, report: UnitReport) -> None:
        """Count one unit, and warn the first time that another kind of device computed one."""
        self.rows += len(report.staged.ids) if report.staged else 0
        self.failed += len(report.staged.failed) if report.staged else 0
        self.slices += report.slices
        self.triplets += report.triplets
        self.faults += report.faults
        if report.other_device and report.other_device not in self.other_devices:
            self.other_devices.add(report.other_device)
            warnings.warn(
                LungCTWarning(
                    f"a worker computes on {report.other_device}, but the table was begun on another kind of device: "
                    "features are the same only within the tolerance of the precision"
                ),
                stacklevel=2,
            )


def extract(
    src: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    preset: Preset | None = None,
    backbone: BackboneName | None = None,
    weights: str | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    shard_patients: int = 8,
    depth: int | None = None,
    by_patient_id: bool = False,
    patients: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    series_include: str | None = None,
    series_exclude: str | None = None,
    body_part: str | None = None,
    volume: str | None = None,
    pseudonyms: str | os.PathLike[str] | None = None,
    max_errors: int | None = None,
    overwrite: bool = False,
    retry_errors: bool = False,
    take_over: bool = False,
    address: str | None = None,
    quiet: bool = True,
) -> ExtractSummary:
    """Extract deep features of every patient in an archive into a feature table.

    Called again, it does only what is missing and rewrites no file. Options that are not given are those of the table,
    if there is one.

    Parameters
    ----------
    src
        The archive: a directory of patients.
    out
        The table's directory.
    preset
        ``dsb2017`` (default) or ``lung``.
    backbone
        ``resnet18``, ``resnet34``, ``resnet50``, ``resnet101`` or ``resnet152`` (default).
    weights
        ``imagenet`` (default), ``random:SEED`` or a file.
    device, precision
        ``auto``, or ``cpu`` or ``cuda``, and ``fp32`` or ``bf16``.
    batch_size
        Triplets per forward pass (default 16 on a CPU, 64 on a GPU). Features depend on it in their last bits.
    workers
        Network actors (default: one per GPU, else one).
    shard_patients
        Patients per file.
    depth
        Directory levels from SRC down to a patient (default 1).
    by_patient_id
        Group the files of SRC by (PatientID, IssuerOfPatientID) in their headers, not by directory.
    patients
        A file of ids: only these patients.
    limit
        Only the first patients in order of id.
    series_include, series_exclude
        Only series whose SeriesDescription contains this text, or does not, in upper or lower case.
    body_part
        Only series whose BodyPartExamined contains this text, in upper or lower case.
    volume
        A pattern, such as ``imaging.nii.gz``, that picks a patient's volume file from several.
    pseudonyms
        A file with a key: ids and pixel hashes are keyed hashes.
    max_errors
        Stop after this many error rows.
    overwrite
        Remove the old table, once everything that can be checked has been checked.
    retry_errors
        Try patients with error rows again.
    take_over
        Take the table from another process that holds it.
    address
        A Ray cluster; None: Ray in this process, unless this process is a job of a cluster.
    quiet
        Show no progress on stderr.

    Returns
    -------
    ExtractSummary

    Raises
    ------
    UsageError
        If an option, SRC, OUT, the weights or the existing table cannot be used, or contradict each other.
    NothingUsableError
        If there were ``max_errors`` error rows.
    StorageError, ClusterError
        If storage or Ray failed for good; what is finished is kept.

    """
    counts = ExtractCounts(begun=time.monotonic())
    request = ExtractRequest(
        src=locate(src, argument="SRC"),
        out=locate(out, argument="out"),
        preset=preset,
        backbone=backbone,
        weights=weights,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
        shard_patients=shard_patients,
        depth=depth,
        by_patient_id=by_patient_id,
        patients=patients,
        limit=limit,
        series=SeriesOptions(
            series_include=series_include, series_exclude=series_exclude, body_part=body_part, volume=volume
        ),
        key=None if pseudonyms is None else read_key(pseudonyms),
        max_errors=max_errors,
        overwrite=overwrite,
        retry_errors=retry_errors,
        take_over=take_over,
        address=address,
        quiet=quiet,
    )
    request.check()
    with ExitStack() as stack:
        ray_session = cache(lambda: stack.enter_context(connect(address)))
        plan = plan_extraction(request, ray_session)
        if plan.nothing_to_do:
            counts.skipped = len(plan.patients)
            return _summarise(plan, plan.entries, counts, request.out)
        weights_sha256 = check_table_and_weights(request, plan)
        if request.key is None:
            warn_of_names(missing_patients(request, plan), grouped=plan.options.depth == BY_PATIENT_ID)
        session = ray_session()
        table = prepare_table(request, plan, weights_sha256, session, stack)
        summary = _write_rows(request, plan, table, session, counts)
    _raise_faults(counts, request.out)
    return summary


def _write_rows(
    request: ExtractRequest, plan: ExtractPlan, table: PreparedTable, session: Session, counts: ExtractCounts
) -> ExtractSummary:
    """Extract the patients whose rows are missing, and commit them unit by unit."""
    writer = table.writer
    units = cut_units(plan.patients, writer.entries, request.shard_patients, retry=request.retry_errors)
    total = sum(map(len, units))
    counts.skipped = len(plan.patients) - total
    staging = str(writer.owner.staging)
    reports = run_units(
        units, writer.settings, table.device, staging, session, workers=request.workers, key=request.key
    )
    with (
        Progress(total, noun="patients", quiet=request.quiet) as progress,
        _unless_taken_over(writer.owner),
        # Closed while Ray is still running: a thread of Ray Data that outlived it would start another.
        closing(reports),
    ):
        for report in reports:
            _commit(report, counts, writer, progress)
            if request.max_errors is not None and counts.failed >= request.max_errors:
                raise NothingUsableError(
                    f"stopped after {counted(counts.failed, 'error row', 'error rows')} "
                    f"({spelled('max_errors', request.max_errors)}); finished rows are kept",
                    fix=f"read the column error of {request.out}",
                    summary=_summarise(plan, writer.entries, counts, request.out),
                )
    return _summarise(plan, writer.entries, counts, request.out)


@contextmanager
def _unless_taken_over(owner: Owner) -> Iterator[None]:
    """Raise StorageError instead if work fails because another process took the table (and removed its staging)."""
    try:
        yield
    except NothingUsableError:
        raise
    except Exception:
        owner.check()
        raise


def _commit(report: UnitReport, counts: ExtractCounts, writer: TableWriter, progress: Progress) -> None:
    """Commit and count one unit; raise StorageError if the storage itself is down."""
    if report.staged is not None:
        writer.commit(report.staged)
    counts.add(report)
    rows, failed = (len(report.staged.ids), len(report.staged.failed)) if report.staged else (0, 0)
    progress.advance(rows + len(report.faults), failed=failed + len(report.faults))
    if sum(not fault.killed for fault in counts.faults) >= MOST_STORAGE_FAULTS:
        _raise_faults(counts, writer.directory)


def _raise_faults(counts: ExtractCounts, directory: Place) -> None:
    """Raise StorageError or KilledError if patients stay missing.

    Raises
    ------
    StorageError
        If the storage failed to deliver any of them.
    KilledError
        If the processes that decoded them were killed.

    """
    unread = [fault for fault in counts.faults if not fault.killed]
    killed = [fault for fault in counts.faults if fault.killed]
    texts = [_missing_text(unread, "read", directory), _missing_text(killed, "decoded", directory)]
    message = "; ".join(filter(None, texts))
    if unread:
        raise StorageError(message, fix="repair the storage and repeat the command")
    if killed:
        raise KilledError(message, fix=f"{MORE_MEMORY}, and repeat the command")


def _missing_text(faults: list[Fault], done: str, directory: Place) -> str:
    """Return how many patients have one kind of fault, and the first of them; nothing if there is none."""
    if not faults:
        return ""
    patients = counted(len(faults), "patient", "patients")
    first = f"first {faults[0].patient_id}: {faults[0].sentence}"
    return f"{patients} could not be {done} and stay missing in {directory} ({first})"


def _summarise(
    plan: ExtractPlan, entries: dict[str, TableEntry], counts: ExtractCounts, directory: Place
) -> ExtractSummary:
    extracted = counts.rows - counts.failed
    return ExtractSummary(
        out=str(directory),
        patients=extracted + counts.failed + counts.skipped,
        extracted=extracted,
        failed=counts.failed,
        skipped=counts.skipped,
        slices=counts.slices,
        triplets=counts.triplets,
        seconds=round(time.monotonic() - counts.begun, 3),
        usable=sum(1 for p in plan.patients if p.id in entries and not entries[p.id].failed),
    )
