"""`lungct inspect --all`: a line for each series, patients prepared as in an extraction, one patient's fault."""

from __future__ import annotations

import csv
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import stores
from support.commands import lungct as run
from support.commands import refused
from support.ct_files import write_series

from lungct.cli.commands import Result
from lungct.cli.process import run_command
from lungct.errors import KilledError, LungCTError, LungCTWarning, StorageError, UsageError
from lungct.inspection import Archive, describe, inspect_all
from lungct.inspection.locations import of_each_series, shared_directories
from lungct.patients import Patient
from lungct.sandbox import Answer, Sandbox
from lungct.storage import ObjectPath, locate

HEADER = ["id", "location", "person", "slices", "chosen", "notes", "reason"]


def lines(data: bytes) -> list[dict[str, str]]:
    """Read a CSV, whose header must be that of the list of series."""
    reader = csv.DictReader(io.StringIO(data.decode()))
    assert reader.fieldnames == HEADER
    return list(reader)


def listed(src: Path, **choices: Any) -> list[dict[str, str]]:
    return lines(inspect_all(src, **choices).as_csv())


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients with a directory for each series, with one directory for all, with one series, with none."""
    src = tmp_path_factory.mktemp("archive")
    for name, series, slices in (("p1/large", "1", 12), ("p1/small", "2", 6)):
        write_series(src / name, slices=slices, rows=32, columns=32, series=series)
    for series, slices in (("1", 12), ("2", 6)):
        write_series(src / "p2" / "all", slices=slices, rows=32, columns=32, series=series)
    write_series(src / "p3" / "below", slices=5, rows=32, columns=32)
    write_series(src / "p4", slices=3, rows=32, columns=32)
    (src / "p5").mkdir()
    (src / "p5" / "readme").write_text("no scan")
    return src


def test_a_line_for_each_series(src: Path, tmp_path: Path) -> None:
    out = tmp_path / "series.csv"
    ran = run("inspect", src, "--all", "--out", out, "--json")
    assert ran.code == 0
    assert ran.stderr == ""
    rows = lines(out.read_bytes())
    shown = [(row["id"], row["location"], row["slices"], row["chosen"]) for row in rows]
    assert shown == [
        ("p1", f"{src}/p1/large", "12", "1"),
        ("p1", f"{src}/p1/small", "6", "0"),
        ("p2", f"{src}/p2", "12", "1"),
        ("p2", f"{src}/p2", "6", "0"),
        ("p3", f"{src}/p3", "5", "1"),
        ("p4", f"{src}/p4", "3", "1"),
        ("p5", f"{src}/p5", "0", "0"),
    ]
    reasons = [row["reason"] for row in rows]
    assert all(reason.startswith("best of 2 CT series: ") for reason in (reasons[0], reasons[2]))
    assert all(reason.startswith("ranked lower (slices: ") for reason in (reasons[1], reasons[3]))
    assert reasons[6] == "no_images: the only file is not DICOM"
    assert {row["person"] for row in rows} == {""}
    assert ran.line["usable"] == 4
    assert [len(patient["series"]) for patient in ran.line["patients"]] == [2, 2, 1, 1, 1]
    assert ran.line["patients"][0]["series"][1]["location"] == f"{src}/p1/small"


def test_a_location_leads_to_the_series_of_its_line(src: Path) -> None:
    for row in listed(src):
        if row["chosen"] == "1":
            assert describe(row["location"]).slices == int(row["slices"])


def test_ids_below_a_person_name_the_person(src: Path) -> None:
    with pytest.warns(LungCTWarning, match="beside the patients"):
        rows = listed(src, depth=2)
    assert [(row["id"], row["person"]) for row in rows][:2] == [("p1/large", "p1"), ("p1/small", "p1")]
    assert all(row["chosen"] == "1" for row in rows if row["person"] == "p1")


def test_a_preset_prepares_each_patient_as_an_extraction_does(src: Path, tmp_path: Path) -> None:
    out = tmp_path / "series.csv"
    ran = run("inspect", src, "--all", "--preset", "dsb2017", "--out", out)
    assert ran.code == 0
    rows = {row["id"]: row for row in lines(out.read_bytes()) if row["chosen"] == "1" or row["id"] > "p3"}
    assert [rows[name]["chosen"] for name in ("p1", "p2", "p3", "p4", "p5")] == ["1", "1", "1", "0", "0"]
    assert rows["p4"]["reason"].startswith("too_few_slices: ")
    assert rows["p4"]["slices"] == "3"
    assert "3 of 5 patients usable" in ran.stdout
    assert "headers only" not in ran.stdout
    assert run("inspect", src, "--all", "--preset", "lung").code == 1


def test_damage_within_pixels_is_found_with_a_preset_only(tmp_path: Path) -> None:
    for path in write_series(tmp_path / "p", slices=6, transfer_syntax="1.2.840.10008.1.2.4.90"):
        data = path.read_bytes()
        path.write_bytes(data[:-600] + b"\xff" * 592 + data[-8:])
    assert inspect_all(tmp_path).usable
    assert inspect_all(tmp_path, preset="dsb2017").reasons == {"undecodable": 1}


def test_notes_are_counted_by_their_codes(tmp_path: Path) -> None:
    for number in range(5):
        positions = [0.0, 5.0, 16.0 + number, 21.0 + number]
        tags = {"LossyImageCompression": "01"} if number % 2 == 0 else {}
        write_series(tmp_path / f"p{number}", slices=4, rows=32, columns=32, positions=positions, tags=tags)
    found = inspect_all(tmp_path)
    assert found.notes == {"gap_mm": 5, "lossy": 3, "uneven_spacing": 5}
    assert found.as_dict()["notes"] == found.notes
    assert "     3  lossy" in found.text().splitlines()
    assert "the only CT series (gap_mm=11 uneven_spacing lossy)" in found.text()
    assert lines(found.as_csv())[0]["notes"] == "gap_mm=11 uneven_spacing lossy"


def exit_code(found: Archive) -> int:
    result = Result(found.as_dict(), text="", code=0 if found.usable else 1, error=found.error)

    class Parsed:
        when_stopped = ""

        @staticmethod
        def function(_: object) -> Result:
            return result

    return run_command(lambda _: Parsed, [])  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (StorageError("a file of the patient cannot be read"), 3),
        (KilledError("the process was killed"), 3),
        (UsageError("an option cannot be used"), 2),
    ],
)
def test_a_patient_who_cannot_be_read_is_a_line_and_the_others_go_on(
    src: Path, fault: LungCTError, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Sandbox.call

    def failing(sandbox: Sandbox, function: Callable[..., Answer], location: str, **arguments: Any) -> Any:
        if location.endswith("p2"):
            raise fault
        return call(sandbox, function, location, **arguments)

    monkeypatch.setattr(Sandbox, "call", failing)
    found = inspect_all(src)
    rows = {row["id"]: row for row in lines(found.as_csv())}
    assert rows["p2"]["reason"] == f"not_read: {fault.message}"
    assert rows["p2"]["chosen"] == "0"
    assert rows["p3"]["chosen"] == "1"
    assert found.reasons["not_read"] == 1
    assert str(found.error) == f"1 of 5 patients could not be read ({fault.message})"
    assert exit_code(found) == code


def test_files_that_cannot_be_read_are_a_line_and_the_others_go_on(tmp_path: Path) -> None:
    write_series(tmp_path / "p1", slices=5, rows=32, columns=32)
    (tmp_path / "p2").mkdir()
    (tmp_path / "p2" / "image").symlink_to("/proc/self/mem")  # opens, and every read of its start is EIO
    ran = run("inspect", tmp_path, "--all", "--json")
    assert ran.code == 3
    assert [patient["error_code"] for patient in ran.line["patients"]] == [None, "not_read"]
    assert "1 of 2 patients could not be read" in ran.stderr


def test_nothing_is_cut_short_in_a_pipe(tmp_path: Path) -> None:
    name = "a-name-of-more-than-thirty-two-characters"
    for series, slices in (("1", 12), ("2", 6)):
        write_series(tmp_path / name, slices=slices, rows=32, columns=32, series=series)
    piped = run("inspect", tmp_path, "--all").stdout
    assert "…" not in piped
    reason = inspect_all(tmp_path).patients[0].text
    assert f"{name}     12  -              {reason}" in piped.splitlines()
    shown = on_a_terminal("inspect", tmp_path, "--all", "--quiet")
    assert max(map(len, shown.splitlines())) <= 80
    assert f"{name[:31]}…" in shown


def on_a_terminal(*arguments: object) -> str:
    """Run a command whose stdout is a terminal, and return what it prints."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lungct.cli", *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # Linux: the other end is closed
            pass
        finally:
            os.close(ours)
        process.wait(timeout=60)
    return shown.decode()


