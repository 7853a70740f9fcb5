"""An archive -> each of its series, which patients are usable, and how many have which problem or note."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lungct.arguments import at_least, spelled
from lungct.cluster import connect
from lungct.csvfile import csv_bytes
from lungct.dicom import SeriesOptions
from lungct.dicom.notes import code_of
from lungct.dicom.options import NO_OPTIONS
from lungct.errors import KilledError, LungCTError, SeriesError, StorageError, UsageError
from lungct.extraction.grouping import group_by_person
from lungct.inspection import locations
from lungct.inspection.asking import PatientFiles
from lungct.inspection.description import Description
from lungct.patients import Patient, list_patients, on_one_line, printable
from lungct.preprocess import Preset, check_preset
from lungct.progress import Progress
from lungct.sandbox import Sandbox
from lungct.storage import Place, local_copies, locate, output_file, write_atomically

COLUMNS = ("id", "location", "person", "slices", "chosen", "notes", "reason")
"""The columns of the CSV, a line a series."""
HEADERS_ONLY = "headers only; give --preset to prepare each patient as extract does"
NOT_READ = "not_read"
"""Instead of an error code, where the patient's files are not at fault."""


@dataclass(frozen=True, kw_only=True)
class InspectedSeries:
    """One series of a patient, or what stands for all of a patient in whom none was found.

    Attributes
    ----------
    location
        Where its files are (`lungct.inspection.locations`).
    chosen
        Whether it is the scan.
    reason
        Why it is, cannot be used, or ranks lower.

    """

    location: str
    slices: int
    chosen: bool
    notes: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class InspectedPatient:
    """What was found out about one patient.

    Attributes
    ----------
    patient_id, person
        As in a table.
    slices
        Slices of the scan; 0 if the patient cannot be used.
    notes
        What a careful reader should know about the scan; empty if there is none.
    error_code
        None if the patient is usable, `NOT_READ` if the files could not be read.
    text
        The reason for the choice of the series, or the error.
    series
        At least one.

    """

    patient_id: str
    person: str | None
    slices: int
    notes: tuple[str, ...]
    error_code: str | None
    text: str
    series: tuple[InspectedSeries, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the patient as a dictionary that can be written as JSON."""
        lists = {"notes": list(self.notes), "series": [vars(one) | {"notes": list(one.notes)} for one in self.series]}
        return vars(self) | lists


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The patients of an archive: which are usable, and why the others are not.

    Attributes
    ----------
    patients
        In order of id.
    preset
        The preset that prepared each patient; None if only headers were read.
    faults
        Why the files of some patients could not be read.

    """

    patients: tuple[InspectedPatient, ...]
    preset: Preset | None
    faults: tuple[LungCTError, ...]

    @property
    def usable(self) -> bool:
        """Whether any patient is usable."""
        return any(patient.error_code is None for patient in self.patients)

    @property
    def reasons(self) -> dict[str, int]:
        """Number of patients with each error code."""
        return _counted(patient.error_code for patient in self.patients if patient.error_code is not None)

    @property
    def notes(self) -> dict[str, int]:
        """Number of usable patients with each note."""
        return _counted(code for patient in self.patients for code in {code_of(note) for note in patient.notes})

    @property
    def error(self) -> LungCTError | None:
        """What the command ends with: that some patients could not be read; None if all were."""
        if not self.faults:
            return None
        # What the machine failed at comes before what the user must change.
        fault = max(self.faults, key=lambda fault: fault.exit_code)
        text = f"{len(self.faults)} of {len(self.patients)} patients could not be read ({fault.message})"
        return type(fault)(text, fix=fault.fix)

    def as_dict(self) -> dict[str, Any]:
        """Return the table as a dictionary that can be written as JSON."""
        return {
            "command": "inspect",
            "preset": self.preset,
            "usable": len(self.patients) - sum(self.reasons.values()),
            "unusable": self.reasons,
            "notes": self.notes,
            "patients": [patient.as_dict() for patient in self.patients],
        }

    def as_csv(self) -> bytes:
        """Return a line for each series, under `COLUMNS`."""
        lines = [
            (
                patient.patient_id,
                printable(series.location),
                patient.person,
                series.slices,
                int(series.chosen),
                " ".join(series.notes),
                series.reason,
            )
            for patient in self.patients
            for series in patient.series
        ]
        return csv_bytes(COLUMNS, lines)

    def text(self, width: int | None = None) -> str:
        """Return the table as text, the counts last; in ``width`` columns texts that do not fit are cut short."""
        names = [on_one_line(patient.patient_id) for patient in self.patients]
        column = max((len(name) for name in names), default=0)
        column = max(column, 7) if width is None else min(max(column, 7), 32)
        room = None if width is None else width - column - 24
        lines = [f"{'patient':<{column}} {'slices':>6}  {'problem':<14} why"]
        for name, patient in zip(names, self.patients, strict=True):
            notes = f" ({' '.join(patient.notes)})" if patient.notes else ""
            name, shown = _cut(name, width and column), _cut(patient.text + notes, room)
            lines.append(f"{name:<{column}} {patient.slices:>6}  {patient.error_code or '-':<14} {shown}".rstrip())
        return "\n".join([*lines, *self._counts()])

    def _counts(self) -> Iterator[str]:
        failed = sum(self.reasons.values())
        yield f"{len(self.patients) - failed} of {len(self.patients)} patients usable"
        yield from (f"{count:>6}  {code}" for code, count in self.reasons.items())
        if self.notes:
            yield "notes on usable patients"
            yield from (f"{count:>6}  {code}" for code, count in self.notes.items())
        yield HEADERS_ONLY if self.preset is None else f"each patient was prepared by the preset {self.preset}"


def _counted(codes: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(codes).items()))


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else text[: room - 1] + "…"


