"""Patients who stay missing because of the machine: how a worker reports them, and how an extraction then ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from lungct.dicom import SeriesOptions
from lungct.errors import KilledError, LungCTError, SeriesError, StorageError, UsageError
from lungct.extraction import driver, worker
from lungct.extraction.worker import Fault, UnitReport, decode_unit, unit_to_json
from lungct.patients import Patient


class FailingSandbox:
    """A sandbox that raises what each patient's location names."""

    errors: ClassVar[dict[str, LungCTError]] = {
        "killed": KilledError("the process was killed, 3 times", fix="give it more memory"),
        "unread": StorageError("a file of the patient cannot be read (Input/output error)", fix="check the disk"),
        "unusable": SeriesError("no CT images", code="no_ct"),
        "extra": UsageError("volume files need an extra", fix="pip install it"),
    }

    def prepare(self, location: str, *_: Any, **__: Any) -> Any:
        raise self.errors[location]


@pytest.fixture(autouse=True)
def _failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "process_sandbox", FailingSandbox)
    monkeypatch.setattr(worker, "STORAGE_PAUSES_S", (0.0, 0.0))


def decoded(*locations: str) -> list[dict[str, Any]]:
    unit = pa.table({"patients": [unit_to_json([Patient(name, name) for name in locations])]})
    row = decode_unit(unit, preset="dsb2017", options=SeriesOptions(), key=None)
    patients: list[dict[str, Any]] = json.loads(row.column("patients")[0].as_py())
    return patients


def test_only_the_patients_own_bytes_make_an_error_row() -> None:
    killed, unread, unusable = decoded("killed", "unread", "unusable")
    assert killed["error"] is None
    assert killed["fault"]["killed"]
    assert unread["error"] is None
    assert not unread["fault"]["killed"]
    assert (unusable["error"], unusable["fault"]) == ("no CT images", None)


def test_what_the_user_must_change_ends_the_run_as_what_it_is() -> None:
    with pytest.raises(UsageError, match="volume files need an extra: pip install it"):
        decoded("unusable", "extra")


def report(*faults: Fault) -> UnitReport:
    values: dict[str, Any] = dict.fromkeys(UnitReport.__dataclass_fields__, 0) | {
        "staged": None,
        "faults": list(faults),
        "other_device": None,
    }
    return UnitReport(**values)


KILLED = Fault("p1", True, "the process was killed, 3 times")
UNREAD = Fault("p2", False, "a file cannot be read")


def test_a_report_keeps_its_faults_as_json() -> None:
    assert UnitReport.from_json(report(KILLED, UNREAD).to_json()).faults == [KILLED, UNREAD]


@pytest.mark.parametrize(
    ("faults", "kind", "fix", "other"),
    [
        ([KILLED, KILLED], KilledError, "more memory", "storage"),
        ([UNREAD], StorageError, "repair the storage", "more memory"),
    ],
)
def test_the_end_of_a_run_says_who_is_missing_and_what_to_do(
    faults: list[Fault], kind: type[LungCTError], fix: str, other: str
) -> None:
    counts = driver.ExtractCounts(0.0)
    counts.add(report(*faults))
    with pytest.raises(kind) as error:
        driver._raise_faults(counts, Path("/tables/t"))
    assert error.value.exit_code == 3
    sentence = str(error.value)
    assert sentence.startswith(f"{len(faults)} patient")
    assert f"stay missing in /tables/t (first {faults[0].patient_id}: {faults[0].sentence})" in sentence
    assert fix in sentence
    assert other not in sentence


def test_both_kinds_are_said() -> None:
    counts = driver.ExtractCounts(0.0)
    counts.add(report(KILLED, UNREAD, UNREAD))
    with pytest.raises(StorageError, match=r"2 patients could not be read .*; 1 patient could not be decoded .*killed"):
        driver._raise_faults(counts, Path("/tables/t"))
