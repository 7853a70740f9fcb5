"""Which patients an archive (SRC) has.

A *patient* is a directory ``depth`` levels below SRC, with everything below it; its id is its path below SRC. An SRC
that holds only files is one patient with SRC's own name. A volume file (NIfTI, NRRD, MetaImage) directly in SRC is a
patient too, named after the file without its ending. Where ids are paths, as in ``person/scan``, their first component
is the person. Other files beside the directories belong to nobody; a warning counts those that may be scans.
"""

from __future__ import annotations

import os
import unicodedata
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungct.arguments import counted, listed, spelled
from lungct.csvfile import read_records
from lungct.errors import LungCTWarning, UsageError
from lungct.ids import canonical
from lungct.storage import Place, depth_below, list_levels, same_place, storage_faults
from lungct.storage.volumefiles import VOLUME_ENDINGS, is_volume, is_voxels, without_ending

PACKED_ENDINGS = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
"""The endings of files that hold others, in lower case, which must be unpacked first."""
ID_COLUMN = "id"
"""The column of ids in a CSV of patients to extract."""
_DOCUMENT_ENDINGS = (
    *(".txt", ".md", ".rst", ".html", ".pdf", ".doc", ".docx", ".log"),
    *(".csv", ".tsv", ".xls", ".xlsx", ".parquet", ".json", ".xml", ".yaml", ".yml"),
    *(".py", ".sh", ".db", ".ini"),
)
_DOCUMENTS = ("README", "LICENSE", "LICENCE", "CHANGES", "CHANGELOG", "DICOMDIR", "MANIFEST")


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
    archive
        The directory on a disk in which the other patients are; None in a store, or if nothing depends on it.

    """

    id: str
    location: str | Sequence[str]
    person: str | None = None
    archive: str | None = None


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

    Warns
    -----
    LungCTWarning
        If SRC has files that may be scans and belong to no patient.

    """
    check_src(src)
    directories, files = list_levels(src, depth)
    directories = [name for name in directories if not _is_in_table(src, name, without)]
    volumes = [name for name in files if is_volume(name) and "/" not in name]
    found = [_patient(src, printable(name), name) for name in directories]
    found += [_patient(src, printable(without_ending(name)), name) for name in volumes]
    if found:
        _warn_of_loose_files(src, set(files).difference(volumes), without)
    elif depth == 1 and files and not _only_packed(files):
        own = src.resolve().name if isinstance(src, Path) else src.name
        found = [Patient(printable(own), str(src), archive=_archive(src))]
    else:
        raise _no_patients(src, depth, packed=sum(map(is_packed, files)))
    check_unique(found)
    return sorted(found, key=lambda patient: patient.id)


def _no_patients(src: Place, depth: int, *, packed: int) -> UsageError:
    level = "directly below it" if depth == 1 else f"{depth} levels below it"
    message = f"{spelled('SRC')} {src} has no patients (no directory {level}, and no file that could be a patient)"
    if packed:
        another = f", or give another {spelled('depth')}" if depth > 1 else ""
        return UsageError(
            f"{message}, but {counted(packed, 'packed file', 'packed files')}",
            fix=f"unpack each patient into a directory{another}",
        )
    return UsageError(message, fix=f"give the directory that contains the patients, or another {spelled('depth')}")


def _warn_of_loose_files(src: Place, names: Iterable[str], table: Place) -> None:
    """Warn once of the files that lie beside the patients' directories and may be scans; name none of them."""
    loose = [name for name in names if not (is_voxels(name) or _is_document(name))]
    places = {name.rpartition("/")[0] for name in loose}
    in_table = {place for place in places if place and _is_in_table(src, place, table)}
    loose = [name for name in loose if name.rpartition("/")[0] not in in_table]
    packed = sum(map(is_packed, loose))
    if loose:
        lie = "1 file lies" if len(loose) == 1 else f"{len(loose)} files lie"
        unpack = f" ({packed} packed: unpack each patient into a directory)" if packed else ""
        warnings.warn(
            LungCTWarning(f"{lie} in {spelled('SRC')} beside the patients and will not be read{unpack}"),
            stacklevel=3,
        )


def _only_packed(names: Sequence[str]) -> bool:
    """Return whether all that files may be of a scan is packed."""
    scans = [name for name in names if not _is_document(name)]
    return bool(scans) and all(map(is_packed, scans))


def is_packed(name: str) -> bool:
    """Return whether a file holds others and must be unpacked before lungct can read them, by its name's ending."""
    return name.lower().endswith(PACKED_ENDINGS) and not is_volume(name) and not is_voxels(name)


def _is_document(name: str) -> bool:
    """Return whether a file accompanies an archive and is no scan, by its name."""
    own = name.rpartition("/")[2]
    return own.lower().endswith(_DOCUMENT_ENDINGS) or own.upper() in _DOCUMENTS


