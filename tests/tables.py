"""Feature tables as tests look at them, and the cohorts that they are made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ct_files import write_series

import lungct


def write_cohort(src: Path, count: int, *, slices: Callable[[int], int], digits: int = 1) -> Path:
    """Patients p0, p1, …, the fifth of them (p4) with nothing but text."""
    for i in range(count):
        directory = src / f"p{i:0{digits}d}"
        if i == 4:
            directory.mkdir()
            (directory / "readme.txt").write_text("no scan")
        else:
            write_series(directory, slices=slices(i), rows=64, columns=64, seed=i)
    return src


def state(directory: Path) -> dict[str, tuple[int, int]]:
    """Tell every visible file's inode and time of change."""
    return {
        str(path.relative_to(directory)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file() and ".lungct" not in path.parts
    }


def row_list(table: str | Path) -> list[dict[str, Any]]:
    """Every row, in order of id."""
    found: list[dict[str, Any]] = lungct.read_features(table).to_pylist()
    return found


def rows(table: str | Path) -> dict[str, dict[str, Any]]:
    """Every row by its id."""
    return {row["patient_id"]: row for row in row_list(table)}
