"""Which files are a patient's: links, and what may stand in an image's place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ct_files as make

from lungct.dicom import discovery, read_series
from lungct.dicom.discovery import DANGLING, HIDDEN, OTHER_PATIENTS, UPWARDS, FileListing, find_files, first_files
from lungct.errors import SeriesError, StorageError, UsageError
from lungct.inspection import describe
from lungct.sandbox import Sandbox


def files_of(listing: FileListing, patient: Path) -> list[str]:
    return [os.path.relpath(path, patient) for path in listing.files]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Patients a and b, the two scans of a person p, and a store outside, each directory with a file of its name."""
    for name in ("src/a", "src/a/sub", "src/b", "src/b/sub", "src/p/one", "src/p/two", "out/store", "out/store/sub"):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        (directory / name.replace("/", "-")).write_text(name)
    return tmp_path / "src"


@dataclass(frozen=True)
class Link:
    """A link in a patient's directory: its target, what it adds or as what it is passed over."""

    target: str
    adds: tuple[str, ...] = ()
    passed: str | None = None


LINKS = {
    "another patient": Link("../b", passed=OTHER_PATIENTS),
    "a part of another patient": Link("../b/sub", passed=OTHER_PATIENTS),
    "a scan of a person": Link("../p/one", passed=OTHER_PATIENTS),
    "the archive": Link("..", passed=UPWARDS),
    "above the archive": Link("../..", passed=UPWARDS),
    "the patient": Link("."),
    "a part of the patient": Link("sub"),
    "a store outside": Link("../../out/store", adds=("link/out-store", "link/sub/out-store-sub")),
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS.keys())
@pytest.mark.parametrize("absolute", [False, True])
def test_links_to_directories(archive: Path, link: Link, absolute: bool) -> None:
    patient = archive / "a"
    target = os.path.normpath(patient / link.target) if absolute else link.target
    (patient / "link").symlink_to(target)
    found = find_files(patient)
    own = {"src-a", "link/src-a-sub" if link.target == "sub" else "sub/src-a-sub"}
    assert set(files_of(found, patient)) == own | set(link.adds)
    assert found.passed_over == ({link.passed: 1} if link.passed else {})
    assert found.unopened == ()


def test_a_scan_of_a_person_does_not_get_the_person_s_others(archive: Path) -> None:
    patient = archive / "p" / "one"
    (patient / "prior").symlink_to("../two")
    (patient / "sibling").symlink_to("../../b")
    assert find_files(patient, archive=archive).passed_over == {OTHER_PATIENTS: 2}
    # Of one directory alone it is not known how far up its archive begins: the directory above is taken for it.
    assert files_of(find_files(patient), patient) == ["sibling/src-b", "sibling/sub/src-b-sub", "src-p-one"]


@pytest.mark.parametrize("name", ["a", "renamed"])
def test_a_patient_may_be_a_link(archive: Path, name: str) -> None:
    outside = archive.parent / "out" / "store"
    (outside / "own").symlink_to("sub")
    (outside / "prior").symlink_to(archive / "b")
    (outside / "up").symlink_to(archive)
    (archive / "linked").symlink_to(outside)
    patient = archive / "linked"
    found = find_files(patient, archive=archive)
    assert files_of(found, patient) == ["out-store", "own/out-store-sub"]
    assert found.passed_over == {OTHER_PATIENTS: 1, UPWARDS: 1}
    (archive / "same").symlink_to("b")
    assert len(find_files(archive / "same", archive=archive).files) == 2


def test_patients_that_all_are_links_do_not_get_each_other_s_files(archive: Path) -> None:
    store = archive.parent / "out"
    farm = archive.parent / "farm"
    farm.mkdir()
    for name in ("x", "y"):
        (store / name).mkdir()
        (store / name / "image").write_text(name)
        (farm / name).symlink_to(store / name)
    (store / "x" / "prior").symlink_to("../y")
    (store / "x" / "extra").symlink_to("../store")
    found = find_files(farm / "x")
    assert files_of(found, farm / "x") == ["extra/out-store", "extra/sub/out-store-sub", "image"]
    assert found.passed_over == {OTHER_PATIENTS: 1}
    (farm / "p").symlink_to(archive / "p")
    (archive / "p" / "one" / "prior").symlink_to("../two")
    found = find_files(farm / "p" / "one", archive=farm)
    assert files_of(found, farm / "p" / "one") == ["src-p-one"]
    assert found.passed_over == {OTHER_PATIENTS: 1}


def test_an_archive_that_is_one_patient_follows_its_links_outside(archive: Path) -> None:
    patient = archive / "b"
    (patient / "store").symlink_to(archive.parent / "out" / "store")
    assert len(find_files(patient, archive=patient).files) == 4


def test_each_directory_is_read_once(archive: Path) -> None:
    patient, store = archive / "a", archive.parent / "out" / "store"
    for name in ("one", "two", "sub/three"):
        (patient / name).symlink_to(store)
    (store / "sub" / "loop").symlink_to(store)
    (store / "sub" / "self").symlink_to("self")
    found = find_files(patient)
    assert files_of(found, patient) == ["one/out-store", "one/sub/out-store-sub", "src-a", "sub/src-a-sub"]
    assert found.passed_over == {DANGLING: 1}


