"""A seed -> a synthetic cohort: chest phantoms as real DICOM files, and their labels.

    anatomy.py   numbers drawn from the seed -> a chest: depths of its organs at any height
    vessels.py   trees of vessels and airways, and their cut through a slice
    nodules.py   nodules and masses, and where in a lung they fit
    render.py    all of that at one height -> a slice in Hounsfield units
    objects.py   slices -> CT Image Storage objects, byte for byte the same every time

Coordinates are DICOM's patient system in millimetres: x to the patient's left, y to the back, z to
the head.

Half of the patients, rounded down, carry nodules (label 1); anatomy and noise are drawn apart from
the label, so that nothing but the nodules tells the two halves from each other. A patient depends
on the seed, the index and the cohort's settings alone, never on time, host or neighbours. The
phantoms are for trying software out: they must never be taken for a measure of what a model would
do on people.
"""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungct.errors import StorageError, UsageError
from lungct.machine import usable_cpus
from lungct.phantom.anatomy import SIDE, draw_anatomy
from lungct.phantom.nodules import draw_nodules
from lungct.phantom.objects import Header, write_objects
from lungct.phantom.render import NoiseBank, Renderer, noise_bank
from lungct.phantom.vessels import draw_trees
from lungct.preprocess.stack import one_thread
from lungct.progress import Progress

__all__ = ["CohortSummary", "write_cohort"]

MOST_GAP_MM = 10.0
"""Slices are no further apart than what the preset ``lung`` bridges; few slices show less of the chest."""


@dataclass(frozen=True)
class CohortSummary:
    """What was written: the directory, its labels (``<out>.csv``: id,cancer), and how much."""

    out: Path
    labels: Path
    patients: int
    slices: int


@dataclass(frozen=True)
class CohortSettings:
    """What a cohort is drawn from."""

    patients: int
    slices: int
    nodules: int
    diameter_mm: tuple[float, float]
    seed: int


