"""Which patients an archive (SRC) has.

A *patient* is a directory ``depth`` levels below SRC, with everything below it; its id is its path below SRC. An SRC
that holds only files is one patient with SRC's own name. A volume file (NIfTI, NRRD, MetaImage) directly in SRC is a
patient too, named after the file without its ending. Where ids are paths, as in ``person/scan``, their first component
is the person.
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
from lungct.storage.volumefiles import VOLUME_ENDINGS, is_volume, without_ending


@dataclass(frozen=True)
class Patient:
    """A patient to extract.

    Attributes
    ----------
    id
        The patient's id in the table.
    location
        Where the files are: a directory, a file, or a list of files; on a disk or in a store.
    person
        Whose scan it is; None if the id is the person.

    """

    id: str
    location: str | Sequence[str]
    person: str | None = None


class NamingError(UsageError):
    """A UsageError whose message names patients.

    Parameters
    ----------
    message, fix
        As for `UsageError`.
    nameless
        The message without names, for tables whose ids are pseudonyms.

    """

    def __init__(self, message: str, nameless: str, *, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.nameless = nameless


def list_patients(src: Place, *, depth: int, without: Place) -> list[Patient]:
    """List every patient of SRC, ordered by id.

    Parameters
    ----------
    src
        The archive.
    depth
        Directory levels down to a patient.
    without
        A directory that is not a patient although it may lie in SRC: the table itself.

    Raises
    ------
    UsageError
        If SRC does not exist, is not a directory, or has no patient.

    """
    check_src(src)
    found = [
        _patient(printable(name), str(src / name))
        for name in subdirectories(src, depth)
        if not _is_in_table(src, name, without)
    ]
    files = _files(src)
    volumes = [path for path in files if is_volume(path.name)]
    found += [Patient(printable(without_ending(path.name)), str(path)) for path in volumes]
    if not found and depth == 1 and files:
        own = src.resolve().name if isinstance(src, Path) else src.name
        found = [Patient(printable(own), str(src))]
    if not found:
        level = "directly below it" if depth == 1 else f"{depth} levels below it"
        raise UsageError(
            f"{spelled('SRC')} {src} has no patients (no directory {level}, and no file that could be a patient)",
            fix=f"give the directory that contains the patients, or another {spelled('depth')}",
        )
    check_unique(found)
    return sorted(found, key=lambda patient: patient.id)


def named_patients(src: Place, ids: Collection[str], *, depth: int) -> list[Patient]:
    """Look up patients by id, without listing SRC; ordered by id.

    Raises
    ------
    UsageError
        If SRC lacks one of them.

    """
    check_src(src)
    wanted = sorted(set(ids))
    locations = {patient_id: _locate(src, patient_id, depth) for patient_id in wanted}
    found = [_patient(patient_id, location) for patient_id, location in locations.items() if location is not None]
    check_found(src, wanted, {patient.id for patient in found})
    return found


def _patient(patient_id: str, location: str) -> Patient:
    return Patient(patient_id, location, person_in_id(patient_id))


def person_in_id(patient_id: str) -> str | None:
    """Return the person whom an id names in its first component ("person/scan"); None if the id is the person."""
    person, slash, _ = patient_id.partition("/")
    return person if slash else None


def check_found(src: Place, wanted: Collection[str], found: Collection[str]) -> None:
    """Raise NamingError if SRC lacks one of the patients that were asked for."""
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise NamingError(
            f"{spelled('patients')}: {spelled('SRC')} {src} has no patient {listed(missing)}",
            f"{spelled('patients')}: {spelled('SRC')} lacks {len(missing)} of the {len(wanted)} patients",
            fix="correct the ids, or leave them out",
        )


def read_ids(path: Place, *, argument: str = "patients") -> list[str]:
    """Read patient ids: one per line, or the column ``id`` of a CSV.

    Raises
    ------
    UsageError
        If the file cannot be read or has no ids.

    """
    where = f"{spelled(argument)} {path}"
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text"
        if isinstance(error, OSError):
            reason = error.strerror or "it does not exist"
        raise UsageError(f"{where} cannot be read ({reason})", fix="give a text file of ids") from error
    rows = [row for row in csv.reader(lines) if row and row[0].strip()]
    column = 0
    if rows and "id" in (cell.strip() for cell in rows[0]):
        column = [cell.strip() for cell in rows[0]].index("id")
        rows = rows[1:]
    elif any(len(row) > 1 for row in rows):
        raise UsageError(f"{where} has several columns, and none is called id", fix="name the column of ids 'id'")
    ids = [row[column].strip() for row in rows if len(row) > column and row[column].strip()]
    if not ids:
        raise UsageError(f"{where} has no ids", fix="give one per line, or a CSV with a column id")
    return ids


def printable(name: str) -> str:
    r"""Return a directory's name as text: bytes that are not UTF-8 become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def on_one_line(name: str) -> str:
    """Return a name as it is shown to people: characters that are not printable are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def check_src(src: Place) -> None:
    """Raise UsageError if an archive does not exist or is not a directory."""
    where = f"{spelled('SRC')} {src}"
    if not isinstance(src, Path):
        if not src.is_dir():
            raise UsageError(f"No objects found under {where}", fix="give the prefix that contains the patient folders")
        return
    with storage_faults(f"{where} cannot be read"):
        if src.is_dir():
            return
        problem = "is not a directory" if os.path.lexists(src) else "does not exist"
    raise UsageError(f"{where} {problem}", fix="give the directory that contains the patients")


def _is_in_table(src: Place, name: str, table: Place) -> bool:
    """Return whether a directory below SRC is the table, or lies in it, by its name or through a link."""
    place = src / name
    if table.name not in name.split("/") and not (isinstance(place, Path) and place.is_symlink()):
        return False
    return same_place(place, table) or depth_below(place, table) is not None


def _files(src: Place) -> Sequence[Place]:
    if not isinstance(src, Path):
        return [place for place in src.entries()[1] if not place.name.startswith(".")]
    with storage_faults(f"{spelled('SRC')} {src} cannot be listed"):
        return [path for path in src.iterdir() if path.is_file() and not path.name.startswith(".")]


def _locate(src: Place, patient_id: str, depth: int) -> str | None:
    parts = patient_id.split("/")
    if not all(parts) or "." in parts or ".." in parts or len(parts) != depth:
        return None  # a patient has one id, the path that listing returns
    with storage_faults(f"{spelled('SRC')} {src} cannot be read"):
        if (src / patient_id).is_dir():
            return str(src / patient_id)
        for ending in VOLUME_ENDINGS:
            if (src / f"{patient_id}{ending}").is_file():
                return str(src / f"{patient_id}{ending}")
    return None


def check_unique(patients: Iterable[Patient]) -> None:
    """Raise NamingError if two patients have the same id."""
    seen: set[str] = set()
    for patient in patients:
        if patient.id in seen:
            raise NamingError(
                f"{spelled('SRC')} has two patients called {patient.id} (a directory and a volume file?)",
                f"{spelled('SRC')} has two patients with the same name (a directory and a volume file?)",
                fix="rename one of them",
            )
        seen.add(patient.id)
