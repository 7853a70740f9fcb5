"""Whether ids name people is asked before the work: of all ids, and of a few patients' headers."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import ct_files as make

from lungct.errors import LungCTWarning
from lungct.extraction import naming
from lungct.extraction.naming import warn_of_names
from lungct.patients import Patient, list_patients


def warned(patients: Sequence[Patient], *, grouped: bool = False) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_names(patients, grouped=grouped)
    assert all(issubclass(one.category, LungCTWarning) for one in caught)
    return [str(one.message) for one in caught]


def patients(src: Path, *, depth: int = 1) -> list[Patient]:
    return list_patients(src, depth=depth, without=src / "none")


def lay(directory: Path, name: str, patient_id: str = "4711", *, removed: str | None = None) -> None:
    tags = {"PatientName": name, "PatientIdentityRemoved": removed}
    make.write_series(directory, slices=1, rows=16, columns=16, patient_id=patient_id, tags=tags)


def test_a_name_is_warned_of_and_a_code_is_not(tmp_path: Path) -> None:
    lay(tmp_path / "one" / "DOE^JOHN 19300101", "DOE^JOHN")
    (said,) = warned(patients(tmp_path / "one"))
    assert said.startswith("1 id names a person in the table")
    assert "DOE" not in said
    lay(tmp_path / "two" / "siemens-acrin013", "ACRIN-FLT-Breast_013", "ACRIN-FLT-Breast_013")
    assert warned(patients(tmp_path / "two")) == []
    assert warned([]) == []


def test_a_directory_s_name_can_be_a_person_s_whatever_files_say(tmp_path: Path) -> None:
    lay(tmp_path / "DOE^JOHN 19300101", "", removed="YES")
    (tmp_path / "DOE^JANE").mkdir()
    (said,) = warned(patients(tmp_path))
    assert said.startswith("2 ids name people")


def test_files_that_are_no_dicom_come_before_those_that_are(tmp_path: Path) -> None:
    lay(tmp_path / "doe" / "deep" / "er", "Doe^Jane")
    for number in range(naming.FILES - 1):
        (tmp_path / "doe" / f"{number}.txt").write_text("no image")
    assert len(warned(patients(tmp_path))) == 1


def test_a_patient_who_cannot_be_read_does_not_end_the_question(tmp_path: Path) -> None:
    lay(tmp_path / "doe", "Doe^Jane")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "image").symlink_to("/proc/self/mem")  # opens, and every read of its start is EIO
    lost = Patient("lost", str(tmp_path / "lost"))
    (said,) = warned([lost, *patients(tmp_path)])
    assert said.startswith("1 id names")


def test_of_many_patients_a_few_spread_over_all_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "SAMPLE", 4)
    for number in range(16):
        lay(tmp_path / f"{number:02d}{'doe' * (number >= 8)}", "Doe^Jane")
    opened: list[str] = []
    monkeypatch.setattr(naming, "read_person", lambda path, read=naming.read_person: opened.append(path) or read(path))
    (said,) = warned(patients(tmp_path))
    assert said.startswith("at least 2 ids name people")
    assert [Path(path).parent.name for path in opened] == ["00", "04", "08doe", "12doe"]


def test_ids_that_are_patient_ids_name_people(tmp_path: Path) -> None:
    lay(tmp_path / "x", "", "A1")
    lay(tmp_path / "y", "", "B2", removed="YES")
    grouped = [
        Patient("A1 [no issuer]", tuple(map(str, (tmp_path / "x").iterdir()))),
        Patient("B2", tuple(map(str, (tmp_path / "y").iterdir()))),
    ]
    (said,) = warned(grouped, grouped=True)
    assert said.startswith("1 id names a person")


def test_the_scans_of_a_person_are_named_after_the_person(tmp_path: Path) -> None:
    lay(tmp_path / "doe" / "scan", "Doe^Jane")
    lay(tmp_path / "p2" / "scan", "Doe^Jane")
    (said,) = warned(patients(tmp_path, depth=2))
    assert said.startswith("1 id names a person")
