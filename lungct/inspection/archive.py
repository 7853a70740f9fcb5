"""An archive -> how many of its patients are usable, and how many have which problem, without reading a pixel."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from lungct.inspection.description import describe
from lungct.patients import list_patients, on_one_line
from lungct.progress import Progress
from lungct.storage import local_copy, locate


@dataclass(frozen=True)
class InspectedPatient:
    """Whether one patient is usable.

    Attributes
    ----------
    patient_id
        The patient's id in a table.
    slices
        Slices of the chosen series; 0 if the patient cannot be used.
    error_code
        None if the patient is usable.
    text
        The reason for the choice of the series, or the error.

    """

    patient_id: str
    slices: int
    error_code: str | None
    text: str


@dataclass(frozen=True)
class Archive:
    """The patients of an archive: which are usable, and why the others are not."""

    patients: tuple[InspectedPatient, ...]

    @property
    def usable(self) -> bool:
        """Whether any patient is usable."""
        return any(patient.error_code is None for patient in self.patients)

    @property
    def reasons(self) -> dict[str, int]:
        """Number of patients with each error code."""
        counts = Counter(patient.error_code for patient in self.patients if patient.error_code is not None)
        return dict(sorted(counts.items()))

    def as_dict(self) -> dict[str, Any]:
        """Return the table as a dictionary that can be written as JSON."""
        return {
            "command": "inspect",
            "usable": len(self.patients) - sum(self.reasons.values()),
            "unusable": self.reasons,
            "patients": [asdict(patient) for patient in self.patients],
        }

    def text(self) -> str:
        """Return the table as text of at most 80 columns, the counts last."""
        names = [on_one_line(patient.patient_id) for patient in self.patients]
        width = max((len(name) for name in names), default=0)
        width = min(max(width, 7), 32)
        room = 80 - width - 24
        lines = [f"{'patient':<{width}} {'slices':>6}  {'problem':<14} why"]
        for name, patient in zip(names, self.patients, strict=True):
            code, text = patient.error_code or "-", patient.text
            shown = text if len(text) <= room else text[: room - 1] + "…"
            lines.append(f"{name[:width]:<{width}} {patient.slices:>6}  {code:<14} {shown}".rstrip())
        failed = sum(self.reasons.values())
        lines.append(f"{len(self.patients) - failed} of {len(self.patients)} patients usable")
        lines += [f"{count:>6}  {code}" for code, count in self.reasons.items()]
        return "\n".join(lines)


def inspect_all(src: str | os.PathLike[str], *, depth: int = 1, quiet: bool = True) -> Archive:
    """Read every patient's headers and find out whether extraction can use the patient.

    Damage within the pixels is only found by extraction, which reads them.

    Raises
    ------
    UsageError
        If SRC does not exist or has no patient.

    """
    root = locate(src, argument="PATH")
    inspected: list[InspectedPatient] = []
    patients = list_patients(root, depth=depth, without=root / ".lungct")
    with Progress(len(patients), noun="patients", quiet=quiet) as progress:
        for patient in patients:
            with local_copy(patient.location) as copy:
                assert isinstance(copy, str)
                found = describe(copy, archive=patient.archive)
            slices = len(found.chosen) if found.chosen is not None else 0
            text = found.error or found.reason or ""
            inspected.append(InspectedPatient(patient.id, slices, found.error_code, text))
            progress.advance(failed=int(found.error is not None))
    return Archive(tuple(inspected))
