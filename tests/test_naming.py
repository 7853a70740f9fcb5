"""Whether ids name people is asked before the work: of all ids, and of a few patients' headers."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, stores
from support import ct_files as make

from lungct.errors import LungCTWarning, StorageError
from lungct.extraction import naming
from lungct.extraction.grouping import identify
from lungct.extraction.naming import warn_of_names
from lungct.patients import Patient, list_patients
from lungct.sandbox import Answer, Sandbox, process_sandbox
from lungct.storage import ObjectPath, Place


def warned(patients: Sequence[Patient], *, grouped: bool = False) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_names(patients, grouped=grouped)
    assert all(issubclass(one.category, LungCTWarning) for one in caught)
    return [str(one.message) for one in caught]


def patients(src: Place, *, depth: int = 1) -> list[Patient]:
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

    call = Sandbox.call

    def recorded(sandbox: Sandbox, function: Callable[..., Answer], location: str, **arguments: Any) -> Any:
        opened.append(location)
        return call(sandbox, function, location, **arguments)

    monkeypatch.setattr(Sandbox, "call", recorded)
    (said,) = warned(patients(tmp_path))
    assert said.startswith("at least 2 ids name people")
    assert [Path(path).name for path in opened] == ["00", "04", "08doe", "12doe"]


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


@pytest.mark.stores
def test_of_a_patient_in_a_store_only_the_start_of_an_object_is_fetched(
    store: stores.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("doe", "p2", "p3"):
        make.write_series(tmp_path / name, slices=3, rows=256, columns=256, tags={"PatientName": "Doe^Jane"})
    ranges: list[int] = []

    def recorded(place: ObjectPath, start: int, end: int) -> bytes:
        ranges.append(end - start)
        return read_range(place, start, end)

    read_range = ObjectPath.read_range
    monkeypatch.setattr(ObjectPath, "read_range", recorded)
    with stores.environment(store.environment):
        src = ObjectPath(store.root, tmp_path.name)
        stores.upload(tmp_path, src)
        (said,) = warned(patients(src))
        every = [str(place) for place, _ in src.visible()]
        assert warned([Patient("4711", every)]) == []
        assert len(warned([Patient("P1", every)], grouped=True)) == 1
    assert said.startswith("1 id names a person")
    assert ranges == [naming.START_BYTES] * 5


@pytest.mark.stores
def test_a_store_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ObjectPath] = []

    def fail(place: ObjectPath) -> None:
        asked.append(place)
        raise StorageError("the store does not answer")

    monkeypatch.setattr(ObjectPath, "visible", fail)
    assert warned([Patient(str(number), f"s3://scans/{number}") for number in range(3)]) == []
    assert len(asked) == 1


def ended(_: object, **__: object) -> Answer:
    os.kill(os.getpid(), signal.SIGSEGV)
    return Answer({})


def strike(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have the child end itself when it is asked about what has a name in its path."""
    # The child imports a function of this file and what it imports.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
    call = Sandbox.call

    def struck(sandbox: Sandbox, function: Callable[..., Answer], location: Any, **arguments: Any) -> Any:
        return call(sandbox, ended if name in str(location) else function, location, **arguments)

    monkeypatch.setattr(Sandbox, "call", struck)


def test_a_patient_who_crashes_what_reads_the_files_does_not_end_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike(monkeypatch, "hostile")
    for name in ("a-hostile", "doe"):
        lay(tmp_path / name, "Doe^Jane")
    assert len(warned(patients(tmp_path))) == 1


def test_of_files_grouped_by_person_one_that_crashes_names_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike(monkeypatch, "hostile")
    for name in ("a", "hostile", "z"):
        lay(tmp_path / name, "", f"P-{name}")
    (tmp_path / "text").write_text("no image")
    files = [str(next((tmp_path / name).iterdir())) for name in ("a", "hostile", "z")]
    assert identify([*files, str(tmp_path / "text")]) == [("P-a", ""), ("", ""), ("P-z", ""), None]
    assert identify(files[:1]) == [("P-a", "")]
    process_sandbox().close()
