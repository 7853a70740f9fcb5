"""Canaries: a mark in every identifying place of a cohort, and none of them in anything that lungct writes."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import keyword_dict
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from support.commands import lungct as run
from support.ct_files import noise, write_series

pytestmark = pytest.mark.ray
TEXT = "CANARY"
UID = "1.2.826.0.1.3680043.10.99.4242"
DATE = "19010203"
# A mark for each VR that holds text: every element of such a VR gets one, no matter which of them a profile lists.
MARKS = {
    **dict.fromkeys(("LO", "SH", "UC", "ST", "LT", "UT", "PN", "AE", "CS"), TEXT),
    "UI": UID,
    "DA": DATE,
    "TM": "010203.424242",
    "DT": DATE + "010203.424242",
    "AS": "142Y",
}
MODEL = "A-Model-4243"
"""The mark of ManufacturerModelName, which the column ``model`` keeps; no other place may have it."""
FOUND = re.compile(rb"canary|10\.99\.4242|19010203|010203\.424242|142Y", re.IGNORECASE)
# What makes a file a CT, and the names of the scanner, which the table keeps.
KEPT = {
    *("SOPClassUID", "Modality", "ImageType", "PatientID"),
    *("Manufacturer", "ManufacturerModelName", "ConvolutionKernel"),
    *("PhotometricInterpretation", "RescaleType", "SpecificCharacterSet", "PatientIdentityRemoved"),
    *("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID", "SmallestImagePixelValue"),
}


def plant(ds: Dataset, person: str) -> None:
    """Write a mark into every text element that DICOM knows, and into a private one."""
    for tag, (vr, vm, _, retired, keyword) in DicomDictionary.items():
        group = tag >> 16
        planted = vr in MARKS and vm in ("1", "1-n") and not retired and keyword not in KEPT
        if planted and group not in (0x0000, 0x0002, 0x0028, 0x7FE0) and group < 0x4000:
            ds.add(DataElement(tag, vr, MARKS[vr]))
    ds.ManufacturerModelName = MODEL
    ds.PatientName = f"{TEXT}^{person}"
    ds.PatientID = f"{TEXT}-{person}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{UID}.1", f"{UID}.2"
    block = ds.private_block(0x0011, TEXT, create=True)
    block.add_new(0x01, "LO", TEXT)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients, two of them damaged, each named after a person in every place."""
    from pydicom import dcmread

    src = tmp_path_factory.mktemp("scans")
    for i in range(8):
        directory = src / f"{TEXT}^PERSON{i}"
        for path in write_series(
            directory,
            slices=6,
            pixels=lambda j, i=i: noise(64, 64, seed=10 * i + j),  # type: ignore[misc]
        ):
            ds = dcmread(path)
            plant(ds, f"P{i}")
            ds.SOPInstanceUID = f"{UID}.3.{i}.{ds.InstanceNumber}"
            path.unlink()
            ds.save_as(path.with_name(f"{TEXT}-{path.name}"))
    for path in list((src / f"{TEXT}^PERSON6").iterdir())[:2]:
        path.write_bytes(path.read_bytes()[:-3000])
    for path in (src / f"{TEXT}^PERSON7").iterdir():
        path.write_bytes(f"{TEXT} is no DICOM".encode())
    (src / f"{TEXT}^PERSON1" / f"{TEXT}-prior").symlink_to(f"../{TEXT}^PERSON0")
    (src / f"{TEXT}.zip").write_bytes(b"PK")
    return src


@pytest.fixture
def ray_directory() -> Iterator[Path]:
    """A short path for Ray's sockets and logs, for this test alone."""
    path = Path(tempfile.mkdtemp(prefix="lct", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_the_cohort_has_its_marks(cohort: Path) -> None:
    path = next((cohort / f"{TEXT}^PERSON0").iterdir())
    data = path.read_bytes()
    assert len(FOUND.findall(data)) > 500
    for keyword in ("InstitutionName", "DeviceSerialNumber", "OperatorsName", "StudyDate"):
        tag = int(keyword_dict[keyword])
        assert np.array([tag & 0xFFFF, tag >> 16][::-1], "<u2").tobytes() in data, keyword


def test_with_a_key_no_mark_reaches_any_output(cohort: Path, ray_directory: Path, tmp_path: Path) -> None:
    key, labels = tmp_path / "key", tmp_path / "labels.csv"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    names = [f"{TEXT}^PERSON{i}" for i in range(6)]
    params = tmp_path / "params.json"
    params.write_text('{"min_data_in_leaf": 1, "min_data_in_bin": 1, "bagging_freq": 0, "learning_rate": 0.1}')
    labels.write_text("id,cancer\n" + "".join(f"{n},{i % 2}\n" for i, n in enumerate(names)))
    out = tmp_path / "outputs"
    out.mkdir()
    table, model, coded = out / "table", out / "run", out / "labels.csv"
    ray = {"RAY_TMPDIR": str(ray_directory)}
    network = ("--backbone", "resnet18", "--weights", "random:1")
    commands = (
        ("extract", cohort, "--out", table, "--pseudonyms", key, *network),
        ("pseudonyms", labels, "--key", key, "--out", coded),
        ("status", table, cohort, "--check", "--pseudonyms", key),
        ("train", table, "--labels", coded, "--out", model, "--folds", "3", "--rounds", "5", "--params", params),
        ("predict", model, table, "--out", out / "predictions.csv"),
    )
    said = b""
    for command in commands:
        ran = run(*command, **ray)
        assert ran.code == 0, ran
        said += ran.stdout.encode() + ran.stderr.encode()
    written = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert b"1 file lies in SRC beside the patients" in said
    assert b"names a person" not in said
    assert b"name people" not in said
    assert len([path for path in written if path.suffix == ".parquet"]) == 1
    (shard,) = (path for path in written if path.suffix == ".parquet")
    rows = pq.read_table(shard).drop_columns(["features"]).to_pylist()
    assert sum(row["error"] is None for row in rows) == 6
    assert [row.pop("model") for row in rows].count(MODEL) == 6
    assert {row["error_code"] for row in rows} == {None, "undecodable", "no_images"}
    written[shard.with_suffix(".rows")] = repr(rows).encode()
    logs = {path: path.read_bytes() for path in ray_directory.rglob("*.log") if path.is_file()}
    logs |= {path: path.read_bytes() for path in ray_directory.rglob("*.out") if path.is_file()}
    logs |= {path: path.read_bytes() for path in ray_directory.rglob("*.err") if path.is_file()}
    assert logs
    for path, data in (written | logs).items():
        assert not FOUND.search(data), path
        assert not FOUND.search(path.name.encode()), path
        assert MODEL.encode() not in data or path == shard, path
    assert not FOUND.search(said)
    assert MODEL.encode() not in said
