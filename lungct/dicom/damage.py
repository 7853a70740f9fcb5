"""Images of the chosen series that are missing: which files stand for them, and how many a scan may lack.

A slice can be missing in many ways: its file is cut off, empty, an error page, a link that leads nowhere, a cloud's
placeholder, compressed by gzip. One rule holds for all of them (`check_missing`). A file stands for a missing image if

- it is damaged DICOM of the series, or of no known series, or
- it is no DICOM at all, and its name differs from the names of the series' images beside it only in digits, or by
  something added before or after (``.gz``, ``.icloud``).

A broken copy of a whole image costs nothing, and neither does a companion of one (``IM0001.json`` beside ``IM0001``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lungct.arguments import counted
from lungct.dicom.geometry import SAME_POSITION_MM
from lungct.dicom.notes import DAMAGED_SLICES, UNREADABLE_FILES, note
from lungct.dicom.slices import Fault, Slice
from lungct.errors import SeriesError
from lungct.storage.volumefiles import is_volume

MISSING_PER_CENT = 2
"""Images of a hundred that may be missing; one may always be."""

_PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".rar", ".tar", ".tgz")
# What copying and downloading programs add to the name of a file that is not there yet.
_ADDED_ENDINGS = (*_PACKED, ".icloud", ".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp", ".dcm")


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A DICOM file that ends within its header or makes no sense there; UIDs are empty if they are unknown."""

    series_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Missing:
    """What is missing from a series.

    Attributes
    ----------
    damaged
        Images in damaged DICOM files, and those of which there are copies that differ.
    unreadable
        Files that are named like the series' images and are no images.
    packed
        How many of those are compressed by gzip, zip or the like.
    fault
        What is wrong with one of the damaged images, where that is known.

    """

    damaged: int = 0
    unreadable: int = 0
    packed: int = 0
    fault: Fault | None = None

    @property
    def images(self) -> int:
        """Number of images that are missing."""
        return self.damaged + self.unreadable

    def notes(self) -> tuple[str, ...]:
        """Return what is missing as notes."""
        counts = ((UNREADABLE_FILES, self.unreadable), (DAMAGED_SLICES, self.damaged))
        return tuple(note(code, count) for code, count in counts if count)


NOTHING_MISSING = Missing()
"""All images are whole."""


def find_missing(
    images: Sequence[Slice], damaged: Iterable[DamagedFile], others: Iterable[str]
) -> tuple[tuple[Slice, ...], Missing]:
    """Separate the whole images of a series from what is missing.

    Parameters
    ----------
    images
        The images of the series, with faults or without.
    damaged
        The damaged DICOM files among the patient's files.
    others
        Paths of the patient's files that are no DICOM, or were not opened.

    Returns
    -------
    tuple of Slice
        The images without a fault.
    Missing

    """
    whole = tuple(image for image in images if image.fault is None)
    uids = {image.sop_instance_uid for image in whole if image.sop_instance_uid}
    series = {image.series_uid for image in images}
    broken = [image for image in images if image.fault is not None and not _is_copy(image, whole, uids)]
    cut = sum(
        file.sop_instance_uid not in uids and (not file.series_uid or file.series_uid in series) for file in damaged
    )
    named = _named_like(others, whole)
    # How many frames a file had that cannot be read is unknown: as many as the others have.
    frames = max((image.encoding.frames for image in whole), default=1)
    return whole, Missing(
        damaged=sum(max(1, image.encoding.frames) for image in broken) + frames * cut,
        unreadable=frames * len(named),
        packed=frames * sum(map(is_packed, named)),
        fault=broken[0].fault if broken else None,
    )


def may_lack(images: int) -> int:
    """Return how many of a scan's images may be missing: one, or `MISSING_PER_CENT` of all where that is more."""
    return max(1, images * MISSING_PER_CENT // 100)


def check_missing(missing: Missing, whole: int) -> None:
    """Raise SeriesError (``undecodable`` or ``limits``) if a series lacks more images than it may."""
    images = whole + missing.images
    allowed = may_lack(images)
    if whole and missing.images <= allowed:
        return
    if missing.fault is not None and missing.damaged == missing.images:
        more = f" ({missing.damaged} of {images} images have faults)" if images > 1 else ""
        raise SeriesError(missing.fault.sentence + more, code=missing.fault.code)
    kinds = [f"{missing.damaged} damaged"] if missing.damaged else []
    unpacked = missing.unreadable - missing.packed
    kinds += [f"{counted(unpacked, 'file', 'files')} named like an image and none"] if unpacked else []
    kinds += [f"{missing.packed} compressed by gzip, zip or the like"] if missing.packed else []
    raise SeriesError(
        f"{missing.images} of {images} images are missing ({', '.join(kinds)}), and a scan may lack {allowed}",
        code="undecodable",
        fix="unpack the files" if missing.packed else "fetch the files again",
    )


def is_packed(path: str) -> bool:
    """Return whether a file is an archive or a compressed file, by its name; a compressed volume is read as it is."""
    return path.lower().endswith(_PACKED) and not is_volume(path)


def _is_copy(image: Slice, whole: Sequence[Slice], uids: set[str]) -> bool:
    """Return whether a broken image is a copy of a whole one: by its UID, or because it lies at the same place."""
    return image.sop_instance_uid in uids or any(
        abs(image.position_mm - other.position_mm) < SAME_POSITION_MM for other in whole
    )


def _named_like(others: Iterable[str], images: Sequence[Slice]) -> list[str]:
    """Return the files whose names say that they should have been images of the series."""
    names: dict[str, set[str]] = {}  # by directory
    for image in images:
        directory, name = os.path.split(image.path)
        names.setdefault(directory, set()).add(name.casefold())
    patterns = {directory: {_pattern(name) for name in known} for directory, known in names.items()}
    found = []
    for path in others:
        directory, name = os.path.split(path)
        if directory in names and _stands_for_one(name.casefold(), names[directory], patterns[directory]):
            found.append(path)
    return found


def _stands_for_one(name: str, images: set[str], patterns: set[str]) -> bool:
    """Return whether a name is that of a missing image, given the names of those that are there."""
    pattern = _pattern(name)
    if pattern in patterns:
        return True
    for known in patterns:
        if known not in pattern or (not _has_letters(known) and not name.endswith(_ADDED_ENDINGS)):
            continue
        base = re.search(_as_expression(known), name)
        if base is not None:
            return base.group() not in images
    return False


def _pattern(name: str) -> str:
    """Return a name with a single 0 for each run of digits."""
    return re.sub(r"\d+", "0", name)


def _as_expression(pattern: str) -> str:
    """Return a regular expression for the names that have a pattern."""
    return r"\d+".join(map(re.escape, pattern.split("0")))


def _has_letters(pattern: str) -> bool:
    return any(character.isalpha() for character in pattern)
