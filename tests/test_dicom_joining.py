"""Several series that are one scan, and series that are not."""

from __future__ import annotations

from typing import Any

import pytest
from support.ct_slices import AXIAL, along, image, images

from lungct.dicom.grouping import candidates
from lungct.dicom.slices import Slice, Words

CHEST = Words(body_part="CHEST", series="CHEST 2.5")
ABDOMEN = Words(body_part="ABDOMEN", series="ABD PELVIS 2.5")


def sizes(slices: list[Slice]) -> list[tuple[int, tuple[str, ...]]]:
    return [(len(candidate.slices), candidate.notes) for candidate in candidates(slices)]


# No SeriesInstanceUID at all.


@pytest.mark.parametrize("start", [0.0, -50.0, -150.0])
@pytest.mark.parametrize("other", [
    Words(body_part="CHEST", series="CHEST VENOUS"),
    Words(body_part="ABDOMEN", series="CHEST 2.5"),
    Words(body_part="CHEST", series="CHEST 2.5", protocol="Abdomen"),
])  # fmt: skip
def test_without_uids_series_are_told_apart_by_their_words(start: float, other: Words) -> None:
    chest = images(along(24), series_uid="", words=CHEST)
    assert sizes(chest + images(along(30, start=start), series_uid="", words=other)) == [(24, ()), (30, ())]


# A SeriesInstanceUID for each image.


@pytest.mark.parametrize("together", [1, 2, 3])
def test_series_of_few_images_each_are_one(together: int) -> None:
    slices = images(along(24), lambda i: {"series_uid": f"2.{i // together}"})
    assert sizes(slices) == [(24, (f"series_uids={24 // together}",))]


@pytest.mark.parametrize("series_uid", ["", "2"])
def test_a_study_for_each_image_tells_nothing(series_uid: str) -> None:
    slices = images(
        along(24), lambda i: {"series_uid": f"{series_uid}{i}" if series_uid else "", "study_uid": f"3.{i}"}
    )
    assert sizes(slices) == [(24, ("series_uids=24",))]


def test_a_study_for_each_image_of_two_days_is_two() -> None:
    slices = images(
        along(24), lambda i: {"series_uid": f"2.{i}", "study_uid": f"3.{i}", "study_time": f"2020010{1 + i // 12}"}
    )
    assert sizes(slices) == [(12, ("series_uids=12",))] * 2


