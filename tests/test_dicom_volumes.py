"""NIfTI, NRRD and MetaImage volumes are read as series: the same geometry and values as SimpleITK, slice by slice."""

from __future__ import annotations

import gc
import gzip
import itertools
import os
import tempfile
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.volume_files import lps_rows, metaimage, nifti, noise, nrrd, save

from lungct.dicom import Series, read_series
from lungct.dicom.volumes import voxels as reading
from lungct.errors import SeriesError, StorageError
from lungct.inspection import describe
from lungct.patients import list_patients, named_patients

NAMES = ("a.nii", "a.nii.gz", "a.nrrd", "a.mhd", "a.nhdr", "a.mha")
KINDS = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f4", "f8")
TURNS = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]
"""The 48 ways to lay three axes along those of the body, mirrored or not."""


def hu(series: Series) -> NDArray[np.float32]:
    return np.stack([series.hu(i) for i in range(len(series))])


def write(path: Path, voxels: NDArray[Any], direction: NDArray[np.float64] | None = None, packed: bool = False) -> Path:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((10.0, 20.0, -300.0))
    image.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def refusal(path: Path) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        read_series(path)
    assert str(path) not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_is_a_series_from_the_feet_to_the_head(tmp_path: Path, name: str, kind: str) -> None:
    voxels = noise(kind=kind)
    series = read_series(write(tmp_path / name, voxels))
    assert len(series) == 5
    assert series.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert series.notes == ()
    np.testing.assert_allclose(series.positions_mm, -300 + 2.5 * np.arange(5), atol=1e-4)
    for i in range(5):
        assert series.hu(i).dtype == np.float32
        assert series.stored(i).dtype.kind == "i"
        np.testing.assert_array_equal(series.hu(i), voxels[i].astype(np.float32))
        np.testing.assert_array_equal(series.stored(i), voxels[i].astype(np.int64))


@settings(max_examples=60, deadline=None)
@given(
    turn=st.sampled_from(TURNS),
    tilt=st.floats(-0.4, 0.4),
    roll=st.floats(-0.4, 0.4),
    name=st.sampled_from(NAMES),
    kind=st.sampled_from(KINDS),
    packed=st.booleans(),
    by_qform=st.booleans(),
)
def test_volumes_are_turned_as_simpleitk_turns_them(
    turn: NDArray[np.float64], tilt: float, roll: float, name: str, kind: str, packed: bool, by_qform: bool
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    about_x = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    with tempfile.TemporaryDirectory() as directory:
        path = write(Path(directory) / name, noise(kind=kind), about_z @ about_x @ turn, packed)
        if by_qform and name == "a.nii":
            with path.open("r+b") as file:
                file.seek(254)  # sform_code
                file.write(b"\0\0")
        series = read_series(path)
        expected = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
        np.testing.assert_array_equal(hu(series), sitk.GetArrayFromImage(expected).astype(np.float32))
    assert series.spacing_mm == pytest.approx(expected.GetSpacing()[::-1])
    assert series.notes == ()
    orientation = np.array(expected.GetDirection()).reshape(3, 3)
    for k, image in enumerate(series.slices):
        assert image.orientation == pytest.approx([*orientation[:, 0], *orientation[:, 1]], abs=1e-5)
        assert image.image_position == pytest.approx(expected.TransformIndexToPhysicalPoint((0, 0, k)), abs=1e-3)


def test_a_volume_stored_in_coronal_order_is_turned_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = noise(9, 6, 7)
    coronal = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)
    monkeypatch.setattr(reading, "_PIECE_VOXELS", 100)  # two planes, and one too few to divide the volume
    series = read_series(write(tmp_path / "a.nrrd", voxels, coronal))
    assert series.spacing_mm == pytest.approx((0.8, 2.5, 0.7))
    np.testing.assert_array_equal(hu(series), voxels.transpose(1, 0, 2)[::-1].astype(np.float32))


def test_oblique_volumes_are_refused(tmp_path: Path) -> None:
    half = float(np.sqrt(0.5))
    error = refusal(write(tmp_path / "a.nrrd", noise(), np.array([[1, 0, 0], [0, half, -half], [0, half, half]])))
    assert error.code == "geometry"
    assert "oblique" in str(error)


@given(shear=st.floats(-0.1, 0.1), axes=st.sampled_from(list(itertools.permutations(range(3), 2))))
@settings(max_examples=60, deadline=None)
def test_a_slight_shear_is_noted_and_a_larger_one_refused(shear: float, axes: tuple[int, int]) -> None:
    rows = lps_rows()
    towards, along = axes
    rows[towards][along] = shear * rows[along][along]
    voxels = noise()
    with tempfile.TemporaryDirectory() as directory:
        path = save(Path(directory) / "a.nii", nifti(voxels, srow=rows))
        degrees = np.degrees(abs(np.arctan(shear)))
        if degrees > 1:
            error = refusal(path)
            assert error.code == "geometry"
            assert f"{degrees:.2g} degrees" in str(error)
            return
        series = read_series(path)
        np.testing.assert_array_equal(hu(series), voxels.astype(np.float32))
    assert series.notes == (("sheared",) if degrees > 0.001 else ())
    orientation = np.array(series.slices[0].orientation)
    assert abs(orientation[:3] @ orientation[3:]) < (
        1e-9 if series.notes else 2e-5
    )  # the rest is rounding, and stays as it is
    assert series.spacing_mm == pytest.approx((2.5, 0.8, 0.7), rel=1e-3)


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd"])
def test_what_is_not_a_number_is_outside_the_field_of_view(tmp_path: Path, kind: str, name: str) -> None:
    voxels = noise(kind=kind)
    voxels[:, 0], voxels[:, 1], voxels[:, 2] = np.nan, np.inf, -np.inf
    series = read_series(write(tmp_path / name, voxels))
    assert (hu(series)[:, :3] == -1024).all()
    np.testing.assert_array_equal(hu(series)[:, 3:], voxels[:, 3:].astype(np.float32))
    assert (series.stored(0)[:3] == -1024).all()


