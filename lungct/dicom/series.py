"""A patient's files -> one ordered `Series` of slices, whose pixels are read when they are asked for.

First every header is read (``headers.py``), then one series is chosen (``selection.py``), then what only the chosen
series must fulfil is checked: axial, one size, every image whole, one image at each position. Positions and units are
those of ``geometry.py``: mm, towards the head.

Images of two people are never mixed, and no sentence of an error names a file, a UID, a date or a person. Nothing but
`LungCTError` leaves this module's public functions.
"""

from __future__ import annotations

import math
import os
import re
import weakref
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import decoding, discovery, volumes
from lungct.dicom.decoding import Stored
from lungct.dicom.geometry import SAME_POSITION_MM, slice_spacing
from lungct.dicom.headers import identity_of, read_header
from lungct.dicom.scan import Scan
from lungct.dicom.selection import Candidate, candidates, choose
from lungct.dicom.slices import Header, Kind, Person, Slice
from lungct.errors import SeriesError
from lungct.storage import fetch_copy, is_remote

MAX_SLICES = discovery.MAX_FILES
"""CT images of one patient, in all series."""
NOT_DICOM = "files that are not DICOM"
_EXACT_IN_FLOAT32 = 1 << 24


class Pixels(Protocol):
    """Where a series gets its pixels from."""

    has_instances: bool

    def stored(self, piece: Slice) -> Stored:
        """Return one slice's stored values, integers, (rows, columns)."""
        ...

    def hu(self, piece: Slice) -> NDArray[np.float32]:
        """Return one slice in Hounsfield units, float32, (rows, columns)."""
        ...


class DicomPixels:
    """Pixels of DICOM files, read and decoded at each call."""

    has_instances = True

    def stored(self, piece: Slice) -> Stored:
        """Return one slice's stored values, integers, (rows, columns)."""
        return decoding.stored_values(piece)

    def hu(self, piece: Slice) -> NDArray[np.float32]:
        """Return one slice in Hounsfield units, float32, (rows, columns)."""
        return to_hu(decoding.stored_values(piece), piece.slope, piece.intercept)


