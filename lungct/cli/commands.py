"""What each command does: parsed options -> a call of the library -> a result to print and an exit code."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lungct.arguments import spelled
from lungct.errors import LungCTError, NothingUsableError, UsageError

if TYPE_CHECKING:
    from lungct.dicom import SeriesOptions


@dataclass(frozen=True)
class Result:
    """What a command has to print, and how it ended.

    Attributes
    ----------
    values
        The result; printed as one line of JSON unless there is a text.
    text
        What is printed for people instead.
    short_text
        What is printed on a terminal instead of that; None: the same.
    code
        The exit code.
    error
        What is reported after the result is printed; its exit code replaces ``code``.

    """

    values: dict[str, Any]
    text: str | None = None
    short_text: str | None = None
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
        group_column=options.group_column,
        positive=options.positive,
        allow_unmatched=options.allow_unmatched,
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

    summary = predict_to_csv(options.run_dir, options.dir, options.out, ids=options.ids, missing=options.missing)
    return Result(summary.as_dict())


def inspect(options: argparse.Namespace) -> Result:
    """Describe a patient's directory, or every patient of an archive."""
    _check_inspect(options)
    return _inspect_all(options) if options.all else _inspect_one(options)


def _check_inspect(options: argparse.Namespace) -> None:
    """Raise UsageError if options of `inspect` contradict each other."""
    if options.all and options.png:
        raise UsageError(
            f"{spelled('png')} draws one patient and {spelled('all')} counts an archive", fix="give one of them"
        )
    for other in ("all", "json"):
        if options.names and getattr(options, other):
            raise UsageError(
                f"{spelled('names')} prints what one patient's files say to the terminal, and nowhere else",
                fix=f"leave {spelled(other)} out",
            )
    for name in ("out", "depth", "by_patient_id"):
        if getattr(options, name) and not options.all:
            raise UsageError(f"{spelled(name)} is about an archive", fix=f"give {spelled('all')} too")


def _inspect_one(options: argparse.Namespace) -> Result:
    from lungct.inspection import inspect

    page = inspect(options.path, preset=options.preset, png=options.png, options=_series_options(options))
    text = None if options.json else page.text(names=options.names)
    return Result(page.as_dict(), text=text, code=0 if page.usable else 1)


def _inspect_all(options: argparse.Namespace) -> Result:
    from lungct.inspection import inspect_all

    archive = inspect_all(
        options.path,
        out=options.out,
        preset=options.preset,
        depth=options.depth,
        by_patient_id=options.by_patient_id,
        options=_series_options(options),
        quiet=options.quiet,
    )
    return Result(
        archive.as_dict(),
        text=None if options.json else archive.text(),
        short_text=None if options.json else archive.text(width=80),
        code=0 if archive.usable else 1,
        error=archive.error,
    )


def _series_options(options: argparse.Namespace) -> SeriesOptions:
    from lungct.dicom import SeriesOptions

    return SeriesOptions(
        series_include=options.series_include,
        series_exclude=options.series_exclude,
        body_part=options.body_part,
        volume=options.volume,
    )


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

    if options.out and not options.failed:
        raise UsageError(f"{spelled('out')} is where {spelled('failed')} writes", fix=f"give {spelled('failed')} too")
    found = status(
        options.dir,
        options.src,
        check=options.check,
        failed=options.failed,
        out=options.out,
        pseudonyms=options.pseudonyms,
    )
    return Result(found.as_dict(), text=None if options.json else found.text(), code=3 if found.problems else 0)


def pseudonyms(options: argparse.Namespace) -> Result:
    """Replace the ids of labels by pseudonyms."""
    from lungct.pseudonyms import pseudonymise_csv, read_key

    rows = pseudonymise_csv(
        options.labels,
        read_key(options.key),
        options.out,
        id_column=options.id_column,
        group_column=options.group_column,
    )
    return Result({"command": "pseudonyms", "out": options.out, "patients": rows})
