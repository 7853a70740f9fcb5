"""All of a patient's files -> what they are: the CT series found, the damaged files, the number of persons.

Every header is read, and no pixel. Errors that do not depend on the choice of series are raised here: files of several
persons, and files without CT.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from lungct.arguments import counted
from lungct.dicom import discovery
from lungct.dicom.candidates import Candidate, candidates
from lungct.dicom.damage import DamagedFile, is_packed
from lungct.dicom.headers import read_header
from lungct.dicom.persons import persons_by_identity
from lungct.dicom.slices import Header, Kind
from lungct.errors import SeriesError
from lungct.storage.volumefiles import is_volume

MAX_IMAGES = discovery.MAX_FILES
"""CT images of one patient, in all series."""
NOT_DICOM = "files that are not DICOM"


@dataclass(frozen=True)
class Survey:
    """What a patient's files are, before a series is chosen.

    Attributes
    ----------
    files, volumes
        Number of files that were opened, and of those with a volume's name.
    passed_over
        Number of files of each kind that are not CT images, or were not opened.
    persons
        Number of persons whom the files name.
    candidates
        The CT series found.
    damaged
        The DICOM files that end within their header.
    others
        Paths of the files that are not DICOM or were not opened.

    """

    files: int
    volumes: int
    passed_over: dict[str, int]
    persons: int
    candidates: tuple[Candidate, ...]
    damaged: tuple[DamagedFile, ...]
    others: tuple[str, ...]


def survey(listing: discovery.FileListing) -> Survey:
    """Read the header of each of a patient's files.

    Raises
    ------
    SeriesError
        ``limits``, if there are more than `MAX_IMAGES` images.
    StorageError
        If a file cannot be read.

    """
    passed, headers, others, images = Counter(listing.passed_over), list[Header](), list(listing.unopened), 0
    for file in listing.files:
        header = read_header(file)
        if header is None:
            passed[NOT_DICOM] += 1
            others.append(file)
            continue
        headers.append(header)
        images += len(header.slices)
        if images > MAX_IMAGES:
            raise SeriesError(f"the patient has more than {MAX_IMAGES} CT images", code="limits")
        if header.kind is not Kind.CT:
            passed[header.kind.value] += 1
    return Survey(
        files=len(listing.files),
        volumes=sum(is_volume(file) for file in listing.files),
        passed_over=dict(sorted(passed.items())),
        persons=len(set(persons_by_identity(header.person.identity for header in headers).values())),
        candidates=candidates(image for header in headers for image in header.slices),
        damaged=tuple(
            DamagedFile(header.series_uid, header.sop_instance_uid) for header in headers if header.kind is Kind.DAMAGED
        ),
        others=tuple(others),
    )


def check_survey(found: Survey) -> None:
    """Raise SeriesError if the files are of several persons or contain no CT.

    Raises
    ------
    SeriesError
        ``empty``, ``several_persons``, ``no_images``, ``undecodable`` or ``no_ct``.

    """
    dicom = found.files - found.passed_over.get(NOT_DICOM, 0)
    kinds = _kinds_text(found.passed_over)
    if found.files == 0:
        raise SeriesError(f"there are no files (only {kinds})" if kinds else "there are no files", code="empty")
    if found.persons > 1:
        raise SeriesError(
            f"the files name {found.persons} persons",
            code="several_persons",
            fix="group the files by PatientID (--by-patient-id), or move each person's files into a separate directory",
        )
    if dicom == 0:
        raise _no_dicom(found)
    if found.candidates:
        return
    among = f"among {counted(dicom, 'DICOM file', 'DICOM files')}"
    if found.damaged:
        damaged = f"{len(found.damaged)} damaged or without pixels"
        raise SeriesError(f"no usable CT images {among} ({damaged})", code="undecodable")
    raise SeriesError(f"no CT images {among} ({kinds})", code="no_ct")


def _no_dicom(found: Survey) -> SeriesError:
    text = "the only file is not DICOM" if found.files == 1 else f"none of the {found.files} files is DICOM"
    if found.volumes:
        text += f"; {counted(found.volumes, 'is a volume', 'are volumes')}, which must be a patient each"
    packed = sum(is_packed(path) for path in found.others)
    if packed:
        text += f"; {packed} compressed by gzip, zip or the like"
    return SeriesError(text, code="no_images", fix="unpack the files" if packed else None)


def _kinds_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items())