def to_hu(stored: Stored, slope: float, intercept: float) -> NDArray[np.float32]:
    """Return stored x slope + intercept (PS3.3 C.11.1.1.2), as float64 arithmetic rounded to float32 gives it."""
    if slope == 1 and intercept == int(intercept) and stored.dtype.itemsize < 4:
        hu = stored.astype(np.float32)  # whole numbers below 2^24: float32 is exact
        if abs(intercept) < _EXACT_IN_FLOAT32 - (1 << 16):
            hu += np.float32(intercept)
            return hu
    return (stored * float(slope) + float(intercept)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Series:
    """One ordered series of slices.

    Attributes
    ----------
    slices
        In order; what each says of itself.
    rows, columns
        Of every slice.
    scan
        What is known of the scan.
    pixels
        Where the pixels come from.

    """

    slices: tuple[Slice, ...]
    rows: int
    columns: int
    scan: Scan
    pixels: Pixels

    def __len__(self) -> int:
        return len(self.slices)

    def __repr__(self) -> str:
        between, row, column = (f"{value:.4g}" for value in self.spacing_mm)
        return f"Series({len(self)} slices of {self.rows} x {self.columns}, {between} x {row} x {column} mm)"

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between slices (median of the distances), between rows, between columns; NaN unknown."""
        return self.scan.spacing_mm or (math.nan, math.nan, math.nan)

    @property
    def manufacturer(self) -> str | None:
        """Manufacturer as in the files; None unknown."""
        return self.scan.manufacturer

    @property
    def kernel(self) -> str | None:
        """ConvolutionKernel as in the files; None unknown."""
        return self.scan.kernel

    @property
    def reason(self) -> str:
        """Why this series of those found, without a UID."""
        return self.scan.series_reason or ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading found that a careful reader should know, a code each (``docs/intake.md``)."""
        return self.scan.notes

    def stored(self, i: int) -> Stored:
        """Return slice i's stored values: integers, signed as the file says, shape (rows, columns).

        Raises
        ------
        SeriesError
            ``undecodable`` or ``limits``.
        StorageError
            The file cannot be read.

        """
        return self.pixels.stored(self.slices[i])

    def hu(self, i: int) -> NDArray[np.float32]:
        """Return slice i in Hounsfield units: stored x slope + intercept, float32, shape (rows, columns).

        Raises
        ------
        SeriesError
            ``undecodable`` or ``limits``.
        StorageError
            The file cannot be read.

        """
        return self.pixels.hu(self.slices[i])

    @property
    def positions_mm(self) -> NDArray[np.float64]:
        """Positions along the normal in the series' order, float64 (N,); NaN where the files do not say."""
        return np.array([piece.position_mm for piece in self.slices], np.float64)

    def names_person(self, name: str) -> bool:
        """Whether a name is the PatientID of the files, or holds a part of PatientName.

        False where the files say that they were de-identified (PatientIdentityRemoved).
        """
        person = identity_of(self.slices[0].path) if self.pixels.has_instances else None
        if person is None or person.removed:
            return False
        parts = [part for part in re.split(r"[\W_]+", person.name.casefold()) if len(part) > 2]
        return name == person.patient_id or any(part in name.casefold() for part in parts)

    def by_position(self) -> Series:
        """Return the slices from the feet to the head.

        Raises
        ------
        SeriesError
            ``geometry``: a slice has no position.

        """
        missing = sum(math.isnan(piece.position_mm) for piece in self.slices)
        if missing:
            raise SeriesError(f"{missing} of {len(self)} slices do not say where they lie", code="geometry")
        return replace(self, slices=tuple(sorted(self.slices, key=_by_position)))

    def by_instance(self) -> Series:
        """Return the slices in order of InstanceNumber; equal numbers among themselves by position.

        Where any slice has no number, the whole series is ordered by position.

        Raises
        ------
        SeriesError
            ``geometry``: neither orders them. ``volume``: a volume file, which has no InstanceNumber at all.

        """
        if not self.pixels.has_instances:
            raise SeriesError(
                "a volume file has no InstanceNumber: it works with the preset lung only",
                code="volume",
            )
        if any(piece.instance_number is None for piece in self.slices):
            return self.by_position()
        return replace(self, slices=tuple(sorted(self.slices, key=_by_instance)))


def _by_position(piece: Slice) -> tuple[float, float, str]:
    number = piece.instance_number
    return piece.position_mm, math.inf if number is None else number, piece.sop_instance_uid


def _by_instance(piece: Slice) -> tuple[float, float, str, str]:
    number = piece.instance_number
    position = math.inf if math.isnan(piece.position_mm) else piece.position_mm
    return math.inf if number is None else number, position, piece.sop_instance_uid, piece.path


# --- from files to a series ---


@dataclass(frozen=True)
class Contents:
    """What a patient's files are, before anything is chosen.

    Attributes
    ----------
    files, volumes
        Number of files looked into, and of those with a volume's name.
    passed_over
        How many of which kind are not CT images, or were not looked into.
    persons
        People named in the files.
    candidates
        The CT series found.
    damaged
        SeriesInstanceUIDs of damaged DICOM files; empty text where it is not known.

    """

    files: int
    volumes: int
    passed_over: dict[str, int]
    persons: tuple[Person, ...]
    candidates: tuple[Candidate, ...]
    damaged: tuple[str, ...]


def read_series(patient_dir: str | os.PathLike[str]) -> Series:
    """Read a patient's directory: choose the series that is the scan, and order its slices.

    Parameters
    ----------
    patient_dir
        A directory with one patient's files at any depth, also in an object store; or a single file, DICOM or a
        volume (``.nii.gz``, ``.nrrd``, ``.mhd``).

    Returns
    -------
    Series
        From the feet to the head; where positions are unknown, by InstanceNumber.

    Raises
    ------
    SeriesError
        The files give no usable series; ``docs/intake.md`` lists the codes.
    UsageError
        There is no such directory.
    StorageError
        The disk refuses.

    """
    location = os.fspath(patient_dir)
    if is_remote(location):
        copy, remove = fetch_copy(location)
        assert isinstance(copy, str)
        try:
            series = read_series(copy)
        except BaseException:
            remove()
            raise
        # Slices are read when they are asked for: the files stay as long as anything that reads them.
        weakref.finalize(series.pixels, remove)
        return series
    found = discovery.find_files(patient_dir)
    volume = volumes.only_volume(found.files)
    if volume is not None:
        return read_volume(volume)
    return assemble(survey(found.files, found.passed_over))


def read_series_files(files: Sequence[str | os.PathLike[str]]) -> Series:
    """Read the series of one patient whose files are known.

    Raises
    ------
    SeriesError
        The files give no usable series.
    StorageError
        A file cannot be read.

    """
    names = sorted(os.fspath(file) for file in files)
    volume = volumes.only_volume(names)
    if volume is not None:
        return read_volume(volume)
    return assemble(survey(names, {}))


def read_volume(path: str) -> Series:
    """Read a volume file as a series, from the feet to the head.

    Raises
    ------
    SeriesError
        ``undecodable``, ``geometry`` or ``limits``.
    UsageError
        The optional extra ``lungct[volumes]`` is not installed.
    StorageError
        The file cannot be read.

    """
    volume = volumes.read(path)
    rows, columns = volume.shape[1:]
    return Series(
        slices=volume.slices,
        rows=rows,
        columns=columns,
        scan=Scan(slices=len(volume.slices), spacing_mm=volume.spacing_mm, series_reason="a volume file"),
        pixels=volume,
    )


def survey(files: Iterable[str], passed_over: dict[str, int]) -> Contents:
    """Read every header of a patient.

    Raises
    ------
    SeriesError
        ``limits``: more than `MAX_SLICES` images.
    StorageError
        A file cannot be read.

    """
    passed, headers, images, named = Counter(passed_over), list[Header](), 0, list(files)
    for file in named:
        header = read_header(file)
        if header is None:
            passed[NOT_DICOM] += 1
            continue
        headers.append(header)
        images += len(header.slices)
        if images > MAX_SLICES:
            raise SeriesError(f"the patient has more than {MAX_SLICES} CT images", code="limits")
        if header.kind is not Kind.CT:
            passed[header.kind.value] += 1
    return Contents(
        files=len(named),
        volumes=sum(volumes.is_volume(file) for file in named),
        passed_over=dict(sorted(passed.items())),
        persons=_persons(header.person for header in headers),
        candidates=candidates(piece for header in headers for piece in header.slices),
        damaged=tuple(header.series_uid for header in headers if header.kind is Kind.DAMAGED),
    )


def _persons(people: Iterable[Person]) -> tuple[Person, ...]:
    """Tell people apart. A file without PatientID may be anyone's, one without issuer has that of its namesakes."""
    issuers: dict[str, set[str]] = {}
    for person in people:
        if person.patient_id:
            issuers.setdefault(person.patient_id, set()).add(person.issuer)
    return tuple(
        Person(patient_id, issuer)
        for patient_id in sorted(issuers)
        for issuer in sorted(issuers[patient_id] - {""} or {""})
    )


def assemble(contents: Contents) -> Series:
    """Choose the series that is the scan and put its slices in order.

    Raises
    ------
    SeriesError
        There is none, or it cannot be used.
    StorageError
        A file cannot be read.

    """
    refuse_mixture(contents)
    candidate, reason = choose(contents.candidates)
    _refuse_damage(candidate, contents.damaged)
    _refuse_unusable(candidate)
    slices = _one_image_a_position(candidate.slices)
    left_out = len(candidate.slices) - len(slices)
    if left_out:
        reason += f"; {left_out} repeated {'images' if left_out > 1 else 'image'} left out"
    series = Series(
        slices=slices,
        rows=slices[0].rows,
        columns=slices[0].columns,
        scan=Scan(
            slices=len(slices),
            spacing_mm=_spacing(slices),
            thickness_mm=_median_thickness(slices),
            manufacturer=candidate.manufacturer,
            model=candidate.model,
            kernel=candidate.kernel,
            series_reason=reason,
        ),
        pixels=DicomPixels(),
    )
    if not any(math.isnan(piece.position_mm) for piece in slices):
        return series.by_position()
    if len(slices) > 1 and any(piece.instance_number is None for piece in slices):
        raise SeriesError(
            f"neither position nor InstanceNumber is known for all of {len(slices)} slices, so nothing orders them",
            code="geometry",
        )
    return replace(series, slices=tuple(sorted(slices, key=_by_instance)))


def _median_thickness(slices: Sequence[Slice]) -> float | None:
    known = [piece.slice_thickness_mm for piece in slices if not math.isnan(piece.slice_thickness_mm)]
    return float(np.median(known)) if known else None


def refuse_mixture(contents: Contents) -> None:
    """Refuse files of several people, and files without CT.

    Raises
    ------
    SeriesError
        ``empty``, ``several_persons``, ``no_images``, ``undecodable`` or ``no_ct``.

    """
    passed = contents.passed_over
    dicom = contents.files - passed.get(NOT_DICOM, 0)
    if contents.files == 0:
        also = f" (but {_listed(passed)})" if passed else ""
        raise SeriesError(f"there are no files{also}", code="empty")
    if len(contents.persons) > 1:
        raise SeriesError(
            f"the files name {len(contents.persons)} persons: give --by-patient-id to group files by PatientID",
            code="several_persons",
        )
    if dicom == 0:
        also = f", {contents.volumes} volume files among them (one is read)" * bool(contents.volumes)
        raise SeriesError(f"none of the {contents.files} files is DICOM{also}", code="no_images")
    if not contents.candidates:
        if contents.damaged:
            raise SeriesError(
                f"{len(contents.damaged)} of {dicom} DICOM files are damaged or without pixels, and none of the "
                "others is CT",
                code="undecodable",
            )
        raise SeriesError(f"no CT images among {dicom} DICOM files ({_listed(passed)})", code="no_ct")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _refuse_damage(candidate: Candidate, damaged: tuple[str, ...]) -> None:
    count = sum(uid in ("", candidate.series_uid) for uid in damaged)
    if count:
        raise SeriesError(
            f"{count} DICOM {'files are' if count > 1 else 'file is'} damaged or without pixels, and slices "
            "may be missing",
            code="undecodable",
        )


def _refuse_unusable(candidate: Candidate) -> None:
    slices = candidate.slices
    if candidate.plane not in ("axial", "unknown"):
        raise SeriesError(
            f"the slices are {candidate.plane}, not axial: {len(slices)} in the best series found",
            code="geometry",
        )
    faults = [piece.fault for piece in slices if piece.fault is not None]
    if faults:
        first = faults[0]
        more = f" ({len(faults)} of {len(slices)} images have faults)" if len(slices) > 1 else ""
        raise SeriesError(first.sentence + more, code=first.code)
    sizes = Counter((piece.rows, piece.columns) for piece in slices)
    if len(sizes) > 1:
        (one, _), (other, _) = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:2]
        raise SeriesError(
            f"the slices are of {len(sizes)} sizes, {one[0]} x {one[1]} and {other[0]} x {other[1]} among them",
            code="sizes",
        )


