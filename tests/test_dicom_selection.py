"""Which of a patient's series is the scan: each criterion, their order, the reason in words, and a person's options."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID
from support import ct_files as make

from lungct.dicom import SeriesOptions, read_series
from lungct.dicom.anatomy import Region, region_of
from lungct.dicom.candidates import Candidate
from lungct.dicom.contrast import with_contrast
from lungct.dicom.grouping import candidates as candidates_of
from lungct.dicom.headers import read_header
from lungct.dicom.kernels import MEDIUM, SHARP, SOFT, kernel_rank
from lungct.dicom.options import NO_OPTIONS
from lungct.dicom.selection import CRITERIA, Choice, choice_notes, in_order_of_choice, ranked, steps
from lungct.dicom.slices import Encoding, Kind, Slice, Words
from lungct.dicom.spectral import Product, product
from lungct.dicom.values import number
from lungct.errors import SeriesError, UsageError

ENCODING = Encoding(make.EXPLICIT, 0, 0, 0, 1, 16, 12, 11, False)
AXIAL, CORONAL = make.AXIAL, make.CORONAL
PRIVATE = "Zyxw-secret"
"""A text that must never be written out."""


def scan(
    slices: int = 24,
    spacing: float = 2.5,
    *,
    uid: str = "1",
    first: float = 0.0,
    orientation: Any = AXIAL,
    text: str = "",
    body: str = "",
    study: str = "",
    protocol: str = "",
    columns: int = 320,
    **fields: Any,
) -> Candidate:
    """Return a series of images at even distances."""
    words = Words(body_part=body, series=text, study=study, protocol=protocol)
    return Candidate(
        tuple(
            Slice(
                path=f"{uid}/{k}",
                frame=0,
                position_mm=first + spacing * k,
                instance_number=k + 1,
                slope=1.0,
                intercept=0.0,
                rows=8,
                columns=columns,
                encoding=ENCODING,
                image_position=None,
                orientation=orientation,
                pixel_spacing_mm=(1.0, 1.0),
                series_uid=uid,
                sop_instance_uid=f"{uid}.{k}",
                words=words,
                **{"image_type": ("ORIGINAL", "PRIMARY", "AXIAL"), **fields},
            )
            for k in range(slices)
        )
    )


def mixed(candidate: Candidate, other: Candidate, share: int) -> Candidate:
    """Return a series whose first images are those of another."""
    return Candidate(other.slices[:share] + candidate.slices[share:])


def choice(*candidates: Candidate) -> Choice:
    return in_order_of_choice(candidates, NO_OPTIONS)[0]


DERIVED = ("DERIVED", "PRIMARY", "AXIAL")
GE = "GE MEDICAL SYSTEMS"

# What is right, what it must win against, and the reason.
WINS = [
    (scan(text="CHEST 2.5", body="CHEST"), scan(60, text="ABD PELVIS 2.5", body="ABDOMEN"),
     "body part chest (vs other)"),
    (scan(text="chest"), scan(60, text="Head 5.0"), "body part chest (vs other)"),
    (scan(text="Thorax 3.0"), scan(300, text="WB CTAC"), "body part chest (vs attenuation correction)"),
    (scan(text="THORAX"), scan(60), "body part chest (vs unclear)"),
    (scan(), scan(60, body="KNEE"), "body part unclear (vs other)"),
    (scan(text="CT AC 5.0"), scan(200, text="ABDOMEN"), "body part attenuation correction (vs other)"),
    (scan(text="ABDOMEN"), scan(200, text="PreMonitoring"),
     "body part other (vs localizer, bolus tracking, dose report or projection)"),
    (scan(text="LUNG SCREENING LOW DOSE"), scan(60, text="CHEST MIP 10.0", image_type=DERIVED),
     "body part chest (vs localizer, bolus tracking, dose report or projection)"),
    (scan(text="CHEST/ABD"), scan(60, text="ABD"), "body part chest (vs other)"),
    (scan(), scan(200, orientation=CORONAL), "axial (vs coronal)"),
    (scan(text="CHEST"), scan(200, text="CHEST COR", orientation=CORONAL), "body part chest (vs coronal chest)"),
    (scan(), scan(200, text="CHEST COR", orientation=CORONAL), "axial (vs coronal)"),
    (scan(text="CHEST"), scan(3, 100.0, text="CHEST"), "body part chest (vs chest, too few slices)"),
    (scan(), scan(3, 100.0), "enough slices (24 vs 3)"),
    (scan(), scan(3, 100.0, text="CHEST"), "enough slices (24 vs 3)"),
    (scan(31, 10.0), scan(58, 2.5), "300 mm coverage (vs 142.5 mm)"),
    (scan(81, 2.5), scan(300, 0.625), "200 mm coverage (vs 186.9 mm)"),
    (scan(), scan(60, 1.0, columns=160), "320 mm wide (vs 160 mm)"),
    (scan(25), scan(columns=500), "most slices (25 vs 24)"),
    (scan(121, 2.5), scan(51, 5.0), "2.5 mm spacing (vs 5 mm)"),
    (scan(61, 5.0), scan(41, 7.5), "5 mm spacing (vs 7.5 mm)"),
    (scan(48, 1.25, image_type=DERIVED), scan(5, 15.0), "1.25 mm spacing (vs 15 mm)"),
    (scan(101, 3.0, kernel="STANDARD", manufacturer=GE), scan(301, 1.0, kernel="LUNG", manufacturer=GE),
     "soft kernel (vs sharp)"),
    (scan(kernel="STANDARD", manufacturer=GE), scan(25, kernel="LUNG", manufacturer=GE), "soft kernel (vs sharp)"),
    (scan(kernel="Br38d\\3"), scan(kernel="Bl57d\\3"), "soft kernel (vs sharp)"),
    (scan(kernel="XYZ"), scan(60, 1.0, kernel="LUNG"), "medium or unknown kernel (vs sharp)"),
    (scan(), scan(25, contrast_agent="OMNIPAQUE"), "without contrast (vs with)"),
    (scan(text="CHEST W/O", contrast_agent="IV"), scan(25, text="CHEST", contrast_agent="IV"),
     "without contrast (vs with)"),
    (scan(), scan(40, 1.5, image_type=(*DERIVED, "VMI"), rescale_type="HU"), "original (vs derived)"),
    (scan(image_type=()), scan(25, image_type=DERIVED), "ImageType not stated (vs derived)"),
    (scan(), scan(25, image_type=()), "original (vs ImageType not stated)"),
    (scan(), scan(25, image_type=("ORIGINAL", "PRIMARY", "AXIAL", "VMI")), "plain (vs virtual monoenergetic)"),
    (scan(25), scan(24), "most slices (25 vs 24)"),
    (scan(study_time="20200101120000.5"), scan(study_time="20210101"), "earlier study"),
    (scan(study_time="20200101"), scan(), "earlier study"),
    (scan(uid="1"), scan(uid="2"), ""),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "reason"), WINS, ids=[reason for *_, reason in WINS])
def test_each_criterion_decides_and_says_so(right: Candidate, wrong: Candidate, reason: str) -> None:
    wrong = Candidate(tuple(replace(image, series_uid=wrong.series_uid + ".9") for image in wrong.slices))
    for order in ((right, wrong), (wrong, right)):
        chosen = choice(*order)
        assert chosen.candidate is right
        assert chosen.reason == (f"best of 2 CT series: {reason}" if reason else "first of 2 equal CT series")


def test_the_only_series_is_chosen_and_said_to_be_the_only_one() -> None:
    assert choice(scan(text="HEAD")).reason == "the only CT series"


def test_the_reason_names_every_criterion_that_decided_against_a_series() -> None:
    chosen = choice(
        scan(text="CHEST", uid="1"),
        scan(20, text="CHEST", uid="2"),
        scan(text="CHEST", uid="3", kernel="LUNG"),
        scan(60, text="ABD", uid="4"),
        scan(60, uid="5"),
    )
    assert chosen.candidate.series_uid == "1"
    assert chosen.reason == (
        "best of 5 CT series: body part chest (vs unclear), 57.5 mm coverage (vs 47.5 mm), "
        "medium or unknown kernel (vs sharp)"
    )


def test_a_reason_stays_short_and_contains_no_text_of_a_file() -> None:
    best = scan(121, text="CHEST", uid="0", study_time="20200101", kernel="STANDARD")
    rivals = [
        scan(121, text="ABD " + PRIVATE),
        scan(121, text="CHEST", orientation=CORONAL),
        scan(10, text="CHEST"),
        scan(61, 5.0, text="CHEST"),
        scan(121, text="CHEST", kernel=PRIVATE),
        scan(121, text="CHEST", kernel="STANDARD", contrast_agent=PRIVATE),
        scan(121, text="CHEST", kernel="STANDARD", image_type=DERIVED),
        scan(121, text="CHEST", kernel="STANDARD", rescale_type="HU_MOD"),
        scan(121, text="CHEST", kernel="STANDARD", image_type=("ORIGINAL", "PRIMARY", "AXIAL", "VMI")),
        scan(120, text="CHEST", kernel="STANDARD"),
        scan(121, text="CHEST", kernel="STANDARD", study_time="20200102"),
        best,
    ]
    for chosen in in_order_of_choice(rivals, SeriesOptions(series_exclude=PRIVATE)):
        assert len(chosen.reason) <= 200
        assert PRIVATE not in chosen.reason
        assert "2020" not in chosen.reason
    assert "soft kernel, without contrast, original, plain, most slices (121), earlier study" in choice(*rivals).reason


CHARACTERISTICS = st.fixed_dictionaries(
    {
        "slices": st.integers(1, 8),
        "spacing": st.sampled_from([1.0, 3.0, 4.0, 12.0, 60.0]),
        "orientation": st.sampled_from([AXIAL, CORONAL, None]),
        "text": st.sampled_from(["", "CHEST", "ABD", "CTAC", "SCOUT", "CHEST MIP", "CARDIAC"]),
        "kernel": st.sampled_from([None, "STANDARD", "LUNG"]),
        "contrast_agent": st.sampled_from(["", "IV"]),
        "image_type": st.sampled_from([(), ("ORIGINAL", "PRIMARY"), DERIVED, (*DERIVED, "VMI")]),
        "study_time": st.sampled_from(["", "20200101", "20210101"]),
        "uid": st.sampled_from(["", "1", "2"]),
    }
)


@settings(max_examples=60)
@given(st.lists(CHARACTERISTICS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_choice_depends_on_neither_order_nor_names(series: list[dict[str, Any]], random: Random) -> None:
    candidates = [scan(**values) for values in series]
    renamed = [
        Candidate(tuple(replace(image, path=f"{random.random()}") for image in random.sample(c.slices, len(c.slices))))
        for c in random.sample(candidates, len(candidates))
    ]
    one, other = (in_order_of_choice(found, NO_OPTIONS) for found in (candidates, renamed))
    assert [found.reason for found in one] == [found.reason for found in other]
    for ours, theirs in zip(one, other, strict=True):
        assert {replace(p, path="") for p in ours.candidate.slices} == {
            replace(p, path="") for p in theirs.candidate.slices
        }


@settings(max_examples=60)
@given(st.lists(CHARACTERISTICS, min_size=2, max_size=6))
def test_the_first_is_at_least_as_good_as_any_other_in_the_order_of_the_criteria(series: list[dict[str, Any]]) -> None:
    candidates = [scan(**values) for values in series]
    first, *others = (tuple(criterion.rank(c) for criterion in CRITERIA) for c in ranked(candidates))
    assert all(first <= other for other in others)


def test_empty_uids_are_told_apart_by_what_the_headers_contain() -> None:
    soft, other = scan(uid="", kernel="XA"), scan(uid="", kernel="XB")
    same_names = [
        Candidate(tuple(replace(image, sop_instance_uid="", path=f"{k}") for k, image in enumerate(found.slices)))
        for found in (soft, other)
    ]
    for order in (same_names, same_names[::-1]):
        assert choice(*order).candidate.kernel == "XA"


def test_later_choices_are_for_presets_that_find_no_lungs() -> None:
    first, second, third, fourth = in_order_of_choice(
        (
            scan(80, text="CHEST", uid="1"),
            scan(60, text="CHEST", uid="2"),
            scan(120, uid="3"),
            scan(90, text="CTAC", uid="4"),
            scan(120, text="CHEST COR", uid="5", orientation=CORONAL),
            scan(3, text="CHEST", uid="6"),
            scan(120, text="HEAD", uid="7"),
            scan(9, text="Topogram", uid="8"),
        ),
        NO_OPTIONS,
    )
    assert [c.candidate.series_uid for c in (first, second, third, fourth)] == ["1", "2", "3", "4"]
    assert first.reason.startswith("best of 8 CT series: body part chest (vs unclear)")
    assert second.reason == "2nd choice (no lungs in the 1st); best of 3 CT series: body part chest (vs unclear)"
    assert third.reason.startswith("3rd choice (no lungs in the first 2); best of 2 CT series: body part unclear")
    assert fourth.reason == "4th choice (no lungs in the first 3); the last candidate"


def test_another_part_of_the_body_is_tried_only_if_all_are_said_to_be_one() -> None:
    names = [c.candidate.series_uid for c in in_order_of_choice((scan(text="CHEST"), scan(text="ABD")), NO_OPTIONS)]
    assert names == ["1"]
    mislabelled = (scan(60, body="HEAD", uid="1"), scan(30, body="HEAD", uid="2"))
    assert len(in_order_of_choice(mislabelled, NO_OPTIONS)) == 2


def test_every_criterion_says_what_it_sees_in_a_series() -> None:
    seen = dict(steps(scan(48, 1.25, text="CHEST", kernel="Bl57", contrast_agent="IV", image_type=(*DERIVED, "VMI"))))
    assert list(seen) == [criterion.name for criterion in CRITERIA]
    assert seen == {
        "body part": "chest",
        "plane": "axial",
        "enough slices": "48",
        "extent": "58.75 mm",
        "width": "320 mm",
        "spacing": "1.25 mm",
        "kernel": "sharp",
        "contrast": "with",
        "origin": "derived",
        "product": "virtual monoenergetic",
        "slices": "48",
        "study": "undated",
    }
    unknown = scan(5, text=PRIVATE, kernel=PRIVATE)
    unplaced = Candidate(tuple(replace(image, position_mm=math.nan, orientation=None) for image in unknown.slices))
    assert dict(steps(unplaced))["spacing"] == dict(steps(unplaced))["extent"] == "unknown"
    assert not any(PRIVATE in value for _, value in steps(unknown))


def test_spacing_is_measured_and_thickness_is_used_only_without_positions() -> None:
    overlapping = scan(slice_thickness_mm=5.0)
    assert overlapping.spacing_mm == pytest.approx(2.5)
    unplaced = Candidate(tuple(replace(image, position_mm=math.nan) for image in overlapping.slices))
    assert unplaced.spacing_mm == 5.0
    assert unplaced.extent_mm == 23 * 5.0
    doubled = Candidate(overlapping.slices + overlapping.slices)
    assert doubled.spacing_mm == pytest.approx(2.5)
    assert doubled.extent_mm == overlapping.extent_mm


@pytest.mark.parametrize(("share", "is_other"), [(4, False), (12, False), (16, True)])
def test_most_images_speak_for_a_series(share: int, is_other: bool) -> None:
    plain = scan(text="CHEST")
    for other, seen in (
        (scan(image_type=DERIVED, text="CHEST"), lambda c: c.original == "derived"),
        (scan(text="ABD"), lambda c: c.region is Region.OTHER_PART),
        (scan(text="CHEST", contrast_agent="IV"), lambda c: c.contrast),
        (scan(text="CHEST", rescale_type="HU_MOD"), lambda c: c.product is Product.MATERIAL),
    ):
        assert bool(seen(mixed(plain, other, share))) == is_other


def test_notes_follow_from_the_chosen_series() -> None:
    assert choice_notes(scan()) == ()
    assert choice_notes(scan(image_type=())) == ()
    assert choice_notes(scan(image_type=DERIVED)) == ("derived",)
    assert choice_notes(scan(image_type=("ORIGINAL", "PRIMARY", "AXIAL", "VMI"))) == ("virtual",)
    assert choice_notes(scan(image_type=(*DERIVED, "MAT_REMOVED"), rescale_type="HU_MOD")) == ("derived", "virtual")
    assert choice_notes(mixed(scan(), scan(image_type=DERIVED), 5)) == ()


def test_the_choice_among_thousands_of_images_takes_no_time() -> None:
    found = [scan(1500, 0.25, text=f"CHEST {k}", uid=f"{k}", kernel="LUNG", study_time="2020") for k in range(2)]
    start = time.perf_counter()
    in_order_of_choice(found, NO_OPTIONS)
    assert time.perf_counter() - start < 0.5  # 0.03 s on an idle machine


CHEST_TEXTS = ["CHEST 2.5", "Thorax  1.0  B31f", "thorax", "TÓRAX", "胸部平扫", "TORACE", "POUMON", "Lunge 3mm", "THX",
               "HRCT", "LUNG", "C/A/P", "TAP", "CAP W CON", "ThorAbd 1.0", "CHESTABDPELVIS", "LUNG EMBOLISM", "CTPA",
               "CHEST LUNG WINDOW", "1PETCT_WholeBody", "SKULL TO THIGH", "THORACO-ABDOMINAL", "CHEST^ROUTINE (ADULT)",
               "NECK/CHEST", "ОГК", "흉부", "Keuhkot", "Mellkas natív", "ΘΩΡΑΚΑΣ", "الصدر", "Pulmão"]  # fmt: skip
OTHER_TEXTS = ["HEAD", "Schädel nativ", "SCHAEDEL", "CRANE", "brain 5.0", "NECK", "ABD", "ABD/PEL", "AbdRoutine",
               "LIVER", "THORACIC SPINE", "T-SPINE", "BWS", "L SPINE", "KNEE", "ABD LUNG WINDOW", "LUNG BASES ABDOMEN",
               "HRCT TEMPORAL BONE", "腹部", "FOIE", "Schedel", "Hoved", "Üst Batın", "Cráneo", "ОБП"]  # fmt: skip
NO_SCAN_TEXTS = ["SCOUT", "Topogram 0.6 T20f", "Surview", "LOCALIZER", "Dose Report", "DOSE INFO", "Patient Protocol",
                 "Smart Prep", "TEST BOLUS", "Bolus tracking", "PreMonitoring", "Monitoring CHEST", "Tracker",
                 "THORAX MIP 8.0", "MinIP lung", "Rapport dose."]  # fmt: skip
CORRECTION_TEXTS = [
    "CTAC",
    "WB CTAC",
    "CT AC",
    "CT Atten Cor Head In 3.75thk",
    "ATTN CORR",
    "Chest attenuation correction",
]
NOTHING_TEXTS = ["", "AHEAD", "Abdul", "MANCHESTER", "AX 5mm", "No series description", "LOW DOSE", "Body 5.0",
                 "BRAINTREE", "SLUNG", "ACTIVE", "HEAD FIRST SUPINE", "2.5", "SCOUTING"]  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "region"),
    [
        (CHEST_TEXTS, Region.CHEST),
        (OTHER_TEXTS, Region.OTHER_PART),
        (NO_SCAN_TEXTS, Region.NO_SCAN),
        (CORRECTION_TEXTS, Region.ATTENUATION_CORRECTION),
        (NOTHING_TEXTS, Region.UNCLEAR),
        (["CaScore 3.0", "CORONARY CTA", "Herz"], Region.HEART),
    ],
)
def test_what_a_description_names(texts: list[str], region: Region) -> None:
    assert {text: region_of(Words(series=text), None, ()) for text in texts} == dict.fromkeys(texts, region)


@settings(max_examples=50)
@given(
    st.sampled_from(["CHEST", "HEAD", "ABD", "SCOUT", "CTAC", "LUNG", "MIP"]),
    st.text("BDFGJKQXZ", min_size=1, max_size=4),
    st.sampled_from([str.upper, str.lower, str.title]),
)
def test_words_are_found_as_words_in_any_case_and_never_inside_others(word: str, letters: str, case: Any) -> None:
    alone = region_of(Words(series=word), None, ())
    assert alone is not Region.UNCLEAR
    assert region_of(Words(series=case(f"12_{word}-{letters}")), None, ()) is alone
    assert region_of(Words(series=case(letters + word)), None, ()) is Region.UNCLEAR


@pytest.mark.parametrize(
    ("words", "region"),
    [
        (Words(series="ABD", body_part="CHEST", study="CT CHEST"), Region.OTHER_PART),
        (Words(series="CHEST", body_part="HEAD"), Region.CHEST),
        (Words(series="AX 5", body_part="TH CT CHEST WO C"), Region.CHEST),
        (Words(series="AX 5", body_part="HEAD"), Region.OTHER_PART),
        (Words(series="AX 5", body_part="ABDOMEN", study="CT CHEST ABDOMEN PELVIS"), Region.UNCLEAR),
        (Words(series="AX 5", study="CT CHEST ABDOMEN PELVIS"), Region.CHEST),
        (Words(series="AX 5", protocol="5.5 CHEST/ABD/PEL", study="CT"), Region.CHEST),
        (Words(study="CT HEAD"), Region.OTHER_PART),
        (Words(series="LUNG 1.25", body_part="ABDOMEN"), Region.CHEST),
        (Words(study="SCOUT CAMP CTAC"), Region.UNCLEAR),
    ],
)
def test_which_text_counts_most(words: Words, region: Region) -> None:
    assert region_of(words, None, ()) is region


def test_the_name_of_a_kernel_in_a_description_names_no_part_of_the_body() -> None:
    assert region_of(Words(series="ABD PEL LUNG"), "LUNG", ()) is Region.OTHER_PART
    assert region_of(Words(series="LUNG 1.25", body_part="ABDOMEN"), "LUNG", ()) is Region.UNCLEAR
    assert region_of(Words(series="LUNG 1.25"), "LUNG", ()) is Region.CHEST
    assert region_of(Words(series="CHEST LUNG"), "LUNG", ()) is Region.CHEST


def test_a_projection_is_known_by_image_type_too() -> None:
    assert region_of(Words(series="CHEST"), None, ("DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 MIP")) is Region.NO_SCAN


@pytest.mark.parametrize(
    ("maker", "name", "rank"),
    [
        (GE, "STANDARD", SOFT),
        (GE, "SOFT", SOFT),
        (GE, "HD STND", SOFT),
        (GE, "CHST", MEDIUM),
        (GE, "DETAIL", MEDIUM),
        (GE, "BONEPLUS", SHARP),
        ("GE HEALTHCARE", "BONE+", SHARP),
        (GE, "LUNG", SHARP),
        (GE, "B", MEDIUM),
        ("Agfa-Gevaert", "CHEST", MEDIUM),
        ("Agfa-Gevaert", "STANDARD", SOFT),
        ("Imaging Group", "E", MEDIUM),
        ("SIEMENS", "B30f", SOFT),
        ("SIEMENS", "B45f", MEDIUM),
        ("SIEMENS", "B70f", SHARP),
        ("SIEMENS", "I31f\\3", SOFT),
        ("Siemens Healthineers", "Br38f\\3", SOFT),
        ("Siemens Healthineers", "Br40d\\3", SOFT),
        ("SIEMENS", "Bv44d", MEDIUM),
        ("SIEMENS", "Qr77", SHARP),
        ("SIEMENS", "Hr60f", SHARP),
        ("Philips", "B", SOFT),
        ("Philips", "C", MEDIUM),
        ("Philips", "YA", SHARP),
        ("Philips", "L", SHARP),
        ("Philips", "IMR1 Sharp Plus", SHARP),
        ("TOSHIBA", "FC08", SOFT),
        ("TOSHIBA", "FC18-H", SOFT),
        ("CANON_MEC", "FC08-H", SOFT),
        ("CANON_MEC", "FL03", SOFT),
        ("CANON_MEC", "BODY_STANDARD", SOFT),
        ("CANON_MEC", "BODY", SOFT),
        ("Canon Medical Systems", "BODY_SHARP", MEDIUM),
        ("Canon Medical Systems", "LUNG", SHARP),
        ("Canon Medical Systems", "FC52", SHARP),
        ("UIH", "B_SOFT_B", SOFT),
        ("UIH", "B_SHARP_C", SHARP),
        ("United Imaging", "B_VSHARP_C", SHARP),
        (None, "Br40", SOFT),
        (None, "Bl64d", SHARP),
        (None, "B30f", SOFT),
        (None, "FC51", SHARP),
        (None, "FC13", SOFT),
        (None, "STANDARD", SOFT),
        (None, "LUNG", SHARP),
        (None, "BONE+", SHARP),
        (None, "B", MEDIUM),
        (None, None, MEDIUM),
    ],
)
def test_kernels(maker: str | None, name: str | None, rank: int) -> None:
    assert kernel_rank(maker, name) == rank
    assert kernel_rank(maker and maker.lower(), name and name.lower()) == rank


ORIGINAL = ("ORIGINAL", "PRIMARY", "AXIAL")
PRODUCTS = [
    (ORIGINAL, "", "", Product.PLAIN),
    (ORIGINAL, "HU", "", Product.PLAIN),
    (ORIGINAL, "US", "CHEST IODINE CONTRAST", Product.PLAIN),
    (ORIGINAL, "HOUNSFIELD", "", Product.PLAIN),
    (ORIGINAL, "Hounsfield Units", "", Product.PLAIN),
    (ORIGINAL, "H.U.", "", Product.PLAIN),
    (("ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM7 SPI DUAL", "STD", "SNRG"), "HU", "DE_Thorax 1.0", Product.PLAIN),
    ((*DERIVED, "VMI"), "HU", "", Product.MONOENERGETIC),
    (DERIVED, "", "MonoE 40keV[HU]", Product.MONOENERGETIC),
    ((*DERIVED, "MAT_REMOVED"), "HU", "", Product.MATERIAL),
    ((*DERIVED, "MAT_MODIFIED"), "", "", Product.MATERIAL),
    (DERIVED, "HU_MOD", "", Product.MATERIAL),
    (DERIVED, "HU*", "", Product.MATERIAL),
    (DERIVED, "HU", "VNC 3.0", Product.MATERIAL),
    ((*DERIVED, "MAT_SPECIFIC"), "HU", "", Product.MATERIAL),
    ((*DERIVED, "MAT_SPECIFIC"), "US", "", Product.MAP),
    ((*DERIVED, "MAT_SPECIFIC"), "", "", Product.MAP),
    ((*DERIVED, "IODINE"), "", "", Product.MAP),
    ((*ORIGINAL, "EFF_ATOMIC_NUM"), "", "", Product.MAP),
    ((*ORIGINAL, "EFF_ATOMIC_NUM"), "HU", "", Product.MAP),
    ((*ORIGINAL, "ELECTRON_DENSITY"), "US", "", Product.MAP),
    ((*DERIVED, "MAT_FRACTIONAL"), "", "", Product.MAP),
    ((*DERIVED, "MAT_VALUE_BASED"), "", "", Product.MAP),
    (DERIVED, "US", "Iodine Density[mg/ml]", Product.MAP),
    (DERIVED, "", "Z Effective", Product.MAP),
    (DERIVED, "Z_EFF", "", Product.MAP),
    (DERIVED, "MGML", "", Product.MAP),
    (DERIVED, "%", "", Product.MAP),
]


@pytest.mark.parametrize(("image_type", "rescale_type", "description", "expected"), PRODUCTS)
def test_what_an_image_is_made_of(
    image_type: tuple[str, ...], rescale_type: str, description: str, expected: Product
) -> None:
    assert product(image_type, rescale_type, description) is expected


@pytest.mark.parametrize(
    ("image_type", "rescale_type", "description", "expected"),
    [case for case in PRODUCTS if case[0][:3] in (DERIVED, ORIGINAL)],
)
def test_maps_are_no_ct_and_virtual_images_are(
    tmp_path: Path, image_type: tuple[str, ...], rescale_type: str, description: str, expected: Product
) -> None:
    tags = {"ImageType": list(image_type), "RescaleType": rescale_type or None, "SeriesDescription": description}
    (path,) = make.write_series(tmp_path, slices=1, tags=tags)
    header = read_header(path)
    assert header is not None
    assert header.kind is (Kind.PARAMETRIC if expected is Product.MAP else Kind.CT)


@pytest.mark.parametrize("agent", ["", "NONE", "none", "N", "No", "WITHOUT", "W/O", "-", "0", "NO CONTRAST", "ORAL"])
def test_agents_that_say_there_was_none(agent: str) -> None:
    assert not with_contrast(agent, "CHEST", Product.PLAIN)


@pytest.mark.parametrize("agent", ["IV", "APPLIED", "OMNIPAQUE 350", "Novomix", "Oral & IV", "100 ML ISOVUE"])
def test_agents(agent: str) -> None:
    assert with_contrast(agent, "CHEST", Product.PLAIN)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("CHEST WO CONTRAST", False), ("CHEST W/O", False), ("NON-CON", False), ("THORAX C-", False), ("nativ", False),
        ("SANS INJECTION", False), ("平扫", False), ("CHEST W CONTRAST", True), ("THORAX C+", True), ("ARTERIAL", True),
        ("mit KM", True), ("CHEST W/ & W/O", None), ("CHEST W", None), ("C-SPINE", None), ("POST OP", None), ("", None),
    ],
)  # fmt: skip
def test_a_description_that_speaks_of_contrast_outweighs_the_agent(description: str, expected: bool | None) -> None:
    for agent in ("", "IV"):
        said = bool(agent) if expected is None else expected
        assert with_contrast(agent, description, Product.PLAIN) == said


def test_a_virtual_non_contrast_image_was_made_with_contrast() -> None:
    with_agent, virtual = scan(contrast_agent="IV"), scan(40, 1.5, image_type=(*DERIVED, "MAT_REMOVED"), text="VNC")
    assert choice(with_agent, virtual).candidate is with_agent


# From files to the chosen series.


def write_two(at: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    make.write_series(at / "one", **{"series": "1", "slices": 6, "rows": 16, "columns": 16, **one})
    make.write_series(at / "other", **{"series": "2", "slices": 9, "rows": 16, "columns": 16, "seed": 90, **other})


def chosen(at: Path, **options: str) -> str:
    return Path(read_series(at, **options).slices[0].path).parent.name


def test_texts_of_files_choose_the_chest(tmp_path: Path) -> None:
    write_two(
        tmp_path,
        {"tags": {"SpecificCharacterSet": "ISO_IR 192", "SeriesDescription": "胸部"}},
        {"tags": {"BodyPartExamined": "ABDOMEN"}},
    )
    assert chosen(tmp_path) == "one"
    reason = read_series(tmp_path).reason
    assert reason == "best of 2 CT series: body part chest (vs other)"


def test_a_person_can_say_which_series(tmp_path: Path) -> None:
    one = {"SeriesDescription": "Thorax 1.0 Br40", "BodyPartExamined": "CHEST"}
    write_two(tmp_path, {"tags": one}, {"tags": {"SeriesDescription": "Thorax 3.0 Bl57", "BodyPartExamined": "LUNG"}})
    assert chosen(tmp_path, series_include="3.0 bl") == "other"
    assert chosen(tmp_path, series_exclude="BR40") == "other"
    assert chosen(tmp_path, series_exclude="bl57") == "one"
    assert chosen(tmp_path, body_part="lung") == "other"
    assert chosen(tmp_path, series_include="thorax", body_part="chest") == "one"
    reason = read_series(tmp_path, series_include="3.0").reason
    assert reason == "the only one of 2 CT series that fits the options"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"series_include": PRIVATE}, "none of the 2 CT series fits --series-include"),
        ({"series_exclude": "thorax"}, "none of the 2 CT series fits --series-exclude"),
        (
            {"series_include": "thorax", "body_part": "x"},
            "none of the 2 CT series fits --series-include and --body-part",
        ),
    ],
)
def test_options_that_no_series_fits(tmp_path: Path, options: dict[str, str], sentence: str) -> None:
    write_two(tmp_path, {"tags": {"SeriesDescription": "Thorax"}}, {"tags": {"SeriesDescription": "THORAX"}})
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path, **options)
    assert caught.value.code == "no_series"
    assert caught.value.message == sentence


@pytest.mark.parametrize(("share", "fits"), [(11, False), (12, False), (13, True)])
def test_most_images_of_a_series_must_fit(share: int, fits: bool) -> None:
    candidate = mixed(scan(), scan(text="Lung"), share)
    other = scan(uid="2", text="Lung", body="x")
    found = in_order_of_choice((candidate, other), SeriesOptions(series_include="LUNG"))
    assert (len(found) == 2) == fits


@pytest.mark.parametrize("name", ["series_include", "series_exclude", "body_part", "volume"])
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_option_is_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is empty"):
        read_series(tmp_path, **{name: text})


# Numbers and frames.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        ("0,703125", 0.703125),
        ("-1,5", -1.5),
        ("1,024.5", None),
        ("1,2,3", None),
        (",", None),
        ("x", None),
    ],
)
def test_a_comma_is_a_decimal_point(text: str, value: float | None) -> None:
    assert number(text) == value


def raw(path: Path, keyword: str, old: str, new: str) -> None:
    """Replace the text of an element in a file, which pydicom would refuse to write."""
    data = path.read_bytes()
    before = old.encode().ljust(len(old) + len(old) % 2)
    after = new.encode().ljust(len(before))
    assert data.count(before) >= 1, keyword
    assert len(after) == len(before)
    path.write_bytes(data.replace(before, after, 1))


def test_decimal_commas_in_files(tmp_path: Path) -> None:
    (path,) = make.write_series(tmp_path, slices=1, spacing=(0.703125, 0.703125), intercept=-1024.5)
    raw(path, "PixelSpacing", "0.703125\\0.703125", "0,703125\\0,703125")
    raw(path, "RescaleIntercept", "-1024.5", "-1024,5")
    (image,) = read_series(path).slices
    assert image.pixel_spacing_mm == (0.703125, 0.703125)
    assert image.intercept == -1024.5


@pytest.mark.parametrize(("text", "value"), [("-1,024", None), ("1,000", None), ("0,500", 0.5), ("-1,02", -1.02)])
def test_a_rescale_that_may_be_thousands_is_no_number(tmp_path: Path, text: str, value: float | None) -> None:
    (path,) = make.write_series(tmp_path, slices=1, intercept=-99999)
    raw(path, "RescaleIntercept", "-99999", text)
    if value is not None:
        assert read_series(path).slices[0].intercept == value
        return
    with pytest.raises(SeriesError, match="RescaleIntercept of an image is not a number") as caught:
        read_series(path)
    assert caught.value.code == "undecodable"


def multi_frame(path: Path, frames: int, **tags: Any) -> tuple[Slice, ...]:
    """Write a file of several frames whose functional groups, if any, are in ``tags``, and return its images."""
    pixels = np.stack([make.noise(8, 8, seed=k) for k in range(frames)])
    image = make.ct_image(pixels, instance=7, position=(0.0, 0.0, 5.0), tags={"NumberOfFrames": frames, **tags})
    header = read_header(make.save(image, path))
    assert header is not None
    return header.slices


def test_frames_without_functional_groups_have_no_position_of_their_own(tmp_path: Path) -> None:
    slices = multi_frame(tmp_path / "three", 3)
    assert [image.instance_number for image in slices] == [1, 2, 3]
    assert all(math.isnan(image.position_mm) and image.image_position is None for image in slices)
    (only,) = multi_frame(tmp_path / "one", 1)
    assert only.position_mm == 5.0
    assert only.instance_number == 7


def functional_groups(frames: int, **shared: Dataset) -> dict[str, Any]:
    group = Dataset()
    make.override(group, {name: Items([item]) for name, item in shared.items()})
    return {
        "SOPClassUID": UID(make.ENHANCED_CT),
        "SharedFunctionalGroupsSequence": Items([group]),
        "PerFrameFunctionalGroupsSequence": Items(
            [
                make._item(PlanePositionSequence=Items([make._item(ImagePositionPatient=[0, 0, 2.0 * k])]))
                for k in range(frames)
            ]
        ),
    }


@pytest.mark.parametrize(("frames", "offset"), [(3, 0), (3, 12), (1, 12), (1, 70_000)])
def test_frames_of_a_concatenation_are_numbered_through(tmp_path: Path, frames: int, offset: int) -> None:
    groups = functional_groups(frames)
    slices = multi_frame(tmp_path / "x", frames, ConcatenationFrameOffsetNumber=offset, **groups)
    assert [image.instance_number for image in slices] == [offset + k + 1 for k in range(frames)]
    assert [image.position_mm for image in slices] == [2.0 * k for k in range(frames)]


def test_the_only_frame_of_a_file_keeps_the_files_number(tmp_path: Path) -> None:
    (only,) = multi_frame(tmp_path / "x", 1, **functional_groups(1))
    assert (only.instance_number, only.position_mm) == (7, 0.0)


@pytest.mark.parametrize(
    ("frame_type", "rescale_type", "usable"),
    [
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "HOUNSFIELD", True),
        (["DERIVED", "PRIMARY", "VOLUME", "VMI"], "HU", True),
        (["DERIVED", "PRIMARY", "VOLUME", "EFF_ATOMIC_NUM"], "US", False),
        (["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "MGML", False),
    ],
)
def test_frames_that_are_maps_cannot_be_used(
    tmp_path: Path, frame_type: list[str], rescale_type: str, usable: bool
) -> None:
    groups = functional_groups(
        2,
        CTImageFrameTypeSequence=make._item(FrameType=frame_type),
        PixelValueTransformationSequence=make._item(RescaleSlope=1, RescaleIntercept=0, RescaleType=rescale_type),
    )
    slices = multi_frame(tmp_path / "x", 2, **groups)
    assert [image.fault is None for image in slices] == [usable, usable]


def test_candidates_of_files_know_all_criteria(tmp_path: Path) -> None:
    tags = {
        "SeriesDescription": "Thorax", "ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"], "ContrastBolusAgent": "IV",
        "Manufacturer": "SIEMENS", "ConvolutionKernel": "Bl57d", "StudyDate": "20200101",
    }  # fmt: skip
    headers = [read_header(path) for path in make.write_series(tmp_path, slices=5, rows=8, columns=8, tags=tags)]
    (found,) = candidates_of(image for header in headers if header for image in header.slices)
    assert [value for _, value in steps(found)] == [
        "chest", "axial", "5", "10 mm", "5.6 mm", "2.5 mm", "sharp", "with", "derived", "virtual monoenergetic", "5",
        "dated",
    ]  # fmt: skip
