"""`Candidate`: what a radiographer would call one reconstruction, among which the scan is chosen."""

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
from lungct.dicom.geometry import Orientation, count_distinct, places, plane_name
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
        """Number of distinct places; each slice without a position counts."""
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
        """SeriesInstanceUID, the first of several, which must never appear in a text."""
        return min(self.series_uids)

    @cached_property
    def positions_mm(self) -> tuple[float, ...]:
        """The distinct known positions, from the feet to the head."""
        return tuple(places([image.position_mm for image in self.slices]))

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
    def width_mm(self) -> float:
        """Width of most images: Columns times the distance between columns; NaN if unknown."""
        widths = [round(image.columns * image.pixel_spacing_mm[1], 1) for image in self.slices]
        known = [width for width in widths if not math.isnan(width)]
        return majority(known) if known else math.nan

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

    @cached_property
    def series_uids(self) -> frozenset[str]:
        """SeriesInstanceUIDs of all images."""
        return frozenset(image.series_uid for image in self.slices)


def content_order(image: Slice) -> tuple[Any, ...]:
    """Return what to sort images by: the earlier acquisition first, and, last of all, the file's name."""
    return (
        image.acquisition_time,
        _or_last(image.acquisition_number),
        _or_last(image.temporal_position),
        _or_last(image.instance_number),
        image.study_uid,
        image.sop_instance_uid,
        image.frame,
        _or_last(image.position_mm),
        _or_last(image.slice_thickness_mm),
        image.orientation or (),
        image.kernel or "",
        image.image_type,
        image.contrast_agent,
        (image.words.series, image.words.body_part, image.words.protocol),
        (image.rows, image.columns, image.slope, image.intercept),
        image.path,
    )


def _or_last(number: float | None) -> float:
    return math.inf if number is None or math.isnan(number) else number


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
