"""From a patient's directory to one ordered series: files, choice, geometry, and the errors if there is none."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from support import ct_files as make

from lungct.dicom import read_identity, read_person, read_series, series_choices
from lungct.dicom.geometry import count_distinct, normal, plane_name
from lungct.dicom.persons import persons_by_identity
from lungct.errors import SeriesError, StorageError, UsageError
from lungct.inspection import describe


def refusal(directory: Path) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        read_series(directory)
    assert str(directory) not in str(caught.value)
    assert make.ROOT not in str(caught.value)
    return caught.value


def test_slices_are_ordered_from_the_feet_to_the_head_and_read_in_hounsfield_units(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=7, step=2.5, slope=2.0, intercept=-1000.0)
    series = read_series(tmp_path)
    assert len(series) == 7
    assert (series.rows, series.columns) == (64, 64)
    np.testing.assert_allclose(series.positions_mm, 2.5 * np.arange(7))
    np.testing.assert_allclose(series.spacing_mm, (2.5, 0.7, 0.7))
    assert (series.manufacturer, series.kernel) == ("Acme", "STANDARD")
    assert series.reason == "the only CT series"
    for i in range(7):
        expected = make.noise(64, 64, seed=i)
        np.testing.assert_array_equal(series.stored(i), expected)
        assert series.hu(i).dtype == np.float32
        np.testing.assert_array_equal(series.hu(i), expected * 2.0 - 1000.0)


def test_a_series_and_its_slices_are_shown_in_one_line(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a", slices=7)
    series = read_series(tmp_path / "a")
    assert repr(series) == "Series(7 slices of 64 x 64, spacing 2.5 x 0.7 x 0.7 mm)"
    assert repr(series.slices[1]) == "Slice(InstanceNumber 2, 64 x 64, at 2.50 mm)"
    make.write_series(tmp_path / "b", slices=1, orientation=None, spacing=None)
    assert repr(read_series(tmp_path / "b")) == "Series(1 slices of 64 x 64, spacing ? x ? x ? mm)"
    assert repr(read_series(tmp_path / "b").slices) == "(Slice(InstanceNumber 1, 64 x 64, position unknown),)"


def test_order_does_not_depend_on_file_names(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a", slices=5, names=lambda i: f"{i}")
    make.write_series(tmp_path / "b", slices=5, names=lambda i: f"{9 - i}.dcm")
    for i in range(5):
        one, other = read_series(tmp_path / "a"), read_series(tmp_path / "b")
        np.testing.assert_array_equal(one.stored(i), other.stored(i))


@pytest.mark.parametrize(
    ("orientation", "ends_at"),
    [
        (make.AXIAL, 10.0),
        ((-1, 0, 0, 0, -1, 0), 10.0),  # prone
        ((-1, 0, 0, 0, 1, 0), 0.0),  # feet first: row x column points to the feet
        ((0, 1, 0, -1, 0, 0), 10.0),  # lying on the side
    ],
)
def test_the_last_slice_is_the_one_nearest_the_head(
    tmp_path: Path, orientation: tuple[float, ...], ends_at: float
) -> None:
    make.write_series(tmp_path, slices=5, orientation=orientation)
    series = read_series(tmp_path)
    z = [image.image_position[2] for image in series.slices if image.image_position]
    assert z == sorted(z)
    assert series.positions_mm[-1] == pytest.approx(ends_at)


def test_a_series_with_a_tilted_gantry_is_axial_and_spaced_along_the_normal(tmp_path: Path) -> None:
    tilt = make.tilted(20)
    make.write_series(
        tmp_path,
        slices=4,
        orientation=tilt,
        each=lambda i: {"ImagePositionPatient": [0, 0, 2.5 * i]},
    )
    series = read_series(tmp_path)
    assert series.spacing_mm[0] == pytest.approx(2.5 * math.cos(math.radians(20)))
    assert "tilted by 20.0 degrees" in describe(tmp_path).problems[0]


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [
        (make.CORONAL, "coronal"),
        (make.SAGITTAL, "sagittal"),
        (make.tilted(45), "oblique"),
    ],
)
def test_reformats_are_refused_by_name(tmp_path: Path, orientation: tuple[float, ...], plane: str) -> None:
    make.write_series(tmp_path, slices=5, orientation=orientation)
    error = refusal(tmp_path)
    assert error.code == "geometry"
    assert plane in str(error)


def test_without_geometry_slices_are_ordered_by_instance_number(tmp_path: Path) -> None:
    make.write_series(
        tmp_path, slices=5, instances=[3, 1, 5, 2, 4], orientation=None, spacing=None, thickness=None,
        positions=[None] * 5,
    )  # fmt: skip
    series = read_series(tmp_path)
    assert [image.instance_number for image in series.slices] == [1, 2, 3, 4, 5]
    assert np.isnan(series.positions_mm).all()
    assert np.isnan(series.spacing_mm).all()
    assert len(series.by_instance()) == 5
    with pytest.raises(SeriesError, match="5 of 5 slices have no position") as caught:
        series.by_position()
    assert caught.value.code == "geometry"


def test_slices_with_neither_position_nor_number_have_no_order(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=3, instances=[None] * 3, positions=[None] * 3)
    assert refusal(tmp_path).code == "geometry"


@pytest.mark.parametrize("instances", [[2, 1, 2, 1], [4, None, 2, 1]])
def test_where_instance_numbers_order_nothing_positions_do(tmp_path: Path, instances: list[int | None]) -> None:
    make.write_series(tmp_path, slices=4, instances=instances)
    np.testing.assert_allclose(read_series(tmp_path).by_instance().positions_mm, [0.0, 2.5, 5.0, 7.5])


def test_repeated_numbers_without_positions_order_nothing(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=4, instances=[2, 1, 2, 1], positions=[None] * 4)
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path).by_instance()
    assert caught.value.code == "geometry"


def test_by_instance_can_differ_from_by_position(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=4, instances=[4, 3, 2, 1])
    series = read_series(tmp_path)
    np.testing.assert_allclose(series.by_instance().positions_mm, [7.5, 5.0, 2.5, 0.0])
    np.testing.assert_allclose(series.by_instance().by_position().positions_mm, series.positions_mm)


def test_each_slice_has_its_own_rescale(tmp_path: Path) -> None:
    make.write_series(
        tmp_path,
        slices=3,
        each=lambda i: {"RescaleSlope": str(1 + i / 3)[:8], "RescaleIntercept": str(-100 * i)},
    )
    series = read_series(tmp_path)
    for i in range(3):
        slope, intercept = float(str(1 + i / 3)[:8]), -100.0 * i
        expected = (make.noise(64, 64, seed=i) * slope + intercept).astype(np.float32)
        np.testing.assert_array_equal(series.hu(i), expected)
    assert any("3 different rescales" in text for text in describe(tmp_path).problems)


@pytest.mark.parametrize(
    "tags",
    [
        {"RescaleSlope": None, "RescaleIntercept": None},
        {"RescaleSlope": None},
        {"RescaleIntercept": None},
        {"RescaleIntercept": ""},
    ],
)
def test_without_a_whole_rescale_only_signed_values_are_used(tmp_path: Path, tags: dict[str, str | None]) -> None:
    make.write_series(tmp_path / "signed", slices=1, signed=True, tags=tags)
    series = read_series(tmp_path / "signed")
    assert not series.slices[0].rescaled
    intercept = 0 if "RescaleIntercept" in tags else -1024
    np.testing.assert_array_equal(series.hu(0), series.stored(0).astype(np.float32) + intercept)
    make.write_series(tmp_path / "unsigned", slices=1, tags=tags)
    error = refusal(tmp_path / "unsigned")
    assert error.code == "undecodable"
    assert "no RescaleSlope or RescaleIntercept, and its values are unsigned" in str(error)


def test_a_slope_of_zero_is_refused(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=1, tags={"RescaleSlope": "0"})
    assert refusal(tmp_path).code == "undecodable"


def test_monochrome1_does_not_change_hounsfield_units(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=1, tags={"PhotometricInterpretation": "MONOCHROME1"})
    np.testing.assert_array_equal(read_series(tmp_path).stored(0), make.noise(64, 64))


def test_neither_pixels_nor_images_need_be_square(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=2, rows=30, columns=47, spacing=(0.9, 0.6))
    series = read_series(tmp_path)
    assert series.stored(0).shape == (30, 47)
    assert series.spacing_mm == pytest.approx((2.5, 0.9, 0.6))
    assert describe(tmp_path).problems == ("the pixels are not square: 0.9 x 0.6 mm",)


def test_pixel_spacing_that_differs_between_slices_is_refused(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=4, each=lambda i: {"PixelSpacing": [0.7 + 0.1 * (i // 2)] * 2})
    error = refusal(tmp_path)
    assert error.code == "geometry"
    assert "0.7 to 0.8 mm" in str(error)


def test_spacing_is_the_median_distance_and_gaps_are_reported(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=5, positions=[0, 2, 4, 6, 30])
    assert read_series(tmp_path).spacing_mm[0] == pytest.approx(2.0)
    (problem,) = describe(tmp_path).problems
    assert "1 gap of more than 10 mm, the widest (24.00 mm) after slice 4 of 5" in problem


def test_pixels_are_read_on_request(tmp_path: Path) -> None:
    files = make.write_series(tmp_path, slices=3)
    series = read_series(tmp_path)
    files[1].unlink()
    series.stored(0)
    with pytest.raises(StorageError, match="cannot be read"):
        series.stored(1)


def test_all_slices_must_have_one_size(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=3, pixels=lambda i: make.noise(64, 64 if i else 32, seed=i))
    error = refusal(tmp_path)
    assert error.code == "sizes"
    assert "64 x 64 and 64 x 32" in str(error)


def test_two_copies_of_a_file_count_once(tmp_path: Path) -> None:
    files = make.write_series(tmp_path, slices=4)
    shutil.copy(files[2], tmp_path / "copy")
    series = read_series(tmp_path)
    assert len(series) == 4
    assert series.reason == "the only CT series; 1 copy left out"


def test_equal_images_under_other_uids_count_once(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a", slices=4)
    make.write_series(
        tmp_path / "b", slices=1, each=lambda i: {"SOPInstanceUID": f"{make.ROOT}.77"},
        transfer_syntax=make.JPEG_LS,
    )  # fmt: skip
    assert len(read_series(tmp_path)) == 4


def test_different_images_at_many_positions_are_refused(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=6, positions=[0, 2, 2, 4, 4, 6])
    error = refusal(tmp_path)
    assert error.code == "geometry"
    assert "at 2 of 4 positions" in str(error)


def test_acquisitions_at_the_same_positions_are_separated(tmp_path: Path) -> None:
    make.write_series(
        tmp_path,
        slices=9,
        positions=[0, 2, 4, 6, 0, 2, 4, 6, 8],
        each=lambda i: {"AcquisitionNumber": 1 if i < 4 else 2},
    )
    series = read_series(tmp_path)
    assert len(series) == 5
    assert series.reason == "the only CT series"
    np.testing.assert_array_equal(series.stored(0), make.noise(64, 64, seed=4))


def test_acquisitions_one_after_the_other_are_one_scan(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=6, each=lambda i: {"AcquisitionNumber": 1 + i // 3})
    assert len(read_series(tmp_path)) == 6


def test_orientations_within_a_series_are_separated(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a", slices=4)
    make.write_series(
        tmp_path / "b", slices=6, orientation=make.CORONAL, seed=50,
        each=lambda i: {"SOPInstanceUID": f"{make.ROOT}.9.{i}"},
    )  # fmt: skip
    series = read_series(tmp_path)
    assert len(series) == 4
    assert series.reason == "best of 2 candidates in 1 series: axial (vs coronal)"


def test_an_image_without_orientation_among_slices_is_left_out(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=4, each=lambda i: {"ImageOrientationPatient": None} if i == 2 else {})
    assert [image.instance_number for image in read_series(tmp_path).slices] == [1, 2, 4]


def test_localizers_and_secondary_captures_are_never_chosen(tmp_path: Path) -> None:
    make.write_series(tmp_path / "scan", slices=4)
    make.write_series(tmp_path / "scout", slices=9, tags={"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]})
    make.write_series(tmp_path / "sc", slices=9, tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"})
    make.write_series(tmp_path / "mr", slices=9, tags={"Modality": "MR"})
    make.write_series(tmp_path / "iodine", slices=9, tags={"RescaleType": "MGML"})
    found = describe(tmp_path)
    assert len(read_series(tmp_path)) == 4
    assert found.passed_over == {
        "localizers": 9,
        "secondary captures or colour images": 9,
        "objects of other kinds": 9,
        "images that are not in Hounsfield units": 9,
    }


def test_a_derived_series_is_used_if_it_is_the_only_one(tmp_path: Path) -> None:
    make.write_series(tmp_path, tags={"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]})
    assert len(read_series(tmp_path)) == 12


def test_empty_uids_make_one_series(tmp_path: Path) -> None:
    make.write_series(
        tmp_path,
        slices=5,
        tags={
            "SeriesInstanceUID": "",
            "StudyInstanceUID": "",
            "SOPInstanceUID": "",
            "PatientID": "",
        },
    )
    assert len(read_series(tmp_path)) == 5


@pytest.mark.parametrize("tags", [
    {"Modality": None},
    {"SOPClassUID": None},
    {"Modality": None, "SOPClassUID": None},
])  # fmt: skip
def test_images_with_stripped_headers_are_still_ct(tmp_path: Path, tags: dict[str, Any]) -> None:
    make.write_series(tmp_path, slices=4, tags=tags)
    assert len(read_series(tmp_path)) == 4


def test_files_are_recognised_by_content_at_any_depth(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=6, names=lambda i: f"{'deep/' * (i + 1)}IM{i}.{'txt' * (i % 2)}")
    (tmp_path / "notes.dcm").write_text("not an image")
    (tmp_path / "Thumbs.db").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "empty.dcm").write_bytes(b"")
    (tmp_path / "zeros.dcm").write_bytes(bytes(4096))
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "DICOMDIR").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert len(read_series(tmp_path)) == 6
    found = describe(tmp_path)
    assert found.files == 10
    assert found.passed_over == {
        "DICOMDIR files": 1,
        "files that are not DICOM": 4,
        "hidden files": 1,
        "links that lead nowhere": 2,
        "pipes, sockets or devices": 1,
    }


@pytest.mark.parametrize("syntax", [make.EXPLICIT, make.IMPLICIT, make.BIG_ENDIAN])
def test_files_without_preamble_or_meta(tmp_path: Path, syntax: str) -> None:
    for number, path in enumerate(make.write_series(tmp_path, slices=4, transfer_syntax=syntax)):
        data = path.read_bytes()
        start = 132
        if number % 2:  # remove the file meta, too
            start += 12 + int.from_bytes(data[140:144], "little")
        path.write_bytes(data[start:])
    series = read_series(tmp_path)
    for i in range(4):
        np.testing.assert_array_equal(series.stored(i), make.noise(64, 64, seed=i))


@pytest.mark.parametrize("written", [make.EXPLICIT, make.BIG_ENDIAN])
@pytest.mark.parametrize("claimed", [make.IMPLICIT, make.EXPLICIT, make.BIG_ENDIAN])
def test_the_bytes_are_believed_if_the_file_meta_contradicts_them(tmp_path: Path, written: str, claimed: str) -> None:
    (path,) = make.write_series(tmp_path, slices=1, transfer_syntax=written)
    path.write_bytes(path.read_bytes().replace(written.encode() + b"\0", claimed.encode().ljust(20, b"\0")))
    series = read_series(tmp_path)
    assert series.slices[0].encoding.transfer_syntax == written
    np.testing.assert_array_equal(series.stored(0), make.noise(64, 64))


def test_a_list_of_files(tmp_path: Path) -> None:
    files = make.write_series(tmp_path, slices=6)
    assert len(next(series_choices([str(file) for file in files[:4]]))) == 4
    with pytest.raises(SeriesError) as caught:
        next(series_choices([]))
    assert caught.value.code == "empty"


def test_a_single_file(tmp_path: Path) -> None:
    files = make.write_series(tmp_path, slices=2)
    series = read_series(files[0])
    assert len(series) == 1
    assert math.isnan(series.spacing_mm[0])


def test_whom_a_file_is_about(tmp_path: Path) -> None:
    (path,) = make.write_series(
        tmp_path,
        slices=1,
        patient_id="Jürgens-7",
        tags={
            "SpecificCharacterSet": "ISO_IR 192",
            "IssuerOfPatientID": "Clinic",
            "PatientName": "Doe^J",
            "PatientIdentityRemoved": "YES",
        },
    )
    assert read_identity(path) == ("Jürgens-7", "Clinic")
    person = read_person(path)
    assert person is not None
    assert (person.name, person.removed) == ("Doe^J", True)
    (tmp_path / "x").write_text("x")
    assert read_identity(tmp_path / "x") is None


def test_a_missing_directory_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_series(tmp_path / "none")


def test_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    error = refusal(tmp_path)
    assert error.code == "empty"
    assert describe(tmp_path).error_code == "empty"


def test_a_directory_without_dicom_files(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_text("hello")
    error = refusal(tmp_path)
    assert error.code == "no_images"
    assert "the only file is not DICOM" in str(error)


def test_a_directory_without_ct(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=3, tags={"Modality": "MR"})
    error = refusal(tmp_path)
    assert error.code == "no_ct"
    assert "among 3 DICOM files" in str(error)


def test_several_persons_are_never_mixed(tmp_path: Path) -> None:
    make.write_series(tmp_path / "a", slices=4, patient_id="A")
    make.write_series(tmp_path / "b", slices=4, patient_id="B")
    error = refusal(tmp_path)
    assert error.code == "several_persons"
    assert error.message == "the files name 2 persons"
    assert error.fix is not None
    assert "by PatientID" in error.fix


@pytest.mark.parametrize(
    ("issuers", "persons"),
    [(("X", "Y"), 2), (("X", None), 1), (("X", "X"), 1), ((None, None), 1), (("X", "Y", None), 3)],
)
def test_one_patient_id_of_several_issuers_is_several_persons(
    tmp_path: Path, issuers: tuple[str | None, ...], persons: int
) -> None:
    make.write_series(tmp_path, slices=6, each=lambda i: {"IssuerOfPatientID": issuers[i % len(issuers)]})
    if persons == 1:
        assert len(read_series(tmp_path)) == 6
        return
    error = refusal(tmp_path)
    assert error.code == "several_persons"
    assert error.message == f"the files name {persons} persons"


IDENTITIES = st.lists(st.tuples(st.sampled_from(["", "1", "2"]), st.sampled_from(["", "X", "Y", "Z"])))


@given(IDENTITIES, st.randoms())
def test_who_is_the_same_person(identities: list[tuple[str, str]], random: Random) -> None:
    persons = persons_by_identity(identities)
    assert set(persons) == {identity for identity in identities if identity[0]}
    for (patient_id, issuer), person in persons.items():
        issuers = {other for same, other in persons if same == patient_id and other}
        assert person == (patient_id, issuer or (min(issuers) if len(issuers) == 1 else ""))
        assert persons[person] == person
    shuffled = random.sample(identities, len(identities))
    assert persons_by_identity(shuffled + identities) == persons


def test_a_file_without_patient_id_may_belong_to_anyone(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=4, each=lambda i: {"PatientID": "" if i else "A"})
    assert len(read_series(tmp_path)) == 4


def test_damage_in_another_series_than_the_scan_does_not_matter(tmp_path: Path) -> None:
    make.write_series(tmp_path / "scan", slices=6)
    other = make.write_series(tmp_path / "other", slices=4, series="2")
    data = other[0].read_bytes()
    other[0].write_bytes(data[: data.index(b"\x28\0\x10\0")])  # cut before Rows
    other[1].write_bytes(data[:-100])
    assert len(read_series(tmp_path)) == 6


def test_a_disk_fault_is_not_an_error_of_the_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make.write_series(tmp_path, slices=4)
    real = os.pread

    def failing(fd: int, count: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{fd}") == os.fspath(files[2]):
            raise OSError(5, "Input/output error")
        return real(fd, count, offset)

    monkeypatch.setattr(os, "pread", failing)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        read_series(tmp_path)
    assert files[2].name not in str(caught.value)


def test_normals() -> None:
    assert normal((1, 0, 0, 0, 1, 0)) == (0, 0, 1)
    assert normal((-1, 0, 0, 0, 1, 0)) == (0, 0, 1)
    assert normal((1, 0, 0, 0, 0, -1)) == (0, 1, 0)
    assert plane_name(make.tilted(30)) == "axial"  # type: ignore[arg-type]
    assert count_distinct([0.0, 0.001, 5.0, math.nan, math.nan]) == 4


def test_headers_agree_with_pydicom(tmp_path: Path) -> None:
    files = make.write_series(tmp_path, slices=3)
    by_path = {image.path: image for image in read_series(tmp_path).slices}
    for path in files:
        ds, image = dcmread(path), by_path[os.fspath(path)]
        assert image.image_position == tuple(ds.ImagePositionPatient)
        assert image.orientation == tuple(ds.ImageOrientationPatient)
        assert image.instance_number == ds.InstanceNumber
        assert image.slice_thickness_mm == ds.SliceThickness
