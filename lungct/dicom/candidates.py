"""All CT images of a patient -> candidates: what a radiographer would call one reconstruction each.

Images are grouped by SeriesInstanceUID (or, if it is empty, by StudyInstanceUID), then by orientation, and if positions
still repeat, by the first of AcquisitionNumber, ConvolutionKernel, ImageType and SliceThickness that separates the
repeats completely.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property

from lungct.dicom.geometry import Orientation, count_distinct, plane_name, same_orientation
from lungct.dicom.slices import Slice

ENOUGH_SLICES = 4
"""The fewest slices that either preset can use."""


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
        """Number of distinct positions; each slice without one counts."""
        return count_distinct([image.position_mm for image in self.slices])

    @property
    def is_long_enough(self) -> bool:
        """Whether it may be a scan; shorter series are test images and bolus tracking."""
        return self.distinct >= ENOUGH_SLICES

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
        """SeriesInstanceUID, which must never appear in a text."""
        return self.slices[0].series_uid


def candidates(slices: Iterable[Slice]) -> tuple[Candidate, ...]:
    """Group CT images into candidates."""
    by_series: dict[tuple[str, str], list[Slice]] = {}
    for image in slices:
        key = (image.series_uid, "" if image.series_uid else image.study_uid)
        by_series.setdefault(key, []).append(image)
    found: list[Candidate] = []
    for key in sorted(by_series):
        members = sorted(by_series[key], key=content_order)
        for group in _by_orientation(members):
            found.extend(Candidate(tuple(part)) for part in _by_repeats(group))
    return tuple(found)


def content_order(image: Slice) -> tuple[object, ...]:
    """Return what to sort images by: their own values, and the file's name only between equals."""
    number = image.instance_number
    return (
        image.sop_instance_uid,
        image.frame,
        math.inf if number is None else number,
        math.inf if math.isnan(image.position_mm) else image.position_mm,
        image.path,
    )


def _by_orientation(members: list[Slice]) -> list[list[Slice]]:
    """Split by orientation; images without one stay with the largest group, so that none goes missing unnoticed."""
    groups: list[tuple[Orientation, list[Slice]]] = []
    unknown: list[Slice] = []
    for image in sorted(members, key=lambda p: p.orientation or (math.inf,) * 6):
        if image.orientation is None:
            unknown.append(image)
            continue
        for orientation, group in groups:
            if same_orientation(orientation, image.orientation):
                group.append(image)
                break
        else:
            groups.append((image.orientation, [image]))
    found = [group for _, group in groups]
    if unknown:
        if found:
            max(found, key=len).extend(unknown)
        else:
            found.append(unknown)
    return found


_SEPARATORS: tuple[Callable[[Slice], Hashable], ...] = (
    lambda image: image.acquisition_number,
    lambda image: image.kernel,
    lambda image: image.image_type,
    lambda image: image.slice_thickness_mm,
)


def _by_repeats(group: list[Slice]) -> list[list[Slice]]:
    """Split a group whose positions repeat by the first property that leaves no repeats, if there is one."""
    if not _repeats(group):
        return [group]
    for separator in _SEPARATORS:
        parts: dict[Hashable, list[Slice]] = {}
        for image in group:
            parts.setdefault(separator(image), []).append(image)
        if len(parts) > 1 and not any(_repeats(part) for part in parts.values()):
            return list(parts.values())
    return [group]


def _repeats(group: list[Slice]) -> bool:
    """Return whether different images have one position (two copies of a file are one image)."""
    images: dict[Hashable, float] = {}
    for number, image in enumerate(group):
        if not math.isnan(image.position_mm):
            images[(image.sop_instance_uid, image.frame) if image.sop_instance_uid else number] = image.position_mm
    return count_distinct(list(images.values())) < len(images)


def most_common(values: Iterable[str | None]) -> str | None:
    """Return the value that most have, the first in order on a tie; None if none has one."""
    known = [value for value in values if value]
    return max(sorted(set(known)), key=known.count) if known else None
