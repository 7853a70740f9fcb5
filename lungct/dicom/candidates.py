"""`Candidate`: what a radiographer would call one reconstruction, among which the scan is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from lungct.dicom.geometry import Orientation, count_distinct, plane_name
from lungct.dicom.slices import Slice


@dataclass(frozen=True)
class Candidate:
    """The images of one reconstruction, in no particular order.

    Attributes
    ----------
    slices
        The images.
    notes
        What was joined or left out to make the candidate (``notes.py``).

    """

    slices: tuple[Slice, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def orientation(self) -> Orientation | None:
        """Of the first slice that has one."""
        return next((image.orientation for image in self.slices if image.orientation), None)

    @cached_property
    def plane(self) -> str:
        """``axial``, ``coronal``, ``sagittal``, ``oblique`` or ``unknown``."""
        return plane_name(self.orientation) if self.orientation else "unknown"

    @cached_property
    def distinct(self) -> int:
        """Number of distinct places; each slice without a position counts."""
        return count_distinct([image.position_mm for image in self.slices])

    @cached_property
    def thickness_mm(self) -> float:
        """SliceThickness of most slices; NaN if unknown."""
        known = [p.slice_thickness_mm for p in self.slices if not math.isnan(p.slice_thickness_mm)]
        return max(sorted(set(known)), key=known.count) if known else math.nan

    @cached_property
    def manufacturer(self) -> str | None:
        """Manufacturer of most files."""
        return most_common(image.manufacturer for image in self.slices)

    @cached_property
    def kernel(self) -> str | None:
        """ConvolutionKernel of most files."""
        return most_common(image.kernel for image in self.slices)

    @cached_property
    def original(self) -> str:
        """``original``, ``derived`` or ``unsaid``, by the first two values of ImageType (PS3.3 C.7.6.1.1.2)."""
        kinds = {image.image_type[:2] for image in self.slices}
        if kinds == {("ORIGINAL", "PRIMARY")}:
            return "original"
        return "unsaid" if kinds == {()} else "derived"

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID, the first of several, which must never appear in a text."""
        return min(self.series_uids)

    @cached_property
    def series_uids(self) -> frozenset[str]:
        """SeriesInstanceUIDs of all images."""
        return frozenset(image.series_uid for image in self.slices)


def content_order(image: Slice) -> tuple[object, ...]:
    """Return what to sort images by: the earlier acquisition first, and the file's name only between equals."""
    return (
        image.acquisition_time,
        _or_last(image.acquisition_number),
        image.sop_instance_uid,
        image.frame,
        _or_last(image.instance_number),
        math.inf if math.isnan(image.position_mm) else image.position_mm,
        image.image_type,
        image.path,
    )


def _or_last(number: int | None) -> float:
    return math.inf if number is None else number


def most_common(values: Iterable[str | None]) -> str | None:
    """Return the value that most have, the first in order on a tie; None if none has one."""
    known = [value for value in values if value]
    return max(sorted(set(known)), key=known.count) if known else None
