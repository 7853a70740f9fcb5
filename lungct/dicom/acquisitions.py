"""A stack -> its passes over the body apart, its stations together, and each place once where acquisitions overlap.

A *pass* is an acquisition or reconstruction of its own: inspiration and expiration, phases of contrast or of breath,
two kernels. A *station* is one of several acquisitions that follow one another along the body, and together are one
scan. What tells images apart is a property of theirs, or else their order; what tells passes from stations is whether
they overlap along the body, because files number, time and describe images in many ways that mean nothing.

- Parts that overlap are passes. A part that covers nine tenths of what the stack covers is the scan; if several do,
  each is a stack by itself. If none does, the parts are joined, and where two overlap the smaller one gives up its
  images, or the later one of two that are equal.
- Parts that overlap by one or two slices are stations, joined in the same way.
- Parts that fill each other's holes, without any place in common, are one acquisition.
- Images at one place that nothing tells apart stay together; their pixels decide (``assembling.py``).
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import NamedTuple

from lungct.dicom.candidates import content_order
from lungct.dicom.geometry import places, same_place_mm
from lungct.dicom.notes import JOINED_PASSES, PASSES
from lungct.dicom.places import (
    NEAREST,
    Stretch,
    covered,
    covered_mm,
    regular,
    unbroken,
    unusual,
    usual_distance,
)
from lungct.dicom.separators import ORDERS, PROPERTIES, Separator, are_one_run, numbers_start_anew
from lungct.dicom.slices import Slice
from lungct.dicom.stacks import WHOLE_SHARE, Stack

PASS_SLICES = 3
"""Acquisitions that overlap by this many slices or more are passes; by fewer, stations that follow one another."""
_LARGER_SHARE = 0.4
"""The larger of two passes has at least this share of all places."""
_FEWEST_PLACES = 4
"""What is left beside bolus tracking must be a scan, or it is not bolus tracking."""


def acquisitions(stack: Stack) -> list[Stack]:
    """Split a stack into passes, each with every place once as far as anything tells its images apart."""
    if any(math.isnan(image.position_mm) for image in stack.images):
        return [stack]
    if are_one_run(stack.images):  # nothing could tell images apart: the rest would only cost time
        return [stack]
    scan, tracking = _without_tracking(stack.images)
    passes = _resolved(scan, covered_mm(Stack(scan).at))
    return [found.noted(stack.counts) for found in [*passes, *tracking]]


@dataclass(frozen=True, eq=False)
class Part:
    """Images of a stack that have one property in common.

    Attributes
    ----------
    images
        With a position each.
    within_mm
        Distance below which images lie at one place.
    usual_mm
        Usual distance between the places of the whole stack.

    """

    images: tuple[Slice, ...]
    within_mm: float
    usual_mm: float

    @cached_property
    def at(self) -> list[float]:
        """Places of the images in mm, ascending."""
        return places([image.position_mm for image in self.images], self.within_mm)

    @cached_property
    def unbroken(self) -> list[Stretch]:
        """Stretches in which no slice is missing."""
        return unbroken(self.at, self.usual_mm)

    @cached_property
    def covered(self) -> list[Stretch]:
        """Stretches that the part covers."""
        return covered(self.at)

    @property
    def precedence(self) -> tuple[object, ...]:
        """What to sort parts by: larger before smaller, then earlier before later."""
        return -len(self.at), min(content_order(image) for image in self.images)


Reach = Callable[[Part], tuple[list[Stretch], ...]]


class Overlap(NamedTuple):
    """A place of a part lies where another part, of higher precedence, has slices, too; parts by their index."""

    part: int
    other: int


def _parts(images: Sequence[Slice], separator: Separator) -> list[Part]:
    """Return the parts that may be passes, those of higher precedence first; none if they are one acquisition."""
    groups = separator(images)
    if len(groups) < 2:
        return []
    positions = [image.position_mm for image in images]
    within, at = same_place_mm(positions), places(positions)
    usual = usual_distance(at)
    parts = [Part(tuple(group), within, usual) for group in groups]
    parts.sort(key=lambda part: part.precedence)
    return [] if _fill_each_other(parts, at) else parts


def _fill_each_other(parts: Sequence[Part], at: list[float]) -> bool:
    """Return whether parts have no place in common, and only together are the slices of one acquisition.

    They are if they are evenly spaced only together. Otherwise there must be gaps between the slices of the largest
    part, and either the parts must be many that together are evenly spaced, as passes never are, or no gaps be left
    between the slices of all (odd and even slices with numbers of their own). Of two parts, InstanceNumbers that start
    anew say that they are passes of thin slices all the same.
    """
    if _share_places(parts, at):
        return False
    largest = parts[0].at
    if regular(at) and not regular(largest):
        return True
    thickness = _thickness_mm(parts)
    if usual_distance(largest) <= 1.5 * thickness:
        return False
    many = len(largest) < _LARGER_SHARE * len(at)
    if many and unusual(at) < len(largest) / 2:  # between passes, a distance is unusual at each slice of the largest
        return True
    return usual_distance(at) <= 1.2 * thickness and (
        many or not numbers_start_anew([image for part in parts for image in part.images])
    )


def _thickness_mm(parts: Sequence[Part]) -> float:
    """Return the median SliceThickness, NaN if unknown."""
    known = [image.slice_thickness_mm for part in parts for image in part.images]
    return median([thickness for thickness in known if not math.isnan(thickness)] or [math.nan])


def _share_places(parts: Sequence[Part], at: Sequence[float]) -> bool:
    """Return whether any of the places of all images is a place of several parts."""
    return sum(len(part.at) for part in parts) > len(at)


def _resolved(images: tuple[Slice, ...], extent_mm: float) -> list[Stack]:
    """Split images into passes; ``extent_mm`` is what a whole one covers."""
    joined = Stack(images)
    while True:  # each turn leaves out at least one image, or is the last
        by_property, by_order = (
            [parts for separator in separators if (parts := _parts(joined.images, separator))]
            for separators in (PROPERTIES, ORDERS)
        )
        passes = [parts for parts in (*by_property, *by_order) if _are_passes(parts)]
        division, whole = _most_whole(passes, extent_mm)
        if whole:
            counts = {PASSES: _depth(division)}
            found = [stack.noted(counts) for part in whole for stack in _resolved(part.images, extent_mm)]
            return [stack.noted(joined.counts) for stack in found]
        repeats = [parts for parts in by_order if _share_places(parts, joined.at)]
        once = _joined(passes[0], _whole_reach) if passes else _stations_joined([*by_property, *repeats])
        if once is None:
            return [joined]
        joined = once.noted(joined.counts)


def _most_whole(divisions: Sequence[Sequence[Part]], extent_mm: float) -> tuple[Sequence[Part], list[Part]]:
    """Return the division whose parts are the most whole, and those of its parts that are whole.

    A part is whole if it covers nine tenths of the extent. TriggerTimes that differ from image to image divide phases
    into parts of a few slices far apart, which cover it, too: the division whose largest whole part has the most slices
    is the one that means something, the first on a tie.
    """

    def size(division: tuple[Sequence[Part], list[Part]]) -> tuple[int, int]:
        whole = division[1]
        return max((len(part.at) for part in whole), default=0), sum(len(part.images) for part in whole)

    found = [(parts, [part for part in parts if covered_mm(part.at) >= WHOLE_SHARE * extent_mm]) for parts in divisions]
    return max(found, key=size, default=([], []))


def _stations_joined(divisions: Sequence[Sequence[Part]]) -> Stack | None:
    """Join the stations of the first division in which some overlap; None if there is none."""
    return next((found for parts in divisions if (found := _joined(parts, _near_reach)) is not None), None)


def _near_reach(part: Part) -> tuple[list[Stretch], ...]:
    """Return where stations have slices: others may fill their holes."""
    return (part.unbroken,)


def _whole_reach(part: Part) -> tuple[list[Stretch], ...]:
    """Return where passes have slices, or lack a few."""
    return (part.unbroken, part.covered)


def _joined(parts: Sequence[Part], reach: Reach) -> Stack | None:
    """Join parts; None if none gives up an image.

    A part that overlaps another of higher precedence gives up its images in that one's reach, and those that are closer
    to it than half the usual distance between slices.
    """
    others: dict[int, set[int]] = {}
    for overlap in _overlaps(parts):
        others.setdefault(overlap.part, set()).add(overlap.other)
    kept: list[Part] = []
    for number, part in enumerate(parts):
        for other in sorted(others.get(number, ())):
            part = _outside(part, kept[other], reach)
        kept.append(part)
    if sum(len(part.images) for part in kept) == sum(len(part.images) for part in parts):
        return None
    involved = set(others) | {other for found in others.values() for other in found}
    left = [number for number in involved if kept[number].images]
    trimmed = any(len(kept[number].images) < len(parts[number].images) for number in left)
    counts = {JOINED_PASSES: len(left)} if trimmed else {PASSES: _depth(parts)}
    return Stack(tuple(image for part in kept for image in part.images), counts)


def _outside(part: Part, other: Part, reach: Reach) -> Part:
    """Return a part without its images in another's reach."""
    usual = min((mm for mm in (usual_distance(part.at), usual_distance(other.at)) if mm), default=0.0)
    margin = max(part.within_mm, NEAREST * usual)
    stretches = reach(other)

    def goes(image: Slice) -> bool:
        return any(_lies_in(found, image.position_mm, margin) for found in stretches)

    return replace(part, images=tuple(image for image in part.images if not goes(image)))


