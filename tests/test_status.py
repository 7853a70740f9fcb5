"""`lungct status`: counts, and the check of every file."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import lungct as run
from support.tables import bad, row, shard_bytes, write_table

from lungct.errors import UsageError
from lungct.extraction.status import status


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


def test_a_directory_that_is_not_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a feature table"):
        status(tmp_path)
