"""Real files: the series in ``data/ct`` (if it exists) and pydicom's own test files.

Geometry and Hounsfield units are compared with SimpleITK, which shares no code with lungct.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from support import ROOT

from lungct.dicom import Series, read_series
from lungct.errors import LungCTError, SeriesError
from lungct.inspection import describe

DATA = ROOT / "data" / "ct"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no real CT in data/ct")

sitk = pytest.importorskip("SimpleITK")

# folder, slices, spacing (slice, row, column), maker, kernel
AXIAL = [
    ("ge-lidc0001-2.5mm", 24, (2.5, 0.703125, 0.703125), "GE MEDICAL SYSTEMS", "STANDARD"),
    ("ge-ricord-1.25mm-jpeglossless", 45, (1.25, 0.703125, 0.703125), None, "STANDARD"),
    ("philips-lidc-1mm", 24, (1.0, 0.78125, 0.78125), "Philips", "D"),
    ("siemens-acrin013-petct-5mm", 24, (4.0, 1.3671875, 1.3671875), "SIEMENS", "B10f"),
    ("siemens-lungfcp01-2mm", 24, (1.0, 0.759765625, 0.759765625), None, "B31f"),
    ("siemens-mct-j2k-emptyuids", 20, (2.0, 0.9765625, 0.9765625), "SIEMENS", "Br38f\\3"),
    ("messy/tilt-philips-head", 7, (2.37081, 0.482421875, 0.482421875), "Philips", "UB"),
    ("messy/stripped-headers", 2, (1.0, 0.625, 0.625), None, None),
]
REFUSED = [
    ("messy/acrin013-coronal-reformat", "geometry", "coronal"),
    ("messy/acrin013-sagittal-reformat", "geometry", "sagittal"),
    ("messy/bad-j2k-philips-phantom", "undecodable", "rejected them"),
    ("messy/colour-secondary-capture", "no_ct", "colour"),
    ("messy/dose", "several_persons", "2 persons"),
    ("messy/hostile", "no_ct", "secondary captures"),
    ("messy/multiframe", "several_persons", "2 persons"),
    ("messy/other-modalities", "several_persons", "4 persons"),
    ("messy/pydicom-odd", "several_persons", "2 persons"),
    ("messy/syntaxes-ge-hispeed", "geometry", "different images lie at one position"),
    ("messy/tcga-single-slices", "several_persons", "5 persons"),
    ("messy/topogram-j2k", "no_ct", "localizers: 1"),
]


def hu(series: Series) -> NDArray[np.float32]:
    return np.stack([series.hu(i) for i in range(len(series))])


@needs_data
@pytest.mark.parametrize(("folder", "count", "spacing", "maker", "kernel"), AXIAL)
def test_axial_series_agree_with_simpleitk(
    folder: str, count: int, spacing: tuple[float, ...], maker: str | None, kernel: str | None
) -> None:
    series = read_series(DATA / folder)
    assert len(series) == count
    assert series.spacing_mm == pytest.approx(spacing, rel=1e-5)
    assert (series.manufacturer, series.kernel) == (maker, kernel)

    reader = sitk.ImageSeriesReader()
    names = reader.GetGDCMSeriesFileNames(str(DATA / folder), _series_id(reader, DATA / folder))
    assert list(names) == [image.path for image in series.slices]
    reader.SetFileNames(names)
    image = reader.Execute()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), hu(series))
    assert image.GetSpacing()[:2] == pytest.approx((series.spacing_mm[2], series.spacing_mm[1]))
    z = np.array([image.image_position[2] for image in series.slices if image.image_position])
    assert image.GetSpacing()[2] == pytest.approx(float(np.median(np.diff(z))))


def _series_id(reader: Any, folder: Path) -> str:
    (only,) = reader.GetGDCMSeriesIDs(str(folder))
    return str(only)


@needs_data
@pytest.mark.parametrize(("folder", "code", "words"), REFUSED)
def test_the_rest_are_refused_with_the_right_sentence(folder: str, code: str, words: str) -> None:
    with pytest.raises(SeriesError, match=re.escape(words)) as caught:
        hu(read_series(DATA / folder))
    assert caught.value.code == code
    assert describe(DATA / folder).error_code in (code, None)


@needs_data
def test_lossless_copies_of_one_slice_are_equal() -> None:
    folder = DATA / "messy" / "syntaxes-ge-hispeed"
    copies = {path.name: read_series(path).hu(0) for path in sorted(folder.iterdir())}
    (reference,) = (pixels for name, pixels in copies.items() if "LittleEndianImplicit" in name)
    farthest = {
        name.split("_")[1][:16]: float(np.abs(pixels - reference).max())
        for name, pixels in copies.items()
        if name.startswith("CTImage")
    }
    assert farthest == pytest.approx(
        {
            "BigEndianExplici": 0,
            "DeflatedExplicit": 0,
            "JPEG2000Lossless": 0,
            "JPEG2000Transfer": 5,
            "JPEGLSLosslessTr": 0,
            "JPEGLSLossyTrans": 1,
            "JPEGProcess10": 35.63,
            "JPEGProcess14SV1": 0,
            "JPEGProcess14Tra": 0,
            "JPEGProcess1Tran": 64.22,
            "JPEGProcess2": 35.63,
            "LittleEndianImpl": 0,
            "RLELosslessTrans": 0,
        },
        abs=0.01,
    )


@needs_data
@pytest.mark.parametrize(
    ("name", "shape", "spacing"),
    [
        ("totalseg-pulmonary-ct_cropped.nii.gz", (112, 102, 122), (1.5, 1.5, 1.5)),
        ("pyradiomics-lung1-crop14.nrrd", (14, 512, 512), (5.0, 0.5703125, 0.5703125)),
    ],
)
def test_volumes(name: str, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    series = read_series(DATA / "volumes" / name)
    assert hu(series).shape == shape
    assert series.spacing_mm == pytest.approx(spacing)
    assert (np.diff(series.positions_mm) > 0).all()


PYDICOM_DATA = Path(pydicom.__file__).parent / "data"
FILES = sorted(
    path
    for path in PYDICOM_DATA.rglob("*")
    if path.is_file() and path.suffix not in (".py", ".pyc", ".json") and path.stat().st_size < 20e6
)


def test_pydicoms_files_are_read_or_refused(tmp_path: Path) -> None:
    assert len(FILES) > 100
    read, codes, sentences = set(), set(), []
    for number, path in enumerate(FILES):
        patient = tmp_path / str(number)
        patient.mkdir()
        (patient / "x").symlink_to(path)
        try:
            hu(read_series(patient))
            read.add(path.name)
        except LungCTError as error:
            codes.add(getattr(error, "code", type(error).__name__))
            sentences.append(str(error))
    assert {"CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"} <= read
    assert not [text for text in sentences if re.search(r"1\.2\.\d|/", text)]
    assert codes == {"no_images", "no_ct", "undecodable"}


@pytest.mark.parametrize("name", ["CT_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"])
def test_pydicoms_ct_agrees_with_simpleitk(name: str) -> None:
    (path,) = (file for file in FILES if file.name == name)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(os.fspath(path)))[0]
    np.testing.assert_array_equal(read_series(path).hu(0), expected)
