"""Which persons files name, where directories separate them, and which ids reveal who they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ct_files as make

from lungct.dicom import Person, read_series
from lungct.dicom.persons import looks_like_name, names_person, separated_by_directories
from lungct.errors import SeriesError


def person(name: str, patient_id: str = "4711", *, removed: bool = False) -> Person:
    return Person(patient_id, "", name, removed)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("DOE^JOHN 19300101", "DOE^JOHN"),
        ("Doe_Jane", "DOE^JANE^M^Dr"),
        ("jane.doe.ct1", "Doe^Jane"),
        ("smith2", "SMITH^ANN"),
        ("0042-SMITH", "SMITH"),
        ("JaneDoe", "Doe^Jane"),
        ("doejane1930", "Doe^Jane"),
        ("Muller Jurgen", "MÜLLER^JÜRGEN"),
        ("MÜLLER", "Müller^Jürgen"),
        ("OBrien", "O'Brien^Pat"),
        ("Li Na", "Li^Na"),
        ("王_小红", "Wang^XiaoHong=王^小红"),
        ("王小红", "Wang^XiaoHong=王^小红"),
        ("doe/first scan", "Doe^Jane"),
        ("4711", "Doe^Jane"),
        ("4711/first scan", ""),
    ],
)
def test_an_id_that_names_a_person(text: str, name: str) -> None:
    assert names_person(text, person(name))
    assert not names_person(text, person(name, removed=True))
    assert not names_person("c0815", person(name))


@pytest.mark.parametrize(
    ("text", "name", "patient_id"),
    [
        ("siemens-acrin013", "ACRIN-FLT-Breast_013", "ACRIN-FLT-Breast_013"),
        ("siemens-acrin013", "ACRIN-FLT-Breast_013", "17"),
        ("acrin-013-flt", "ACRIN^FLT^013", "17"),
        ("lidc_0001", "LIDC-IDRI-0001", "LIDC-IDRI-0001"),
        ("ricord-coded", "RICORD-CODED", "RICORD-CODED"),
        ("anonymous1", "Anonymous", "17"),
        ("anonymized", "Anonymized^^", "17"),
        ("XXXX-3", "XXXX^XXXX", "17"),
        ("tilt-philips-head", "HEAD", "PLASTIC"),
        ("chest-phantom", "Chest^Phantom", "17"),
        ("doers", "Doe^Jane", "17"),
        ("plane-7", "Lane^Pla", "17"),
        ("na-3", "Li^Na", "17"),
        ("17b", "Doe^Jane", "17"),
        ("anything", "", ""),
    ],
)
def test_an_id_that_names_nobody(text: str, name: str, patient_id: str) -> None:
    assert not names_person(text, person(name, patient_id))


LETTERS = st.text(st.sampled_from("bdfghjkmpqrtvwxz"), min_size=3, max_size=8).filter(lambda text: len(set(text)) > 1)


@given(family=LETTERS, given_name=LETTERS, code=st.from_regex(r"[0-9]{1,8}", fullmatch=True))
def test_a_name_is_found_however_it_is_written_and_a_code_never(family: str, given_name: str, code: str) -> None:
    named = person(f"{family.upper()}^{given_name.title()}")
    for text in (f"{family}_{code}", f"{code} {given_name}, {family}", f"{given_name.title()}{family.title()}-{code}"):
        assert names_person(text, named)
        assert not names_person(text, person(f"{family}^{given_name}{code}"))
    assert looks_like_name(f"{family}^{given_name} {code}")
    assert not looks_like_name(f"{family} {given_name} {code}")
    assert not looks_like_name(f"{family}{code}^{code}")


def test_names_of_protocols_do_not_look_like_names_of_people() -> None:
    for text in ("Thorax^Routine", "Anonymous^Patient", "Head^Neck", "a^b", "CHEST^"):
        assert not looks_like_name(text)
    assert looks_like_name("scans/DOE^JOHN 19300101/first")


def test_directories_may_separate_persons() -> None:
    a, b, nobody = ("A", ""), ("B", ""), ("", "")
    assert separated_by_directories({"/x/1/i": a, "/x/2/i": b, "/x/2/deep/j": b})
    assert separated_by_directories({"/x/y/1/i": a, "/x/y/1/j": nobody, "/x/y/2/i": b, "/x/z/i/j": b})
    assert not separated_by_directories({"/x/1/i": a, "/x/2/i": b, "/x/i": a})
    assert not separated_by_directories({"/x/1/i": a, "/x/1/j": b, "/x/2/i": b})
    assert not separated_by_directories({"/x/i": a, "/x/j": b})
    # A PatientID without issuer is that of the only issuer (persons_by_identity).
    assert separated_by_directories({"/x/1/i": a, "/x/1/j": ("A", "clinic"), "/x/2/i": b})


@pytest.mark.parametrize(
    ("names", "offered"),
    [
        (lambda person, i: f"{person}/IM{i}", True),
        (lambda person, i: f"export/{person}/series/IM{i}", True),
        (lambda person, i: f"{person}{i}", False),
        (lambda person, i: f"{i}/{person}", False),
    ],
)
def test_several_persons_are_told_of_depth_where_it_separates_them(
    tmp_path: Path, names: Callable[[str, int], str], offered: bool
) -> None:
    for who in ("A", "B"):
        for number, path in enumerate(
            make.write_series(tmp_path / "made" / who, slices=4, rows=32, columns=32, patient_id=who)
        ):
            place = tmp_path / "patient" / names(who, number)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
    with pytest.raises(SeriesError, match="the files name 2 persons") as caught:
        read_series(tmp_path / "patient")
    assert caught.value.code == "several_persons"
    assert ("--depth" in str(caught.value)) == offered
    assert "--by-patient-id" in str(caught.value)