def test_a_file_that_cannot_be_written_is_refused_before_any_work(src: Path, tmp_path: Path) -> None:
    assert "--out " in refused("inspect", src, "--all", "--out", tmp_path / "missing" / "series.csv")
    assert "--out is about an archive: give --all too" in refused("inspect", src, "--out", tmp_path / "series.csv")
    assert "--depth is about an archive" in refused("inspect", src, "--depth", 2)
    assert "--by-patient-id reads files at any depth" in refused(
        "inspect", src, "--all", "--depth", 2, "--by-patient-id"
    )
    assert "--preset must be one of" in refused("inspect", src, "--all", "--preset", "lungs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.ray
def test_patients_are_grouped_by_patient_id(tmp_path: Path) -> None:
    src, out = tmp_path / "src", tmp_path / "series.csv"
    write_series(src / "export" / "one", slices=6, rows=32, columns=32, series="1", patient_id="A")
    write_series(src / "export" / "two", slices=8, rows=32, columns=32, series="2", patient_id="A")
    write_series(src / "mixed", slices=5, rows=32, columns=32, series="3", patient_id="B")
    write_series(src / "mixed", slices=4, rows=32, columns=32, series="4", patient_id="C")
    ran = run("inspect", src, "--all", "--by-patient-id", "--preset", "dsb2017", "--out", out)
    assert ran.code == 0, ran
    assert [(row["id"], row["location"], row["slices"], row["chosen"]) for row in lines(out.read_bytes())] == [
        ("A", f"{src}/export/two", "8", "1"),
        ("A", f"{src}/export/one", "6", "0"),
        ("B", f"{src}/mixed", "5", "1"),
        ("C", f"{src}/mixed", "4", "1"),
    ]


def test_a_directory_of_several_patients_is_nobodys_own() -> None:
    one = Patient("1", ("/s/a/x/1", "/s/a/y/1"))
    other = Patient("2", ("/s/a/y/2", "/s/b/1"))
    shared = shared_directories([one, other])
    assert shared == {"/s/a/y", "/s/a", "/s"}
    assert of_each_series(one, list(one.location), [["/s/a/x/1"], ["/s/a/y/1"]], shared) == ["/s/a/x", "/s/a"]
    assert of_each_series(other, list(other.location), [["/s/a/y/2"], ["/s/b/1"]], shared) == ["/s", "/s/b"]


@pytest.mark.stores
def test_an_archive_in_a_store_is_listed_into_the_store(store: stores.Store, src: Path) -> None:
    with stores.environment(store.environment):
        stores.upload(src, ObjectPath(store.root, "archive"))
        out = f"{store.root}/series.csv"
        inspect_all(f"{store.root}/archive", out=out)
        rows = lines(locate(out, argument="out").read_bytes())
    there = [row["location"].removeprefix(f"{store.root}/archive/") for row in rows]
    assert there == ["p1/large", "p1/small", "p2", "p2", "p3", "p4", "p5"]
