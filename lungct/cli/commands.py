"""What each command does: parsed options -> the library -> a result on stdout, and an exit code."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any, TextIO

from lungct.errors import NothingUsableError, UsageError


def extract(options: argparse.Namespace, results: TextIO) -> int:
    """Scans -> feature table."""
    from lungct.extraction import ExtractSummary, extract

    try:
        summary = extract(
            options.src,
            options.out,
            preset=options.preset,
            backbone=options.backbone,
            weights=options.weights,
            device=options.device,
            precision=options.precision,
            batch_size=options.batch_size,
            workers=options.workers,
            shard_patients=options.shard_patients,
            depth=options.depth,
            by_patient_id=options.by_patient_id,
            patients=options.patients,
            limit=options.limit,
            pseudonyms=options.pseudonyms,
            max_errors=options.max_errors,
            overwrite=options.overwrite,
            retry_errors=options.retry_errors,
            take_over=options.take_over,
            address=options.address,
            quiet=options.quiet,
        )
    except NothingUsableError as error:
        if isinstance(error.summary, ExtractSummary):
            print_json(error.summary.as_dict(), results)
        raise
    print_json(summary.as_dict(), results)
    if summary.usable == 0:
        raise NothingUsableError(
            f"none of the {summary.patients} selected patients has features in {summary.out}: "
            "the column error says why, patient by patient"
        )
    return 0


def train(options: argparse.Namespace, results: TextIO) -> int:
    """Feature table and labels -> run, with its report."""
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
    print_json(summary.as_dict(), results)
    return 0


def predict(options: argparse.Namespace, results: TextIO) -> int:
    """Run and feature table -> predictions."""
    from lungct.prediction import predict_to_csv

    summary = predict_to_csv(options.run_dir, options.dir, options.out, ids=options.ids)
    print_json(summary.as_dict(), results)
    return 0


def inspect(options: argparse.Namespace, results: TextIO) -> int:
    """What is in a directory, or in an archive."""
    from lungct.inspection import inspect, inspect_all

    if options.all and options.png:
        raise UsageError("--png draws one patient and --all counts an archive: give one of them")
    page = inspect_all(options.path, quiet=options.quiet) if options.all else inspect(options.path, png=options.png)
    print(json.dumps(page.as_dict()) if options.json else page.text(), file=results)
    return 0 if page.usable else 1


def report(options: argparse.Namespace, results: TextIO) -> int:
    """Write a run's report again."""
    from lungct.reporting import report

    path = report(options.run_dir)
    print_json({"command": "report", "out": str(path)}, results)
    return 0


def phantom(options: argparse.Namespace, results: TextIO) -> int:
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
    line = {
        "command": "phantom",
        "out": str(summary.out),
        "labels": str(summary.labels),
        "patients": summary.patients,
        "slices": summary.slices,
        "seconds": round(time.monotonic() - begun, 3),
    }
    print_json(line, results)
    return 0


def doctor(options: argparse.Namespace, results: TextIO) -> int:
    """Check what a job will need."""
    from lungct.checks import examine

    found = examine(
        device=options.device,
        backbone=options.backbone,
        weights=options.weights,
        address=options.address,
    )
    print(json.dumps(found.as_dict()) if options.json else found.text(), file=results)
    return 0 if found.ready else 1


def status(options: argparse.Namespace, results: TextIO) -> int:
    """How far a table is."""
    from lungct.extraction.status import status

    found = status(options.dir, options.src, check=options.check, pseudonyms=options.pseudonyms)
    print(json.dumps(found.as_dict()) if options.json else found.text(), file=results)
    return 3 if found.problems else 0


def pseudonyms(options: argparse.Namespace, results: TextIO) -> int:
    """Labels with ids -> labels with pseudonyms."""
    from lungct.pseudonyms import pseudonymise_csv, read_key

    rows = pseudonymise_csv(options.labels, read_key(options.key), options.out, id_column=options.id_column)
    print_json({"command": "pseudonyms", "out": options.out, "patients": rows}, results)
    return 0


def print_json(values: dict[str, Any], results: TextIO) -> None:
    """Print a result as one line."""
    print(json.dumps(values, allow_nan=False), file=results, flush=True)
