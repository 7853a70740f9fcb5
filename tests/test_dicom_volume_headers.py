"""What each field of a volume's header means, and every refusal with its reason."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.volume_files import (
    ORIGIN,
    SPACING,
    lps_rows,
    metaimage,
    metaimage_header,
    nifti,
    noise,
    nrrd,
    nrrd_header,
    save,
)

from lungct.dicom import Series, read_series
from lungct.errors import SeriesError
from lungct.storage.volumefiles import plain_name

VOXELS = noise()
X, Y, Z = SPACING


def hu(series: Series) -> NDArray[np.float32]:
    return np.stack([series.hu(i) for i in range(len(series))])


def check(path: Path, voxels: NDArray[Any] = VOXELS, scale: float = 1) -> None:
    """Check that a file is a volume in the order of LPS, with these values and the usual places."""
    series = read_series(path)
    np.testing.assert_array_equal(hu(series), voxels.astype(np.float32))
    assert series.spacing_mm == pytest.approx((Z * scale, Y * scale, X * scale))
    assert series.slices[0].image_position == pytest.approx([scale * value for value in ORIGIN], rel=1e-5)
    assert series.notes == ()


def check_refused(path: Path, code: str, words: str) -> None:
    with pytest.raises(SeriesError, match=words) as caught:
        read_series(path)
    assert caught.value.code == code
    assert str(path.parent) not in str(caught.value)


# NIfTI


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_nifti_of_both_versions_and_byte_orders(
    tmp_path: Path, version: int, order: Literal["<", ">"], kind: str
) -> None:
    voxels = noise(kind=kind)
    check(save(tmp_path / "a.nii", nifti(voxels, version=version, order=order)), voxels)


def test_gzip_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    content = nifti(VOXELS)
    check(save(tmp_path / "a.nii", gzip.compress(content)))
    check(save(tmp_path / "b.nii.gz", content))
    check(save(tmp_path / "c.nii.gz", gzip.compress(content[:500]) + gzip.compress(content[500:])))


@pytest.mark.parametrize("version", [1, 2])
def test_the_qform_says_the_same_in_another_way(tmp_path: Path, version: int) -> None:
    for codes in ((1, 0), (1, 1), (0, 2), (2, 4)):
        check(save(tmp_path / "a.nii", nifti(VOXELS, version=version, codes=codes)))


def test_the_qforms_sign_mirrors_the_third_axis(tmp_path: Path) -> None:
    upside_down = lps_rows()
    upside_down[2][2] *= -1
    by_sform = read_series(save(tmp_path / "s.nii", nifti(VOXELS, srow=upside_down)))
    by_qform = read_series(save(tmp_path / "q.nii", nifti(VOXELS, codes=(1, 0), pixdim=(-1, *SPACING))))
    np.testing.assert_array_equal(hu(by_sform), hu(by_qform))
    np.testing.assert_array_equal(hu(by_sform), VOXELS[::-1].astype(np.float32))
    assert by_sform.positions_mm == pytest.approx(by_qform.positions_mm)


def test_a_nifti_file_without_sform_and_qform_lies_nowhere(tmp_path: Path) -> None:
    check_refused(save(tmp_path / "a.nii", nifti(VOXELS, codes=(0, 0))), "geometry", "neither sform nor qform")


def test_sform_and_qform_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", nifti(VOXELS, codes=(1, 1), quatern=(0, 0, 0)))  # identity in RAS
    check_refused(path, "geometry", "sform and qform")
    other_size = (1, 2 * X, Y, Z)
    path = save(tmp_path / "b.nii", nifti(VOXELS, pixdim=other_size))
    check_refused(path, "geometry", "0.7 x 0.8 x 2.5 by the sform, 1.4 x 0.8 x 2.5 by pixdim")
    check(save(tmp_path / "c.nii", nifti(VOXELS, pixdim=(1, 0, 0, 0))))  # not filled in


def test_a_qform_that_is_no_rotation_is_refused(tmp_path: Path) -> None:
    check_refused(save(tmp_path / "a.nii", nifti(VOXELS, codes=(1, 0), quatern=(1, 1, 1))), "geometry", "rotation")


@pytest.mark.parametrize(("unit", "scale"), [(0, 1), (2, 1), (10, 1), (1, 1000), (3, 0.001)])
def test_nifti_units_of_length(tmp_path: Path, unit: int, scale: float) -> None:
    rows = (np.array(lps_rows()) / scale).tolist()
    content = nifti(VOXELS, srow=rows, pixdim=(1, *(value / scale for value in SPACING)), unit=unit)
    check(save(tmp_path / "a.nii", content))


def test_units_that_make_impossible_voxels_are_refused(tmp_path: Path) -> None:
    check_refused(save(tmp_path / "a.nii", nifti(VOXELS, unit=1)), "geometry", "700 x 800 x 2500 mm")
    check_refused(save(tmp_path / "b.nii", nifti(VOXELS, unit=3)), "geometry", "0.0007 x 0.0008 x 0.0025 mm")
    check_refused(save(tmp_path / "c.nii", nifti(VOXELS, unit=5)), "geometry", "unit of length is not supported")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["i2", "u2", "f4"])
def test_slope_and_intercept_are_applied(tmp_path: Path, kind: str, ending: str) -> None:
    voxels = noise(kind=kind)
    content = nifti(voxels, slope=0.5, intercept=-24)
    path = save(tmp_path / f"a{ending}", gzip.compress(content) if ending == ".nii.gz" else content)
    check(path, voxels * 0.5 - 24)


@pytest.mark.parametrize(("slope", "intercept"), [(0, 5), (np.nan, 5), (np.inf, np.nan), (1, 0)])
def test_a_slope_of_nought_or_no_number_is_none(tmp_path: Path, slope: float, intercept: float) -> None:
    check(save(tmp_path / "a.nii", nifti(VOXELS, slope=slope, intercept=intercept)))


def test_an_intercept_that_is_no_number_is_refused(tmp_path: Path) -> None:
    check_refused(save(tmp_path / "a.nii", nifti(VOXELS, slope=1, intercept=np.nan)), "undecodable", "intercept")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"datatype": 128}, "colours"),
        ({"datatype": 32}, "complex"),
        ({"datatype": 77}, "unknown type 77"),
        ({"magic": b"ni1"}, "another file"),
        ({"magic": b"\0"}, "Analyze"),
        ({"magic": b"no"}, "not the mark"),
        ({"dim": (4, 7, 6, 1, 5)}, "5 volumes"),
        ({"dim": (2, 42, 5)}, "2 axes"),
        ({"dim": (3, 7, 6, 0)}, "no voxels"),
        ({"dim": (3, 7, 6, -5)}, "no voxels"),
        ({"dim": (9, 7, 6, 5)}, "9 axes"),
        ({"dim": (3, 7, 6, 6)}, "420 of 504 bytes"),
        ({"dim": (3, 7, 6, 4)}, "more voxels than the 7 x 6 x 4"),
        ({"offset": 100.0}, "begin within it"),
        ({"offset": float("nan")}, "begin within it"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_nifti_refusals(tmp_path: Path, fields: dict[str, Any], words: str, packed: bool) -> None:
    content = nifti(VOXELS, **fields)
    check_refused(save(tmp_path / "a.nii.gz", gzip.compress(content) if packed else content), "undecodable", words)


def test_a_fourth_axis_of_one_volume_is_none(tmp_path: Path) -> None:
    check(save(tmp_path / "a.nii", nifti(VOXELS, dim=(5, 7, 6, 5, 1, 1))))


def test_extensions_lie_between_header_and_voxels(tmp_path: Path) -> None:
    content = nifti(VOXELS, offset=352 + 64)
    check(save(tmp_path / "a.nii", content[:352] + b"x" * 64 + content[352:]))
    check(save(tmp_path / "b.nii.gz", gzip.compress(content[:352] + b"x" * 64 + content[352:])))
    check(save(tmp_path / "c.nii", nifti(VOXELS, offset=0)))


@pytest.mark.parametrize(
    ("cut", "words"),
    [
        (0, "is empty"),
        (200, "within its header"),
        (350, "0 of 420 bytes"),
        (771, "419 of 420 bytes"),
    ],
)
def test_a_nifti_file_that_is_cut_off(tmp_path: Path, cut: int, words: str) -> None:
    content = nifti(VOXELS)[:cut]
    check_refused(save(tmp_path / "a.nii", content), "undecodable", words)
    if cut:
        check_refused(save(tmp_path / "b.nii.gz", gzip.compress(content)), "undecodable", words)


def test_a_gzip_file_that_is_cut_off_or_damaged(tmp_path: Path) -> None:
    packed = gzip.compress(nifti(VOXELS))
    check_refused(save(tmp_path / "a.nii.gz", packed[: len(packed) // 2]), "undecodable", "of 420 bytes are there")
    check_refused(save(tmp_path / "b.nii.gz", packed[:-8] + b"\0" * 8), "undecodable", "compressed voxels are damaged")
    check_refused(save(tmp_path / "c.nii.gz", packed[:10] + b"\xff" * 90), "undecodable", "damaged gzip")
    check_refused(save(tmp_path / "d.nii.gz", b"not a volume"), "undecodable", "not the header of one")


def test_padding_after_the_voxels_means_nothing(tmp_path: Path) -> None:
    content = nifti(VOXELS) + b"\0" * 83
    check(save(tmp_path / "a.nii", content))
    check(save(tmp_path / "b.nii.gz", gzip.compress(content)))
    check_refused(save(tmp_path / "c.nii", content + b"\0"), "undecodable", "more voxels")


def test_a_volume_that_claims_too_much(tmp_path: Path) -> None:
    check_refused(save(tmp_path / "a.nrrd", nrrd(VOXELS, sizes="60000 60000 60000")), "limits", "60000 x 60000 x 60000")
    check_refused(save(tmp_path / "b.mha", metaimage(VOXELS, DimSize="9000 9000 2")), "undecodable", "end early")
    check_refused(
        save(tmp_path / "c.nii", nifti(VOXELS, dim=(3, 2**15 - 1, 2**14, 2))), "limits", "limits are 536870912"
    )


def test_a_plane_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    save(path, nifti(VOXELS, dim=(3, 5000, 5000, 1), datatype=2))
    with path.open("ab") as file:
        file.truncate(352 + 5000 * 5000)
    check_refused(path, "limits", "5000 x 5000 x 1")


# NRRD


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("left-posterior-superior", (1, 1)),
        ("LPS", (1, 1)),
        ("right-anterior-superior", (-1, -1)),
        ("RAS", (-1, -1)),
        ("Left-Anterior-Superior", (1, -1)),
        ("LAS", (1, -1)),
    ],
)
def test_nrrd_spaces(tmp_path: Path, space: str, signs: tuple[int, int]) -> None:
    a, b = signs
    fields = {
        "space": space,
        "space_directions": f"({a * X},0,0) (0,{b * Y},0) (0,0,{Z})",
        "space_origin": f"({a * ORIGIN[0]}, {b * ORIGIN[1]}, {ORIGIN[2]})",
    }
    check(save(tmp_path / "a.nrrd", nrrd(VOXELS, **fields)))


@pytest.mark.parametrize("space", ["scanner-xyz", "3D-right-handed", "3D-left-handed", "nonsense", None])
def test_a_space_that_is_not_a_bodys_is_refused(tmp_path: Path, space: str | None) -> None:
    path = save(tmp_path / "a.nrrd", nrrd(VOXELS, space=space))
    check_refused(path, "geometry", "how it lies in the body" if space is None else "not those of a body")


@pytest.mark.parametrize(
    ("unit", "scale"),
    [("mm", 1), ("millimeters", 1), ("", 1), ("cm", 10), ("m", 1000), ("um", 0.001), ("µm", 0.001), ("microns", 0.001)],
)
def test_nrrd_space_units(tmp_path: Path, unit: str, scale: float) -> None:
    fields = {
        "space_units": f'"{unit}" "{unit}" "{unit}"',
        "space_directions": f"({X / scale!r},0,0) (0,{Y / scale!r},0) (0,0,{Z / scale!r})",
        "space_origin": "({!r},{!r},{!r})".format(*(value / scale for value in ORIGIN)),
    }
    check(save(tmp_path / "a.nrrd", nrrd(VOXELS, **fields)))


def test_nrrd_axes_that_are_not_in_space(tmp_path: Path) -> None:
    directions = f"none ({X},0,0) (0,{Y},0) (0,0,{Z})"
    check(save(tmp_path / "a.nrrd", nrrd(VOXELS, dimension="4", sizes="1 7 6 5", space_directions=directions)))
    path = save(tmp_path / "b.nrrd", nrrd(VOXELS, dimension="4", sizes="2 7 6 5", space_directions=directions))
    check_refused(path, "undecodable", "2 values for each voxel")
    path = save(tmp_path / "c.nrrd", nrrd(VOXELS, dimension="4", sizes="7 6 5 1"))
    check_refused(path, "undecodable", "4 axes")


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"encoding": "bzip2"}, "undecodable", "neither raw nor compressed with gzip"),
        ({"encoding": "ascii"}, "undecodable", "neither raw nor compressed with gzip"),
        ({"encoding": None}, "undecodable", "encoding"),
        ({"type": "block"}, "undecodable", "type"),
        ({"type": None}, "undecodable", "type"),
        ({"endian": None}, "undecodable", "endian"),
        ({"endian": "middle"}, "undecodable", "byte order"),
        ({"sizes": "7 6 x"}, "undecodable", "sizes"),
        ({"sizes": "7 30"}, "undecodable", "2 axes"),
        ({"line_skip": "3"}, "undecodable", "skips"),
        ({"byte_skip": "-2"}, "undecodable", "skips"),
        ({"space_units": '"pc" "pc" "pc"'}, "geometry", "unit"),
        ({"space_units": '"mm" "mm"'}, "geometry", "unit"),
        ({"space_directions": None}, "geometry", "how it lies"),
        ({"space_directions": "(1,0,0) (0,1,0)"}, "geometry", "2 space directions"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0)"}, "geometry", "3 numbers"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,nan)"}, "geometry", "3 numbers"),
        ({"space_directions": "(1,0,0) (0,1,0) (0,0,0)"}, "geometry", "length or direction"),
        ({"space_directions": "(1,0,0) (1,0,0) (0,0,1)"}, "geometry", "90 degrees"),
        ({"space_origin": "(1,2)"}, "geometry", "origin"),
    ],
)
def test_nrrd_refusals(tmp_path: Path, fields: dict[str, str | None], code: str, words: str) -> None:
    header = nrrd_header(VOXELS, **fields).encode()
    check_refused(save(tmp_path / "a.nrrd", header + b"\n" + VOXELS.tobytes()), code, words)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_nrrd_with_a_data_file(tmp_path: Path, ends: str) -> None:
    data = VOXELS.tobytes()
    save(tmp_path / "a b.raw", data)
    save(tmp_path / "a.raw.gz", gzip.compress(b"xx" + data))
    save(tmp_path / "long.raw", b"x" * 1000 + data)
    for fields in (
        {"data_file": "a b.raw"},
        {"datafile": "./a b.raw"},
        {"data_file": "a.raw.gz", "encoding": "gzip", "byte_skip": "2"},
        {"data_file": "long.raw", "byte_skip": "-1"},
        {"data_file": "long.raw", "byteskip": "1000"},
    ):
        check(save(tmp_path / "a.nhdr", nrrd_header(VOXELS, **fields).replace("\n", ends)))


def test_nrrd_with_voxels_in_the_file(tmp_path: Path) -> None:
    check(save(tmp_path / "a.nrrd", nrrd(VOXELS)))
    check(save(tmp_path / "b.nrrd", nrrd(VOXELS, encoding="gz")))
    check(save(tmp_path / "c.nrrd", nrrd_header(VOXELS).replace("\n", "\r\n").encode() + b"\r\n" + VOXELS.tobytes()))
    big = nrrd_header(VOXELS, endian="big").encode() + b"\n" + VOXELS.astype(">i2").tobytes()
    check(save(tmp_path / "d.nrrd", big))
    check_refused(save(tmp_path / "e.nrrd", nrrd_header(VOXELS)), "undecodable", "within its header")
    check_refused(save(tmp_path / "f.nrrd", b"nothing"), "undecodable", "not the header of one")
    check_refused(save(tmp_path / "g.nrrd", nrrd(VOXELS)[:-1]), "undecodable", "419 of 420 bytes")


# MetaImage


def test_metaimage_with_voxels_in_the_file_or_beside_it(tmp_path: Path) -> None:
    check(save(tmp_path / "a.mha", metaimage(VOXELS)))
    check(save(tmp_path / "b.mha", metaimage(VOXELS, CompressedData="True")))
    data = VOXELS.tobytes()
    save(tmp_path / "c.raw", data)
    save(tmp_path / "c.zraw", zlib.compress(data))
    save(tmp_path / "long.raw", b"x" * 1000 + data)
    save(tmp_path / "big.raw", VOXELS.astype(">i2").tobytes())
    for fields in (
        {"ElementDataFile": "c.raw"},
        {"ElementDataFile": "c.zraw", "CompressedData": "True"},
        {"ElementDataFile": "long.raw", "HeaderSize": "1000"},
        {"ElementDataFile": "long.raw", "HeaderSize": "-1"},
        {"ElementDataFile": "big.raw", "BinaryDataByteOrderMSB": "True"},
        {"ElementDataFile": "big.raw", "ElementByteOrderMSB": "True"},
    ):
        check(save(tmp_path / "c.mhd", metaimage_header(VOXELS, **fields)))


def test_other_names_of_metaimage_fields(tmp_path: Path) -> None:
    place = " ".join(map(str, ORIGIN))
    size = " ".join(map(str, SPACING))
    for name in ("Position", "Origin"):
        check(save(tmp_path / "a.mha", metaimage(VOXELS, Offset=None, **{name: place})))
    check(save(tmp_path / "b.mha", metaimage(VOXELS, ElementSpacing=None, ElementSize=size)))
    turned = "-1 0 0 0 -1 0 0 0 1"
    for name in ("TransformMatrix", "Rotation", "Orientation"):
        series = read_series(save(tmp_path / "c.mha", metaimage(VOXELS, **{name: turned})))
        np.testing.assert_array_equal(hu(series), VOXELS[:, ::-1, ::-1].astype(np.float32))


def test_metaimage_of_four_dimensions_with_one_volume(tmp_path: Path) -> None:
    fields = {
        "NDims": "4",
        "DimSize": "7 6 5 1",
        "ElementSpacing": f"{X} {Y} {Z} 1",
        "Offset": " ".join(map(str, (*ORIGIN, 0))),
        "TransformMatrix": " ".join(str(float(value)) for value in np.eye(4).ravel()),
    }
    check(save(tmp_path / "a.mha", metaimage(VOXELS, **fields)))


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1), ("?", 1), ("um", 0.001), ("cm", 10)])
def test_metaimage_units(tmp_path: Path, unit: str, scale: float) -> None:
    fields = {
        "DistanceUnits": unit,
        "ElementSpacing": " ".join(repr(value / scale) for value in SPACING),
        "Offset": " ".join(repr(value / scale) for value in ORIGIN),
    }
    check(save(tmp_path / "a.mha", metaimage(VOXELS, **fields)))


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"ElementNumberOfChannels": "3"}, "undecodable", "3 values for each voxel"),
        ({"ElementType": "MET_STRING"}, "undecodable", "type"),
        ({"ElementType": None}, "undecodable", "lacks a field"),
        ({"NDims": "4"}, "undecodable", "NDims"),
        ({"NDims": "2", "DimSize": "7 30"}, "undecodable", "2 axes"),
        ({"NDims": "4", "DimSize": "7 6 1 5"}, "undecodable", "5 volumes"),
        ({"DimSize": "7 6 five"}, "undecodable", "DimSize"),
        ({"BinaryData": "False"}, "undecodable", "as text"),
        ({"ElementDataFile": None}, "undecodable", "not the header of one"),
        ({"HeaderSize": "-2"}, "undecodable", "skips"),
        ({"ElementToIntensityFunctionSlope": "2"}, "undecodable", "slope or intercept"),
        ({"ElementSpacing": None}, "geometry", "how large"),
        ({"ElementSpacing": "1 1"}, "geometry", "3 numbers"),
        ({"ElementSpacing": "1 1 0"}, "geometry", "length or direction"),
        ({"DistanceUnits": "furlong"}, "geometry", "unit"),
        ({"TransformMatrix": "2 0 0 0 2 0 0 0 2"}, "geometry", "length 1"),
        ({"TransformMatrix": "1 0 0 0 1 0"}, "geometry", "9 numbers"),
        ({"Offset": "1 2"}, "geometry", "3 numbers"),
    ],
)
def test_metaimage_refusals(tmp_path: Path, fields: dict[str, str | None], code: str, words: str) -> None:
    check_refused(save(tmp_path / "a.mha", metaimage(VOXELS, **fields)), code, words)


# The file of the voxels


@pytest.mark.parametrize("form", ["mhd", "nhdr", "mha", "nrrd"])
@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("/etc/passwd", "outside its directory"),
        ("../outside.raw", "outside its directory"),
        ("..", "outside its directory"),
        ("sub/inside.raw", "outside its directory"),
        (r"C:\scans\a.raw", "outside its directory"),
        ("LIST", "several data files"),
        ("slice%03d.raw 1 9 1", "several data files"),
        ("missing.raw", "not there"),
        ("sub", "not there"),
        ("dangling.raw", "not there"),
        ("circle.raw", "not there"),
        ("x" * 300, "not there"),
    ],
)
def test_a_header_may_name_only_a_file_of_its_own_directory(tmp_path: Path, form: str, named: str, words: str) -> None:
    save(tmp_path / "outside.raw", VOXELS.tobytes())
    patient = tmp_path / "patient"
    save(patient / "sub" / "inside.raw", VOXELS.tobytes())
    (patient / "dangling.raw").symlink_to(patient / "nothing")
    (patient / "circle.raw").symlink_to(patient / "circle.raw")
    if form in ("mhd", "mha"):
        header = metaimage_header(VOXELS, ElementDataFile=named)
    else:
        header = nrrd_header(VOXELS, data_file=named)
    check_refused(save(patient / f"a.{form}", header), "undecodable", words)


def test_a_data_file_may_be_a_link_as_any_file_of_a_patient(tmp_path: Path) -> None:
    save(tmp_path / "annex" / "object", VOXELS.tobytes())
    patient = tmp_path / "patient"
    save(patient / "a.mhd", metaimage_header(VOXELS, ElementDataFile="a.raw"))
    (patient / "a.raw").symlink_to(tmp_path / "annex" / "object")
    check(patient / "a.mhd")


@given(st.text(max_size=12))
def test_a_plain_name_never_leads_out_of_its_directory(text: str) -> None:
    name = plain_name(text)
    if name is not None:
        assert not set(name) & set("/\\\0")
        assert name not in ("", ".", "..")
