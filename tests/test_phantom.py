"""Phantoms: valid DICOM, the same bytes for a seed, usable by both presets, and with nodules where they belong."""

from __future__ import annotations

import csv
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

import lungct
from lungct.errors import UsageError
from lungct.phantom import CohortSummary, Variation, write_cohort
from lungct.phantom.anatomy import draw_anatomy
from lungct.phantom.nodules import LOBES, Nodule, draw_nodules
from lungct.preprocess import PRESETS, Preset
from lungct.preprocess.lung import find_chest
from lungct.progress import Progress

SETTINGS: dict[str, Any] = {"patients": 5, "slices": 36, "nodules": 2, "diameter": (30.0, 40.0)}

pytestmark = pytest.mark.slow  # each cohort is drawn slice by slice


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> CohortSummary:
    return write_cohort(tmp_path_factory.mktemp("phantom") / "cohort", seed=11, **SETTINGS)


@pytest.fixture(scope="module")
def scans(cohort: CohortSummary) -> dict[str, list[pydicom.Dataset]]:
    """Return every patient's files, read by pydicom, in order of file names."""
    return {
        folder.name: [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        for folder in sorted(cohort.out.iterdir())
    }


def labels(path: Path) -> dict[str, int]:
    with path.open(newline="") as file:
        return {row["id"]: int(row["cancer"]) for row in csv.DictReader(file)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_summary_describes_what_is_written(cohort: CohortSummary) -> None:
    names = sorted(p.name for p in cohort.out.iterdir())
    assert names == [f"phantom-{n:04d}" for n in range(1, 6)]
    counts = [len(list((cohort.out / name).iterdir())) for name in names]
    assert cohort.patients == 5
    assert cohort.slices == sum(counts)
    assert all(27 <= count <= 36 for count in counts)  # 0.75 N ... N
    assert len(set(counts)) > 1
    assert cohort.labels == cohort.out.with_name("cohort.csv")
    assert cohort.labels.read_text().startswith("id,cancer\nphantom-0001,")
    given = labels(cohort.labels)
    assert list(given) == names
    assert sum(given.values()) == 2  # half of 5, rounded down


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_cohort(tmp_path / name, patients=3, slices=6, seed=5)
    write_cohort(tmp_path / "other", patients=3, slices=6, seed=6)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert not set(contents(tmp_path / "a").values()) & set(contents(tmp_path / "other").values())


def test_the_number_of_threads_does_not_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cohort(tmp_path / "all", patients=4, slices=4, seed=5)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    write_cohort(tmp_path / "one", patients=4, slices=4, seed=5)
    assert contents(tmp_path / "all") == contents(tmp_path / "one")


def test_only_the_nodules_tell_the_classes_apart(tmp_path: Path) -> None:
    """With other nodules and the same seed, negatives keep their pixels and positives change near the nodules alone."""
    write_cohort(tmp_path / "small", patients=4, slices=30, seed=3, nodules=1, diameter=(20, 21))
    write_cohort(tmp_path / "large", patients=4, slices=30, seed=3, nodules=2, diameter=(50, 60))
    given = labels(tmp_path / "small.csv")
    assert given == labels(tmp_path / "large.csv")
    for name, label in given.items():
        a, b = (lungct.read_series(tmp_path / cohort / name) for cohort in ("small", "large"))
        changed = [float((a.stored(i) != b.stored(i)).mean()) for i in range(len(a))]
        if label:
            assert 0 < max(changed) < 0.2
            assert min(changed) == 0
        else:
            assert max(changed) == 0


def test_files_are_ct_image_storage_objects(scans: dict[str, list[pydicom.Dataset]]) -> None:
    for name, files in scans.items():
        for file in files:
            assert file.preamble == b"\0" * 128
            assert file.file_meta.MediaStorageSOPClassUID == file.SOPClassUID == CTImageStorage
            assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
            assert file.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            assert file.Modality == "CT"
            assert file.PatientID == file.PatientName == name
            assert file.PatientIdentityRemoved == "YES"
            assert (file.Rows, file.Columns) == (512, 512)
            assert (file.RescaleSlope, file.RescaleIntercept) == (1, -1024)
            assert list(file.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
            assert file["PixelPaddingValue"].VR == "SS"
            assert file.pixel_array.dtype == np.int16
            uids = (file.StudyInstanceUID, file.SeriesInstanceUID, file.FrameOfReferenceUID)
            assert all(u.is_valid and u.startswith("2.25.") for u in (*uids, file.SOPInstanceUID))


# Attributes of type 1 and 2 in the modules that PS3.3 A.3 makes mandatory, except those tested above.
MANDATORY = """
    PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber
    SeriesNumber PatientPosition PositionReferenceIndicator Manufacturer InstanceNumber ImageType
    AcquisitionNumber KVP PixelSpacing SliceThickness ImagePositionPatient SamplesPerPixel
    PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation
    DeidentificationMethod
"""


def test_mandatory_attributes_are_present(scans: dict[str, list[pydicom.Dataset]]) -> None:
    for file in (file for files in scans.values() for file in files):
        assert [keyword for keyword in MANDATORY.split() if keyword not in file] == []


def test_no_date_or_time_is_set_and_no_uid_repeats(scans: dict[str, list[pydicom.Dataset]]) -> None:
    files = [file for files in scans.values() for file in files]
    dated = [e for file in files for e in file if e.VR in ("DA", "TM", "DT") and e.value]
    assert dated == []
    assert len({file.SOPInstanceUID for file in files}) == len(files)
    for uid in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert len({file[uid].value for file in files}) == len(scans)


def test_pydicom_writes_the_same_bytes(
    scans: dict[str, list[pydicom.Dataset]], cohort: CohortSummary, tmp_path: Path
) -> None:
    """Elements are encoded one by one and written in the order and form that pydicom uses for the whole data set."""
    file = scans["phantom-0001"][0]
    original = sorted((cohort.out / "phantom-0001").iterdir())[0]
    file.save_as(tmp_path / "again.dcm", enforce_file_format=True)
    assert (tmp_path / "again.dcm").read_bytes() == original.read_bytes()


def test_file_names_hide_the_order_and_instance_numbers_follow_the_body(
    scans: dict[str, list[pydicom.Dataset]],
) -> None:
    directions = set()
    for files in scans.values():
        heights = np.array([float(file.ImagePositionPatient[2]) for file in files])
        numbers = np.array([int(file.InstanceNumber) for file in files])
        assert not (np.diff(heights) > 0).all()
        assert abs(np.corrcoef(np.arange(len(files)), heights)[0, 1]) < 0.6
        assert sorted(numbers) == list(range(1, len(files) + 1))
        along = heights[np.argsort(numbers)]
        steps = np.diff(along)
        assert np.ptp(steps) < 1e-6
        assert abs(steps[0]) == pytest.approx(float(files[0].SliceThickness))
        directions.add(np.sign(steps[0]))
    assert directions == {-1, 1}


def test_spacing_varies_and_is_plausible(scans: dict[str, list[pydicom.Dataset]]) -> None:
    spacings = {float(files[0].PixelSpacing[0]) for files in scans.values()}
    assert len(spacings) > 2
    assert all(0.6 <= spacing <= 0.9 for spacing in spacings)
    assert all(float(files[0].SliceThickness) <= 10 for files in scans.values())


def test_padding_is_outside_the_circle_only(scans: dict[str, list[pydicom.Dataset]]) -> None:
    y, x = np.mgrid[:512, :512] - 255.5
    outside = np.hypot(x, y) > 256
    for files in scans.values():
        assert ((files[0].pixel_array == -2000) == outside).all()


def test_hounsfield_units_are_those_of_a_chest(cohort: CohortSummary) -> None:
    for folder in sorted(cohort.out.iterdir()):
        series = lungct.read_series(folder).by_position()
        chest = find_chest(series)
        lungs = chest.lungs
        assert 2.3 < lungs.litres < 6.5
        hu = series.hu(
            int(np.abs(series.positions_mm - chest.positions_mm[int(lungs.mask.sum(axis=(1, 2)).argmax())]).argmin())
        )
        inside = hu[hu > -2000]
        assert inside.min() >= -1024
        assert -1010 < np.median(inside[inside < -930]) < -930  # air around
        assert 0.10 < np.mean((inside > -930) & (inside < -700)) < 0.45  # parenchyma
        assert np.mean((inside > -140) & (inside < -60)) > 0.08  # fat
        assert np.mean((inside > 0) & (inside < 100)) > 0.06  # muscle, blood
        assert 0.005 < np.mean(inside > 300) < 0.06  # bone
        # Both lungs exist: each half of the image has a fair share.
        halves = [
            part.sum() for part in np.array_split(lungs.mask[int(lungs.mask.sum(axis=(1, 2)).argmax())], 2, axis=1)
        ]
        assert min(halves) > 0.25 * sum(halves)


@pytest.mark.parametrize("preset", PRESETS)
def test_both_presets_can_use_phantoms(preset: Preset, cohort: CohortSummary) -> None:
    for folder in cohort.out.iterdir():
        triplets = lungct.triplets(folder, preset)
        assert len(triplets) >= 8
        assert np.isfinite(triplets.positions_mm).all()
        assert all(picture.std() > 20 for picture in triplets.pixels)


@pytest.mark.parametrize("slices", [4, 5, 150])
def test_cohorts_of_few_and_of_many_slices(slices: int, tmp_path: Path) -> None:
    write_cohort(tmp_path / "c", patients=1, slices=slices, seed=2)
    series = lungct.read_series(tmp_path / "c" / "phantom-0001")
    assert math.ceil(0.75 * slices) <= len(series) <= slices
    assert series.spacing_mm[0] <= 10
    if slices >= 150:
        assert len(lungct.triplets(tmp_path / "c" / "phantom-0001", "lung")) > 25


def draw(seed: int, count: int, diameter: tuple[float, float]) -> tuple[list[Nodule], Any, Any]:
    """Return the nodules of a patient with slices 2.5 mm apart, the depth in the lungs, and heights and anatomy."""
    anatomy = draw_anatomy(np.random.default_rng([seed, 2, 0]))
    heights = np.arange(-20.0, anatomy.height + 15.0, 2.5)
    depth = np.stack([anatomy.lung_depth(z) for z in heights.tolist()])
    rng = np.random.default_rng(seed)
    nodules, _ = draw_nodules(rng, anatomy, depth, heights, count=count, diameter_mm=diameter)
    return nodules, depth, (heights, anatomy)


@pytest.mark.parametrize("seed", range(6))
def test_nodules_lie_wholly_in_a_lung_and_apart(seed: int) -> None:
    nodules, depth, (heights, anatomy) = draw(seed, 3, (8.0, 30.0))
    assert len(nodules) == 3
    for nodule in nodules:
        assert 8 <= nodule.diameter <= 30
        for z, lung in zip(heights, depth, strict=True):
            inside = nodule.depth(anatomy.x[0], anatomy.y[:, 0], float(z)) > 0
            assert (lung[inside] > -1.0).all()
    for a in range(3):
        for b in range(a):
            apart = float(np.linalg.norm(nodules[a].centre - nodules[b].centre))
            assert apart > (nodules[a].diameter + nodules[b].diameter) / 2


@pytest.mark.parametrize("seed", range(4))
def test_lobes_stay_within_their_share_of_the_radius(seed: int) -> None:
    nodule = draw(seed, 1, (20.0, 30.0))[0][0]
    away = np.random.default_rng(0).normal(size=(500, 3))
    radius = nodule.radius(away / np.linalg.norm(away, axis=1, keepdims=True))
    assert np.abs(radius / (nodule.diameter / 2) - 1).max() <= LOBES + 1e-9
    assert radius.std() > 0.02 * nodule.diameter  # not a ball


def test_a_mass_that_fits_nowhere_goes_where_the_lung_is_deepest() -> None:
    nodules, depth, (heights, anatomy) = draw(1, 1, (120.0, 120.0))
    k = int(np.abs(heights - nodules[0].centre[2]).argmin())
    i = int(np.abs(anatomy.y[:, 0] - nodules[0].centre[1]).argmin())
    j = int(np.abs(anatomy.x[0] - nodules[0].centre[0]).argmin())
    assert depth[k, i, j] > 15


def test_a_nodule_is_soft_tissue_in_the_files(tmp_path: Path) -> None:
    """The same patient with and without a nodule: where they differ, lung has become soft tissue of its volume."""
    write_cohort(tmp_path / "tiny", patients=2, slices=100, seed=9, diameter=(1e-3, 1e-3))
    write_cohort(tmp_path / "real", patients=2, slices=100, seed=9, diameter=(28, 30))
    (name,) = (patient for patient, label in labels(tmp_path / "real.csv").items() if label)
    a, b = (lungct.read_series(tmp_path / cohort / name).by_position() for cohort in ("tiny", "real"))
    before = np.stack([a.hu(i) for i in range(len(a))])
    after = np.stack([b.hu(i) for i in range(len(b))])
    new = (after > -400) & (before < -600)
    volume = new.sum() * np.prod(a.spacing_mm)
    assert 0.5 < volume / (np.pi / 6 * 29**3) < 1.3
    assert 10 < np.median(after[new]) < 70


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"patients": 0}, "patients must be a whole number of at least 1, not 0"),
        ({"slices": 3}, "slices must be a whole number of at least 4, not 3"),
        ({"nodules": 0}, "nodules must be a whole number of at least 1, not 0"),
        ({"diameter": (0.0, 5.0)}, "diameter must be two lengths in mm, 0 < MIN <= MAX, not 0.0 and 5.0"),
        ({"diameter": (30.0, 8.0)}, "diameter must be two lengths in mm"),
        ({"diameter": (8.0, float("nan"))}, "diameter must be two lengths in mm"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        write_cohort(tmp_path / "c", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="full is not empty: give another directory as out"):
        write_cohort(tmp_path / "full", patients=1, slices=4)
    (tmp_path / "c.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"c\.csv already exists: give another directory as out"):
        write_cohort(tmp_path / "c", patients=1, slices=4)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot be written"):
        write_cohort(tmp_path / "file", patients=1, slices=4)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["c.csv", "file", "full", "notes.txt"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(UsageError, match="cannot be written"):
        write_cohort(tmp_path / "c", patients=1, slices=4)


def test_progress_counts_patients(tmp_path: Path) -> None:
    with Progress(3, noun="phantoms", quiet=True) as progress:
        write_cohort(tmp_path / "deep" / "er" / "c", patients=3, slices=4, progress=progress)
    assert progress.done == 3


def test_an_ordinary_body_has_the_bytes_of_its_seed_and_an_unusual_one_its_own_uids(tmp_path: Path) -> None:
    write_cohort(tmp_path / "plain", patients=1, slices=5, seed=4)
    write_cohort(tmp_path / "ordinary", patients=1, slices=5, seed=4, variation=Variation())
    write_cohort(tmp_path / "unusual", patients=1, slices=5, seed=4, variation=Variation(blanket=True))
    plain, ordinary, unusual = (contents(tmp_path / name) for name in ("plain", "ordinary", "unusual"))
    assert plain == ordinary
    assert not set(plain) & set(unusual)  # files are named by their UIDs


def test_a_prone_body_says_so_and_is_stored_as_it_lay(tmp_path: Path) -> None:
    for name in ("supine", "prone"):
        write_cohort(tmp_path / name, patients=1, slices=5, seed=4, variation=Variation(prone=name == "prone"))
    supine, prone = (
        min(
            (pydicom.dcmread(path) for path in (tmp_path / name / "phantom-0001").iterdir()),
            key=lambda file: int(file.InstanceNumber),
        )
        for name in ("supine", "prone")
    )
    assert prone.PatientPosition == "HFP"
    assert list(prone.ImageOrientationPatient) == [-1, 0, 0, 0, -1, 0]
    far = 511 * float(supine.PixelSpacing[0])
    for axis in (0, 1):
        assert float(prone.ImagePositionPatient[axis] - supine.ImagePositionPatient[axis]) == pytest.approx(
            far, abs=2e-3
        )
    lungs = np.s_[200:260]  # no table there
    assert np.array_equal(prone.pixel_array[::-1, ::-1][lungs], supine.pixel_array[lungs])


@pytest.mark.parametrize(
    ("variation", "row", "column", "low", "high"),
    [
        (Variation(left_lung="filled"), 256, 370, -50, 80),
        (Variation(emphysema=True), 256, 150, -1024, -890),
        (Variation(arms="left down", field_mm=500.0), 270, 490, -150, 800),
        (Variation(arms="left down", field_mm=500.0), 270, 20, -1024, -900),
        (Variation(arms="down", field_mm=500.0), 270, 20, -150, 800),
    ],
    ids=str,
)
def test_variations_are_where_they_belong(
    variation: Variation, row: int, column: int, low: float, high: float, tmp_path: Path
) -> None:
    write_cohort(tmp_path / "c", patients=1, slices=5, seed=4, variation=variation)
    series = lungct.read_series(tmp_path / "c" / "phantom-0001").by_position()
    hu = series.hu(2)[row - 3 : row + 4, column - 3 : column + 4]
    assert low < np.median(hu) < high
