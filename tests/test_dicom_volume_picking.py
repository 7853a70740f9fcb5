"""Which of a patient's files is the volume to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.ct_files import write_series
from support.volume_files import metaimage_header, nifti, noise, save

from lungct.dicom import read_series
from lungct.errors import SeriesError
from lungct.inspection import describe


def lay(patient: Path, *names: str) -> Path:
    """Write volumes that differ in their number of slices: the first has 3, the second 4, and so on."""
    for slices, name in enumerate(names, 3):
        save(patient / name, nifti(noise(slices)))
    return patient


def refusal(patient: Path, volume: str | None = None) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        read_series(patient, volume=volume)
    return caught.value


def test_companions_that_are_no_volumes_mean_nothing(tmp_path: Path) -> None:
    lay(tmp_path, "scan.nii")
    for name in ("scan.json", "README", "scan.bval", "scan.bvec", "view.png", "sub/table.csv", "notes.txt"):
        save(tmp_path / name, "{}")
    save(tmp_path / "empty", b"")
    series = read_series(tmp_path)
    assert len(series) == 3
    assert series.reason == "a volume file"


@pytest.mark.parametrize("place", ["", "nifti/", "a/b/"])
def test_the_volume_above_all_others_is_the_scan(tmp_path: Path, place: str) -> None:
    names = ("z.nii", "masks/lung.nii", "masks/more/heart.nii", "b/c.nii")
    series = read_series(lay(tmp_path, *(place + name for name in names)))
    assert len(series) == 3
    assert series.reason == "a volume file (3 more below it)"


@pytest.mark.parametrize(
    "names",
    [
        ("imaging.nii", "segmentation.nii"),
        ("imaging.nii", "segmentation.nii", "masks/a.nii"),
        ("one/a.nii", "other/b.nii"),
        ("one/a.nii", "other/masks/b.nii"),  # nothing says that these belong together
        ("scan/a.nii", "scan_masks/b.nii"),
        ("imaging.nii", "imaging.nii.gz"),
    ],
)
def test_volumes_side_by_side_are_refused_by_their_number(tmp_path: Path, names: tuple[str, ...]) -> None:
    error = refusal(lay(tmp_path, *names))
    assert error.code == "volumes"
    assert f"{len(names)} volume files" in str(error)
    assert "--volume" in str(error)
    assert describe(tmp_path).error_code == "volumes"


@pytest.mark.parametrize(
    "pattern", ["segmentation.nii", "seg*", "s?gmentation.nii", "*/segmentation.nii", "x/*", "[s]eg*"]
)
def test_a_pattern_picks_by_path_or_name(tmp_path: Path, pattern: str) -> None:
    series = read_series(lay(tmp_path, "imaging.nii", "x/segmentation.nii"), volume=pattern)
    assert len(series) == 4
    assert series.reason == "a volume file, picked from 2 by --volume"


@pytest.mark.parametrize("pattern", ["Segmentation.nii", "nii", "other*"])
def test_a_pattern_that_matches_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    error = refusal(lay(tmp_path, "imaging.nii", "segmentation.nii"), pattern)
    assert error.code == "volumes"
    assert "none of the 2 volume files" in str(error)


def test_the_only_volume_is_spoken_of_as_one(tmp_path: Path) -> None:
    assert "--volume does not match the only volume file" in str(refusal(lay(tmp_path, "ct.nii"), "mask*"))


def test_a_pattern_that_matches_several_is_refused(tmp_path: Path) -> None:
    error = refusal(lay(tmp_path, "imaging.nii", "segmentation.nii", "masks/a.nii"), "*.nii")
    assert error.code == "volumes"
    assert "3 of the 3" in str(error)


def test_a_pattern_does_not_matter_to_a_patient_that_is_a_file(tmp_path: Path) -> None:
    lay(tmp_path, "a.nii", "b.nii")
    assert len(read_series(tmp_path / "a.nii", volume="b.nii")) == 3


def test_dicom_comes_before_volumes_that_nobody_picked(tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", slices=6, rows=16, columns=16)
    alone = read_series(tmp_path)
    lay(tmp_path, "one.nii", "other.nii")
    for pattern in (None, "nothing*"):
        beside = read_series(tmp_path, volume=pattern)
        assert len(beside) == 6
        assert beside.reason == alone.reason
    assert describe(tmp_path).passed_over == {"volume files": 2}
    assert len(read_series(tmp_path, volume="other.nii")) == 4


def test_a_volume_does_not_replace_dicom_that_cannot_be_used(tmp_path: Path) -> None:
    write_series(
        tmp_path / "mr",
        slices=2,
        rows=16,
        columns=16,
        tags={"Modality": "MR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
    )
    error = refusal(lay(tmp_path, "mr.nii"))
    assert error.code == "no_ct"
    assert "volume files: 1" in str(error)


def test_the_file_of_a_headers_voxels_is_a_companion(tmp_path: Path) -> None:
    voxels = noise()
    save(tmp_path / "a.mhd", metaimage_header(voxels, ElementDataFile="a.raw"))
    # These bytes would pass for the beginning of a DICOM data set without preamble.
    pixels = bytearray(voxels.tobytes())
    pixels[:18] = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    save(tmp_path / "a.raw", bytes(pixels))
    assert len(read_series(tmp_path)) == 5


def test_a_dicom_file_may_have_the_name_of_voxels(tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", slices=6, rows=16, columns=16)
    for number, path in enumerate(sorted((tmp_path / "dicom").iterdir())):
        path.rename(tmp_path / f"{number}.raw")
    assert len(read_series(tmp_path)) == 6


def test_a_list_of_files_is_dicom(tmp_path: Path) -> None:
    from lungct.dicom import series_choices

    lay(tmp_path, "a.nii")
    with pytest.raises(SeriesError, match="not DICOM"):
        next(series_choices([str(tmp_path / "a.nii")]))
    assert np.isfinite(read_series(tmp_path / "a.nii").positions_mm).all()
