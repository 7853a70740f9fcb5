"""Feature tables with a planted signal, and their labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lungct.dicom import Scan
from lungct.features import Row
from support import tables

DIM = 24


def patient(patient_id: str, label: int, *, pixel_hash: str | None = None, seed: int = 0) -> Row:
    """Return the row of a patient with a few triplets, whose first two features follow the label, with noise."""
    rng = np.random.default_rng([seed, *patient_id.encode()])
    triplets = int(rng.integers(2, 6))
    features = rng.normal(size=(triplets, DIM)) + rng.normal(size=DIM) * 0.5
    features[:, :2] += 2.0 * label
    return Row(
        patient_id,
        scan=Scan(
            slices=3 * triplets + 1,
            pixel_hash=pixel_hash or f"{patient_id.encode().hex()}{seed}".ljust(64, "0")[:64],
        ),
        positions_mm=np.arange(triplets, dtype=np.float64),
        features=features.astype(np.float32),
    )


def cohort(n: int = 60, *, prefix: str = "p", seed: int = 0) -> tuple[list[Row], dict[str, int]]:
    """Return the rows and labels of n patients, about a third of them positive."""
    labels = {f"{prefix}{i:03d}": int(i % 3 == 0) for i in range(n)}
    return [patient(name, label, seed=seed) for name, label in labels.items()], labels


def write_table(directory: Path, rows: Sequence[Row], **changes: Any) -> Path:
    """Write rows as a feature table with one file; ``changes`` are settings other than the usual ones."""
    directory.mkdir(parents=True, exist_ok=True)
    tables.write_table(directory, rows, settings=replace(tables.SETTINGS, **{"dim": DIM, **changes}))
    return directory


def write_labels(path: Path, labels: dict[str, int] | Iterable[tuple[str, object]]) -> Path:
    """Write a CSV of labels."""
    pairs = labels.items() if isinstance(labels, dict) else labels
    path.write_text("id,cancer\n" + "".join(f"{name},{label}\n" for name, label in pairs))
    return path
