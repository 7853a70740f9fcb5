"""Where along the body images lie: which of them at one place, and which stretches they cover.

A *place* is one or more positions that are the same but for rounding (``geometry.py``). A *stretch* is a run of
neighbouring places, from the first to the last in mm; a *hole* between two stretches is not covered. The distances
around a hole tell whether it is one, because a scan may have distances of 1 mm here and 5 mm there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import median

from lungct.dicom.geometry import LARGEST_GAP_MM, SAME_POSITION_MM, places
from lungct.dicom.slices import Slice

Stretch = tuple[float, float]

ONE_MISSING = 1.5
"""Where a distance is more than this many times those around it, a slice is missing."""
TWO_MISSING = 3.5
"""Where it is up to this many times those, it is covered all the same: two slices are missing."""
WIDEST_GAP_MM = 40.0
"""No wider distance is covered: thin slices for interstitial disease lie 10 or 20 mm apart."""
NEAREST = 0.49
"""Neighbours in one scan are at least this share of the usual distance apart: half of one where acquisitions meet."""
_AROUND = 3
"""This many distances on either side of one are around it."""
_ENOUGH = 4
"""This many distances show by themselves how far apart the places usually lie."""
_NEARLY_ALL = 0.9
"""Places are regular if at least this share of their distances are the usual one."""


def by_place(images: Iterable[Slice]) -> list[list[Slice]]:
    """Group images by the place at which they lie, from the feet to the head.

    Images without a position follow, each by itself, or together with those of its SOPInstanceUID and frame.
    """
    known: list[Slice] = []
    unknown: dict[object, list[Slice]] = {}
    for number, image in enumerate(images):
        if not math.isnan(image.position_mm):
            known.append(image)
        else:
            identity = (image.sop_instance_uid, image.frame) if image.sop_instance_uid else number
            unknown.setdefault(identity, []).append(image)
    at = places([image.position_mm for image in known])
    groups: list[list[Slice]] = [[] for _ in at]
    for image in known:
        groups[place_of(image.position_mm, at)].append(image)
    return groups + list(unknown.values())


def place_of(position_mm: float, at: Sequence[float]) -> int:
    """Return the index of the place at which a position lies."""
    return bisect_right(at, position_mm) - 1


def unbroken(at: Sequence[float], usual_mm: float) -> list[Stretch]:
    """Return the stretches in which no slice is missing.

    Places that are too few and too uneven to show how far apart they usually lie are measured by ``usual_mm``.
    """
    distances = distances_between(at)
    if len(distances) < _ENOUGH and not _even(distances):
        return _stretches(at, [ONE_MISSING * usual_mm] * len(distances))
    return _stretches(at, [ONE_MISSING * around for around in _least_around(distances)])


def covered(at: Sequence[float]) -> list[Stretch]:
    """Return the stretches that places cover: no hole is more than two slices or `LARGEST_GAP_MM`."""
    around = _least_around(distances_between(at))
    return _stretches(at, [min(WIDEST_GAP_MM, max(LARGEST_GAP_MM, TWO_MISSING * least)) for least in around])


def covered_mm(at: Sequence[float]) -> float:
    """Return the length that slices at these places cover, in mm; 0 if there is one place."""
    if len(at) < 2:
        return 0.0
    return sum(last - first for first, last in covered(at)) + usual_distance(at)


def distances_between(at: Sequence[float]) -> list[float]:
    """Return the distances between neighbouring places in mm."""
    return [high - low for low, high in pairwise(at)]


def usual_distance(at: Sequence[float]) -> float:
    """Return the median distance between neighbouring places in mm; 0 if there is one place."""
    return median(distances_between(at)) if len(at) > 1 else 0.0


def regular(at: Sequence[float]) -> bool:
    """Return whether nearly all distances between neighbouring places are the usual one."""
    return len(at) - 1 - unusual(at) >= _NEARLY_ALL * (len(at) - 1)


def unusual(at: Sequence[float]) -> int:
    """Return how many distances between neighbouring places are not the usual one."""
    usual = usual_distance(at)
    return sum(not _equal(distance, usual) for distance in distances_between(at))


def _even(distances: Sequence[float]) -> bool:
    return len(distances) > 1 and all(_equal(distance, distances[0]) for distance in distances)


def _equal(one: float, other: float) -> bool:
    return abs(one - other) <= 0.02 * other + SAME_POSITION_MM


def _least_around(distances: Sequence[float]) -> list[float]:
    """Return for each distance the least of those around it, of itself only where there is no other."""
    found = []
    for i, own in enumerate(distances):
        others = [*distances[max(0, i - _AROUND) : i], *distances[i + 1 : i + 1 + _AROUND]]
        found.append(min(others, default=own))
    return found


def _stretches(at: Sequence[float], widest: Sequence[float]) -> list[Stretch]:
    if not at:
        return []
    found: list[Stretch] = []
    first = at[0]
    for (low, high), limit in zip(pairwise(at), widest, strict=True):
        if high - low > limit:
            found.append((first, low))
            first = high
    return [*found, (first, at[-1])]
