"""Compare the CPU time per slice of reading and preparing patients with that of plain pydicom or of another version.

usage: python bench/reading.py COHORT [--patients 20] [--against CHECKOUT]

COHORT is a directory of patients, such as the demo's. CHECKOUT is the root of another version's source code:
``git worktree add /tmp/before v0.1.0``. Patients that a version cannot use are left out for both.

Each round does the same work in both ways, one right after the other, and the ratio is computed per round, because
machines drift.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 21
SECONDS = 0.3

Work = Callable[[Path], int]
"""Does something with a patient's directory and returns the number of slices."""


def with_pydicom(directory: Path) -> int:
    """Read as a short script would: every file with dcmread, sorted by position, in HU."""
    images = [pydicom.dcmread(path) for path in directory.iterdir()]
    images.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    for ds in images:
        hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        hu.astype(np.float32)
    return len(images)


def reading(directory: Path) -> int:
    from lungct.dicom import read_series

    series = read_series(directory)
    for i in range(len(series)):
        series.hu(i)
    return len(series)


def preparing_dsb2017(directory: Path) -> int:
    return _prepare(directory, "dsb2017")


def preparing_lung(directory: Path) -> int:
    return _prepare(directory, "lung")


def _prepare(directory: Path, preset: str) -> int:
    from lungct.dicom import read_series
    from lungct.preprocess import check_preset, prepare

    series = read_series(directory)
    prepare(series, check_preset(preset))
    return len(series)


WORK: dict[str, Work] = {
    "reading": reading,
    "preparing dsb2017": preparing_dsb2017,
    "preparing lung": preparing_lung,
}


def milliseconds(work: Work, patients: Sequence[Path]) -> float:
    """Return the CPU time per slice of some work on patients, done again and again for `SECONDS`."""
    begun, slices = time.process_time(), 0
    while time.process_time() - begun < SECONDS:
        slices += sum(work(patient) for patient in patients)
    return 1000 * (time.process_time() - begun) / slices


class Version:
    """A process that imports lungct from one checkout and does what it is told to."""

    def __init__(self, checkout: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve"],
            env=os.environ | {"PYTHONPATH": os.fspath(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        source = self._ask(["where"])
        if not Path(str(source)).is_relative_to(checkout.resolve()):
            sys.exit(f"lungct was imported from {source}, not from {checkout}")

    def usable(self, name: str, patient: Path) -> bool:
        """Return whether this version can do some work on a patient."""
        return bool(self._ask(["usable", name, os.fspath(patient)]))

    def milliseconds(self, name: str, patients: Sequence[Path]) -> float:
        """Return the CPU time per slice of some work on patients."""
        return float(str(self._ask(["measure", name, *map(os.fspath, patients)])))

    def _ask(self, question: list[str]) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def serve() -> None:
    """Answer the questions of a `Version`, one on each line of standard input."""
    import lungct

    for line in sys.stdin:
        question, *arguments = json.loads(line)
        if question == "where":
            answer: object = os.path.realpath(str(lungct.__file__))
        elif question == "usable":
            answer = _usable(WORK[arguments[0]], Path(arguments[1]))
        else:
            answer = milliseconds(WORK[arguments[0]], [Path(patient) for patient in arguments[1:]])
        print(json.dumps(answer), flush=True)


def _usable(work: Work, patient: Path) -> bool:
    from lungct.errors import SeriesError

    try:
        work(patient)
    except SeriesError:
        return False
    return True


def compare_with_pydicom(patients: Sequence[Path]) -> None:
    for work in (reading, with_pydicom):
        milliseconds(work, patients)
    pairs = [(milliseconds(reading, patients), milliseconds(with_pydicom, patients)) for _ in range(ROUNDS)]
    report("reading", ("lungct", "pydicom"), pairs)


def compare_with_version(patients: Sequence[Path], checkout: Path) -> None:
    here, other = Version(ROOT), Version(checkout)
    for name in WORK:
        both = [patient for patient in patients if here.usable(name, patient) and other.usable(name, patient)]
        if not both:
            print(f"{name}: no patient can be used")
            continue
        pairs = [(here.milliseconds(name, both), other.milliseconds(name, both)) for _ in range(ROUNDS)]
        report(f"{name} ({len(both)} of {len(patients)} patients)", ("here", "there"), pairs)


def report(title: str, names: tuple[str, str], pairs: Sequence[tuple[float, float]]) -> None:
    """Print the median and the range of both ways and of their ratio."""
    print(title)
    for name, values in zip(names, zip(*pairs, strict=True), strict=True):
        print(
            f"  {name:8} {statistics.median(values):.3f} ms of CPU per slice ({min(values):.3f} to {max(values):.3f})"
        )
    ratios = [first / second for first, second in pairs]
    print(f"  ratio    {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the cost per slice of reading and preparing patients.")
    parser.add_argument("cohort", type=Path, nargs="?")
    parser.add_argument("--patients", type=int, default=20)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another version of lungct")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve()
        return
    if options.cohort is None:
        parser.error("COHORT is missing")
    patients = sorted(path for path in options.cohort.iterdir() if path.is_dir())[: options.patients]
    if options.against is None:
        compare_with_pydicom(patients)
    else:
        compare_with_version(patients, options.against)


if __name__ == "__main__":
    main()
