"""`Stack`: images that may be one scan, and what was left out or joined to make it.

A series is split into stacks here by what a scan never mixes: images with and without a position, orientations, sizes.
What it may mix, passes and stations, is the subject of ``acquisitions.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lungct.dicom.candidates import content_order
from lungct.dicom.geometry import places, same_orientation
from lungct.dicom.notes import NO_POSITION, OTHER_SIZE, PASSES
from lungct.dicom.places import covered_mm
from lungct.dicom.slices import Slice

WHOLE_SHARE = 0.9
"""Images that cover at least this share of what their series covers along the body are the scan."""
SAME_SPACING = 1e-3
"""Pixel spacings that differ by less, relative to each other, are one: files round them."""

_SUMMED = (NO_POSITION, OTHER_SIZE)


@dataclass(frozen=True)
class Stack:
    """Images that may be one scan.

    Attributes
    ----------
    images
        In no particular order.
    counts
        What was joined or left out, by the codes of ``notes.py``.

    """

    images: tuple[Slice, ...]
    counts: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def at(self) -> list[float]:
        """Places of the images in mm, ascending."""
        return places([image.position_mm for image in self.images])

    def noted(self, counts: Mapping[str, int]) -> Stack:
        """Return the stack with more notes.

        Images that were left out add up. Passes within passes multiply: two kernels of each of two acquisitions are
        four images of one place.
        """
        found = dict(self.counts)
        for code, count in counts.items():
            if code not in found:
                found[code] = count
            elif code == PASSES:
                found[code] *= count
            else:
                found[code] = found[code] + count if code in _SUMMED else max(found[code], count)
        return Stack(self.images, found)


def together(stacks: Sequence[Stack]) -> Stack:
    """Return all images of several stacks as one."""
    counts: dict[str, int] = {}
    for stack in stacks:
        for code, count in stack.counts.items():
            before = counts.get(code, 0)
            counts[code] = before + count if code in _SUMMED else max(before, count)
    return Stack(tuple(image for stack in stacks for image in stack.images), counts)


def stacks_of_series(images: Iterable[Slice]) -> list[Stack]:
    """Split a series into stacks of one orientation and one size."""
    whole = _without_broken_copies(sorted(images, key=content_order))
    positioned, unknown = _by_position(whole)
    counts = {NO_POSITION: len(unknown)} if unknown else {}
    by_knowledge = sorted(positioned, key=lambda image: image.orientation is None)
    groups = alike(by_knowledge, _same_orientation)
    return [stack.noted(counts) for group in groups for stack in _by_size(group)]


def alike(images: Iterable[Slice], same: Callable[[Slice, Slice], bool]) -> list[list[Slice]]:
    """Group images, each with the first that is the same."""
    groups: list[list[Slice]] = []
    for image in images:
        for group in groups:
            if same(group[0], image):
                group.append(image)
                break
        else:
            groups.append([image])
    return groups


def same_size(one: Slice, other: Slice) -> bool:
    """Return whether two images have the same rows, columns and pixel spacing, as far as that is known."""
    if (one.rows, one.columns) != (other.rows, other.columns):
        return False
    return one.pixel_spacing_mm == other.pixel_spacing_mm or all(
        math.isnan(p) or math.isnan(q) or abs(p - q) <= SAME_SPACING * min(p, q)
        for p, q in zip(one.pixel_spacing_mm, other.pixel_spacing_mm, strict=True)
    )


def _same_orientation(one: Slice, other: Slice) -> bool:
    """Return whether two images have one orientation, as far as that is known."""
    if one.orientation is None or other.orientation is None:
        return True
    return same_orientation(one.orientation, other.orientation)


def _without_broken_copies(images: list[Slice]) -> list[Slice]:
    """Leave out damaged copies of an image, but for one if all its copies are damaged."""
    copies: dict[object, list[Slice]] = {}
    for number, image in enumerate(images):
        identity: object = number
        if image.sop_instance_uid:
            place = None if math.isnan(image.position_mm) else image.position_mm
            identity = (image.sop_instance_uid, image.frame, place)
        copies.setdefault(identity, []).append(image)
    kept = []
    for group in copies.values():
        kept += [image for image in group if image.fault is None] or group[:1]
    return kept


def _by_position(images: list[Slice]) -> tuple[list[Slice], list[Slice]]:
    """Return the images of a series that are its slices, and those that have no position although most have one."""
    known = [image for image in images if not math.isnan(image.position_mm)]
    if 2 * len(known) < len(images):
        return images, []
    return known, [image for image in images if math.isnan(image.position_mm)]


def _of_one_size(images: list[Slice]) -> list[list[Slice]]:
    """Group images by size; those with a fault, whose size may be the fault, are with their like or with the most."""
    faulty = [image for image in images if image.fault is not None]
    whole = [image for image in images if image.fault is None] or faulty
    groups = alike(sorted(whole, key=lambda image: math.isnan(sum(image.pixel_spacing_mm))), same_size)
    if whole is not faulty:
        largest = max(groups, key=len)
        for image in faulty:
            next((group for group in groups if same_size(group[0], image)), largest).append(image)
    return groups


def _by_size(images: list[Slice]) -> list[Stack]:
    """Split images by size, which a scan never mixes; those that cannot be told apart stay together to be refused."""
    groups = [tuple(group) for group in _of_one_size(images)]
    largest = max(groups, key=len)
    if len(largest) >= WHOLE_SHARE * len(images):
        kept = [largest]
    else:
        extent = covered_mm(Stack(tuple(images)).at)
        kept = [group for group in groups if extent and covered_mm(Stack(group).at) >= WHOLE_SHARE * extent]
    if not kept:
        return [Stack(tuple(images))]
    others = len(images) - sum(len(group) for group in kept)
    counts = ({OTHER_SIZE: others} if others else {}) | ({PASSES: len(kept)} if len(kept) > 1 else {})
    return [Stack(group, counts) for group in kept]
