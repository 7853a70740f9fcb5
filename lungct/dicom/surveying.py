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
from lungct.dicom.headers import read_header
from lungct.dicom.persons import Identity, persons_by_identity, separated_by_directories, several_persons
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
    persons_apart
        Whether there are several persons, and directories below have one each.
    candidates
        The CT series found.
    damaged
        SeriesInstanceUIDs of damaged DICOM files, each empty if unknown.

    """

    files: int
    volumes: int
    passed_over: dict[str, int]
    persons: int
    persons_apart: bool
    candidates: tuple[Candidate, ...]
    damaged: tuple[str, ...]


def survey(listing: discovery.FileListing) -> Survey:
    """Read the header of each of a patient's files.

    Raises
    ------
    SeriesError
        ``limits``, if there are more than `MAX_IMAGES` images.
    StorageError
        If a file cannot be read.

    """
    passed, headers, images = Counter(listing.passed_over), list[Header](), 0
    identities: dict[str, Identity] = {}
    for file in listing.files:
        header = read_header(file)
        if header is None:
            passed[NOT_DICOM] += 1
            continue
        headers.append(header)
        identities[file] = header.person.identity
        images += len(header.slices)
        if images > MAX_IMAGES:
            raise SeriesError(f"the patient has more than {MAX_IMAGES} CT images", code="limits")
        if header.kind is not Kind.CT:
            passed[header.kind.value] += 1
    persons = len(set(persons_by_identity(identities.values()).values()))
    return Survey(
        files=len(listing.files),
        volumes=sum(is_volume(file) for file in listing.files),
        passed_over=dict(sorted(passed.items())),
        persons=persons,
        persons_apart=persons > 1 and separated_by_directories(identities),
        candidates=candidates(image for header in headers for image in header.slices),
        damaged=tuple(header.series_uid for header in headers if header.kind is Kind.DAMAGED),
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
        raise several_persons(found.persons, apart=found.persons_apart)
    if dicom == 0:
        raise SeriesError(_no_dicom(found), code="no_images")
    if found.candidates:
        return
    among = f"among {counted(dicom, 'DICOM file', 'DICOM files')}"
    if found.damaged:
        damaged = f"{len(found.damaged)} damaged or without pixels"
        raise SeriesError(f"no usable CT images {among} ({damaged})", code="undecodable")
    raise SeriesError(f"no CT images {among} ({kinds})", code="no_ct")


def _no_dicom(found: Survey) -> str:
    text = "the only file is not DICOM" if found.files == 1 else f"none of the {found.files} files is DICOM"
    if found.volumes:
        text += f"; {counted(found.volumes, 'is a volume', 'are volumes')}, which must be a patient each"
    return text


def _kinds_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items())