def _lies_in(stretches: Sequence[Stretch], position: float, margin: float) -> bool:
    before = bisect_right(stretches, (position + margin, math.inf)) - 1
    return before >= 0 and position <= stretches[before][1] + margin


def _without_tracking(images: tuple[Slice, ...]) -> tuple[tuple[Slice, ...], list[Stack]]:
    """Return a stack's images without those of bolus tracking: several of one acquisition at one or two places."""
    scan, tracking = images, list[Stack]()
    for separator in (*PROPERTIES, *ORDERS):
        groups = separator(scan)
        if len(groups) < 2:
            continue
        still = [image for group in groups if _stands_still(group) for image in group]
        rest = [image for group in groups if not _stands_still(group) for image in group]
        if _stands_still(still) and len(Stack(tuple(rest)).at) >= _FEWEST_PLACES:
            tracking.append(Stack(tuple(still)))
            scan = tuple(rest)
    return scan, tracking


def _stands_still(images: Sequence[Slice]) -> bool:
    at = places([image.position_mm for image in images])
    found = {(image.sop_instance_uid or image.path, image.frame) for image in images}
    return len(at) <= 2 and len(found) >= max(PASS_SLICES, 2 * len(at))


def _overlaps(parts: Sequence[Part]) -> Iterator[Overlap]:
    """Find the places of each part that lie in an unbroken stretch of a part of higher precedence, the highest."""
    for number, there in _sweep(parts):
        if there[0] < number:
            yield Overlap(number, there[0])


def _depth(parts: Sequence[Part]) -> int:
    """Return how many parts lie over one place."""
    return max(len(there) for _, there in _sweep(parts))


def _sweep(parts: Sequence[Part]) -> Iterator[tuple[int, list[int]]]:
    """Go along the body, and return for each place of each part which parts have slices there, itself included."""
    begin, place, end = 0, 1, 2
    events = []
    for number, part in enumerate(parts):
        for first, last in part.unbroken:
            events += [(first - part.within_mm, begin, number), (last + part.within_mm, end, number)]
        events += [(position, place, number) for position in part.at]
    there: list[int] = []
    for _, event, number in sorted(events):
        if event == begin:
            insort(there, number)
        elif event == end:
            there.remove(number)
        else:
            yield number, there


def _are_passes(parts: Sequence[Part]) -> bool:
    counts = Counter[Overlap]()
    for overlap in _overlaps(parts):
        counts[overlap] += 1
        if counts[overlap] == PASS_SLICES:
            return True
    return False
