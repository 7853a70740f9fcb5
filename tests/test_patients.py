"""Which patients an archive has: directories, files, ids."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungct.arguments import command_line
from lungct.errors import LungCTWarning, UsageError
from lungct.patients import is_packed, list_patients, named_patients, printable, read_ids


def ids(src: Path, **named: object) -> list[str]:
    named = {"depth": 1, "without": src / "none"} | named
    return [patient.id for patient in list_patients(src, **named)]  # type: ignore[arg-type]


def test_each_directory_is_a_patient(tmp_path: Path) -> None:
    for name in ("b/deep/er", "a", ".git", "out"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "labels.csv").write_text("id,cancer\n")
    assert ids(tmp_path, without=tmp_path / "out") == ["a", "b"]
    assert ids(tmp_path, depth=2) == ["b/deep"]


def test_the_first_component_of_an_id_is_the_person(tmp_path: Path) -> None:
    for name in ("b/one", "b/two", "c/one"):
        (tmp_path / name).mkdir(parents=True)
    deep = list_patients(tmp_path, depth=2, without=tmp_path / "none")
    assert [(patient.id, patient.person) for patient in deep] == [("b/one", "b"), ("b/two", "b"), ("c/one", "c")]
    assert named_patients(tmp_path, ["b/two"], depth=2)[0].person == "b"
    assert [patient.person for patient in list_patients(tmp_path, depth=1, without=tmp_path / "none")] == [None, None]


def test_a_directory_of_files_alone_is_one_patient_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "0042").mkdir()
    (tmp_path / "0042" / "slice").write_bytes(b"")
    assert ids(tmp_path / "0042") == ["0042"]


def test_volume_files_are_patients_of_their_own(tmp_path: Path) -> None:
    for name in ("one.nii.gz", "two.mhd", "two.raw"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "three").mkdir()
    assert ids(tmp_path) == ["one", "three", "two"]
    (tmp_path / "one").mkdir()
    with pytest.raises(UsageError, match="two patients called one"):
        ids(tmp_path)


def warned(src: Path, **named: object) -> list[str]:
    """Return the warnings of a listing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids(src, **named)
    assert all(issubclass(one.category, LungCTWarning) for one in caught)
    return [str(one.message) for one in caught]


def test_files_beside_the_patients_are_counted_once_and_not_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("README", "LICENSE", "labels.csv", "dataset_description.json", "DICOMDIR", "scan.nii.gz", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    for name in ("volume.mhd", "volume.raw"):
        (tmp_path / name).write_bytes(b"")
    assert warned(tmp_path) == []
    (tmp_path / "IM0001").write_bytes(b"")
    with command_line():
        assert warned(tmp_path) == ["1 file lies in SRC beside the patients and will not be read"]
    for name in ("Doe.ZIP", "stray.dcm"):
        (tmp_path / name).write_bytes(b"")
    assert warned(tmp_path) == [
        "3 files lie in src beside the patients and will not be read (1 packed: unpack each patient into a directory)"
    ]
    (tmp_path / "link.dcm").symlink_to("stray.dcm")
    assert warned(tmp_path)[0].startswith("4 files lie")


def test_files_above_deeper_patients_are_counted_but_not_those_of_the_table(tmp_path: Path) -> None:
    for name in ("p/one/image", "p/two/image", "p/stray.dcm", "p/scan.nii.gz", "top.zip", "table/features/part-0"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "table" / "lock").write_bytes(b"")
    (said,) = warned(tmp_path, depth=2, without=tmp_path / "table")
    assert said.startswith("3 files lie")
    assert "(1 packed" in said
    assert warned(tmp_path, depth=1)[0].startswith("1 file lies")


def test_files_of_an_archive_that_is_one_patient_are_not_loose(tmp_path: Path) -> None:
    for name in ("IM0001", "IM0002", "export.zip"):
        (tmp_path / name).write_bytes(b"")
    assert ids(tmp_path) == [tmp_path.name]
    assert warned(tmp_path) == []


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("names", [("a.zip", "b.zip"), ("a.tar.gz", "README.md"), ("001.dcm.gz", "002.DCM.GZ")])
def test_an_archive_of_packed_files_alone_is_to_be_unpacked(tmp_path: Path, names: tuple[str, ...], depth: int) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"packed file.*: unpack each patient"):
        ids(tmp_path, depth=depth)


def test_volumes_and_their_voxels_are_not_packed() -> None:
    assert [is_packed(name) for name in ("a.nii.gz", "a.RAW.gz", "a.dcm", "a.dcm.gz", "zip")] == [
        *(False, False, False),
        *(True, False),
    ]


