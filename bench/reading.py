"""Compare the cost per slice of finding and reading a patient's files with that of plain pydicom.

usage: python bench/reading.py COHORT [PATIENTS]     (COHORT: a directory of patients, such as the demo's)

Each round reads every patient in both ways, one after the other, in one process; the ratio is computed per round,
because machines drift.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom

from lungct.dicom import read_series

ROUNDS = 5


def with_pydicom(directory: Path) -> int:
    """Read as a short script would: every file with dcmread, sorted by position, in HU."""
    images = [pydicom.dcmread(path) for path in directory.iterdir()]
    images.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    for ds in images:
        hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        hu.astype(np.float32)
    return len(images)


def with_lungct(directory: Path) -> int:
    series = read_series(directory)
    for i in range(len(series)):
        series.hu(i)
    return len(series)


def milliseconds(read: Callable[[Path], int], patients: list[Path]) -> float:
    """Return the CPU time per slice of reading patients."""
    begun = time.process_time()
    slices = sum(read(patient) for patient in patients)
    return 1000 * (time.process_time() - begun) / slices


def main() -> None:
    patients = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_dir())
    patients = patients[: int(sys.argv[2]) if len(sys.argv) > 2 else 20]
    for read in (with_lungct, with_pydicom):
        milliseconds(read, patients)
    pairs = [(milliseconds(with_lungct, patients), milliseconds(with_pydicom, patients)) for _ in range(ROUNDS)]
    for name, values in zip(("lungct", "pydicom"), zip(*pairs, strict=True), strict=True):
        print(f"{name:8} {statistics.median(values):.3f} ms of CPU per slice ({min(values):.3f} to {max(values):.3f})")
    ratios = [lungct / plain for lungct, plain in pairs]
    print(f"ratio    {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