def _one_image_a_position(slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """Keep one of images at one position that are equal to the last pixel; refuse others."""
    kept: list[Slice] = []
    conflicts = 0
    for group in _same_place(slices):
        first, *others = sorted(group, key=_by_instance)
        kept.append(first)
        if others:
            shown = DicomPixels().hu(first)
            conflicts += not all(np.array_equal(shown, DicomPixels().hu(piece)) for piece in others)
    if conflicts:
        raise SeriesError(
            f"different images lie at one position, at {conflicts} of {len(kept)} positions",
            code="geometry",
        )
    return tuple(kept)


def _same_place(slices: tuple[Slice, ...]) -> list[list[Slice]]:
    """Group slices by position; those without one by SOPInstanceUID, where they have that."""
    groups: list[list[Slice]] = []
    last = math.nan
    for piece in sorted((p for p in slices if not math.isnan(p.position_mm)), key=_by_position):
        if piece.position_mm - last < SAME_POSITION_MM:
            groups[-1].append(piece)
        else:
            groups.append([piece])
            last = piece.position_mm
    by_uid: dict[tuple[str, int], list[Slice]] = {}
    for piece in slices:
        if math.isnan(piece.position_mm):
            if piece.sop_instance_uid:
                by_uid.setdefault((piece.sop_instance_uid, piece.frame), []).append(piece)
            else:
                groups.append([piece])
    return groups + list(by_uid.values())


def _spacing(slices: tuple[Slice, ...]) -> tuple[float, float, float]:
    positions = np.array([piece.position_mm for piece in slices], np.float64)
    plane = np.array([piece.pixel_spacing_mm for piece in slices], np.float64)
    # Slices that disagree by more than rounding have no common spacing: unknown, not an average.
    if np.isnan(plane).any() or np.ptp(plane, axis=0).max() > 1e-3 * plane.min():
        return slice_spacing(positions), math.nan, math.nan
    row, column = np.median(plane, axis=0)
    return slice_spacing(positions), float(row), float(column)


__all__ = [
    "Contents",
    "Series",
    "assemble",
    "read_series",
    "read_series_files",
    "read_volume",
    "survey",
]
