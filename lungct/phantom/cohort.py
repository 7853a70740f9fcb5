"""Cohorts of phantoms: a directory for each patient, and a CSV file with the labels."""

from __future__ import annotations

import csv
import math
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungct.arguments import at_least, spelled
from lungct.dicom.geometry import LARGEST_GAP_MM
from lungct.errors import StorageError, UsageError
from lungct.machine import usable_cpus
from lungct.phantom.anatomy import draw_anatomy
from lungct.phantom.fields import SLICE_SIZE
from lungct.phantom.nodules import draw_nodules
from lungct.phantom.noise import NoiseBank, noise_bank
from lungct.phantom.objects import CommonElements, write_objects
from lungct.phantom.render import Renderer
from lungct.phantom.variations import ORDINARY, Variation, fitted
from lungct.phantom.vessels import draw_trees
from lungct.preprocess.opencv import single_threaded
from lungct.progress import Progress


@dataclass(frozen=True)
class CohortSummary:
    """What was written.

    Attributes
    ----------
    out
        The directory of the cohort.
    labels
        The labels: ``<out>.csv``, with the columns id and cancer.
    patients, slices
        How many of each.

    """

    out: Path
    labels: Path
    patients: int
    slices: int


@dataclass(frozen=True)
class CohortSettings:
    """What a cohort is drawn from.

    The UIDs of a patient's files are derived from the ``repr`` of this record: renaming the class or a field, or adding
    one, changes the bytes of every phantom.
    """

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
    variation: Variation = ORDINARY,
    progress: Progress | None = None,
) -> CohortSummary:
    """Write a cohort of chest phantoms, one directory per patient, and their labels in ``<out>.csv``.

    Parameters
    ----------
    out
        A directory that does not exist or is empty.
    patients
        Number of patients; half of them, rounded down, are positive.
    slices
        Most slices of a patient, at least 4; each patient has 75 to 100 % of it.
    nodules
        Nodules of each positive patient.
    diameter
        Smallest and largest diameter of a nodule in mm.
    seed
        A whole number of at least 0. The same seed and settings give the same bytes.
    variation
        What is unusual about all of the bodies and their scans.
    progress
        Advanced by one after each patient.

    Raises
    ------
    UsageError
        If a number is out of range, or `out` or its labels already exist or cannot be written.
    StorageError
        If the disk fails on the way; the patients already written are complete.

    """
    settings = CohortSettings(patients, slices, nodules, (diameter[0], diameter[1]), seed)
    _check(settings)
    folder = Path(out)
    labels = folder.with_name(folder.name + ".csv")
    _make_folder(folder, labels)
    positive = set(np.random.default_rng([seed, 0]).permutation(patients)[: patients // 2].tolist())
    total = 0
    try:
        with single_threaded():
            for count in _write_patients(settings, folder, positive, variation):
                total += count
                if progress is not None:
                    progress.advance()
        _write_labels(labels, [(patient_name(i), int(i in positive)) for i in range(patients)])
    except OSError as error:
        raise StorageError(f"the cohort cannot be written to {folder} ({error.strerror})") from error
    return CohortSummary(folder, labels, patients, total)


def patient_name(index: int) -> str:
    """Return the id of the patient with an index from 0: ``phantom-0001`` and so on."""
    return f"phantom-{index + 1:04d}"


def _check(settings: CohortSettings) -> None:
    """Raise UsageError if a setting is out of range."""
    at_least(settings.patients, 1, "patients")
    at_least(settings.slices, 4, "slices")
    at_least(settings.nodules, 1, "nodules")
    at_least(settings.seed, 0, "seed")
    smallest, largest = settings.diameter_mm
    if not 0 < smallest <= largest < math.inf:
        raise UsageError(
            f"{spelled('diameter')} must be two lengths in mm, 0 < MIN <= MAX, not {smallest} and {largest}"
        )


def _make_folder(folder: Path, labels: Path) -> None:
    """Make the directory of the cohort; raise UsageError if it holds anything or the labels already exist."""
    fix = f"give another directory as {spelled('out')}, or remove it"
    try:
        if labels.exists():
            raise UsageError(f"{labels} already exists", fix=fix)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty", fix=fix)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror})", fix="give another directory") from error


def _write_patients(settings: CohortSettings, folder: Path, positive: set[int], variation: Variation) -> Iterator[int]:
    """Write the patients, one thread per processor, and yield each one's number of slices when it is written.

    Threads are enough: nearly all of the time is spent in NumPy, OpenCV and the disk, which release the interpreter's
    lock.
    """
    bank = noise_bank(settings.seed)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        try:
            patients = [
                pool.submit(write_patient, settings, folder, index, index in positive, bank, variation)
                for index in range(settings.patients)
            ]
            for patient in as_completed(patients):
                yield patient.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def write_patient(
    settings: CohortSettings,
    folder: Path,
    index: int,
    positive: bool,
    bank: NoiseBank,
    variation: Variation = ORDINARY,
) -> int:
    """Write one patient's directory, whole or not at all, and return its number of slices."""
    name = patient_name(index)
    rng = np.random.default_rng([settings.seed, 2, index])
    anatomy = fitted(draw_anatomy(rng), variation)
    count = int(rng.integers(math.ceil(0.75 * settings.slices), settings.slices + 1))
    thickness, heights = _slice_heights(rng, anatomy.height, count)
    lungs = np.stack([anatomy.lung_depth(z) for z in heights.tolist()])
    vessels, airways = draw_trees(rng, anatomy, lungs, heights)
    # The nodules alone may depend on the label: they have their own generator, and what is drawn from `rng` above and
    # below is the same with and without them.
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
        variation=variation,
    )
    common = _common_elements(rng, settings, name, anatomy.spacing, thickness, variation)
    staged = folder / f".{name}.part"
    try:
        staged.mkdir()
        drawn = (
            (z, renderer.render(z, lungs[k], np.random.default_rng([settings.seed, 4, index, k])))
            for k, z in enumerate(heights.tolist())
        )
        write_objects(staged, common, count, drawn, renderer.outside_view)
        staged.rename(folder / name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return count


def _slice_heights(rng: np.random.Generator, height: float, count: int) -> tuple[float, NDArray[np.float64]]:
    """Draw the thickness and heights of the slices: evenly over the chest, or over its middle if they are few.

    Slices are no further apart than the preset ``lung`` bridges.
    """
    span = height + float(rng.uniform(25.0, 60.0))
    thickness = min(round(span / (count - 1), 1), LARGEST_GAP_MM)
    middle = height * 0.52 + float(rng.uniform(-6.0, 6.0))
    first = round(middle - thickness * (count - 1) / 2, 1)
    return thickness, first + thickness * np.arange(count, dtype=np.float64)


def _common_elements(
    rng: np.random.Generator,
    settings: CohortSettings,
    name: str,
    spacing: float,
    thickness: float,
    variation: Variation,
) -> CommonElements:
    corner = -spacing * (SLICE_SIZE - 1) / 2
    return CommonElements(
        name=name,
        key=f"{settings} {name}" + ("" if variation == ORDINARY else f" {variation}"),
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
        prone=variation.prone,
    )


def _write_labels(path: Path, labels: list[tuple[str, int]]) -> None:
    staged = path.with_name(f".{path.name}.part")
    with staged.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "cancer"])
        writer.writerows(labels)
    staged.rename(path)
