"""Passes, stations, copies and strays of one series: what is one scan, what is left out, and what is noted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ct_files as make
from support.ct_slices import along, image, images

from lungct.dicom import read_series
from lungct.dicom.candidates import Candidate
from lungct.dicom.geometry import same_place_mm
from lungct.dicom.grouping import candidates
from lungct.dicom.options import NO_OPTIONS
from lungct.dicom.places import by_place
from lungct.dicom.selection import in_order_of_choice
from lungct.dicom.slices import Fault, Slice, Words

FAULT = Fault("undecodable", "cut off")
MANY = replace(image(0.0).encoding, frames=24)


def only(slices: list[Slice]) -> Candidate:
    (candidate,) = candidates(slices)
    return candidate


def positions(candidate: Candidate) -> list[float]:
    return sorted(image.position_mm for image in candidate.slices)


def numbers(candidate: Candidate) -> list[int | None]:
    """Return the acquisition of each slice, from the feet to the head, each run of one once."""
    ordered = sorted(candidate.slices, key=lambda image: image.position_mm)
    return [number for number, _ in groupby(image.acquisition_number for image in ordered)]


# Images that are one scan, whatever their files say of them.


ONE_SCAN: dict[str, Callable[[int], Mapping[str, Any]]] = {
    "an AcquisitionNumber for every slice": lambda i: {"acquisition_number": i},
    "an AcquisitionNumber for every four slices": lambda i: {"acquisition_number": i // 4},
    "an AcquisitionTime for every slice": lambda i: {"acquisition_time": f"{1000 + i}"},
    "an AcquisitionTime for every eight slices": lambda i: {"acquisition_time": f"{1000 + i // 8}"},
    "numbers that count to 16 again and again": lambda i: {"acquisition_number": i % 16},
    "odd and even slices with numbers of their own": lambda i: {"acquisition_number": i % 2},
    "a kernel for each half": lambda i: {"kernel": "BC"[i // 20]},
    "a thickness for each third": lambda i: {"slice_thickness_mm": (2.5, 3.0, 5.0)[i // 14]},
    "InstanceNumbers that restart": lambda i: {"instance_number": i % 20},
    "InstanceNumbers in no order": lambda i: {"instance_number": 7 * i % 40},
    "InstanceNumbers in the order of names": lambda i: {"instance_number": sorted(range(40), key=str).index(i)},
    "no InstanceNumbers": lambda i: {"instance_number": None},
    "scattered images that are said to be derived": lambda i: (
        {"image_type": ("DERIVED", "PRIMARY")} if i in (3, 11, 29) else {}
    ),
    "TriggerTimes that differ": lambda i: {"trigger_time_ms": 600.0 + 37 * i % 11},
}


@pytest.mark.parametrize("each", ONE_SCAN.values(), ids=ONE_SCAN.keys())
def test_what_does_not_overlap_is_one_scan(each: Callable[[int], Mapping[str, Any]]) -> None:
    slices = images(along(40), lambda i: {"slice_thickness_mm": 2.5} | dict(each(i)))
    candidate = only(slices)
    assert len(candidate.slices) == 40
    assert candidate.notes == ()


@settings(max_examples=60, deadline=None)
@given(
    # Without a thickness, odd and even slices may be two passes.
    st.lists(
        st.sampled_from(sorted(n for n in ONE_SCAN if not n.startswith("odd"))), min_size=2, max_size=5, unique=True
    ),
    st.sampled_from([1.0, 2.5, 10.0]),
    st.sampled_from([math.nan, 1.0, 2.5]),
)
def test_facts_that_mean_nothing_mean_nothing_together(names: list[str], step: float, thickness: float) -> None:
    slices = images(
        along(40, step),
        lambda i: {"slice_thickness_mm": thickness} | {k: v for name in names for k, v in ONE_SCAN[name](i).items()},
    )
    candidate = only(slices)
    assert len(candidate.slices) == 40
    assert candidate.notes == ()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(2, 10), st.sampled_from([0.625, 1.0, 2.5, 5.0]))
def test_facts_without_order_never_cost_a_slice(seed: int, classes: int, step: float) -> None:
    random = Random(seed)  # not Hypothesis's own, which finds the rare order that means something
    slices = images(
        along(48, step),
        lambda i: {"acquisition_number": random.randrange(classes), "slice_thickness_mm": step},
    )
    assert len(only(slices).slices) == 48


# Passes.


PASSES: dict[str, Callable[[int, int], Mapping[str, Any]]] = {
    "AcquisitionNumber": lambda p, i: {"acquisition_number": p, "instance_number": i},
    "AcquisitionTime": lambda p, i: {"acquisition_time": f"{1000 + p}", "instance_number": i},
    "an AcquisitionTime for every slice": lambda p, i: {
        "acquisition_time": f"{1000 + 100 * p + i}",
        "instance_number": i,
    },
    "TemporalPosition": lambda p, i: {"temporal_position": p, "instance_number": i},
    "TriggerTime": lambda p, i: {"trigger_time_ms": 100.0 * p, "instance_number": i},
    "ContrastBolusAgent": lambda p, i: {"contrast_agent": "agent" * p, "instance_number": i},
    "kernel": lambda p, i: {"kernel": f"B{p}0f", "instance_number": i},
    "ImageType": lambda p, i: {"image_type": ("ORIGINAL", "PRIMARY", f"{10 * p}%"), "instance_number": i},
    "thickness": lambda p, i: {"slice_thickness_mm": 2.0 + p, "instance_number": i},
    "Rows": lambda p, i: {"rows": 512 + 256 * p, "instance_number": i},
    "PixelSpacing": lambda p, i: {"pixel_spacing_mm": (0.7 + 0.05 * p,) * 2, "instance_number": i},
    "InstanceNumber": lambda p, i: {"instance_number": 100 * p + i},
    "KVP": lambda p, i: {"kvp": 80.0 + 10 * p, "instance_number": i},
    "SeriesDescription": lambda p, i: {"words": Words(series=f"Phase {p}"), "instance_number": i},
    "a file of many frames": lambda p, i: {"encoding": MANY, "sop_instance_uid": f"3.{p}", "instance_number": i},
    "TriggerTimes with jitter": lambda p, i: {"trigger_time_ms": 100 * p + 7 * i % 13, "instance_number": 100 * p + i},
}


@pytest.mark.parametrize("told_by", PASSES.values(), ids=PASSES.keys())
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.25])
@pytest.mark.parametrize("passes", [2, 3, 10])
def test_whole_passes_are_candidates_each(
    told_by: Callable[[int, int], Mapping[str, Any]], shift: float, passes: int
) -> None:
    shifts = [shift * p / (passes - 1) for p in range(passes)]
    parts = [images(along(24, start=start), lambda i, p=p: told_by(p, i)) for p, start in enumerate(shifts)]  # type: ignore[misc]
    found = candidates([image for part in parts for image in part])
    assert sorted(sorted(map(id, c.slices)) for c in found) == sorted(sorted(map(id, part)) for part in parts)
    assert {c.notes for c in found} == {(f"passes={passes}",)}


def test_shifted_passes_whose_numbers_start_anew_are_told_apart() -> None:
    found = candidates(images(along(24)) + images(along(24, start=1.25)))
    assert sorted(positions(c)[0] for c in found) == [0.0, 1.25]


def test_passes_may_differ_in_spacing() -> None:
    found = candidates(images(along(60, 5.0)) + images(along(240, 1.25), acquisition_number=2))
    assert sorted(len(c.slices) for c in found) == [60, 240]
    assert {c.notes for c in found} == {("passes=2",)}


def test_of_equal_passes_the_earlier_is_the_scan() -> None:
    slices = images(along(24), acquisition_number=2) + images(along(24), acquisition_number=1)
    best = in_order_of_choice(candidates(slices), NO_OPTIONS)[0].candidate
    assert numbers(best) == [1]


@pytest.mark.parametrize("told_by", ["acquisition_time", "acquisition_number", "temporal_position", "instance_number"])
def test_the_first_of_equal_passes_is_by_what_tells_them_apart(told_by: str) -> None:
    def facts(number: int) -> dict[str, Any]:
        own: dict[str, Any] = {"acquisition_time": f"{number}", "instance_number": 100 * number}
        value = own.get(told_by, number)
        return {"instance_number": 1, told_by: value}

    passes = [
        images(along(24), lambda i, n=n: facts(n) | {"instance_number": facts(n)["instance_number"] + i})  # type: ignore[misc]
        for n in (3, 1, 2)
    ]
    best = in_order_of_choice(candidates([image for part in passes for image in part]), NO_OPTIONS)[0].candidate
    assert {image.sop_instance_uid for image in best.slices} == {image.sop_instance_uid for image in passes[1]}


def test_passes_within_passes() -> None:
    slices = [
        image for n in (1, 2) for kernel in "AB" for image in images(along(24), kernel=kernel, acquisition_number=n)
    ]
    found = candidates(slices)
    assert [len(c.slices) for c in found] == [24] * 4
    assert {c.notes for c in found} == {("passes=4",)}


@pytest.mark.parametrize("more", [
    images(along(30), acquisition_number=2),
    images(along(50, start=20.3), acquisition_number=2),
    images(along(3, start=40), acquisition_number=2),
])  # fmt: skip
def test_a_pass_that_covers_a_part_is_left_out(more: list[Slice]) -> None:
    candidate = only(images(along(60)) + more)
    assert positions(candidate) == along(60)
    assert numbers(candidate) == [1]
    assert candidate.notes == ("passes=2",)


@pytest.mark.parametrize("phases", [2, 10])
def test_phases_that_are_numbered_place_by_place(phases: int) -> None:
    slices = [image(2.5 * (n // phases), instance_number=n) for n in range(40 * phases)]
    found = candidates(slices)
    assert [{(s.instance_number or 0) % phases for s in c.slices} for c in found] == [{p} for p in range(phases)]
    assert {(len(c.slices), c.notes) for c in found} == {(40, (f"passes={phases}",))}
    assert len(only(slices[:77] + slices[78:]).slices) == len(slices) - 1  # nothing shows which one is missing


def test_enlargements_of_either_lung_are_told_apart_by_where_they_lie() -> None:
    slices = [image(0.0, image_position=(x, -178.0, z), instance_number=1) for x in (-178.0, 0.0) for z in along(24)]
    found = candidates(slices)
    assert {(len(c.slices), c.notes) for c in found} == {(24, ("passes=2",))}
    assert all(len({s.image_position[0] for s in c.slices if s.image_position}) == 1 for c in found)


def test_phases_of_slabs_become_one_phase_of_the_body() -> None:
    slices = [
        image
        for slab in range(4)
        for phase in range(10)
        for image in images(
            along(8, start=20 * slab), acquisition_number=slab, acquisition_time=f"{100 * slab + phase:05d}"
        )
    ]
    candidate = only(slices)
    assert positions(candidate) == along(32)
    assert {image.acquisition_time[-2:] for image in candidate.slices} == {"00"}
    assert candidate.notes == ("passes=10",)


def test_kernels_of_stations_that_overlap() -> None:
    slices = [
        image
        for n in (1, 2)
        for kernel in "AB"
        for image in images(along(30, start=50 * n), kernel=kernel, acquisition_number=n)
    ]
    found = candidates(slices)
    assert sorted(c.kernel or "" for c in found) == ["A", "B"]
    assert all(positions(c) == along(50, start=50) for c in found)
    assert {c.notes for c in found} == {("passes=2", "joined_passes=2")}


# Stations, and passes of which none is whole.


@settings(max_examples=60, deadline=None)
@given(
    st.integers(8, 30),
    st.integers(8, 30),
    st.integers(3, 6),
    st.floats(0, 2.4),
    st.booleans(),
)
def test_the_smaller_of_two_parts_gives_up_the_overlap(
    lower: int, upper: int, shared: int, shift: float, downwards: bool
) -> None:
    start = round(2.5 * (lower - shared) + shift, 2)
    parts = [along(lower), along(upper, start=start)]
    one, other = (part[::-1] if downwards else part for part in parts)
    slices = images(one) + images(other, acquisition_number=2, first=101)
    whole = [c for c in candidates(slices) if c.notes == ("passes=2",)]
    if whole:  # nine tenths are covered by one of them
        assert max(lower, upper) >= 0.85 * (lower + upper - shared)
        return
    candidate = only(slices)
    kept = 1 if lower >= upper else 2
    assert candidate.notes == ("joined_passes=2",)
    assert numbers(candidate) == [1, 2]
    assert sum(image.acquisition_number == kept for image in candidate.slices) == max(lower, upper)
    found = positions(candidate)
    assert found[0] == 0
    assert found[-1] == parts[1][-1]
    distances = [b - a for a, b in pairwise(found)]
    assert min(distances) >= 1.2
    assert max(distances) <= 3.75


@pytest.mark.parametrize(
    ("start", "expected", "notes"),
    [
        (35.0, 28, ()),
        (34.0, 28, ()),
        (32.5, 27, ("joined_passes=2",)),
        (31.3, 27, ("joined_passes=2",)),
        (30.0, 26, ("joined_passes=2",)),
    ],
)
def test_stations_are_joined_with_each_place_once(start: float, expected: int, notes: tuple[str, ...]) -> None:
    candidate = only(images(along(14)) + images(along(14, start=start), acquisition_number=2))
    assert len(candidate.slices) == candidate.distinct == expected
    assert numbers(candidate) == [1, 2]
    assert candidate.notes == notes


def test_a_short_station_at_the_end_of_a_long_one_is_joined() -> None:
    candidate = only(images(along(60)) + images(along(4, start=145.0), acquisition_number=2))
    assert positions(candidate) == along(62)
    assert candidate.notes == ("joined_passes=2",)


def test_a_station_gives_up_its_ends_and_fills_the_hole_between() -> None:
    slices = images(along(20) + along(20, start=67.5)) + images(along(16, start=38.6), acquisition_number=2)
    candidate = only(slices)
    assert numbers(candidate) == [1, 2, 1]
    assert len(candidate.slices) == 40 + 7
    assert candidate.notes == ("joined_passes=2",)


def test_the_other_pass_does_not_fill_the_place_of_a_lost_slice() -> None:
    lower = [z for z in along(20) if z != 40.0]
    candidate = only(images(lower) + images(along(18, start=31.25), acquisition_number=2))
    assert numbers(candidate) == [1, 2]
    assert 40.0 not in positions(candidate)
    assert candidate.notes == ("joined_passes=2",)


def test_scattered_images_cover_nothing() -> None:
    slices = images(along(60)) + images(along(60), acquisition_number=2)
    slices += images([0.0, 49.0, 98.0, 147.0], acquisition_number=3)
    assert sorted(len(c.slices) for c in candidates(slices)) == [60, 60]


def test_a_station_may_fill_the_hole_between_two_others() -> None:
    slices = images(along(10) + along(10, start=50.0)) + images(along(10, start=25.0), acquisition_number=2)
    candidate = only(slices)
    assert positions(candidate) == along(30)
    assert candidate.notes == ()


def test_of_equal_parts_the_later_gives_up_the_overlap() -> None:
    for below, above in (("0900", "1000"), ("1000", "0900")):
        slices = images(along(14), acquisition_number=2, acquisition_time=below)
        slices += images(along(14, start=26.25), acquisition_number=1, acquisition_time=above)
        candidate = only(slices)
        assert sum(image.acquisition_time == "0900" for image in candidate.slices) == 14
        assert candidate.notes == ("joined_passes=2",)


# A repeated place.


@pytest.mark.parametrize("repeated", [[27.5], [27.5, 30.0], [26.1], [26.1] * 5, [27.5] * 20])
@pytest.mark.parametrize("each_its_own", [False, True])
def test_repeated_places_never_cost_the_scan(repeated: list[float], each_its_own: bool) -> None:
    slices = images(along(24)) + images(
        repeated, lambda i: {"acquisition_number": 2 + i * each_its_own}, first=101, kernel="B80f"
    )
    whole = max(candidates(slices), key=lambda c: c.distinct)
    assert positions(whole) == along(24)
    assert numbers(whole) == [1]


def test_a_repeated_place_is_noted() -> None:
    assert only(images(along(24)) + images([27.5], acquisition_number=2)).notes == ("passes=2",)
    slices = images(along(24), lambda i: {"acquisition_number": i}) + images([27.5], acquisition_number=99)
    assert only(slices).notes == ("passes=2",)


def test_bolus_tracking_is_a_candidate_of_its_own() -> None:
    tracking = images([26.1] * 9 + [28.4] * 3, acquisition_number=2)
    scan, other = sorted(candidates(images(along(24)) + tracking), key=lambda c: -c.distinct)
    assert (positions(scan), scan.notes) == (along(24), ())
    assert (len(other.slices), other.distinct) == (12, 2)


def test_images_that_nothing_tells_apart_stay_together() -> None:
    candidate = only(images(along(24)) + images([27.5], first=12))
    assert (len(candidate.slices), candidate.distinct) == (25, 24)
    assert candidate.notes == ()
    twice = only([image for _ in range(2) for image in images(along(24))])
    assert (len(twice.slices), twice.distinct) == (48, 24)


@pytest.mark.parametrize("repeated", [[27.5], [27.5, 30.0], [52.5, 55.0]])
@pytest.mark.parametrize("direction", [1, -1])
def test_numbers_tell_a_repeated_place_from_the_scan(repeated: list[float], direction: int) -> None:
    first = images(along(24)[::direction])
    candidate = only(first + images(repeated[::direction], first=25))
    assert {image.sop_instance_uid for image in candidate.slices} == {image.sop_instance_uid for image in first}
    assert candidate.notes == ("passes=2",)


def test_a_place_repeated_where_the_scan_was_resumed() -> None:
    lower = images(along(20))
    candidate = only(lower + images(along(20, start=47.5), first=21))
    assert positions(candidate) == along(39)
    assert candidate.notes == ("joined_passes=2",)


@pytest.mark.parametrize("first", [1, 101])
@pytest.mark.parametrize("place", [26.1, 27.5])
def test_bolus_tracking_of_the_same_acquisition_is_told_by_its_order(first: int, place: float) -> None:
    scan, tracking = images(along(24), first=51), images([place] * 20, first=first)
    found = max(candidates(scan + tracking), key=lambda c: c.distinct)
    assert {image.sop_instance_uid for image in found.slices} == {image.sop_instance_uid for image in scan}


@pytest.mark.parametrize("numbers", ["one after the other", "each from 1", "each downwards from 1"])
def test_passes_of_thin_slices_between_each_other_are_two(numbers: str) -> None:
    """Slices of 2.5 mm every 5 mm, inhaled and exhaled: only InstanceNumbers show that they are not one acquisition."""
    first = 1 if numbers.startswith("each") else 41
    order = -1 if numbers.endswith("downwards from 1") else 1
    inhaled = images(along(40, 5.0)[::order], slice_thickness_mm=2.5)
    exhaled = images(along(40, 5.0, start=2.5)[::order], first=first, slice_thickness_mm=2.5, acquisition_number=2)
    found = candidates(inhaled + exhaled)
    assert [(len(c.slices), len({image.acquisition_number for image in c.slices}), c.notes) for c in found] == [
        (40, 1, ("passes=2",))
    ] * 2


# Copies.


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([0.4, 0.5, 0.625, 1.25, 3.0]), st.floats(-500, 500), st.integers(1, 40))
def test_copies_with_rounded_positions_are_at_the_place_of_their_image(step: float, start: float, copies: int) -> None:
    originals = images(along(40, step, round(start, 3)))
    rounded = [round(image.position_mm, 1) for image in originals][:copies]
    candidate = only(originals + images(rounded))
    assert len(candidate.slices) == 40 + copies
    assert candidate.distinct == 40
    assert candidate.notes == ()
    groups = by_place(candidate.slices)
    assert [len(group) for group in groups] == [2] * copies + [1] * (40 - copies)
    assert all(len({image.instance_number for image in group}) == 1 for group in groups)


@pytest.mark.parametrize("step", [0.1, 0.2, 0.3, 1.0])
def test_slices_close_to_each_other_are_at_places_of_their_own(step: float) -> None:
    at = along(30, step)
    assert len(by_place(images(at))) == 30
    assert same_place_mm(at) < step


def test_images_without_a_position_are_grouped_by_their_uid() -> None:
    one, other = image(None), image(None)
    nameless = [image(None, sop_instance_uid="") for _ in range(2)]
    assert [len(group) for group in by_place([one, other, one, *nameless])] == [2, 1, 1, 1]


def test_a_damaged_copy_of_a_whole_image_is_left_out() -> None:
    slices = images(along(24))
    candidate = only([*slices, replace(slices[3], path="copy", fault=FAULT), replace(slices[5], path="whole copy")])
    assert len(candidate.slices) == 25
    assert not any(image.fault for image in candidate.slices)


def test_damaged_copies_of_one_image_count_once() -> None:
    slices = images(along(24), lambda i: {"fault": FAULT} if i == 3 else {})
    candidate = only([*slices, replace(slices[3], path="copy")])
    assert sum(image.fault is not None for image in candidate.slices) == 1


def test_a_uid_that_all_images_share_makes_no_copies() -> None:
    slices = images(along(24), lambda i: {"fault": FAULT} if i == 3 else {}, sop_instance_uid="1.2.3")
    assert len(only(slices).slices) == 24


# Positions and sizes.


def test_images_without_position_among_slices_are_left_out() -> None:
    strays = [image(None), image(None, orientation=None), image(7.5, orientation=None)]
    candidate = only(images(along(24)) + strays)
    assert positions(candidate) == along(24)
    assert candidate.notes == ("no_position=3",)


def test_where_most_images_have_no_position_all_stay() -> None:
    slices = [image(None, orientation=None, instance_number=i) for i in range(20)]
    assert len(only(slices).slices) == 20
    mixed = only([*slices, *images(along(5), first=21)])
    assert len(mixed.slices) == 25
    assert mixed.notes == ()


@pytest.mark.parametrize("other", [
    {"rows": 256},
    {"columns": 256},
    {"pixel_spacing_mm": (0.8, 0.8)},
])  # fmt: skip
def test_a_few_images_of_another_size_are_left_out(other: dict[str, Any]) -> None:
    candidate = only(images(along(24)) + images([5.0, 200.0], **other))
    assert positions(candidate) == along(24)
    assert candidate.notes == ("other_size=2",)


def test_many_images_of_another_size_at_one_place_are_left_out() -> None:
    candidate = only(images(along(24)) + images([26.1] * 20, rows=256, columns=256))
    assert positions(candidate) == along(24)
    assert candidate.notes == ("other_size=20",)


def test_sizes_of_which_none_covers_the_series_stay_together() -> None:
    candidate = only(images(along(24)) + images(along(24, start=60.0), pixel_spacing_mm=(0.9, 0.9)))
    assert len(candidate.slices) == 48
    assert candidate.notes == ()


def test_rounded_or_missing_pixel_spacings_are_no_other_size() -> None:
    spacings = [(0.703125, 0.703125), (0.703, 0.703), (math.nan, math.nan)]
    assert len(only(images(along(24), lambda i: {"pixel_spacing_mm": spacings[i % 3]})).slices) == 24


# The whole.


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(["tie", "overlap", "copies", "series", "stray"]))
def test_candidates_depend_on_content_only(random: Random, kind: str) -> None:
    slices = images(along(24))
    slices += {
        "tie": images(along(24, start=1.25), acquisition_number=2),
        "overlap": images(along(24, start=30), acquisition_number=2),
        "copies": [replace(image, path=f"copy {image.path}") for image in slices[:5]],
        "series": images(along(24, start=60), series_uid="1.2"),
        "stray": [image(None), *images([3.0], rows=100), *images([27.5] * 7, kernel="x")],
    }[kind]

    def content() -> list[object]:
        renamed = [replace(image, path=f"{random.random()}") for image in random.sample(slices, len(slices))]
        return [
            (sorted((s.sop_instance_uid, s.position_mm) for s in c.slices), c.notes, c.series_uid)
            for c in candidates(renamed)
        ]

    assert content() == content()


FACTS = st.fixed_dictionaries({
    "position_mm": st.sampled_from([math.nan, 0.0, 0.04, 0.05, 2.5, 2.8, 5.0, 7.5, 7.55, 10.0, 12.5, 60.0, 1e6]),
    "acquisition_number": st.sampled_from([None, 1, 2]),
    "acquisition_time": st.sampled_from(["", "1", "2", "3"]),
    "instance_number": st.sampled_from([None, 1, 2, 3, 4, 5]),
    "kernel": st.sampled_from([None, "A"]),
    "slice_thickness_mm": st.sampled_from([math.nan, 2.5, 5.0]),
    "rows": st.sampled_from([512, 512, 512, 256]),
    "series_uid": st.sampled_from(["1", "1", "1", "2", "3", "4", "5", ""]),
})  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(FACTS, max_size=40))
def test_no_image_is_left_out_in_silence(facts: list[dict[str, Any]]) -> None:
    slices = [image(0.0, **fact) for fact in facts]
    found = candidates(slices)
    used = [image.sop_instance_uid for candidate in found for image in candidate.slices]
    assert len(used) == len(set(used))
    assert len(used) == len(slices) or any(candidate.notes for candidate in found)


@pytest.mark.parametrize("each", [
    lambda i: {"acquisition_number": i, "acquisition_time": f"{10000 + i}"},
    lambda i: {"acquisition_number": i % 10, "position_mm": i // 10 * 1.0},
    lambda i: {"acquisition_number": i, "position_mm": i % 10 * 1.0},
    lambda i: {"series_uid": f"2.{i}"},
])  # fmt: skip
def test_thousands_of_images_take_little_time(each: Callable[[int], Mapping[str, Any]]) -> None:
    slices = images(along(3000, 0.5), each)
    begun = process_time()
    candidates(slices)
    assert process_time() - begun < 1.0  # 0.1 s; machines differ


def test_two_passes_of_a_tilted_gantry_lying_feet_first(tmp_path: Path) -> None:
    tilt = make.tilted(20)
    for directory, start, number in (("a", 100.0, 1), ("b", 101.0, 2)):
        make.write_series(
            tmp_path / directory,
            slices=8,
            rows=16,
            columns=16,
            orientation=tilt,
            first=start,
            step=-2.5,
            instances=range(20 * number, 20 * number + 8),
            seed=number,
            tags={"AcquisitionNumber": number},
            each=lambda i, number=number: {"SOPInstanceUID": f"{make.ROOT}.{number}.{i}"},  # type: ignore[misc]
        )
    series = read_series(tmp_path)
    assert len({image.acquisition_number for image in series.slices}) == 1
    assert len(series) == 8
    assert series.spacing_mm[0] == pytest.approx(2.5)


CHANGES: list[dict[str, Any]] = [{"instance_number": 3}, {"acquisition_number": 2}, {"kernel": "B60f"}, {}]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_short_way_for_plain_scans_finds_what_the_long_one_does(data: st.DataObject) -> None:
    count, step = data.draw(st.integers(4, 40)), data.draw(st.sampled_from([0.6, 2.5, 5.0]))
    positions = along(count, step)
    for hole in data.draw(st.lists(st.integers(0, count - 1), max_size=3)):
        positions[hole] = positions[0]
    slices = images(positions if data.draw(st.booleans()) else positions[::-1])
    for changed in data.draw(st.lists(st.integers(0, count - 1), max_size=2)):
        slices[changed] = replace(slices[changed], **data.draw(st.sampled_from(CHANGES)))
    short = candidates(slices)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lungct.dicom.acquisitions.are_one_run", lambda _: False)
        assert candidates(slices) == short