def test_a_patient_knows_its_archive(tmp_path: Path) -> None:
    (tmp_path / "p" / "one").mkdir(parents=True)
    for found in (
        list_patients(tmp_path, depth=2, without=tmp_path / "none"),
        named_patients(tmp_path, ["p/one"], depth=2),
    ):
        assert [patient.archive for patient in found] == [str(tmp_path)]


def test_names_that_are_not_utf8_become_text(tmp_path: Path) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/M\xfcller")
    (patient,) = list_patients(tmp_path, depth=1, without=tmp_path / "none")
    assert patient.id == "M\\xfcller"
    assert isinstance(patient.location, str)
    assert os.path.isdir(patient.location)
    assert printable("Müller") == "Müller"


def test_patients_are_looked_up_by_id_without_a_listing(tmp_path: Path) -> None:
    for name in ("a/1", "b"):
        (tmp_path / name).mkdir(parents=True)
    assert [p.id for p in named_patients(tmp_path, ["b", "a", "b"], depth=1)] == ["a", "b"]
    assert [p.id for p in named_patients(tmp_path, ["a/1"], depth=2)] == ["a/1"]
    for name in ("c", "/etc", "..", "a/../b", "", "./b", "b/", "a/1"):
        with pytest.raises(UsageError, match="has no patient"):
            named_patients(tmp_path, [name, "b"], depth=1)


@given(st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,12}", fullmatch=True), min_size=1, unique=True))
def test_ids_are_read_from_lines_and_from_a_column(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    names = [name for name in names if name != "id"] or ["x"]
    path = tmp_path_factory.mktemp("ids") / "ids"
    path.write_text("\ufeff" + "\r\n".join(names) + "\n\n")
    assert read_ids(path) == names
    path.write_text("note,id\n" + "".join(f"x,{name}\n" for name in names))
    assert read_ids(path) == names


def test_a_file_without_ids_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    for data, sentence in (
        (b"", "has no ids"),
        (b"a,b\n", "none is called id"),
        (b"\xff\xfe\0", "UTF-16"),
    ):
        path.write_bytes(data)
        with pytest.raises(UsageError, match=sentence):
            read_ids(path)
    with pytest.raises(UsageError, match="is a directory"):
        read_ids(tmp_path)


@pytest.mark.parametrize(
    "text", ["sep=;\nnote;id\nx;a\ny;Ren\u00e9e\n", "id\tnote\na\tx\nRen\u00e9e\ty\n", "a\nRen\u00e9e\n"]
)
def test_ids_are_read_from_what_spreadsheets_write(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ids"
    for encoding in ("utf-8", "utf-16"):
        path.write_bytes(text.encode(encoding))
        assert read_ids(path) == ["a", "Ren\u00e9e"]
    path.write_bytes(text.encode("cp1252"))
    with pytest.warns(LungCTWarning, match="Windows-1252"):
        assert read_ids(path) == ["a", "Ren\u00e9e"]


NFC, NFD = "Ren\u00e9e", "Rene\u0301e"


def test_an_id_in_another_unicode_form_finds_its_directory(tmp_path: Path) -> None:
    (tmp_path / "flat" / NFD).mkdir(parents=True)
    (tmp_path / "flat" / f"{NFD}2.nii.gz").touch()
    (tmp_path / "deep" / NFD / NFC).mkdir(parents=True)
    flat = named_patients(tmp_path / "flat", [NFC, f"{NFC}2"], depth=1)
    assert flat == list_patients(tmp_path / "flat", depth=1, without=tmp_path / "none")
    assert [patient.id for patient in flat] == [NFD, f"{NFD}2"]
    for name in (f"{NFC}/{NFC}", f"{NFD}/{NFD}"):
        assert [patient.id for patient in named_patients(tmp_path / "deep", [name], depth=2)] == [f"{NFD}/{NFC}"]
    with pytest.raises(UsageError, match="has no patient"):
        named_patients(tmp_path / "flat", ["Renee"], depth=1)


def test_two_patients_whose_names_look_alike_are_refused(tmp_path: Path) -> None:
    for name in (NFC, NFD):
        (tmp_path / name).mkdir()
    assert [patient.id for patient in named_patients(tmp_path, [NFD], depth=1)] == [NFD]
    with pytest.raises(UsageError, match="their names differ only in Unicode form"):
        list_patients(tmp_path, depth=1, without=tmp_path / "none")
    with pytest.raises(UsageError, match="their names differ only in Unicode form"):
        named_patients(tmp_path, [NFC, NFD], depth=1)


def test_packed_files_above_the_patients_may_mean_another_depth(tmp_path: Path) -> None:
    (tmp_path / "person" / "scan").mkdir(parents=True)
    (tmp_path / "rest.zip").touch()
    with pytest.raises(UsageError, match=r"1 packed file: unpack each patient into a directory, or give another depth"):
        list_patients(tmp_path, depth=3, without=tmp_path / "table")
