"""`lungct status`: counts, and the check of every file."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import lungct as run
from support.commands import refused
from support.tables import bad, row, shard_bytes, write_table

import lungct
from lungct.errors import UsageError
from lungct.extraction.status import status
from lungct.features import Row


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "table").mkdir()
    write_table(tmp_path / "table", [row("a"), bad("b", "no CT here")], [row("c"), bad("d", "none either")])
    for name in "abcde":
        (tmp_path / "src" / name).mkdir(parents=True)
    return tmp_path / "table"


def test_done_failed_and_left_are_counted(table: Path) -> None:
    found = status(table, table.parent / "src", check=True)
    assert (found.done, found.left, found.problems) == (2, 1, [])
    assert found.failed == [{"error_code": "no_ct", "patients": 2, "sentences": ["no CT here", "none either"]}]
    ran = run("status", table, table.parent / "src", "--check", "--json")
    assert ran.code == 0
    assert ran.line == found.as_dict()
    assert run("status", table, "--check").stdout.splitlines()[-1] == (
        "all files read; names, settings and contents agree"
    )
    assert "2 patients with features, 2 with an error row, 1 left" in run("status", table, table.parent / "src").stdout


def test_names_in_another_unicode_form_are_the_same_patients(tmp_path: Path) -> None:
    """As after a copy from macOS to Linux: nothing is left, and extraction has nothing to do."""
    (tmp_path / "table").mkdir()
    write_table(tmp_path / "table", [row("a"), row("Rene\u0301e")])
    for name in ("a", "Ren\u00e9e"):
        (tmp_path / "src" / name).mkdir(parents=True)
    assert status(tmp_path / "table", tmp_path / "src").left == 0
    summary = lungct.extract(tmp_path / "src", tmp_path / "table")
    assert (summary.extracted, summary.failed, summary.skipped) == (0, 0, 2)


def test_a_check_names_what_is_wrong(table: Path) -> None:
    one, two = sorted((table / "features").iterdir())
    data = shard_bytes(table)
    (table / "features" / "part-0000000000000000.parquet").write_bytes(data[one.name])
    (table / "features" / "stray.tmp").write_bytes(b"")
    two.write_bytes(data[two.name][:50])
    problems = status(table, check=True).problems
    assert problems is not None
    text = "\n".join(problems)
    for sentence in (
        "part-0000000000000000.parquet is not the name that belongs to its patients",
        f"{one.name} and part-0000000000000000.parquet have the same patient",
        f"{two.name} cannot be read",
        "stray.tmp is not a file of the table",
    ):
        assert sentence in text
    assert run("status", table, "--check").code == 3


def noted(patient_id: str, *notes: str) -> Row:
    made = row(patient_id)
    return replace(made, scan=replace(made.scan, notes=notes))


def test_patients_are_counted_by_note(tmp_path: Path) -> None:
    write_table(
        tmp_path,
        [noted("a", "gap_mm=12.5", "lossy"), noted("b", "gap_mm=3")],
        [noted("c", "gap_mm=4"), noted("d"), bad("e")],
    )
    found = status(tmp_path)
    assert found.notes == {"gap_mm": 3, "lossy": 1}
    assert found.as_dict()["notes"] == found.notes
    assert found.text().splitlines()[-3:] == [
        "patients with notes (docs/intake.md explains each)",
        "       3  gap_mm",
        "       1  lossy",
    ]
    write_table(tmp_path / "other", [noted("a")])
    assert status(tmp_path / "other").text() == "1 patient with features, 0 with an error row"


LONG = "the sentence, which has a comma, is longer than a line of a terminal would be, and is given whole all the same"


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    (tmp_path / "failed").mkdir()
    write_table(tmp_path / "failed", [row("a"), bad("scan\n2", LONG)], [bad("b", "no CT here")])
    return tmp_path / "failed"


def test_failed_patients_are_named_with_their_sentences(failed: Path) -> None:
    assert run("status", failed, "--failed").stdout.splitlines() == [
        "b        no_ct  no CT here",
        f"scan\\n2  no_ct  {LONG}",
    ]
    ran = run("status", failed, "--failed", "--json")
    assert ran.line["failed_patients"] == [
        {"patient_id": "b", "error_code": "no_ct", "error": "no CT here"},
        {"patient_id": "scan\n2", "error_code": "no_ct", "error": LONG},
    ]
    assert ran.line["done"] == 1
    assert ran.line["failed"][0]["patients"] == 2
    assert "failed_patients" not in run("status", failed, "--json").line


def test_failed_patients_are_written_to_a_csv(failed: Path, tmp_path: Path) -> None:
    out = tmp_path / "failed.csv"
    ran = run("status", failed, "--failed", "--out", out)
    assert ran.stdout.splitlines()[0] == "1 patient with features, 2 with an error row"
    assert ran.stdout.splitlines()[-1] == f"2 patients with an error row written to {out}"
    with out.open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["patient_id", "error_code", "error"],
            ["b", "no_ct", "no CT here"],
            ["scan\n2", "no_ct", LONG],
        ]


def test_a_table_without_failures_says_so(failed: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "whole", [row("a")])
    assert status(tmp_path / "whole", failed=True).text() == "no patient has an error row"
    assert "--out is where --failed writes: give --failed too" in refused("status", failed, "--out", tmp_path / "x.csv")
    assert "--out " in refused("status", failed, "--failed", "--out", tmp_path / "missing" / "x.csv")


def test_a_directory_that_is_not_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a feature table"):
        status(tmp_path)