def test_a_number_beyond_float32_is_outside_the_field_of_view_too(tmp_path: Path) -> None:
    voxels = noise(kind="f8")
    voxels[2, 3, 4] = 1e300
    assert read_series(save(tmp_path / "a.nii", nifti(voxels))).hu(2)[3, 4] == -1024


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii.gz"])
def test_a_volume_of_nothing_but_nan_is_refused(tmp_path: Path, name: str) -> None:
    error = refusal(write(tmp_path / name, np.full((3, 4, 5), np.nan, np.float32)))
    assert error.code == "undecodable"


def test_one_slice_of_numbers_is_enough(tmp_path: Path) -> None:
    voxels = np.full((9, 4, 5), np.nan, np.float32)
    voxels[0, 0, 0] = -500
    assert read_series(write(tmp_path / "a.nrrd", voxels)).hu(0)[0, 0] == -500


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_memory_does_not_grow_with_the_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, axis: int
) -> None:
    voxels = np.broadcast_to(np.arange(160, dtype=np.float64)[:, None, None], (160, 100, 100))  # 12 MiB
    rows = lps_rows((1, 1, 1)) if axis == 2 else [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]
    content = nifti(voxels, srow=rows, pixdim=(1, 1, 1, 1))
    path = save(tmp_path / f"a{ending}", gzip.compress(content, 1) if ending == ".nii.gz" else content)
    del content
    monkeypatch.setattr(reading, "_PIECE_VOXELS", 1 << 15)
    tracemalloc.start()
    try:
        series = read_series(path)
        means = [float(series.hu(i).mean()) for i in range(len(series))]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert means[1] == (1 if axis == 2 else 79.5)
    assert peak < 3 << 20


def test_the_temporary_file_goes_with_the_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    path = write(tmp_path / "a.nii.gz", noise())
    before = set(os.listdir("/proc/self/fd"))
    series = read_series(path)
    assert list((tmp_path / "t").iterdir()) == []  # it has no name
    del series
    assert set(os.listdir("/proc/self/fd")) <= before


def test_a_full_temporary_directory_is_a_fault_of_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.nii.gz", noise())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(StorageError, match="temporary directory"):
        read_series(path)


def test_a_file_that_shrinks_while_it_is_read_is_a_fault_of_the_storage(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", nifti(noise()))
    series = read_series(path)
    os.truncate(path, 400)
    with pytest.raises(StorageError, match="changed"):
        series.hu(4)


def test_no_more_files_than_one_are_open_for_a_series(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz", noise())
    gc.collect()  # files of other tests would be closed while this one counts
    before = set(os.listdir("/proc/self/fd"))
    held = [read_series(path) for _ in range(20)]
    assert len(set(os.listdir("/proc/self/fd")) - before) <= len(held)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mhd", "a.nhdr"])
def test_a_directory_with_one_volume_is_that_volume(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, noise())  # the headers with a .raw file beside them
    assert len(list(tmp_path.iterdir())) == (1 if name == "a.nrrd" else 2)
    assert len(read_series(tmp_path)) == 5
    assert describe(tmp_path).reason == "a volume file"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mhd", "a.nhdr"])
def test_a_volume_in_the_archive_is_one_patient(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, noise())
    (patient,) = list_patients(tmp_path, depth=1, without=tmp_path / "out")
    assert (patient.id, patient.location) == ("a", str(tmp_path / name))
    assert named_patients(tmp_path, ["a"], depth=1) == [patient]


def test_a_volume_has_no_instance_order(tmp_path: Path) -> None:
    series = read_series(save(tmp_path / "a.nii", nifti(noise())))
    with pytest.raises(SeriesError, match="no InstanceNumber") as caught:
        series.by_instance()
    assert caught.value.code == "volume"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_a_series_error_or_read(data: st.DataObject) -> None:
    name, content = data.draw(
        st.sampled_from([("a.nii", nifti(noise())), ("a.nrrd", nrrd(noise())), ("a.mha", metaimage(noise()))])
    )
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for at in data.draw(st.lists(st.integers(0, 500), max_size=8)):
        if at < len(damaged):
            damaged[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as directory:
        path = save(Path(directory) / name, bytes(damaged))
        with suppress(SeriesError):
            hu(read_series(path))