def write_cohort(
    out: str | os.PathLike[str],
    *,
    patients: int = 24,
    slices: int = 120,
    nodules: int = 1,
    diameter: tuple[float, float] = (8.0, 30.0),
    seed: int = 0,
    progress: Progress | None = None,
) -> CohortSummary:
    """Write a cohort of chest phantoms, a directory for each patient, and ``<out>.csv`` with their labels.

    Parameters
    ----------
    out
        A directory that is missing or empty.
    patients
        How many; half of them, rounded down, are positive.
    slices
        The most slices of a patient; counts vary from 0.75 of it, rounded up.
    nodules
        How many nodules a positive patient carries.
    diameter
        Least and greatest diameter of a nodule in mm.
    seed
        Not negative. The same seed and settings give the same bytes.
    progress
        Advanced by one after each patient.

    Raises
    ------
    UsageError
        A number out of range, or `out` (or its labels) there already, or not to be written.
    StorageError
        The disk gave out on the way; the patients already written are whole.

    """
    settings = CohortSettings(patients, slices, nodules, (diameter[0], diameter[1]), seed)
    _check(settings)
    folder = Path(out)
    labels = folder.with_name(folder.name + ".csv")
    _prepare(folder, labels)
    drawn = np.random.default_rng([seed, 0]).permutation(patients)[: patients // 2]
    positive = set(drawn.tolist())
    try:
        with one_thread():
            total = 0
            for count in _written(settings, folder, positive):
                total += count
                if progress is not None:
                    progress.advance()
        _write_labels(labels, [(patient_name(i), int(i in positive)) for i in range(patients)])
    except OSError as error:
        raise StorageError(f"cannot write the cohort to {folder}: {error.strerror}") from error
    return CohortSummary(folder, labels, patients, total)


def patient_name(index: int) -> str:
    """Return the id of the patient of that index, counted from 0: ``phantom-0001`` and so on."""
    return f"phantom-{index + 1:04d}"


def _check(settings: CohortSettings) -> None:
    least, most = settings.diameter_mm
    if settings.patients < 1:
        raise UsageError(f"patients must be at least 1, not {settings.patients}")
    if settings.slices < 4:
        raise UsageError(f"slices must be at least 4, not {settings.slices}")
    if settings.nodules < 1:
        raise UsageError(f"nodules must be at least 1, not {settings.nodules}")
    if not 0 < least <= most < np.inf:
        raise UsageError(f"diameter must be two numbers of mm, 0 < MIN <= MAX, not {least} {most}")
    if settings.seed < 0:
        raise UsageError(f"seed must not be negative: {settings.seed}")


def _prepare(folder: Path, labels: Path) -> None:
    """Make the cohort's directory; refuse one that holds anything, and labels that are there already."""
    try:
        if labels.exists():
            raise UsageError(f"{labels} is there already: choose another --out or remove it")
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty: choose another --out or remove it")
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error


def _written(settings: CohortSettings, folder: Path, positive: set[int]) -> Iterator[int]:
    """Write the patients, a thread for each core, and yield each one's number of slices as it is done.

    Threads are enough: nearly all the time passes in NumPy, OpenCV and the disk, which let go of
    the interpreter.
    """
    bank = noise_bank(settings.seed)
    cores = usable_cpus()
    waiting = iter(range(settings.patients))
    with ThreadPoolExecutor(cores) as pool:
        running: set[Future[int]] = set()
        try:
            while True:
                while len(running) < cores and (index := next(waiting, None)) is not None:
                    carries = index in positive
                    running.add(pool.submit(write_patient, settings, folder, index, carries, bank))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def write_patient(settings: CohortSettings, folder: Path, index: int, positive: bool, bank: NoiseBank) -> int:
    """Write one patient's directory whole or not at all, and return how many slices it has."""
    name = patient_name(index)
    rng = np.random.default_rng([settings.seed, 2, index])
    anatomy = draw_anatomy(rng)
    count = int(rng.integers(math.ceil(0.75 * settings.slices), settings.slices + 1))
    thickness, heights = _stack(rng, anatomy.height, count)
    lungs = np.stack([anatomy.lung_depth(z) for z in heights.tolist()])
    vessels, airways = draw_trees(rng, anatomy, lungs, heights)
    # From here on the label may decide; what is drawn from `rng` above and below must not depend on
    # it.
    nodules, spicules = draw_nodules(
        np.random.default_rng([settings.seed, 3, index]),
        anatomy,
        lungs,
        heights,
        count=settings.nodules if positive else 0,
        diameter_mm=settings.diameter_mm,
    )
    renderer = Renderer(
        anatomy,
        vessels=vessels,
        airways=airways,
        nodules=nodules,
        spicules=spicules,
        thickness=thickness,
        bank=bank,
    )
    header = _header(rng, settings, name, anatomy.spacing, thickness)
    staged = folder / f".{name}.part"
    try:
        staged.mkdir()
        drawn = (
            (z, renderer.render(z, lungs[k], np.random.default_rng([settings.seed, 4, index, k])))
            for k, z in enumerate(heights.tolist())
        )
        write_objects(staged, header, count, drawn, renderer.outside_view)
        staged.rename(folder / name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return count


def _stack(rng: np.random.Generator, height: float, count: int) -> tuple[float, NDArray[np.float64]]:
    """Draw where the slices lie: evenly over the chest, or over its middle where they are few."""
    span = height + float(rng.uniform(25.0, 60.0))
    thickness = min(round(span / (count - 1), 1), MOST_GAP_MM)
    middle = height * 0.52 + float(rng.uniform(-6.0, 6.0))
    first = round(middle - thickness * (count - 1) / 2, 1)
    return thickness, first + thickness * np.arange(count, dtype=np.float64)


def _header(
    rng: np.random.Generator,
    settings: CohortSettings,
    name: str,
    spacing: float,
    thickness: float,
) -> Header:
    corner = -spacing * (SIDE - 1) / 2
    return Header(
        name=name,
        key=f"{settings} {name}",
        spacing=spacing,
        thickness=thickness,
        origin=(
            round(corner + float(rng.uniform(-15, 15)), 3),
            round(corner + float(rng.uniform(-25, 25)), 3),
            round(float(rng.uniform(-450, -150)), 1),
        ),
        head_first=bool(rng.random() < 0.5),
        kvp=int(rng.choice([100, 120, 120, 140])),
        current=int(rng.integers(60, 400)),
    )


def _write_labels(path: Path, labels: list[tuple[str, int]]) -> None:
    staged = path.with_name(f".{path.name}.part")
    with staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "cancer"])
        writer.writerows(labels)
    staged.rename(path)
