"""Feature tables as tests make and read them, and the cohorts of scans that they are made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import lungct
from lungct.dicom import Scan
from lungct.features import Row, Settings, TableWriter, stage_rows
from lungct.storage import Place, own
from support.ct_files import write_series

SETTINGS = Settings(
    preset="dsb2017",
    backbone="resnet18",
    weights="random:1",
    weights_sha256="0" * 64,
    precision="fp32",
    device="cpu",
    batch_size=16,
    depth=1,
    pseudonym_key=None,
    dim=512,
)


def write_cohort(src: Path, count: int, *, slices: Callable[[int], int], digits: int = 1) -> Path:
    """Write the scans of patients p0, p1, …; the fifth (p4) has nothing but a text file."""
    for i in range(count):
        directory = src / f"p{i:0{digits}d}"
        if i == 4:
            directory.mkdir()
            (directory / "readme.txt").write_text("no scan")
        else:
            write_series(directory, slices=slices(i), rows=64, columns=64, seed=i)
    return src


def row(patient_id: str, *, triplets: int = 2, seed: int = 0, dim: int = SETTINGS.dim) -> Row:
    """Return a patient's row, with features drawn from the id and the seed."""
    rng = np.random.default_rng([seed, *patient_id.encode()])
    return Row(
        patient_id,
        scan=Scan(
            slices=3 * triplets + 1,
            spacing_mm=(2.5, 0.7, 0.7),
            manufacturer="SIEMENS",
            kernel="",
            series_reason="the only CT series",
            pixel_hash="ab" * 32,
        ),
        positions_mm=rng.normal(size=triplets),
        features=rng.normal(size=(triplets, dim)).astype(np.float32),
    )


def bad(patient_id: str, sentence: str = "no CT") -> Row:
    """Return an error row."""
    return Row(patient_id, error=sentence, error_code="no_ct")


class Table:
    """A table that is being written, as an extraction writes it."""

    def __init__(self, directory: Place, settings: Settings = SETTINGS) -> None:
        self.owner = own(directory)
        self.writer = TableWriter(directory, self.owner, settings)
        self.writer.write_settings()

    def add(self, *rows: Row) -> None:
        self.writer.commit(stage_rows(rows, self.writer.settings, str(self.owner.staging)))


def write_table(directory: Path, *units: Sequence[Row], settings: Settings = SETTINGS) -> None:
    """Write a table with one file for each unit."""
    table = Table(directory, settings)
    try:
        for unit in units:
            table.add(*unit)
    finally:
        table.owner.release()


def state(directory: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the time of change of every file but lungct's own records."""
    return {
        str(path.relative_to(directory)): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in directory.rglob("*")
        if path.is_file() and ".lungct" not in path.parts
    }


def row_list(table: str | Path) -> list[dict[str, Any]]:
    """Return every row of a table, ordered by id."""
    found: list[dict[str, Any]] = lungct.read_features(table).to_pylist()
    return found


def rows(table: str | Path) -> dict[str, dict[str, Any]]:
    """Return every row of a table by its id."""
    return {row["patient_id"]: row for row in row_list(table)}


def shard_bytes(directory: Path) -> dict[str, bytes]:
    """Return the bytes of a table's files by name."""
    return {path.name: path.read_bytes() for path in (directory / "features").iterdir()}
