"""All of a patient's files -> what they are: the CT series found, the damaged files, the number of persons.

Every header is read, and no pixel. Errors that do not depend on the choice of series are raised here: files of several
persons, and files without CT.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import compress
from operator import not_

from lungct.arguments import counted
from lungct.dicom import discovery
from lungct.dicom.candidates import Candidate
from lungct.dicom.damage import DamagedFile, OtherFiles, is_packed
from lungct.dicom.grouping import candidates
from lungct.dicom.headers import read_header
from lungct.dicom.persons import persons_by_identity, separated_by_directories, several_persons
from lungct.dicom.slices import Header, Kind, Slice
from lungct.errors import SeriesError

MAX_IMAGES = discovery.MAX_FILES
"""CT images of one patient, in all series."""
NOT_DICOM = "files that are not DICOM"


@dataclass(frozen=True)
class Survey:
    """What a patient's files are, before a series is chosen.

    Attributes
    ----------
    files
        Number of files that were opened.
    passed_over
        Number of files of each kind that are not CT images, or were not opened.
    persons
        Number of persons whom the files name.
    persons_apart
        Whether there are several persons, and directories below have one each.
    candidates
        The CT series found.
    others
        What is missing from a series is found out from: whole and damaged DICOM files, and those that are not DICOM.

    """

    files: int
    passed_over: dict[str, int]
    persons: int
    persons_apart: bool
    candidates: tuple[Candidate, ...]
    others: OtherFiles

    @property
    def dicom(self) -> int:
        """Number of DICOM files, whole or damaged."""
        return self.files - self.passed_over.get(NOT_DICOM, 0)


def survey(listing: discovery.FileListing) -> Survey:
    """Read the header of each of a patient's files.

    Raises
    ------
    SeriesError
        ``limits``, if there are more than `MAX_IMAGES` images.
    StorageError
        If a file cannot be read.

    """
    passed, headers, images = Counter(listing.passed_over), dict[str, Header](), 0
    not_dicom = list(listing.unopened)
    for file in listing.files:
        header = read_header(file)
        if header is None:
            passed[NOT_DICOM] += 1
            not_dicom.append(file)
            continue
        headers[file] = header
        images += len(header.slices)
        if images > MAX_IMAGES:
            raise SeriesError(f"the patient has more than {MAX_IMAGES} CT images", code="limits")
        if header.kind is not Kind.CT:
            passed[header.kind.value] += 1
    identities = {file: header.person.identity for file, header in headers.items()}
    persons = len(set(persons_by_identity(identities.values()).values()))
    placed, unplaced = _unplaced_apart(image for header in headers.values() for image in header.slices)
    return Survey(
        files=len(listing.files),
        passed_over=dict(sorted(passed.items())),
        persons=persons,
        persons_apart=persons > 1 and separated_by_directories(identities),
        candidates=candidates(placed),
        others=_others(headers, unplaced, not_dicom),
    )


def _unplaced_apart(images: Iterable[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Set images apart that have a fault and no position, although whole images of their series have one.

    They are no stray images, and no slices that could be put in order: they are missing.
    """
    found = list(images)
    ordered = {_series(image) for image in found if image.fault is None and not math.isnan(image.position_mm)}
    lost = [image.fault is not None and math.isnan(image.position_mm) and _series(image) in ordered for image in found]
    return list(compress(found, map(not_, lost))), list(compress(found, lost))


def _series(image: Slice) -> tuple[str, str]:
    return image.series_uid, "" if image.series_uid else image.study_uid


def _others(headers: Mapping[str, Header], unplaced: Iterable[Slice], not_dicom: Iterable[str]) -> OtherFiles:
    damaged = [
        DamagedFile(file, header.series_uid, header.sop_instance_uid)
        for file, header in headers.items()
        if header.kind is Kind.DAMAGED
    ]
    damaged += [DamagedFile(image.path, image.series_uid, image.sop_instance_uid, image.frame) for image in unplaced]
    return OtherFiles(
        whole={file: header.series_uid for file, header in headers.items() if header.kind is not Kind.DAMAGED},
        damaged=tuple(damaged),
        not_dicom=tuple(not_dicom),
    )


def check_survey(found: Survey) -> None:
    """Raise SeriesError if the files are of several persons or contain no CT.

    Raises
    ------
    SeriesError
        ``empty``, ``several_persons``, ``no_images``, ``undecodable`` or ``no_ct``.

    """
    kinds = _kinds_text(found.passed_over)
    if found.files == 0:
        raise SeriesError(f"there are no files (only {kinds})" if kinds else "there are no files", code="empty")
    if found.persons > 1:
        raise several_persons(found.persons, apart=found.persons_apart)
    if found.dicom == 0:
        raise _no_dicom(found)
    if found.candidates:
        return
    among = f"among {counted(found.dicom, 'DICOM file', 'DICOM files')}"
    if found.others.damaged:
        damaged = f"{len(found.others.damaged)} damaged or without pixels"
        raise SeriesError(f"no usable CT images {among} ({damaged})", code="undecodable")
    raise SeriesError(f"no CT images {among} ({kinds})", code="no_ct")


def _no_dicom(found: Survey) -> SeriesError:
    text = "the only file is not DICOM" if found.files == 1 else f"none of the {found.files} files is DICOM"
    packed = sum(is_packed(path) for path in found.others.not_dicom)
    if packed:
        text += f"; {packed} compressed by gzip, zip or the like"
    return SeriesError(text, code="no_images", fix="unpack the files" if packed else None)


def _kinds_text(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in counts.items())
