"""The commands as jobs of a Ray cluster: what `ray job submit -- python jobs/extract.py …` runs.

A job takes the options of its command. Unless ``--device`` is given, a new table is made on a GPU: a cluster whose GPU
nodes have not started yet has no GPU, so ``auto`` would choose the CPU. Ray tells a job its cluster (``RAY_ADDRESS``).
stderr gets a line of progress every 30 s, and the last line of stdout is the result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from lungct.arguments import spelled
from lungct.cli import commands
from lungct.cli.commands import Result
from lungct.cli.options import (
    EXTRACTION_STOPPED,
    Parser,
    add_common,
    add_extraction,
    add_training,
    help_texts,
    make_parser,
)
from lungct.cli.process import exit_with
from lungct.errors import UsageError
from lungct.storage import locate


def entry(command: str) -> NoReturn:
    """Run one command as a job and exit with its exit code."""

    def parse(line: Sequence[str]) -> argparse.Namespace:
        options = make_parser().parse_args([command, *line])
        if command == "extract":
            options.function = extract
        return options

    exit_with(parse)


def pipeline_entry() -> NoReturn:
    """Run extraction, training and prediction as one job."""
    exit_with(pipeline_parser().parse_args)


def pipeline_parser() -> Parser:
    """Build the command line of the three commands in one."""
    parser = Parser(
        prog="jobs/pipeline.py",
        **help_texts(
            "Extract the patients of SRC into OUT/features, train on --labels into OUT/run, and predict every patient "
            "into OUT/predictions.csv. The same command again continues where it stopped.",
            "python jobs/pipeline.py s3://bucket/scans --labels labels.csv \\\n      --out s3://bucket/study",
        ),
    )
    parser.add_argument("src", metavar="SRC", help="directory or prefix that contains the patient folders")
    parser.add_argument("--labels", metavar="CSV", required=True, help="ids and their labels, 0 or 1 (required)")
    parser.add_argument("--out", metavar="OUT", required=True, help="directory of all results (required)")
    add_extraction(parser)
    add_training(parser)
    parser.add_argument("--address", help="Ray cluster to run on (default: the job's own)")
    add_common(parser)
    parser.set_defaults(function=pipeline, when_stopped=EXTRACTION_STOPPED)
    return parser


def extract(options: argparse.Namespace) -> Result:
    """Extract features as a job does: on a GPU, unless ``--device`` or an existing table decides otherwise."""
    if options.device is None and (options.overwrite or not _has_table(options.out)):
        options.device = "cuda"
    return commands.extract(options)


def pipeline(options: argparse.Namespace) -> Result:
    """Run the three commands one after another; their results are one line of JSON."""
    if not options.out.strip("/"):
        raise UsageError(f"{spelled('out')} is empty", fix="give a directory")
    out = options.out.rstrip("/")
    features, run, predictions = f"{out}/features", f"{out}/run", f"{out}/predictions.csv"
    stages = (
        (extract, {"out": features}),
        (commands.train, {"dir": features, "out": run}),
        (commands.predict, {"run_dir": run, "dir": features, "out": predictions, "ids": None, "missing": "refuse"}),
    )
    values: dict[str, Any] = {"command": "pipeline", "out": out}
    for command, places in stages:
        result = command(argparse.Namespace(**(vars(options) | places)))
        values[result.values["command"]] = result.values
        if result.error is not None:
            return Result(values, error=result.error)
    return Result(values)


def _has_table(directory: str) -> bool:
    return (locate(directory, argument="out") / "settings.json").exists()
