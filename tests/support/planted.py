"""Feature tables with a planted signal, and their labels, made by the project's own writers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lungct.dicom import Scan
from lungct.features import Row, Settings, TableWriter, stage_rows
from lungct.storage import own

DIM = 24


def settings(**changes: object) -> Settings:
    values = {
        "preset": "dsb2017",
        "backbone": "resnet18",
        "weights": "random:1",
        "weights_sha256": "0" * 64,
        "precision": "fp32",
        "device": "cpu",
        "batch_size": 16,
        "depth": 1,
        "pseudonym_key": None,
        "dim": DIM,
    }
    return Settings(**{**values, **changes})


def patient(patient_id: str, label: int, *, pixel_hash: str | None = None, seed: int = 0) -> Row:
    """A patient of a few triplets, whose first two features tell the label, with noise."""
    rng = np.random.default_rng([seed, *patient_id.encode()])
    triplets = int(rng.integers(2, 6))
    features = rng.normal(size=(triplets, DIM)) + rng.normal(size=DIM) * 0.5
    features[:, :2] += 1.2 * label
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
    """n patients, about a third of them positive."""
    labels = {f"{prefix}{i:03d}": int(i % 3 == 0) for i in range(n)}
    return [patient(name, label, seed=seed) for name, label in labels.items()], labels


def write_table(directory: Path, rows: Sequence[Row], **changes: object) -> Path:
    """Write rows as a feature table."""
    directory.mkdir(parents=True, exist_ok=True)
    owner = own(directory)
    try:
        writer = TableWriter(directory, owner, settings(**changes))
        writer.begin()
        writer.commit(stage_rows(rows, writer.settings, str(writer.owner.staging)))
    finally:
        owner.release()
    return directory


def write_labels(path: Path, labels: dict[str, int] | Iterable[tuple[str, object]]) -> Path:
    """Write a CSV of labels."""
    pairs = labels.items() if isinstance(labels, dict) else labels
    path.write_text("id,cancer\n" + "".join(f"{name},{label}\n" for name, label in pairs))
    return path
