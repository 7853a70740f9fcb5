"""Which patients SRC has, and which of them a run is asked for.

A *patient* is a directory ``depth`` levels below SRC with whatever is below it; its id is the path below SRC. SRC
that holds only files is one patient, by its own name; a volume file (NIfTI, NRRD, MetaImage) directly in SRC is a
patient of its own, named without its ending.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungct.arguments import listed, spelled
from lungct.errors import UsageError
from lungct.storage import Place, depth_below, same_place, storage_faults, subdirectories

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mhd", ".mha")


@dataclass(frozen=True)
class Patient:
    """A patient to extract: its id in the table, and where its files are (a directory, a file, or a list of files)."""

    id: str
    location: str | tuple[str, ...]


class NamingError(UsageError):
    """A refusal that names patients; ``nameless`` says the same where nobody may read a name."""

    def __init__(self, message: str, nameless: str) -> None:
        super().__init__(message)
        self.nameless = nameless


def list_patients(src: Place, *, depth: int, without: Place) -> list[Patient]:
    """List every patient of SRC, ordered by id.

    Parameters
    ----------
    src
        The archive.
    depth
        Levels of directories down to a patient.
    without
        A directory that is no patient though it may lie in SRC: the table itself.

    Raises
    ------
    UsageError
        If SRC is not there, is no directory, or has no patient.

    """
    check_src(src)
    found = [
        Patient(printable(name), str(src / name))
        for name in subdirectories(src, depth)
        if not _is_in_table(src, name, without)
    ]
    files = _files(src)
    volumes = [path for path in files if path.name.lower().endswith(VOLUME_ENDINGS)]
    found += [Patient(printable(_without_ending(path.name)), str(path)) for path in volumes]
    if not found and depth == 1 and files:
        own = src.resolve().name if isinstance(src, Path) else src.name
        found = [Patient(printable(own), str(src))]
    if not found:
        level = "directly below it" if depth == 1 else f"{depth} levels below it (--depth {depth})"
        raise UsageError(f"SRC {src} has no patient: no directory {level}, and no file in it")
    refuse_doubles(found)
    return sorted(found, key=lambda patient: patient.id)


def named_patients(src: Place, ids: Collection[str], *, depth: int) -> list[Patient]:
    """Look up patients by id without listing SRC, ordered by id.

    Raises
    ------
    UsageError
        If SRC lacks one; the sentence names it.

    """
    check_src(src)
    found, missing = [], []
    for patient_id in sorted(set(ids)):
        location = _locate(src, patient_id, depth)
        if location is None:
            missing.append(patient_id)
        else:
            found.append(Patient(patient_id, location))
    if missing:
        raise NamingError(
            f"--patients: SRC {src} has no patient {listed(missing)}",
            f"--patients: SRC lacks {len(missing)} of the {len(set(ids))} patients",
        )
    return found


def read_ids(path: Place, *, argument: str = "patients") -> list[str]:
    """Read patient ids: one a line, or the id column of a CSV.

    Raises
    ------
    UsageError
        If the file cannot be read or has no id.

    """
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text"
        if isinstance(error, OSError):
            reason = error.strerror or "it is not there"
        raise UsageError(f"{spelled(argument)} {path} cannot be read: {reason}") from error
    rows = [row for row in csv.reader(lines) if row and row[0].strip()]
    column = 0
    if rows and "id" in (cell.strip() for cell in rows[0]):
        column = [cell.strip() for cell in rows[0]].index("id")
        rows = rows[1:]
    elif any(len(row) > 1 for row in rows):
        raise UsageError(f"{spelled(argument)} {path} has several columns and none is called id")
    ids = [row[column].strip() for row in rows if len(row) > column and row[column].strip()]
    if not ids:
        raise UsageError(f"{spelled(argument)} {path} has no id: give one a line, or a CSV with a column id")
    return ids


def printable(name: str) -> str:
    r"""Give a directory's name as text: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def on_one_line(name: str) -> str:
    """Give a name as a person may see it in a table: what is no printable character, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def check_src(src: Place) -> None:
    """Refuse an archive that is not there or is no directory."""
    if not isinstance(src, Path):
        if not src.is_dir():
            raise UsageError(
                f"No objects found under {spelled('SRC', str(src))}",
                fix="give the prefix that contains the patient folders",
            )
        return
    with storage_faults(f"SRC {src} cannot be read"):
        if not os.path.lexists(src):
            raise UsageError(f"SRC {src} does not exist: give the directory that holds the patients")
        if not src.is_dir():
            raise UsageError(f"SRC {src} is not a directory: give the directory that holds the patients")


def _is_in_table(src: Place, name: str, table: Place) -> bool:
    """Whether a directory below SRC is the table, or one of its own, by its name or through a link."""
    place = src / name
    if table.name not in name.split("/") and not (isinstance(place, Path) and place.is_symlink()):
        return False
    return same_place(place, table) or depth_below(place, table) is not None


def _files(src: Place) -> Sequence[Place]:
    if not isinstance(src, Path):
        return [place for place in src.entries()[1] if not place.name.startswith(".")]
    with storage_faults(f"SRC {src} cannot be listed"):
        return [path for path in src.iterdir() if path.is_file() and not path.name.startswith(".")]


def _without_ending(name: str) -> str:
    for ending in VOLUME_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name


def _locate(src: Place, patient_id: str, depth: int) -> str | None:
    parts = patient_id.split("/")
    if not all(parts) or "." in parts or ".." in parts or len(parts) != depth:
        return None  # only the very path that listing gives is an id: a scan has one
    with storage_faults(f"SRC {src} cannot be read"):
        if (src / patient_id).is_dir():
            return str(src / patient_id)
        for ending in VOLUME_ENDINGS:
            if (src / f"{patient_id}{ending}").is_file():
                return str(src / f"{patient_id}{ending}")
    return None


def refuse_doubles(patients: Iterable[Patient]) -> None:
    """Refuse an archive in which two patients have one id (UsageError)."""
    seen: set[str] = set()
    for patient in patients:
        if patient.id in seen:
            raise NamingError(
                f"SRC has two patients called {patient.id} (a directory and a volume file?): rename one",
                "SRC has two patients of one name (a directory and a volume file?): rename one",
            )
        seen.add(patient.id)
