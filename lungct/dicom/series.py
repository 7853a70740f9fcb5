"""`Series`: the ordered slices of one scan, whose pixels are read on request.

Positions and units are those of ``geometry.py``: mm, growing towards the head.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import decoding
from lungct.dicom.damage import NOTHING_MISSING, Missing
from lungct.dicom.decoding import Stored
from lungct.dicom.headers import read_person
from lungct.dicom.notes import NUMBER_ORDER, in_order
from lungct.dicom.scan import Scan
from lungct.dicom.slices import Slice
from lungct.errors import SeriesError

_EXACT_IN_FLOAT32 = 1 << 24


class Pixels(Protocol):
    """Where a series gets its pixels from."""

    has_instances: bool
    """Whether they are DICOM files, whose slices may have InstanceNumbers, and which may name a person."""

    def stored(self, image: Slice) -> Stored:
        """Return one slice's stored values, integers, shape (rows, columns)."""
        ...

    def hu(self, image: Slice) -> NDArray[np.float32]:
        """Return one slice in Hounsfield units, float32, shape (rows, columns)."""
        ...


class DicomPixels:
    """Pixels of DICOM files, read and decoded at each call."""

    has_instances = True

    def stored(self, image: Slice) -> Stored:
        """Return one slice's stored values, integers, shape (rows, columns)."""
        return decoding.stored_values(image)

    def hu(self, image: Slice) -> NDArray[np.float32]:
        """Return one slice in Hounsfield units, float32, shape (rows, columns)."""
        return to_hu(decoding.stored_values(image), image.slope, image.intercept)


def to_hu(stored: Stored, slope: float, intercept: float) -> NDArray[np.float32]:
    """Return stored x slope + intercept (PS3.3 C.11.1.1.2), computed in float64 and rounded to float32."""
    if slope == 1 and intercept == int(intercept) and stored.dtype.itemsize < 4:
        hu = stored.astype(np.float32)  # whole numbers below 2^24 are exact in float32
        if abs(intercept) < _EXACT_IN_FLOAT32 - (1 << 16):
            hu += np.float32(intercept)
            return hu
    return (stored * float(slope) + float(intercept)).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Series:
    """The ordered slices of one scan.

    Attributes
    ----------
    slices
        What is known of each slice, in order.
    rows, columns
        Of every slice.
    scan
        What is known of the scan as a whole.
    pixels
        Where the pixels come from.
    missing
        The images that it lacks.

    """

    slices: tuple[Slice, ...]
    rows: int
    columns: int
    scan: Scan
    pixels: Pixels
    missing: Missing = NOTHING_MISSING

    def __len__(self) -> int:
        return len(self.slices)

    def __repr__(self) -> str:
        between, row, column = ("?" if math.isnan(value) else f"{value:.4g}" for value in self.spacing_mm)
        return f"Series({len(self)} slices of {self.rows} x {self.columns}, spacing {between} x {row} x {column} mm)"

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Between slices (median of the distances), between rows, between columns; NaN where unknown."""
        return self.scan.spacing_mm or (math.nan, math.nan, math.nan)

    @property
    def manufacturer(self) -> str | None:
        """Manufacturer as in the files; None if unknown."""
        return self.scan.manufacturer

    @property
    def kernel(self) -> str | None:
        """ConvolutionKernel as in the files; None if unknown."""
        return self.scan.kernel

    @property
    def reason(self) -> str:
        """Why this series was chosen from those found, without a UID."""
        return self.scan.series_reason or ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a careful reader should know about the scan, a code each (``docs/intake.md``)."""
        return self.scan.notes

    @property
    def positions_mm(self) -> NDArray[np.float64]:
        """Positions along the normal in the series' order, float64 (N,); NaN if a file has none."""
        return np.array([image.position_mm for image in self.slices], np.float64)

    def stored(self, i: int) -> Stored:
        """Return slice i's stored values: integers, signed or not as in the file, shape (rows, columns).

        Raises
        ------
        SeriesError
            ``undecodable`` or ``limits``, if the pixels cannot be decoded.
        StorageError
            If the file cannot be read.

        """
        return self.pixels.stored(self.slices[i])

    def hu(self, i: int) -> NDArray[np.float32]:
        """Return slice i in Hounsfield units: stored x slope + intercept, float32, shape (rows, columns).

        Raises
        ------
        SeriesError
            ``undecodable`` or ``limits``, if the pixels cannot be decoded.
        StorageError
            If the file cannot be read.

        """
        return self.pixels.hu(self.slices[i])

    def names_person(self, name: str) -> bool:
        """Return whether a name is the PatientID of the files, or contains a part of their PatientName.

        False if the files declare that they were de-identified (PatientIdentityRemoved).
        """
        person = read_person(self.slices[0].path) if self.pixels.has_instances else None
        if person is None or person.removed:
            return False
        parts = [part for part in re.split(r"[\W_]+", person.name.casefold()) if len(part) > 2]
        return name == person.patient_id or any(part in name.casefold() for part in parts)

    def by_position(self) -> Series:
        """Return the series ordered by position, from the feet to the head.

        Raises
        ------
        SeriesError
            ``geometry``, if a slice has no position.

        """
        missing = sum(math.isnan(image.position_mm) for image in self.slices)
        if missing:
            raise SeriesError(f"{missing} of {len(self)} slices have no position", code="geometry")
        return replace(self, slices=tuple(sorted(self.slices, key=position_order)))

    def by_instance(self) -> Series:
        """Return the series ordered by InstanceNumber, ascending.

        Where numbers order nothing (a slice has none, one number stands at two positions, frames of multi-frame
        objects), the whole series is ordered by position.

        Raises
        ------
        SeriesError
            ``geometry``, if the slices have neither; ``volume`` for a volume file, which has no InstanceNumber at all.

        """
        if not self.pixels.has_instances:
            raise SeriesError(
                "a volume file has no InstanceNumber, which the preset dsb2017 orders slices by",
                code="volume",
                fix="use the preset lung",
            )
        numbers = {image.instance_number for image in self.slices}
        if None in numbers or len(numbers) < len(self) or any(image.encoding.frames > 1 for image in self.slices):
            return self.by_position()
        ordered = replace(self, slices=tuple(sorted(self.slices, key=instance_order)))
        steps = np.diff(ordered.positions_mm)
        if (steps > 0).any() and (steps < 0).any():
            ordered = replace(ordered, scan=replace(self.scan, notes=in_order((*self.notes, NUMBER_ORDER))))
        return ordered


def position_order(image: Slice) -> tuple[float, float, str]:
    """Return what to sort slices by so that they are ordered by position."""
    number = image.instance_number
    return image.position_mm, math.inf if number is None else number, image.sop_instance_uid


def instance_order(image: Slice) -> tuple[float, float, str, str]:
    """Return what to sort slices by so that they are ordered by InstanceNumber."""
    number = image.instance_number
    position = math.inf if math.isnan(image.position_mm) else image.position_mm
    return math.inf if number is None else number, position, image.sop_instance_uid, image.path