def named_patients(src: Place, ids: Collection[str], *, depth: int) -> list[Patient]:
    """Look up patients by id, without listing SRC; ordered by id.

    An id that SRC has in another Unicode form (`lungct.ids.canonical`) is found, and is then SRC's own.

    Raises
    ------
    UsageError
        If SRC lacks one of them.

    """
    check_src(src)
    found = {patient.id: patient for name in ids if (patient := _look_up(src, name, depth)) is not None}
    check_found(src, ids, found.keys())
    check_unique(found.values())
    return sorted(found.values(), key=lambda patient: patient.id)


def _patient(src: Place, patient_id: str, name: str) -> Patient:
    return Patient(patient_id, str(src / name), person_in_id(patient_id), _archive(src))


def _archive(src: Place) -> str | None:
    return str(src) if isinstance(src, Path) else None


def person_in_id(patient_id: str) -> str | None:
    """Return the person whom an id names in its first component ("person/scan"); None if the id is the person."""
    person, slash, _ = patient_id.partition("/")
    return person if slash else None


def check_found(src: Place, wanted: Collection[str], found: Collection[str]) -> None:
    """Raise NamingError if SRC lacks one of the patients that were asked for, in whatever Unicode form."""
    have = set(map(canonical, found))
    missing = sorted(patient_id for patient_id in set(wanted) if canonical(patient_id) not in have)
    if missing:
        raise NamingError(
            f"{spelled('patients')}: {spelled('SRC')} {src} has no patient {listed(missing)}",
            f"{spelled('patients')}: {spelled('SRC')} lacks {len(missing)} of the {len(set(wanted))} patients",
            fix="correct the ids, or leave them out",
        )


def read_ids(path: Place, *, argument: str = "patients") -> list[str]:
    """Read patient ids: one per line, or the column ``id`` of a CSV.

    Raises
    ------
    UsageError
        If the file cannot be read, has several columns and none called ``id``, or has no ids.

    Warns
    -----
    LungCTWarning
        If the file had to be read as Windows-1252.

    """
    where = f"{spelled(argument)} {path}"
    rows = [values for _, values in read_records(path, argument=argument, columns=[ID_COLUMN])]
    column = 0
    if rows and ID_COLUMN in rows[0]:
        column = rows[0].index(ID_COLUMN)
        rows = rows[1:]
    elif any(any(row[1:]) for row in rows):
        raise UsageError(
            f"{where} has several columns, and none is called {ID_COLUMN}",
            fix=f"name the column of ids {ID_COLUMN!r}, or put ids that contain a separator in quotes",
        )
    ids = [row[column] for row in rows if len(row) > column and row[column]]
    if not ids:
        raise UsageError(f"{where} has no ids", fix=f"give one per line, or a CSV with a column {ID_COLUMN}")
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


def _look_up(src: Place, patient_id: str, depth: int) -> Patient | None:
    """Return a patient by id: the directory or volume that has this path below SRC; None if there is none."""
    parts = patient_id.split("/")
    if not all(parts) or "." in parts or ".." in parts or len(parts) != depth:
        return None  # a patient has one id, the path that listing returns
    with storage_faults(f"{spelled('SRC')} {src} cannot be read"):
        if (name := _directory(src, parts)) is not None:
            return _patient(src, printable(name), name)
        above = _directory(src, parts[:-1])
        for form in _forms(parts[-1]) if above is not None else ():
            own = f"{above}/{form}" if above else form
            for ending in VOLUME_ENDINGS:
                if (src / f"{own}{ending}").is_file():
                    return _patient(src, printable(own), f"{own}{ending}")
    return None


def _directory(src: Place, parts: Sequence[str]) -> str | None:
    """Return the path below SRC of a directory, each component in the Unicode form that it has there."""
    whole = "/".join(parts)
    if not parts or (src / whole).is_dir():
        return whole
    if whole.isascii():
        return None
    name = ""
    for part in parts:
        below = (f"{name}/{form}" if name else form for form in _forms(part))
        found = next((path for path in below if (src / path).is_dir()), None)
        if found is None:
            return None
        name = found
    return name


def _forms(name: str) -> list[str]:
    """Return a name as it is, and in the Unicode forms in which file systems may have it."""
    forms = (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return list(dict.fromkeys([name, *forms]))


def check_unique(patients: Iterable[Patient]) -> None:
    """Raise NamingError if two patients have the same id, or ids that differ only in their Unicode form."""
    seen: dict[str, str] = {}
    for patient in patients:
        form = canonical(patient.id)
        if form in seen:
            same = patient.id == seen[form]
            why = "a directory and a volume file?" if same else "their names differ only in Unicode form"
            raise NamingError(
                f"{spelled('SRC')} has two patients called {patient.id} ({why})",
                f"{spelled('SRC')} has two patients with the same name ({why})",
                fix="rename one of them",
            )
        seen[form] = patient.id
