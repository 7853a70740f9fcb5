"""All CT images of a patient -> candidates: what a radiographer would call one reconstruction each.

Images are grouped by SeriesInstanceUID (or, if it is empty, by StudyInstanceUID), then by orientation, and if positions
still repeat, by the first of AcquisitionNumber, ConvolutionKernel, ImageType and SliceThickness that separates the
repeats completely.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import Any, TypeVar

from lungct.dicom.anatomy import Region, region_of
from lungct.dicom.contrast import with_contrast
from lungct.dicom.geometry import SAME_POSITION_MM, Orientation, count_distinct, plane_name, same_orientation
from lungct.dicom.slices import Slice
from lungct.dicom.spectral import Product, product

ORIGINS = ("original", "unsaid", "derived")
"""What an image may be by its ImageType, the best first."""

_Kind = TypeVar("_Kind", bound=Hashable)

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
        """``original``, ``unsaid`` or ``derived``: what most images are."""
        return majority((_origin(image.image_type) for image in self.slices), ORIGINS.index)

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID, which must never appear in a text."""
        return self.slices[0].series_uid

    @cached_property
    def positions_mm(self) -> tuple[float, ...]:
        """The distinct known positions, from the feet to the head."""
        distinct: list[float] = []
        for position in sorted(p.position_mm for p in self.slices if not math.isnan(p.position_mm)):
            if not distinct or position - distinct[-1] >= SAME_POSITION_MM:
                distinct.append(position)
        return tuple(distinct)

    @cached_property
    def spacing_mm(self) -> float:
        """Median distance between neighbouring positions; SliceThickness if there are none; NaN if unknown."""
        positions = self.positions_mm
        return median(b - a for a, b in pairwise(positions)) if len(positions) > 1 else self.thickness_mm

    @cached_property
    def extent_mm(self) -> float:
        """From the first position to the last; without positions, by number and thickness; NaN if unknown."""
        positions = self.positions_mm
        return positions[-1] - positions[0] if positions else (len(self.slices) - 1) * self.thickness_mm

    @cached_property
    def region(self) -> Region:
        """What the texts of most images name."""
        return majority(region_of(p.words, p.kernel, p.image_type) for p in self.slices)

    @cached_property
    def product(self) -> Product:
        """What most images are made of the measurements."""
        made = (product(p.image_type, p.rescale_type, p.words.series) for p in self.slices)
        return majority(made, list(Product).index)

    @cached_property
    def contrast(self) -> bool:
        """Whether most images were made with a contrast agent."""
        return majority(with_contrast(p.contrast_agent, p.words.series, self.product) for p in self.slices)

    @cached_property
    def study_time(self) -> str:
        """Date and time of the study of most files, as digits; empty if unknown. It must never appear in a text."""
        return majority("".join(filter(str.isdigit, p.study_time)) for p in self.slices)


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


def majority(values: Iterable[_Kind], order: Callable[[_Kind], Any] = lambda value: value) -> _Kind:
    """Return the value that most have; on a tie the first in order."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], order(value)))


def _origin(image_type: tuple[str, ...]) -> str:
    """Return one of `ORIGINS`, by the first two values of ImageType (PS3.3 C.7.6.1.1.2)."""
    pixels, exam = (*image_type, "", "")[:2]
    if pixels in ("DERIVED", "MIXED") or exam == "SECONDARY":
        return "derived"
    return "original" if pixels == "ORIGINAL" else "unsaid"
