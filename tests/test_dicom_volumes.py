"""NIfTI, NRRD and MetaImage volumes are read as series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lungct.dicom import read_series
from lungct.errors import SeriesError
from lungct.inspection import describe
from lungct.patients import list_patients, named_patients

sitk = pytest.importorskip("SimpleITK")


def volume(slices: int = 5, rows: int = 6, columns: int = 7, kind: type = np.int16) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    return rng.integers(-1000, 400, (slices, rows, columns)).astype(kind)


def write(path: Path, voxels: NDArray[Any], direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((10.0, 20.0, -300.0))
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mhd", "a.nhdr", "a.nii", "a.mha"])
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32, np.uint8])
def test_a_volume_is_a_series_from_the_feet_to_the_head(tmp_path: Path, name: str, kind: type) -> None:
    voxels = volume(kind=kind)
    series = read_series(write(tmp_path / name, voxels))
    assert len(series) == 5
    assert series.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    np.testing.assert_allclose(series.positions_mm, -300 + 2.5 * np.arange(5), atol=1e-4)
    for i in range(5):
        assert series.hu(i).dtype == np.float32
        assert series.stored(i).dtype.kind == "i"
        np.testing.assert_array_equal(series.hu(i), voxels[i].astype(np.float32))


def test_axes_that_run_backwards_are_flipped(tmp_path: Path) -> None:
    voxels = volume()
    series = read_series(write(tmp_path / "a.nrrd", voxels, (-1, 0, 0, 0, -1, 0, 0, 0, -1)))
    np.testing.assert_array_equal(series.hu(0), voxels[-1, ::-1, ::-1].astype(np.float32))
    assert (np.diff(series.positions_mm) > 0).all()


def test_a_volume_stored_in_coronal_order_is_turned_to_axial(tmp_path: Path) -> None:
    voxels = volume()
    series = read_series(write(tmp_path / "a.nrrd", voxels, (1, 0, 0, 0, 0, 1, 0, -1, 0)))
    assert len(series) == 6
    assert series.spacing_mm == pytest.approx((0.8, 2.5, 0.7))


def test_oblique_volumes_are_refused(tmp_path: Path) -> None:
    half = float(np.sqrt(0.5))
    write(tmp_path / "a.nrrd", volume(), (1, 0, 0, 0, half, -half, 0, half, half))
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path / "a.nrrd")
    assert caught.value.code == "geometry"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mhd", "a.nhdr"])
def test_a_directory_with_one_volume_is_that_volume(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, volume())  # the headers with a .raw file beside them
    assert len(list(tmp_path.iterdir())) == (1 if name == "a.nrrd" else 2)
    assert len(read_series(tmp_path)) == 5
    assert describe(tmp_path).reason == "a volume file"


@pytest.mark.parametrize("name", ["a.nrrd", "a.mhd", "a.nhdr"])
def test_a_volume_in_the_archive_is_one_patient(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, volume())
    (patient,) = list_patients(tmp_path, depth=1, without=tmp_path / "out")
    assert (patient.id, patient.location) == ("a", str(tmp_path / name))
    assert named_patients(tmp_path, ["a"], depth=1) == [patient]


def test_a_volume_has_no_instance_order(tmp_path: Path) -> None:
    series = read_series(write(tmp_path / "a.nrrd", volume()))
    with pytest.raises(SeriesError, match="no InstanceNumber") as caught:
        series.by_instance()
    assert caught.value.code == "volume"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.nii.gz", b"not a volume"),
        ("a.nrrd", b"NRRD0004\ntype: short\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n\n"),
        (
            "a.mhd",
            b"NDims = 3\nDimSize = 4 4 4\nElementType = MET_SHORT\nElementDataFile = no.raw\n",
        ),
        ("a.nii", b""),
    ],
)
def test_a_damaged_volume_is_a_series_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path / name)
    assert caught.value.code == "undecodable"
    assert str(tmp_path) not in str(caught.value)


def test_a_volume_that_claims_too_much(tmp_path: Path) -> None:
    (tmp_path / "a.nrrd").write_bytes(
        b"NRRD0004\ntype: short\ndimension: 3\nsizes: 60000 60000 60000\nencoding: raw\nendian: little\n\n"
    )
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path / "a.nrrd")
    assert caught.value.code == "limits"


def test_a_volume_of_nothing_but_nan_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.nrrd", np.full((3, 4, 5), np.nan, np.float32))
    with pytest.raises(SeriesError) as caught:
        read_series(tmp_path / "a.nrrd")
    assert caught.value.code == "undecodable"


def test_several_volumes_in_a_directory_are_not_one_patient(tmp_path: Path) -> None:
    write(tmp_path / "a.nrrd", volume())
    write(tmp_path / "b.nrrd", volume())
    with pytest.raises(SeriesError, match="2 are volumes") as caught:
        read_series(tmp_path)
    assert caught.value.code == "no_images"
