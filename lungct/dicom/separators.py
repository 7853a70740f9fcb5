"""What tells images of a stack apart: properties of theirs, or the order in which they lie along the body.

A `Separator` groups images. What the groups are, passes or stations or nothing that matters, shows only where they lie
(``acquisitions.py``): files number, time and describe images in many ways that mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import pairwise
from typing import Any

from lungct.dicom.geometry import places
from lungct.dicom.places import place_of
from lungct.dicom.slices import Slice

Groups = list[list[Slice]]
Separator = Callable[[Sequence[Slice]], Groups]

_MEAN_RUN = 5
"""Order means something if it runs along the body for at least this many slices on average."""


def numbers_start_anew(images: Sequence[Slice]) -> bool:
    """Return whether InstanceNumbers run along the body more than once."""
    if any(image.instance_number is None for image in images):
        return False
    return len(_by_runs_of_numbers(images)) > 1 or len(_by_restarts(images)) > 1


def are_one_run(images: Sequence[Slice]) -> bool:
    """Return whether images are plainly one acquisition, as most scans are.

    They have the same properties, each lies at a place of its own, and their InstanceNumbers run along the body.
    """
    along = sorted(images, key=lambda image: image.position_mm)
    numbers = [image.instance_number for image in along]
    if None in numbers or sorted(set(map(_number, along))) not in (numbers, numbers[::-1]):
        return False
    if len(places([image.position_mm for image in along])) < len(along):
        return False
    return all(value(image) == value(along[0]) for value in _VALUES for image in along)


def _by(value: Callable[[Slice], Hashable]) -> Separator:
    def separator(images: Sequence[Slice]) -> Groups:
        groups: dict[Hashable, list[Slice]] = {}
        for image in images:
            groups.setdefault(value(image), []).append(image)
        return list(groups.values())

    return separator


def _runs_by(order: Callable[[Slice], Any]) -> Separator:
    """Return a separator by runs: in their order, images lie one after another along the body until they turn back.

    Images that follow one another at one place are a run of their own, as those of bolus tracking are.
    """

    def separator(images: Sequence[Slice]) -> Groups:
        at = places([image.position_mm for image in images])
        together: dict[tuple[Any, int], list[Slice]] = {}  # copies of an image are one step of a run
        for image in images:
            together.setdefault((order(image), place_of(image.position_mm, at)), []).append(image)
        runs: Groups = []
        last, direction = 0, None  # of the run; None after its first step
        for (_, place), step in sorted(together.items(), key=lambda item: item[0]):
            onward = (place > last) - (place < last)
            if runs and direction in (None, onward):
                direction = onward
            else:
                runs.append([])
                direction = None
            runs[-1] += step
            last = place
        return runs if len(together) >= _MEAN_RUN * len(runs) else [list(images)]

    return separator


def _by_restarts(images: Sequence[Slice]) -> Groups:
    """Separate images whose InstanceNumber stands at several places: the first of these, the second, and so on."""
    at = places([image.position_mm for image in images])
    places_of: dict[int | None, set[int]] = {}
    for image in images:
        places_of.setdefault(image.instance_number, set()).add(place_of(image.position_mm, at))
    ranks = {number: {place: rank for rank, place in enumerate(sorted(found))} for number, found in places_of.items()}
    return _by(lambda image: ranks[image.instance_number][place_of(image.position_mm, at)])(images)


def _by_turns(images: Sequence[Slice]) -> Groups:
    """Separate images that were numbered place by place, as many at each: the first of each, the second, and so on."""
    at = places([image.position_mm for image in images])
    steps = sorted({(_number(image), place_of(image.position_mm, at)) for image in images})
    if sum(one != other for (_, one), (_, other) in pairwise(steps)) >= len(at):
        return [list(images)]  # some places have images before and after those of others
    ranks: dict[tuple[float, int], int] = {}
    made = [0] * len(at)
    for step in steps:
        ranks[step] = made[step[1]]
        made[step[1]] += 1
    if len(set(made)) > 1:
        return [list(images)]  # where one is missing, the next would take its place
    return _by(lambda image: ranks[_number(image), place_of(image.position_mm, at)])(images)


def _number(image: Slice) -> float:
    return math.inf if image.instance_number is None else image.instance_number


def _file_of_many(image: Slice) -> str | None:
    return image.sop_instance_uid if image.encoding.frames > 1 else None


def _corner(image: Slice) -> tuple[int, ...]:
    """Return where an image begins sideways, in whole mm."""
    return tuple(round(value) for value in (image.image_position or ())[:2])


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


_VALUES: tuple[Callable[[Slice], Hashable], ...] = (
    lambda image: image.acquisition_number,
    lambda image: image.acquisition_time,
    lambda image: image.temporal_position,
    lambda image: _known(image.trigger_time_ms),
    lambda image: image.contrast_agent,
    lambda image: image.kernel,
    lambda image: image.image_type,
    lambda image: _known(image.slice_thickness_mm),
    lambda image: _known(image.kvp),
    lambda image: image.words.series,
    _file_of_many,
    _corner,
)
PROPERTIES: tuple[Separator, ...] = tuple(map(_by, _VALUES))
"""What tells any two images of one place apart."""
_by_runs_of_numbers = _runs_by(_number)
ORDERS: tuple[Separator, ...] = (
    _runs_by(lambda image: (image.acquisition_time, _number(image))),
    _by_runs_of_numbers,
    _by_restarts,
    _by_turns,
)
"""What tells images apart only where these lie along the body in its order: numbers differ from image to image."""
