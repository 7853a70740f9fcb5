"""What each command does: parsed options -> a call of the library -> a result to print and an exit code."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import Any

from lungct.arguments import spelled
from lungct.errors import LungCTError, NothingUsableError, UsageError


@dataclass(frozen=True)
class Result:
    """What a command has to print, and how it ended.

    Attributes
    ----------
    values
        The result; printed as one line of JSON unless there is a text.
    text
        What is printed for people instead.
    code
        The exit code.
    error
        What is reported after the result is printed; its exit code replaces ``code``.

    """

    values: dict[str, Any]
    text: str | None = None
    code: int = 0
    error: LungCTError | None = None


def extract(options: argparse.Namespace) -> Result:
    """Extract features from scans into a feature table."""
    from lungct.extraction import ExtractSummary, extract

    try:
        summary = extract(
            options.src,
            options.out,
            preset=options.preset,
            backbone=options.backbone,
            weights=options.weights,
            device=options.device or "auto",
            precision=options.precision,
            batch_size=options.batch_size,
            workers=options.workers,
            shard_patients=options.shard_patients,
            depth=options.depth,
            by_patient_id=options.by_patient_id,
            patients=options.patients,
            limit=options.limit,
            series_include=options.series_include,
            series_exclude=options.series_exclude,
            body_part=options.body_part,
            volume=options.volume,
            pseudonyms=options.pseudonyms,
            max_errors=options.max_errors,
            overwrite=options.overwrite,
            retry_errors=options.retry_errors,
            take_over=options.take_over,
            address=options.address,
            quiet=options.quiet,
        )
    except NothingUsableError as error:
        if not isinstance(error.summary, ExtractSummary):
            raise
        return Result(error.summary.as_dict(), error=error)
    return Result(summary.as_dict(), error=None if summary.usable else _no_features(summary.patients, summary.out))


def _no_features(patients: int, table: str) -> NothingUsableError:
    return NothingUsableError(
        f"none of the {patients} selected patients has features in {table}",
        fix="read the column error, which says why for each patient",
    )


def train(options: argparse.Namespace) -> Result:
    """Train on a feature table and labels; write a run with its report."""
    from lungct.training import train

    summary = train(
        options.dir,
        options.labels,
        options.out,
        id_column=options.id_column,
        label_column=options.label_column,
        folds=options.folds,
        pooling=options.pooling,
        objective=options.objective,
        params=options.params,
        rounds=options.rounds,
        early_stopping=options.early_stopping,
        inner=options.inner,
        seed=options.seed,
        address=options.address,
        quiet=options.quiet,
    )
    return Result(summary.as_dict())


def predict(options: argparse.Namespace) -> Result:
    """Predict from a run and a feature table."""
    from lungct.prediction import predict_to_csv

    return Result(predict_to_csv(options.run_dir, options.dir, options.out, ids=options.ids).as_dict())


def inspect(options: argparse.Namespace) -> Result:
    """Describe a patient's directory, or count the patients of an archive."""
    from lungct.inspection import inspect, inspect_all

    if options.all and options.png:
        raise UsageError(
            f"{spelled('png')} draws one patient and {spelled('all')} counts an archive", fix="give one of them"
        )
    page = inspect_all(options.path, quiet=options.quiet) if options.all else inspect(options.path, png=options.png)
    return Result(page.as_dict(), text=None if options.json else page.text(), code=0 if page.usable else 1)


def report(options: argparse.Namespace) -> Result:
    """Write a run's report again."""
    from lungct.reporting import report

    return Result({"command": "report", "out": str(report(options.run_dir))})


def phantom(options: argparse.Namespace) -> Result:
    """Write a synthetic cohort."""
    from lungct.phantom import write_cohort
    from lungct.progress import Progress
    from lungct.storage import local_path

    begun = time.monotonic()
    with Progress(options.patients, noun="phantoms", quiet=options.quiet) as progress:
        summary = write_cohort(
            local_path(options.out, argument="out"),
            patients=options.patients,
            slices=options.slices,
            nodules=options.nodules,
            diameter=tuple(options.diameter),
            seed=options.seed,
            progress=progress,
        )
    return Result(
        {
            "command": "phantom",
            "out": str(summary.out),
            "labels": str(summary.labels),
            "patients": summary.patients,
            "slices": summary.slices,
            "seconds": round(time.monotonic() - begun, 3),
        }
    )


def doctor(options: argparse.Namespace) -> Result:
    """Check that a job has everything it needs."""
    from lungct.checks import examine

    found = examine(
        device=options.device,
        backbone=options.backbone,
        weights=options.weights,
        address=options.address,
    )
    return Result(found.as_dict(), text=None if options.json else found.text(), code=0 if found.ready else 1)


def status(options: argparse.Namespace) -> Result:
    """Count the patients of a table."""
    from lungct.extraction.status import status

    found = status(options.dir, options.src, check=options.check, pseudonyms=options.pseudonyms)
    return Result(found.as_dict(), text=None if options.json else found.text(), code=3 if found.problems else 0)


def pseudonyms(options: argparse.Namespace) -> Result:
    """Replace the ids of labels by pseudonyms."""
    from lungct.pseudonyms import pseudonymise_csv, read_key

    rows = pseudonymise_csv(options.labels, read_key(options.key), options.out, id_column=options.id_column)
    return Result({"command": "pseudonyms", "out": options.out, "patients": rows})