def test_links_to_files_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    """As DataLad and git-annex write them, and as programs that remove duplicates do."""
    src = tmp_path / "src"
    made = make.write_series(tmp_path / "made", slices=6, rows=32, columns=32)
    places = ("src/.git/annex/objects/f0/aa", "src/a/.git/annex/objects/f1/bb", "src/b", "outside")
    (src / "a").mkdir(parents=True)
    for number, path in enumerate(made):
        place = tmp_path / places[number % len(places)] / f"{number}.key"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
        (src / "a" / f"{number}.dcm").symlink_to(os.path.relpath(place, src / "a"))
    assert len(read_series(src / "a")) == 6
    assert find_files(src / "a", archive=src).passed_over == {HIDDEN: 1}


def test_what_may_stand_in_an_image_s_place_is_kept(tmp_path: Path) -> None:
    patient = tmp_path / "patient"
    for name in (".hidden/x", "sub/.IM002.dcm.icloud", ".IM001.dcm.icloud", "IM000.dcm", "._IM000.dcm", "DICOMDIR"):
        (patient / name).parent.mkdir(parents=True, exist_ok=True)
        (patient / name).write_text("")
    os.mkfifo(patient / "pipe")
    os.mkfifo(patient / ".pipe")
    for name, target in (("IM003.dcm", "nowhere"), ("sub/dicomdir", "nowhere"), (".to-directory", "sub")):
        (patient / name).symlink_to(target)
    (patient / ".IM004.dcm").symlink_to("nowhere")
    found = find_files(patient)
    names = [os.path.relpath(path, patient) for path in found.unopened]
    assert names == [".IM001.dcm.icloud", ".IM004.dcm", "IM003.dcm", "sub/.IM002.dcm.icloud"]
    assert found.passed_over == {
        "DICOMDIR files": 1,
        HIDDEN: 7,
        DANGLING: 2,
        "pipes, sockets or devices": 1,
    }


def test_the_number_of_files_is_limited_opened_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "MAX_FILES", 3)
    for name in ("a", "b", ".c"):
        (tmp_path / name).write_text("")
    assert len(find_files(tmp_path).files) == 2
    (tmp_path / ".d").symlink_to("nowhere")
    with pytest.raises(SeriesError, match="more than 3 files") as caught:
        find_files(tmp_path)
    assert caught.value.code == "limits"


def test_the_first_files_are_found_without_the_others(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = archive / "a"
    (patient / ".hidden").write_text("")
    (patient / "prior").symlink_to("../b")
    every = list(find_files(patient).files)
    assert first_files(patient, 9) == every
    monkeypatch.setattr(discovery, "MAX_FILES", 2)  # with .hidden, one more than that would be counted
    assert first_files(patient, 1) == every[:1]
    assert first_files(every[0], 3) == every[:1]
    with pytest.raises(UsageError, match="does not exist"):
        first_files(archive / "none", 1)


def test_a_directory_that_cannot_be_listed_is_the_storage_s_fault(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(StorageError, match=r"cannot be listed \(Permission denied\)"):
        find_files(archive / "a")


PLACES = ("a", "a/sub", "b", "b/sub", "c")


@settings(max_examples=60, deadline=None)
@given(links=st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from((*PLACES, ".", "..", "c/d"))), max_size=8))
def test_no_links_within_an_archive_give_a_patient_another_s_files(
    tmp_path_factory: pytest.TempPathFactory, links: list[tuple[str, str]]
) -> None:
    src = tmp_path_factory.mktemp("links") / "src"
    for name in (*PLACES, "c/d"):
        (src / name).mkdir(parents=True)
        (src / name / "image").write_text(name)
    for number, (where, target) in enumerate(links):
        (src / where / f"link{number}").symlink_to(src / target)
    for patient in ("a", "b", "c"):
        found = find_files(src / patient)
        own = sorted(name for name in (*PLACES, "c/d") if name.split("/")[0] == patient)
        assert sorted(Path(path).read_text() for path in found.files) == own


def test_links_are_counted_and_the_scan_is_the_patient_s_own(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a", slices=6, rows=32, columns=32)
    make.write_series(tmp_path / "b", slices=9, rows=32, columns=32, seed=2)
    (tmp_path / "a" / "prior").symlink_to("../b")
    (tmp_path / "a" / "up").symlink_to("..")
    assert len(read_series(tmp_path / "a")) == 6
    found = describe(tmp_path / "a")
    assert (found.passed_over[OTHER_PATIENTS], found.passed_over[UPWARDS]) == (1, 1)


def test_the_reading_process_knows_the_archive(tmp_path: Path) -> None:
    make.write_series(tmp_path / "p" / "scan", slices=6, rows=32, columns=32)
    make.write_series(tmp_path / "q" / "scan", slices=9, rows=32, columns=32, seed=2)
    (tmp_path / "p" / "scan" / "prior").symlink_to(tmp_path / "q" / "scan")
    with Sandbox() as sandbox:
        prepared = sandbox.prepare(str(tmp_path / "p" / "scan"), "dsb2017", archive=str(tmp_path))
    assert prepared.scan.slices == 6
