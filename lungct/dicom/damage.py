"""Images of the chosen series that are missing: which files stand for them, and how many a scan may lack.

A slice can be missing in many ways: its file is cut off, empty, an error page, a link that leads nowhere, a cloud's
placeholder, compressed by gzip. One rule holds for all of them (`check_missing`). A file stands for a missing image if

- it is damaged DICOM of the series, or of no known series, or
- it is no DICOM at all, and its name differs from the names of the series' images beside it only in digits (those of
  hexadecimal numbers and UUIDs, too), or by something added before or after (``.gz``, ``.icloud``).

Damaged DICOM of a series that no whole file is of counts if its name is like the images' beside it, or if the scan was
put together from several series: where each image has a series of its own, so has the damaged one.

A broken copy of a whole image costs nothing, and neither does a companion of any DICOM file, whole or damaged, of this
series or another (``IM0001.json`` beside ``IM0001``).
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lungct.arguments import counted
from lungct.dicom.geometry import SAME_POSITION_MM
from lungct.dicom.notes import DAMAGED_SLICES, UNREADABLE_FILES, note
from lungct.dicom.slices import Fault, Slice
from lungct.errors import SeriesError
from lungct.patients import PACKED_ENDINGS
from lungct.storage.volumefiles import is_volume

MISSING_PER_CENT = 2
"""Images of a hundred that may be missing; one may always be."""

# What copying and downloading programs add to the name of a file that is not there yet.
_ADDED_ENDINGS = (
    *PACKED_ENDINGS,
    *(".icloud", ".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp", ".dcm"),
)


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A DICOM file, or one image of it, that cannot be placed in a series' order, because its header is damaged.

    Attributes
    ----------
    path
        The file.
    series_uid, sop_instance_uid
        SeriesInstanceUID and SOPInstanceUID; empty if they are unknown.
    frame
        The image's index in the file; None for a file of which it is unknown how many images it has.

    """

    path: str
    series_uid: str
    sop_instance_uid: str
    frame: int | None = None


@dataclass(frozen=True)
class OtherFiles:
    """A patient's files that may be missing images, and those that tell what these are.

    Attributes
    ----------
    whole
        Path and SeriesInstanceUID of each whole DICOM file, whatever it contains.
    damaged
        The damaged DICOM files.
    not_dicom
        Paths of the files that are no DICOM, or were not opened.

    """

    whole: Mapping[str, str] = field(default_factory=dict)
    damaged: tuple[DamagedFile, ...] = ()
    not_dicom: tuple[str, ...] = ()


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