@pytest.mark.parametrize("other", [
    {"kernel": "B70f"},
    {"manufacturer": "Acme"},
    {"words": ABDOMEN},
    {"study_uid": "9"},
    {"rows": 256},
    {"pixel_spacing_mm": (0.9, 0.9)},
    {"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)},
])  # fmt: skip
def test_series_of_one_image_each_that_differ_stay_apart(other: dict[str, Any]) -> None:
    one = images(along(24), lambda i: {"series_uid": f"2.{i}"})
    two = images(along(24), lambda i: {"series_uid": f"3.{i}", "position_mm": 2.5 * i, **other})
    assert sorted(sizes(one + two)) == [(24, ("series_uids=24",))] * 2


def test_passes_with_a_series_for_each_image_are_told_apart() -> None:
    slices = images(along(24), lambda i: {"series_uid": f"2.{i}"})
    slices += images(along(24, start=1.25), lambda i: {"series_uid": f"3.{i}"}, acquisition_number=2)
    assert sizes(slices) == [(24, ("passes=2", "series_uids=48"))] * 2


@pytest.mark.parametrize("at", [
    [26.0] * 20,  # bolus tracking
    along(3),
    [0.0, 130.0, 210.0, 400.0, 405.0],  # key images
])  # fmt: skip
def test_series_of_one_image_that_are_no_stack_stay_apart(at: list[float]) -> None:
    slices = images(at, lambda i: {"series_uid": f"2.{i}"})
    assert sizes(slices) == [(1, ())] * len(at)


def test_a_series_of_one_image_beside_the_scan_stays_apart() -> None:
    slices = images(along(24)) + images([26.0, 30.0], lambda i: {"series_uid": f"2.{i}"})
    assert sorted(sizes(slices)) == [(1, ()), (1, ()), (24, ())]


# One scan sent as several series.


@pytest.mark.parametrize("pieces", [2, 3])
@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("frame_of_reference", ["none", "one", "one an image"])
def test_neighbouring_series_are_joined(pieces: int, missing: int, frame_of_reference: str) -> None:
    frames = {"none": "", "one": "5.1"}
    slices = [
        image
        for piece in range(pieces)
        for image in images(
            along(12, start=2.5 * piece * (12 + missing)),
            lambda i, piece=piece: {  # type: ignore[misc]
                "frame_of_reference_uid": frames.get(frame_of_reference, f"5.{piece}.{i}")
            },
            series_uid=f"2.{piece}",
            words=CHEST,
        )
    ]
    assert sizes(slices) == [(12 * pieces, (f"joined_series={pieces}",))]


@pytest.mark.parametrize("rest", [1, 2, 3])
def test_the_last_few_slices_may_be_a_series_of_their_own(rest: int) -> None:
    lower = images(along(rest, start=-2.5 * rest), series_uid="1.2")
    upper = images(along(rest, start=60.0), series_uid="1.3")
    assert sizes(lower + images(along(24)) + upper) == [(24 + 2 * rest, ("joined_series=3",))]
    assert len(sizes(images(along(24)) + images([63.0], series_uid="1.2"))) == 2


@pytest.mark.parametrize("other", [
    {"words": ABDOMEN},
    {"kernel": "B70f"},
    {"manufacturer": "Acme"},
    {"study_uid": "9"},
    {"study_uid": "", "study_time": "20200102"},
    {"frame_of_reference_uid": "5.2"},
    {"contrast_agent": "agent"},
    {"image_type": ("DERIVED", "PRIMARY", "AXIAL")},
    {"rescale_type": "HU_MOD"},
    {"slice_thickness_mm": 5.0},
    {"rows": 256},
    {"pixel_spacing_mm": (0.8, 0.8)},
    {"orientation": (0.9998, 0.02, 0.0, -0.02, 0.9998, 0.0)},
])  # fmt: skip
def test_neighbouring_series_that_differ_are_two_scans(other: dict[str, Any]) -> None:
    known: dict[str, Any] = {"words": CHEST, "frame_of_reference_uid": "5.1", "slice_thickness_mm": 2.5}
    slices = images(along(24), **known) + images(along(24, start=60.0), **known | {"series_uid": "1.2"} | other)
    assert sorted(sizes(slices)) == [(24, ())] * 2


@pytest.mark.parametrize("at", [
    along(24, start=52.5),  # they overlap
    along(24, start=56.0),  # they overlap, and share no slice
    along(24, start=58.0),  # too close to be the next slice
    along(24, start=67.5),  # too far
    along(24, start=1.25),  # another pass
    along(24, 5.0, start=60.0),
])  # fmt: skip
def test_series_that_are_no_neighbours_stay_apart(at: list[float]) -> None:
    assert sizes(images(along(24)) + images(at, series_uid="1.2")) == [(24, ())] * 2


@pytest.mark.parametrize("shared", [1, 2])
@pytest.mark.parametrize("more", [-4, 4])
def test_neighbours_may_share_two_slices(shared: int, more: int) -> None:
    lower = images(along(24))
    upper = images(along(24 + more, start=2.5 * (24 - shared)), series_uid="1.2", acquisition_number=2)
    (candidate,) = candidates(lower + upper)
    assert sorted(image.position_mm for image in candidate.slices) == along(48 + more - shared)
    assert candidate.notes == ("joined_series=2",)
    larger = 1 if more < 0 else 2
    assert sum(image.acquisition_number == larger for image in candidate.slices) == 24 + max(more, 0)


def test_pieces_that_all_share_slices() -> None:
    slices = [image for k in range(4) for image in images(along(10, start=22.5 * k), series_uid=f"1.{k}")]
    assert sizes(slices) == [(37, ("joined_series=4",))]


def test_series_that_jump_sideways_stay_apart() -> None:
    slices = images(along(24))
    slices += [image(z, image_position=(-118.0, -118.0, z), series_uid="1.2") for z in along(24, start=60.0)]
    assert sizes(slices) == [(24, ())] * 2


def test_where_two_series_go_on_nothing_shows_which_is_the_scan() -> None:
    slices = images(along(24)) + images(along(24, start=60.0), series_uid="1.2")
    slices += images(along(24, start=60.0), series_uid="1.3")
    assert sizes(slices) == [(24, ())] * 3


def test_what_was_left_out_of_each_piece_adds_up() -> None:
    lower = [*images(along(24)), image(None), *images([1.0], rows=100)]
    upper = [*images(along(24, start=60.0), series_uid="1.2"), image(None, series_uid="1.2")]
    assert sizes(lower + upper) == [(48, ("joined_series=2", "no_position=2", "other_size=1"))]


def test_pieces_of_a_tilted_scan_are_joined() -> None:
    tilted = (*AXIAL[:4], 0.94, 0.3412)
    slices = images(along(24), orientation=tilted) + images(along(24, start=60.0), orientation=tilted, series_uid="1.2")
    assert sizes(slices) == [(48, ("joined_series=2",))]


def test_series_without_positions_are_not_joined() -> None:
    slices = [image(None, series_uid=uid, instance_number=i) for uid in ("1.1", "1.2") for i in range(12)]
    assert sizes(slices) == [(12, ())] * 2
