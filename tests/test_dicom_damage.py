"""Missing and damaged images: one rule for every way in which a slice can be missing (``lungct.dicom.damage``)."""

from __future__ import annotations

import gzip
import hashlib
import math
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ct_files as make

import lungct
from lungct.dicom import read_series
from lungct.dicom.damage import Missing, check_missing
from lungct.dicom.headers import read_header
from lungct.dicom.slices import Kind
from lungct.errors import SeriesError


def cut_pixels(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def cut_header(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x20\0\x32\0")])  # ImagePositionPatient


def empty(path: Path) -> None:
    path.write_bytes(b"")


def error_page(path: Path) -> None:
    path.write_text("<html><h1>503 Service Unavailable</h1></html>")


def link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("../.git/annex/objects/x")


def compressed(path: Path) -> None:
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(path.read_bytes())
    path.unlink()


def placeholder(path: Path) -> None:
    path.with_name(f".{path.name}.icloud").write_bytes(b"bplist00")
    path.unlink()


def unfinished(path: Path) -> None:
    path.rename(f"{path}.part")
    Path(f"{path}.part").write_bytes(b"\0" * 300)


DAMAGED: list[Callable[[Path], None]] = [cut_pixels, cut_header]
UNREADABLE: list[Callable[[Path], None]] = [
    empty,
    error_page,
    link_to_nowhere,
    compressed,
    placeholder,
    unfinished,
]


def numbered(i: int) -> str:
    return f"IM{i:04d}.dcm"


@pytest.mark.parametrize("spoil", [*DAMAGED, *UNREADABLE])
@pytest.mark.parametrize("slices", [24, 120])
def test_a_scan_may_lack_one_image_or_two_per_cent(tmp_path: Path, spoil: Callable[[Path], None], slices: int) -> None:
    allowed = max(1, slices * 2 // 100)
    files = make.write_series(tmp_path, slices=slices, rows=8, columns=8, names=numbered)
    for path in files[3 : 3 + allowed]:
        spoil(path)
    series = read_series(tmp_path)
    assert len(series) == slices - allowed
    code = "damaged_slices" if spoil in DAMAGED else "unreadable_files"
    assert series.notes[0] == f"{code}={allowed}"
    assert "uneven_spacing" in series.notes
    spoil(files[10])
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path)
    assert caught.value.code == "undecodable"
    assert f"{allowed + 1} of {slices} images" in str(caught.value)


def test_both_kinds_of_missing_images_are_added(tmp_path: Path) -> None:
    files = make.write_series(tmp_path, slices=120, rows=8, columns=8, names=numbered)
    empty(files[4])
    cut_pixels(files[9])
    assert read_series(tmp_path).notes[:2] == ("unreadable_files=1", "damaged_slices=1")
    cut_header(files[20])
    with pytest.raises(SeriesError, match="3 of 120 images are missing"):
        read_series(tmp_path)


def test_compressed_files_are_to_be_unpacked(tmp_path: Path) -> None:
    for path in make.write_series(tmp_path, slices=6)[::2]:
        compressed(path)
    with pytest.raises(SeriesError, match="unpack"):
        read_series(tmp_path)
    for path in tmp_path.glob("*.dcm"):
        compressed(path)
    with pytest.raises(SeriesError, match="unpack") as caught:
        read_series(tmp_path)
    assert caught.value.code == "no_images"


@pytest.mark.parametrize("spoil", [cut_pixels, cut_header])
def test_a_broken_copy_of_a_whole_image_costs_nothing(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    files = make.write_series(tmp_path, slices=6)
    for number, path in enumerate(files):
        copy = tmp_path / "copies" / f"copy {number}"
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes())
        spoil(copy)
    series = read_series(tmp_path)
    assert (len(series), series.notes) == (6, ())


@pytest.mark.parametrize(
    "name", ["LICENSE", "README0001.txt", "annotation.xml", "IM0002.dcm.json", "IM0002.dcm.md5", "Thumbs.db", "7.log"]
)
def test_what_is_not_named_like_an_image_is_passed_over(tmp_path: Path, name: str) -> None:
    make.write_series(tmp_path, slices=6, names=numbered)
    for number in range(4):
        (tmp_path / name.replace("2", str(number))).write_text("{}")
    assert read_series(tmp_path).notes == ()


def test_names_without_letters_need_an_ending_that_copying_adds(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=6, names=lambda i: f"{i}")
    (tmp_path / "069.xml").write_text("<annotation/>")
    assert read_series(tmp_path).notes == ()
    (tmp_path / "70.part").write_bytes(b"")
    assert read_series(tmp_path).notes == ("unreadable_files=1",)


def test_only_names_beside_the_images_count(tmp_path: Path) -> None:
    make.write_series(tmp_path / "scan", slices=6, names=numbered)
    (tmp_path / "notes").mkdir()
    for number in range(5):
        (tmp_path / "notes" / numbered(number)).write_bytes(b"")
    assert read_series(tmp_path).notes == ()


@pytest.mark.parametrize("preset", ["dsb2017"])
def test_damage_that_only_decoding_finds_follows_the_same_rule(tmp_path: Path, preset: str) -> None:
    whole, tmp_path = tmp_path / "whole", tmp_path / "damaged"
    files = make.write_series(tmp_path, slices=9, transfer_syntax=make.JPEG_LS)
    data = bytearray(files[4].read_bytes())
    at = data.index(b"\xff\xd8\xff") + 40
    data[at:-8] = bytes(len(data) - 8 - at)  # the codestream is there, and its image data are nothing
    files[4].write_bytes(data)
    triplets = lungct.triplets(tmp_path, "dsb2017")
    assert triplets.notes == ("damaged_slices=1", "uneven_spacing")
    assert triplets.scan.slices == 8
    make.write_series(whole, slices=9)
    for path in whole.iterdir():
        if path.read_bytes()[132:] and read_series(path).slices[0].instance_number == 5:
            path.unlink()
    np.testing.assert_array_equal(triplets.pixels, lungct.triplets(whole, "dsb2017").pixels)
    files[2].write_bytes(files[2].read_bytes()[: files[2].read_bytes().index(b"\xff\xd8\xff") + 60])
    with pytest.raises(SeriesError) as caught:
        lungct.triplets(tmp_path, "dsb2017")
    assert caught.value.code == "undecodable"


@pytest.mark.parametrize("preset", ["dsb2017", "lung"])
@pytest.mark.parametrize("last", [1, 2, 3])
def test_damage_in_slices_that_no_triplet_has_is_found_too(tmp_path: Path, preset: str, last: int) -> None:
    """Of 12 slices the triplets of dsb2017 have nine."""
    files = make.write_series(
        tmp_path,
        slices=12,
        rows=96,
        columns=96,
        spacing=(3.5, 3.5),
        pixels=lambda i: chest(96),
        transfer_syntax=make.JPEG_LS,
    )
    spoil_codestream(files[-last])
    assert "damaged_slices=1" in lungct.triplets(tmp_path, preset).notes  # type: ignore[arg-type]
    spoil_codestream(files[-1 - last % 3])
    with pytest.raises(SeriesError, match="2 of 12 images") as caught:
        lungct.triplets(tmp_path, preset)  # type: ignore[arg-type]
    assert caught.value.code == "undecodable"


def chest(size: int) -> make.Pixels:
    y, x = np.mgrid[:size, :size] / size - 0.5
    body = np.where((x / 0.45) ** 2 + (y / 0.35) ** 2 < 1, 1064, 24)
    return np.where(((abs(x) - 0.2) / 0.13) ** 2 + (y / 0.22) ** 2 < 1, 204, body)


def spoil_codestream(path: Path) -> None:
    """Leave a JPEG-LS codestream its header and its length."""
    data = bytearray(path.read_bytes())
    at = data.index(b"\xff\xd8\xff") + 40
    data[at:-8] = bytes(len(data) - 8 - at)
    path.write_bytes(data)


def test_a_file_that_ends_anywhere_after_its_mark_is_a_damaged_image(tmp_path: Path) -> None:
    (file,) = make.write_series(tmp_path, slices=1, rows=8, columns=8)
    data = file.read_bytes()
    for end in range(132, len(data)):
        file.write_bytes(data[:end])
        header = read_header(file)
        assert header is not None
        assert header.kind is Kind.DAMAGED or header.slices[0].fault is not None, end


def test_a_copy_whose_pixels_are_damaged_costs_nothing(tmp_path: Path) -> None:
    files = make.write_series(tmp_path, slices=9, transfer_syntax=make.JPEG_LS)
    data = files[4].read_bytes()
    (tmp_path / "0 copy").write_bytes(data[: data.index(b"\xff\xd8\xff") + 60])
    (tmp_path / "z copy").write_bytes(data[: data.index(b"\xff\xd8\xff") + 60])
    series = read_series(tmp_path)
    assert len(series) == 9
    assert series.notes == ()
    assert [series.hu(i).shape for i in range(9)] == [(64, 64)] * 9


@pytest.mark.parametrize(("slices", "changed", "left"), [(9, 1, 8), (9, 2, None), (100, 2, 98), (100, 3, None)])
def test_copies_that_differ_count_as_missing_images(
    tmp_path: Path, slices: int, changed: int, left: int | None
) -> None:
    files = make.write_series(tmp_path, slices=slices, rows=8, columns=8)
    for number, file in enumerate(files[3 : 3 + changed]):
        data = bytearray(file.read_bytes())
        data[-2] ^= 1
        (tmp_path / f"{number % 2 * 'a'} copy {number}").write_bytes(data)
    if left is None:
        with pytest.raises(SeriesError, match=f"at {changed} of {slices} positions") as caught:
            read_series(tmp_path)
        assert caught.value.code == "geometry"
    else:
        series = read_series(tmp_path)
        assert len(series) == left
        assert series.notes == (f"damaged_slices={changed}", "uneven_spacing")
        assert series.reason == "the only CT series"


def test_a_file_of_many_frames_is_as_many_images(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=24, names=numbered)
    assert Missing(damaged=12).images == 12
    with pytest.raises(SeriesError, match="12 of 24"):
        check_missing(Missing(damaged=12), 12)


@given(whole=st.integers(0, 400), damaged=st.integers(0, 20), unreadable=st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_the_rule_is_one_image_or_two_in_a_hundred(whole: int, damaged: int, unreadable: int) -> None:
    missing = Missing(damaged=damaged, unreadable=unreadable)
    images = whole + missing.images
    fits = whole > 0 and missing.images <= max(1, math.floor(0.02 * images))
    try:
        check_missing(missing, whole)
    except SeriesError:
        assert not fits
    else:
        assert fits


def sidecars(directory: Path, ending: str = ".json") -> None:
    for path in [path for path in directory.iterdir() if path.suffix != ending]:
        path.with_name(path.name + ending).write_text("{}")


@pytest.mark.parametrize(
    "others",
    [
        {"series": "2", "slices": 4, "tags": {"ImageType": ["DERIVED", "PRIMARY"]}},
        {"series": "2", "slices": 4, "tags": {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}},
        {"series": "2", "slices": 4, "tags": {"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}},
        {"series": "1", "slices": 1, "positions": [None], "instances": [99]},
    ],
    ids=["a series that was not chosen", "localizers", "another modality", "a stray image of the series"],
)
def test_companions_of_other_images_are_no_missing_images(tmp_path: Path, others: dict[str, object]) -> None:
    make.write_series(tmp_path, slices=12, rows=8, columns=8, names=numbered)
    make.write_series(tmp_path, rows=8, columns=8, names=lambda i: numbered(50 + i), **others)  # type: ignore[arg-type]
    alone = read_series(tmp_path).notes
    sidecars(tmp_path)
    series = read_series(tmp_path)
    assert (len(series), series.notes) == (12, alone)


@pytest.mark.parametrize("spoil", [*DAMAGED, *UNREADABLE])
def test_a_companion_of_a_missing_image_is_no_second_one(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    files = make.write_series(tmp_path, slices=12, rows=8, columns=8, names=numbered)
    sidecars(tmp_path)
    spoil(files[5])
    code = "damaged_slices" if spoil in DAMAGED else "unreadable_files"
    assert read_series(tmp_path).notes == (f"{code}=1", "uneven_spacing")


def test_what_is_named_like_several_images_is_judged_alike_each_time(tmp_path: Path) -> None:
    """Names of two patterns: the longer says most about a name."""
    make.write_series(tmp_path, slices=6, rows=8, columns=8, names=lambda i: f"a{i}" if i < 3 else f"a{i}.b{i}")
    (tmp_path / "a4.b4.txt").write_text("a companion of the image a4.b4, and not of a missing image a4")
    assert read_series(tmp_path).notes == ()


@pytest.mark.parametrize("name", [numbered, lambda i: f"slice {'abcdefghijkl'[i]}"], ids=["digits", "letters"])
def test_where_each_image_has_a_series_a_damaged_one_has_its_own(tmp_path: Path, name: Callable[[int], str]) -> None:
    files = make.write_series(
        tmp_path,
        slices=12,
        rows=8,
        columns=8,
        names=name,
        each=lambda i: {"SeriesInstanceUID": f"{make.ROOT}.7.{i}", "FrameOfReferenceUID": f"{make.ROOT}.6"},
    )
    cut_header(files[5])
    assert read_series(tmp_path).notes == ("damaged_slices=1", "uneven_spacing", "series_uids=11")
    cut_header(files[2])
    with pytest.raises(SeriesError, match="2 of 12 images are missing"):
        read_series(tmp_path)


def test_damage_in_another_series_costs_nothing(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=12, rows=8, columns=8, names=numbered)
    other = make.write_series(tmp_path, slices=5, rows=8, columns=8, names=lambda i: numbered(50 + i), series="2")
    cut_header(other[1])
    cut_pixels(other[2])
    assert read_series(tmp_path).notes == ()
    alone = make.write_series(tmp_path / "alone", slices=1, rows=8, columns=8, series="3")
    cut_header(alone[0])
    assert read_series(tmp_path).notes == ()


@given(keep=st.integers(0, 30 * 2 * 64 - 1))
@settings(max_examples=30, deadline=None)
def test_a_multi_frame_file_that_is_cut_off_lacks_the_frames_after_the_cut(
    tmp_path_factory: pytest.TempPathFactory, keep: int
) -> None:
    directory = tmp_path_factory.mktemp("cut")
    frames, size = 30, 2 * 64
    path = make.write_enhanced(directory / "scan.dcm", frames=frames, rows=8, columns=8)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - frames * size + keep])
    whole = keep // size
    if whole == frames - 1:
        series = read_series(directory)
        assert (len(series), series.notes) == (frames - 1, ("damaged_slices=1",))
        return
    with pytest.raises(SeriesError, match=f"{frames - whole} of {frames} images") as caught:
        read_series(directory)
    assert caught.value.code == "undecodable"


def test_a_file_whose_frames_have_no_place_is_missing_and_no_stray_image(tmp_path: Path) -> None:
    """Half of the scan is lost, which no note may hide."""
    first = make.write_enhanced(tmp_path / "1.dcm", frames=12, order=range(12))
    second = make.write_enhanced(tmp_path / "2.dcm", frames=12, order=range(12, 24))
    for number, path in enumerate((first, second)):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = f"{make.ROOT}.5.{number}"
        if number:
            ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:3]
        ds.save_as(path)
    with pytest.raises(SeriesError, match="12 of 24 images are missing") as caught:
        read_series(tmp_path)
    assert caught.value.code == "undecodable"


@pytest.mark.parametrize(
    "name",
    [
        lambda i: hashlib.sha256(bytes([i])).hexdigest()[:8].upper(),
        lambda i: f"{hashlib.sha256(bytes([i])).hexdigest()}.dcm",
        lambda i: f"CT_{uuid.uuid5(uuid.NAMESPACE_URL, str(i))}.dcm",
    ],
    ids=["eight digits", "a hash", "a UUID"],
)
def test_hexadecimal_digits_are_digits(tmp_path: Path, name: Callable[[int], str]) -> None:
    files = make.write_series(tmp_path, slices=12, rows=8, columns=8, names=name)
    for text in ("LICENSE", "annotation.xml", "f00d.txt", "deadbeef.xml"):
        (tmp_path / text).write_text("no image")
    assert read_series(tmp_path).notes == ()
    sidecars(tmp_path)
    assert read_series(tmp_path).notes == ()
    empty(files[5])
    assert read_series(tmp_path).notes == ("unreadable_files=1", "uneven_spacing")


@pytest.mark.parametrize("wrong", [{"Rows": None}, {"Rows": 60000, "Columns": 60000}, {"Rows": 9}])
def test_an_image_whose_size_is_damaged_is_a_damaged_image(tmp_path: Path, wrong: dict[str, int | None]) -> None:
    """And none of another size, of which a series may have any number."""
    files = make.write_series(tmp_path, slices=12, rows=8, columns=8, names=numbered)
    for spoilt in (1, 2):
        ds = pydicom.dcmread(files[2 + spoilt])
        make.override(ds, wrong)
        ds.save_as(files[2 + spoilt])
        if spoilt == 1:
            assert read_series(tmp_path).notes == ("damaged_slices=1", "uneven_spacing")
    with pytest.raises(SeriesError, match="2 of 12 images"):
        read_series(tmp_path)


def test_a_damaged_localizer_is_no_missing_image(tmp_path: Path) -> None:
    make.write_series(tmp_path, slices=12, rows=8, columns=8, names=numbered)
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
    for series in ("1", "2"):
        (path,) = make.write_series(tmp_path / series, slices=1, rows=8, columns=8, series=series, tags=tags)
        cut_header(path.rename(tmp_path / numbered(70 + int(series))))
    assert read_series(tmp_path).notes == ()
