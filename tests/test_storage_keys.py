"""Keys that are no paths (``scans//p1/a.dcm``): each costs its patient, and the rest of the archive is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import stores
from support.commands import lungct as run
from support.ct_files import write_series
from support.tables import rows

from lungct.errors import LungCTWarning, SeriesError, UsageError
from lungct.patients import list_patients, named_patients
from lungct.storage import ObjectPath, fetch_copy, local_copies, oddkeys
from lungct.storage.client import UnreadableKeyError

pytestmark = pytest.mark.stores
ELSEWHERE = ObjectPath("s3://scans", "table")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectPath]:
    """Patients a, b and c, of whom b has an odd key; above them lies another, where a patient's name is missing."""
    source = tmp_path_factory.mktemp("cohort")
    for name in ("a", "b", "c"):
        write_series(source / name, slices=4, rows=32, columns=32)
    with stores.moto() as environment, stores.environment(environment):
        for prefix in ("inside", "above"):
            stores.upload(source, ObjectPath("s3://scans", prefix))
        stores.put_key(environment, "scans", "inside/b//x.dcm")
        stores.put_key(environment, "scans", "above//x/y.dcm")
        yield ObjectPath("s3://scans", "")


@pytest.fixture(autouse=True)
def _warn_anew() -> None:
    oddkeys._warn_of.cache_clear()


def test_an_odd_key_inside_a_patient_costs_that_patient(archive: ObjectPath) -> None:
    src = archive / "inside"
    patients = list_patients(src, depth=1, without=ELSEWHERE)
    assert [patient.id for patient in patients] == ["a", "b", "c"]
    assert [patient.id for patient in named_patients(src, ["b", "c"], depth=1)] == ["b", "c"]
    kinds = [type(copy) for copy in local_copies([patient.location for patient in patients])]
    assert kinds == [str, SeriesError, str]
    with pytest.raises(SeriesError) as error:
        fetch_copy(str(src / "b"))
    assert error.value.code == "object_key"
    assert "x.dcm" not in str(error.value)
    assert "b//" not in str(error.value)


def test_an_odd_key_above_the_patients_is_left_out_with_a_warning(archive: ObjectPath) -> None:
    with pytest.warns(LungCTWarning, match="s3://scans/above//") as warned:
        patients = list_patients(archive / "above", depth=1, without=ELSEWHERE)
    assert [patient.id for patient in patients] == ["a", "b", "c"]
    assert len(warned) == 1
    assert [type(copy) for copy in local_copies([patient.location for patient in patients])] == [str] * 3


def test_what_cannot_be_listed_without_them_is_refused_by_name(archive: ObjectPath) -> None:
    with pytest.raises(UnreadableKeyError) as error:
        list((archive / "above").walk())
    assert isinstance(error.value, UsageError)
    assert str(error.value).startswith("s3://scans/above cannot be listed (an object in it has a key with //")
    assert error.value.fix == "rename it"


@pytest.mark.ray
def test_the_archive_is_extracted_with_an_error_row(archive: ObjectPath, tmp_path: Path) -> None:
    flags = ("--backbone", "resnet18", "--weights", "random:1", "--quiet")
    ran = run("extract", archive / "inside", "--out", tmp_path, *flags)
    assert ran.code == 0, ran
    codes = {name: row["error_code"] for name, row in rows(tmp_path).items()}
    assert codes == {"a": None, "b": "object_key", "c": None}
