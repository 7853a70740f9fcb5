"""Several series that are one scan -> one.

Archives write new SeriesInstanceUIDs: one for each image, or one for each part of a transfer. Series belong together
only if everything agrees that tells one scan from another, and if they lie as the parts of one scan lie: one series
next to the other, with at most two slices that both have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from lungct.dicom.candidates import content_order, most_common
from lungct.dicom.geometry import LARGEST_GAP_MM, SAME_PLACE_MM, same_orientation
from lungct.dicom.notes import JOINED_SERIES, SERIES_UIDS
from lungct.dicom.places import NEAREST, distances_between, regular, usual_distance
from lungct.dicom.slices import Slice
from lungct.dicom.stacks import Stack, same_size, together

SCATTERED = 3
"""Series of up to this many images may be one series with a SeriesInstanceUID for each image."""
_FEWEST_PLACES = 4
"""Scattered images at fewer places are no stack."""
_CLOSE_SHARE = 0.75
"""The share of the distances between scattered images that must be those of neighbouring slices."""
_NEIGHBOURS = 2.5
"""Pieces are neighbours if they are at most this many slice distances apart: one slice may be missing between them."""
_SHARED = 2
"""Up to this many slices at the end of one piece may be those at the beginning of the next."""
_SAME_DISTANCE = 0.05
"""Slice distances that differ by less, relative to each other, are one."""
_ALIGNED_MM = 5.0
"""How far the first slice of a stack may lie from where the stack before it points to."""


def join_scattered(series: Sequence[Stack]) -> list[Stack]:
    """Join series of one to `SCATTERED` images each that together are one stack of slices."""
    whole: list[Stack] = []
    scattered: dict[Hashable, list[list[Stack]]] = {}
    studies = Counter(image.study_uid for one in series for image in one.images)
    for one in series:
        if len(one.images) <= SCATTERED and one.at:
            _put(one, scattered.setdefault(_said(one, studies), []))
        else:
            whole.append(one)
    for group in (group for groups in scattered.values() for group in groups):
        found = together(group).noted({SERIES_UIDS: len(group)})
        whole += [found] if len(group) >= _FEWEST_PLACES and _is_stack(found) else group
    return sorted(whole, key=lambda one: min(content_order(image) for image in one.images))


def _put(one: Stack, groups: list[list[Stack]]) -> None:
    for group in groups:
        if _same_geometry(group[0], one):
            group.append(one)
            return
    groups.append([one])


def _said(one: Stack, studies: Counter[str]) -> Hashable:
    """Return what must agree in what the files say; a study of few images is no more of a study than its series."""
    image = one.images[0]
    study = image.study_uid if studies[image.study_uid] > SCATTERED else ""
    return (study, image.study_time, image.kernel, image.manufacturer, image.model, image.words)


def _same_geometry(one: Stack, other: Stack) -> bool:
    mine, theirs = one.images[0], other.images[0]
    if mine.orientation is None or theirs.orientation is None:
        return False
    return same_orientation(mine.orientation, theirs.orientation) and same_size(mine, theirs)


def _is_stack(found: Stack) -> bool:
    """Return whether images lie as slices do: at several places, evenly or close to each other."""
    distances = distances_between(found.at)
    if len(found.at) < _FEWEST_PLACES:
        return False
    close = sum(distance <= LARGEST_GAP_MM for distance in distances)
    return close >= _CLOSE_SHARE * len(distances) or regular(found.at)


@dataclass(frozen=True, eq=False)
class _Piece:
    """A stack that may be a piece of a scan."""

    stack: Stack

    @cached_property
    def first(self) -> Slice:
        return min(self.stack.images, key=lambda image: (image.position_mm, content_order(image)))

    @cached_property
    def last(self) -> Slice:
        return max(self.stack.images, key=lambda image: (image.position_mm, content_order(image)))

    @cached_property
    def series_uids(self) -> frozenset[str]:
        return frozenset(image.series_uid for image in self.stack.images)

    @cached_property
    def distance_mm(self) -> float:
        return usual_distance(self.stack.at)

    @cached_property
    def said(self) -> Hashable:
        """What must agree in what the files say, by most images."""
        images = self.stack.images
        study = _only({image.study_uid for image in images})
        thickness = median([-1.0 if math.isnan(t) else t for t in (image.slice_thickness_mm for image in images)])
        return (
            study,
            None if study else min(image.study_time for image in images),
            _only({image.frame_of_reference_uid for image in images}),
            _most(image.words for image in images),
            _most(image.image_type for image in images),
            _most(image.contrast_agent for image in images),
            _most(image.rescale_type for image in images),
            most_common(image.kernel for image in images),
            most_common(image.manufacturer for image in images),
            most_common(image.model for image in images),
            round(thickness, 3),
        )


def join_series(stacks: Sequence[Stack]) -> list[Stack]:
    """Join stacks of different series that are pieces of one scan."""
    if len(stacks) < 2:
        return list(stacks)
    alone: list[Stack] = []
    pieces: dict[Hashable, list[_Piece]] = {}
    for stack in stacks:
        if not any(math.isnan(image.position_mm) for image in stack.images):
            piece = _Piece(stack)
            pieces.setdefault(piece.said, []).append(piece)
        else:
            alone.append(stack)
    for group in pieces.values():
        alone += [_joined(chain) for chain in _chains(group)]
    return sorted(alone, key=lambda stack: min(content_order(image) for image in stack.images))


def _chains(pieces: list[_Piece]) -> list[list[_Piece]]:
    """Put pieces in chains of neighbours; where a piece has two neighbours at one end, nothing shows which is its."""
    above = {piece: [other for other in pieces if _follows(piece, other)] for piece in pieces}
    below = Counter(other for found in above.values() for other in found)
    following = {piece: found[0] for piece, found in above.items() if len(found) == 1 and below[found[0]] == 1}
    chains = []
    for piece in pieces:
        if piece in following.values():
            continue
        chain = [piece]
        while chain[-1] in following:
            chain.append(following[chain[-1]])
        chains.append(chain)
    return chains


def _joined(chain: list[_Piece]) -> Stack:
    if len(chain) == 1:
        return chain[0].stack
    once = chain[0].stack
    for piece in chain[1:]:
        smaller, larger = sorted((once, piece.stack), key=lambda stack: len(stack.images))
        once = together([_without_shared(smaller, larger), larger])
    return once.noted({JOINED_SERIES: len(chain)})


def _without_shared(stack: Stack, other: Stack) -> Stack:
    """Return a stack without its images at places that another has, too."""
    own = [image for image in stack.images if not any(_at_one_place(image.position_mm, at) for at in other.at)]
    return Stack(tuple(own), stack.counts)


def _at_one_place(position: float, other: float) -> bool:
    return abs(position - other) < SAME_PLACE_MM


def _follows(piece: _Piece, other: _Piece) -> bool:
    """Return whether another series goes on where a piece ends, towards the head."""
    longer, shorter = sorted((piece, other), key=lambda one: -len(one.stack.at))
    usual = longer.distance_mm
    gap = other.first.position_mm - piece.last.position_mm
    between = shorter.distance_mm or gap  # of a single slice, its distance to the other series must be the usual one
    shared = any(_at_one_place(gap, -usual * more) for more in range(_SHARED)) and len(shorter.stack.at) > _SHARED
    return (
        (shared or NEAREST * usual <= gap <= _NEIGHBOURS * usual)
        and abs(usual - between) <= _SAME_DISTANCE * usual
        and _same_geometry(piece.stack, other.stack)
        and piece.series_uids.isdisjoint(other.series_uids)
        and _aside_mm(longer, piece.last, other.first) <= _ALIGNED_MM
    )


def _aside_mm(longer: _Piece, last: Slice, following: Slice) -> float:
    """Return how far a slice lies from where a piece's slices would lead from the last one to it."""
    lowest, highest = longer.first, longer.last
    ends = [image.image_position for image in (lowest, highest, last, following)]
    rise = highest.position_mm - lowest.position_mm
    if rise == 0 or None in ends:
        return math.inf
    onward = (following.position_mm - last.position_mm) / rise
    low, high, begin, end = (end or () for end in ends)
    goal = [z + onward * (b - a) for a, b, z in zip(low, high, begin, strict=True)]
    return math.dist(goal, end)


def _only(values: set[str]) -> str | None:
    """Return the one value there is; None if there are several, which tell nothing."""
    return values.pop() if len(values) == 1 else None


def _most(values: Iterable[Hashable]) -> Hashable:
    counts = Counter(values)
    return max(sorted(counts, key=repr), key=lambda value: counts[value])