def inspect_all(
    src: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    depth: int | None = None,
    by_patient_id: bool = False,
    options: SeriesOptions = NO_OPTIONS,
    quiet: bool = True,
) -> Archive:
    """Find out of every patient of an archive whether extraction can use the patient.

    Parameters
    ----------
    src
        The archive.
    out
        Where to write a line for each series (``docs/formats.md``); None: nowhere.
    preset
        Prepare each patient as an extraction with this preset does, which reads every pixel; None: read headers only,
        which shows neither damage within pixels nor what a preset refuses.
    depth, by_patient_id
        Which patients there are, as for `lungct.extract`.
    options
        What the user says about which series is the scan.
    quiet
        Show no progress.

    Raises
    ------
    UsageError
        If SRC does not exist or has no patient, or the CSV cannot be written.

    """
    root = locate(src, argument="PATH")
    checked = None if preset is None else check_preset(preset)
    options.check()
    table = None if out is None else output_file(out, argument="out")
    patients = _patients(root, depth=depth, by_patient_id=by_patient_id)
    shared = locations.shared_directories(patients)
    inspected: list[InspectedPatient] = []
    faults: list[LungCTError] = []
    copies = local_copies([patient.location for patient in patients])
    # The sandbox starts its process when it is first used, and keeps it from patient to patient.
    with Sandbox() as sandbox, Progress(len(patients), noun="patients", quiet=quiet) as progress:
        for patient, copy in zip(patients, copies, strict=True):
            try:
                described = _describe(copy, patient.archive, checked, options, sandbox)
            except (StorageError, UsageError, KilledError) as fault:
                faults.append(fault)
                described = Description(error=str(fault), error_code=NOT_READ)
            inspected.append(_inspected(patient, copy, described, shared))
            progress.advance(failed=int(described.error is not None))
    archive = Archive(patients=tuple(inspected), preset=checked, faults=tuple(faults))
    if table is not None:
        write_atomically(table, archive.as_csv())
    return archive


def _patients(root: Place, *, depth: int | None, by_patient_id: bool) -> list[Patient]:
    if depth is not None:
        at_least(depth, 1, "depth")
        if by_patient_id:
            raise UsageError(
                f"{spelled('by_patient_id', True)} reads files at any depth", fix=f"leave {spelled('depth')} out"
            )
    hidden = root / ".lungct"
    if not by_patient_id:
        return list_patients(root, depth=depth or 1, without=hidden)
    with connect():
        return group_by_person(root, without=hidden)


def _describe(
    copy: str | list[str] | LungCTError,
    archive: str | None,
    preset: Preset | None,
    options: SeriesOptions,
    sandbox: Sandbox,
) -> Description:
    """Describe a patient, usable or not; raise another error than SeriesError if the files cannot be read."""
    try:
        if isinstance(copy, LungCTError):
            raise copy
        return PatientFiles(sandbox, copy, options, archive).describe(preset)
    except SeriesError as error:
        return Description(error=str(error), error_code=error.code)


def _inspected(
    patient: Patient, copy: str | list[str] | LungCTError, found: Description, shared: frozenset[str]
) -> InspectedPatient:
    usable = found.error is None
    text = (found.reason if usable else found.error) or ""
    slices = found.slices if usable else 0
    notes = found.notes if usable else ()
    if not found.series or isinstance(copy, LungCTError):
        reason = text if usable else f"{found.error_code}: {text}"
        where = locations.of_patient(patient)
        series = [InspectedSeries(location=where, slices=slices, chosen=usable, notes=notes, reason=reason)]
    else:
        places = locations.of_each_series(patient, copy, [one.files for one in found.series], shared)
        series = [
            InspectedSeries(
                location=place,
                slices=slices if found.is_scan(number) else one.positions,
                chosen=found.is_scan(number),
                notes=found.notes_of(number),
                reason=found.why(number),
            )
            for number, (one, place) in enumerate(zip(found.series, places, strict=True))
        ]
    return InspectedPatient(
        patient_id=patient.id,
        person=patient.person,
        slices=slices,
        notes=notes,
        error_code=found.error_code,
        text=text,
        series=tuple(series),
    )
