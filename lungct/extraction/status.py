"""How far a feature table is (done, failed by reason, left), what is noted of its patients, and whether its files are
undamaged."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, astuple, dataclass
from typing import Any

from lungct.arguments import counted
from lungct.cluster import connect
from lungct.csvfile import csv_bytes
from lungct.dicom.notes import code_of
from lungct.extraction.grouping import group_by_person
from lungct.extraction.options import check_key
from lungct.features import Settings, check_table, read_settings, read_shards
from lungct.ids import canonical
from lungct.patients import Patient, list_patients, on_one_line
from lungct.pseudonyms import read_key
from lungct.storage import Place, locate, output_file, write_atomically

SENTENCES_SHOWN = 3
COLUMNS = ("patient_id", "error_code", "error")
"""The columns of the CSV of patients with an error row."""


@dataclass(frozen=True)
class Failed:
    """A patient with an error row."""

    patient_id: str
    error_code: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of a table.

    Attributes
    ----------
    done
        Patients with features.
    failed
        Error rows, by code: the code, the count, and the three most frequent sentences.
    notes
        How many patients have each note, by its code.
    left
        Patients of SRC whom the table lacks; None if SRC was not given.
    problems
        A sentence for each problem that the check found; None if there was no check.
    failed_patients
        Each patient with an error row, ordered by id; None if they were not asked for.
    out
        The file that they were written to; None if there is none.

    """

    directory: str
    done: int
    failed: list[dict[str, Any]]
    notes: dict[str, int]
    left: int | None = None
    problems: list[str] | None = None
    failed_patients: list[Failed] | None = None
    out: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what the command prints as JSON."""
        values: dict[str, Any] = {
            "command": "status",
            "out": self.directory,
            "done": self.done,
            "failed": self.failed,
            "notes": self.notes,
        }
        if self.left is not None:
            values["left"] = self.left
        if self.problems is not None:
            values["problems"] = self.problems
        if self.failed_patients is not None:
            values["failed_patients"] = [asdict(patient) for patient in self.failed_patients]
        return values

    def text(self) -> str:
        """Return what the command prints for people: counts or, if they were asked for, the patients who failed."""
        if self.failed_patients is not None and self.out is None:
            lines = _patient_lines(self.failed_patients)
        else:
            lines = self._count_lines()
        if self.out is not None:
            count = counted(len(self.failed_patients or ()), "patient", "patients")
            lines.append(f"{count} with an error row written to {self.out}")
        if self.problems is not None:
            lines += [f"problem: {problem}" for problem in self.problems]
            lines += [] if self.problems else ["all files read; names, settings and contents agree"]
        return "\n".join(lines)

    def _count_lines(self) -> list[str]:
        failed = sum(reason["patients"] for reason in self.failed)
        lines = [f"{counted(self.done, 'patient', 'patients')} with features, {failed} with an error row"]
        if self.left is not None:
            lines[0] += f", {self.left} left"
        for reason in self.failed:
            lines.append(f"  {reason['patients']:>6}  {reason['error_code']}")
            lines += [f"          {sentence}" for sentence in reason["sentences"]]
        if self.notes:
            lines.append("patients with notes (docs/intake.md explains each)")
            lines += [f"  {count:>6}  {code}" for code, count in self.notes.items()]
        return lines


def _patient_lines(failed: list[Failed]) -> list[str]:
    """Return a line for each patient: id, code and sentence, whole."""
    if not failed:
        return ["no patient has an error row"]
    names = [on_one_line(patient.patient_id) for patient in failed]
    width = max(map(len, names))
    codes = max(len(patient.error_code) for patient in failed)
    return [
        f"{name:<{width}}  {patient.error_code:<{codes}}  {on_one_line(patient.error)}"
        for name, patient in zip(names, failed, strict=True)
    ]


def status(
    directory: str | os.PathLike[str],
    src: str | os.PathLike[str] | None = None,
    *,
    check: bool = False,
    failed: bool = False,
    out: str | os.PathLike[str] | None = None,
    pseudonyms: str | os.PathLike[str] | None = None,
) -> Status:
    """Count the patients of a table, and those of SRC whom it lacks.

    Parameters
    ----------
    directory
        The table.
    src
        The archive that it is made from.
    check
        Read every file whole and compare names, settings, schema and contents.
    failed
        Also name each patient with an error row.
    out
        The CSV to write those patients to, with the columns `COLUMNS`; None: nowhere.
    pseudonyms
        The file with the table's key, to compare ids with SRC.

    Raises
    ------
    UsageError
        If DIR is not a table, SRC cannot be read, the CSV cannot be written, or the key is not the table's.
    StorageError
        If a file of the table cannot be read; with ``check`` that is a problem instead.

    """
    settings = read_settings(directory)
    table = locate(directory, argument="DIR")
    target = None if out is None else output_file(out, argument="out")
    problems = check_table(table, settings) if check else None
    rows = _rows(table, tolerant=check)
    left = None
    if src is not None:
        key = read_key(pseudonyms) if pseudonyms is not None else None
        check_key(settings, key, str(directory))
        found = _patients(locate(src, argument="SRC"), settings, table)
        left = len({key.pseudonym(p.id) if key else canonical(p.id) for p in found} - set(map(canonical, rows.ids)))
    if target is not None:
        write_atomically(target, csv_bytes(COLUMNS, [astuple(patient) for patient in rows.failed]))
    return Status(
        directory=str(table),
        done=len(rows.ids) - len(rows.failed),
        failed=_by_code(rows.failed),
        notes=dict(sorted(rows.notes.items())),
        left=left,
        problems=problems,
        failed_patients=rows.failed if failed else None,
        out=None if target is None else str(target),
    )


def _by_code(failed: list[Failed]) -> list[dict[str, Any]]:
    """Return `Status.failed`."""
    codes: dict[str, Counter[str]] = {}
    for patient in failed:
        codes.setdefault(patient.error_code, Counter())[patient.error] += 1
    return [
        {
            "error_code": code,
            "patients": sum(sentences.values()),
            "sentences": sorted(sentences, key=lambda text: (-sentences[text], text))[:SENTENCES_SHOWN],
        }
        for code, sentences in sorted(codes.items())
    ]


def _patients(src: Place, settings: Settings, table: Place) -> list[Patient]:
    if isinstance(settings.depth, int):
        return list_patients(src, depth=settings.depth, without=table)
    with connect():
        return group_by_person(src, without=table)


@dataclass(frozen=True)
class _Rows:
    """What the rows of a table say: every id, the patients who failed, ordered by id, and patients with each note."""

    ids: set[str]
    failed: list[Failed]
    notes: Counter[str]


def _rows(table: Place, *, tolerant: bool) -> _Rows:
    """Read the rows of a table, but for their features; ``tolerant``: from the files that can be read."""
    ids: set[str] = set()
    failed: dict[str, Failed] = {}
    notes: Counter[str] = Counter()
    for _, shard in read_shards(table, ["patient_id", "error", "error_code", "notes"], tolerant=tolerant):
        columns = (column.to_pylist() for column in shard.columns)
        for patient_id, sentence, code, noted in zip(*columns, strict=True):
            if patient_id in ids:
                continue  # a patient twice is a problem for the check to name
            ids.add(patient_id)
            notes.update({code_of(note) for note in noted or ()})
            if code is not None:
                failed[patient_id] = Failed(patient_id, code, sentence or "")
    return _Rows(ids, [failed[patient_id] for patient_id in sorted(failed)], notes)