def find_missing(images: Sequence[Slice], files: OtherFiles) -> tuple[tuple[Slice, ...], Missing]:
    """Separate the whole images of a series from what is missing.

    Parameters
    ----------
    images
        The images of the series, with faults or without.
    files
        The patient's files, those of the images among them.

    Returns
    -------
    tuple of Slice
        The images without a fault.
    Missing

    """
    whole = tuple(image for image in images if image.fault is None)
    copies = _Copies(whole)
    broken = [image for image in images if image.fault is not None and not copies.have_image(image)]
    names = _Names(whole)
    cut = [file for file in _damaged_of(images, files, names) if not copies.have_file(file)]
    named = _named_like(files, names)
    # How many frames a file had that cannot be read is unknown: as many as the others have.
    frames = max((image.encoding.frames for image in whole), default=1)
    return whole, Missing(
        damaged=len(broken) + sum(frames if file.frame is None else 1 for file in cut),
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
        more = f" ({missing.damaged} of {images} images cannot be used)" if images > 1 else ""
        raise SeriesError(missing.fault.sentence + more, code=missing.fault.code)
    kinds = [f"{missing.damaged} damaged"] if missing.damaged else []
    unpacked = missing.unreadable - missing.packed
    unreadable = counted(unpacked, "unreadable file", "unreadable files")
    kinds += [f"{unreadable} named like the images"] if unpacked else []
    kinds += [f"{missing.packed} compressed by gzip, zip or the like"] if missing.packed else []
    raise SeriesError(
        f"{missing.images} of {images} images are missing ({', '.join(kinds)}); a scan may lack {allowed}",
        code="undecodable",
        fix="unpack the files" if missing.packed else "fetch the files again",
    )


def is_packed(path: str) -> bool:
    """Return whether a file is an archive or a compressed file, by its name; a compressed volume is read as it is."""
    return path.lower().endswith(PACKED_ENDINGS) and not is_volume(path)


class _Copies:
    """Whole images, which a broken one may be a copy of."""

    def __init__(self, whole: Sequence[Slice]) -> None:
        self._positions = sorted(image.position_mm for image in whole if not math.isnan(image.position_mm))
        self._frames = {(image.sop_instance_uid, image.frame) for image in whole if image.sop_instance_uid}
        self._files = {image.sop_instance_uid for image in whole if image.sop_instance_uid}

    def have_image(self, image: Slice) -> bool:
        """Return whether a broken image is a copy of a whole one: by its UID, or because it lies at the same place."""
        if (image.sop_instance_uid, image.frame) in self._frames:
            return True
        low, high = image.position_mm - SAME_POSITION_MM, image.position_mm + SAME_POSITION_MM
        return bisect_right(self._positions, low) < bisect_left(self._positions, high)

    def have_file(self, file: DamagedFile) -> bool:
        """Return whether a damaged file is a copy of one whose images are whole, as far as they are known."""
        if file.frame is None:
            return file.sop_instance_uid in self._files
        return (file.sop_instance_uid, file.frame) in self._frames


def _damaged_of(images: Sequence[Slice], files: OtherFiles, names: _Names) -> list[DamagedFile]:
    """Return the damaged files that are of a series."""
    own = {image.series_uid for image in images}
    known = set(files.whole.values())

    def is_of_it(file: DamagedFile) -> bool:
        if not file.series_uid or file.series_uid in own:
            return True
        return file.series_uid not in known and (len(own) > 1 or names.missing(file.path) is not None)

    return [file for file in files.damaged if is_of_it(file)]


def _named_like(files: OtherFiles, names: _Names) -> list[str]:
    """Return the files whose names say that they should have been images of the series, one for each image."""
    present = {_folded(path) for path in (*files.whole, *(file.path for file in files.damaged))}
    found: dict[str, str] = {}
    for path in files.not_dicom:
        missing = names.missing(path)
        if missing is not None and missing not in present:
            found.setdefault(missing, path)
    return list(found.values())


class _Names:
    """The names of a series' images, and which others are like them."""

    def __init__(self, images: Iterable[Slice]) -> None:
        patterns: dict[str, set[str]] = {}
        for image in images:
            directory, name = os.path.split(image.path)
            patterns.setdefault(directory, set()).add(_pattern(name.casefold()))
        # The longest first: it says most about a name.
        self._patterns = {at: sorted(found, key=lambda one: (-len(one), one)) for at, found in patterns.items()}

    def missing(self, path: str) -> str | None:
        """Return the path of the image, its name in small letters, that a file is named after.

        That is the file's own if its name differs from an image's beside it only in digits, or what is left without
        something added before or after; None if it is not named like an image.
        """
        directory, name = os.path.split(path)
        name = name.casefold()
        pattern = _pattern(name)
        known = self._patterns.get(directory, [])
        if pattern in known:
            return os.path.join(directory, name)
        for part in known:
            if part not in pattern or (not _has_letters(part) and not name.endswith(_ADDED_ENDINGS)):
                continue
            found = re.search(_as_expression(part), name)
            if found is not None:
                return os.path.join(directory, found.group())
        return None


def _folded(path: str) -> str:
    """Return a path with its name in small letters."""
    directory, name = os.path.split(path)
    return os.path.join(directory, name.casefold())


# PACS name files by numbers in hexadecimal, which are whole words of eight digits and more.
_NUMBER = r"(?:(?<![^\W_])[0-9a-f]{8}(?:(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]*)(?![^\W_])|\d+)"


def _pattern(name: str) -> str:
    """Return a name in small letters with a single 0 for each number."""
    return re.sub(_NUMBER, "0", name)


def _as_expression(pattern: str) -> str:
    """Return a regular expression for the names that have a pattern."""
    return _NUMBER.join(map(re.escape, pattern.split("0")))


def _has_letters(pattern: str) -> bool:
    return any(character.isalpha() for character in pattern)
