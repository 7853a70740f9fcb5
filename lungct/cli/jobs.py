"""The commands as jobs of a Ray cluster: what `ray job submit -- python jobs/extract.py …` runs.

A job takes the options of its command. It asks for a GPU where nothing else is said: a cluster whose GPU nodes are
still at zero has none to be seen, and ``auto`` would settle for the CPU. Ray tells a job its cluster (``RAY_ADDRESS``).
stderr has a line of progress every 30 s; the last line of stdout is the result.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from typing import NoReturn, TextIO

from lungct.cli import commands
from lungct.cli.options import Parser, add_common, add_extraction, add_training, make_parser
from lungct.cli.process import exit_with
from lungct.errors import NothingUsableError, UsageError

DEVICE = "cuda"


def entry(command: str) -> NoReturn:
    """Run one command as a job; the exit code is the process's."""

    def parse(line: Sequence[str]) -> argparse.Namespace:
        return make_parser(device=DEVICE).parse_args([command, *line])

    exit_with(parse)


def pipeline_entry() -> NoReturn:
    """Run extraction, training and prediction one after another as a job."""
    exit_with(pipeline_parser().parse_args)


def pipeline_parser() -> Parser:
    """Build the command line of the three in one."""
    parser = Parser(
        prog="jobs/pipeline.py",
        description="Extract SRC into OUT/features, train on --labels into OUT/run, and predict every patient into "
        "OUT/predictions.csv. The same command again goes on where it stopped.",
        epilog="example: python jobs/pipeline.py s3://bucket/scans --labels labels.csv --out s3://bucket/study",
    )
    parser.add_argument("src", metavar="SRC", help="the archive")
    parser.add_argument("--labels", metavar="CSV", required=True, help="ids and labels of 0 or 1")
    parser.add_argument("--out", metavar="OUT", required=True, help="where all results go")
    add_extraction(parser, device=DEVICE)
    add_training(parser)
    parser.add_argument("--address", help="a Ray cluster (default: the job's own)")
    add_common(parser)
    parser.set_defaults(run=pipeline)
    return parser


def pipeline(options: argparse.Namespace, results: TextIO) -> int:
    """Run the three commands, and print their results as one line."""
    if not options.out.strip("/"):
        raise UsageError("--out is empty: give a directory")
    out = options.out.rstrip("/")
    features, run, predictions = f"{out}/features", f"{out}/run", f"{out}/predictions.csv"
    stages = (
        (commands.extract, {"out": features}),
        (commands.train, {"dir": features, "out": run}),
        (commands.predict, {"run_dir": run, "dir": features, "out": predictions, "ids": None}),
    )
    line: dict[str, object] = {"command": "pipeline", "out": out}
    for command, places in stages:
        printed = io.StringIO()
        try:
            command(argparse.Namespace(**(vars(options) | places)), printed)
        except NothingUsableError:
            _add(line, printed)
            commands.print_json(line, results)
            raise
        _add(line, printed)
    commands.print_json(line, results)
    return 0


def _add(line: dict[str, object], printed: io.StringIO) -> None:
    if printed.getvalue():
        result = json.loads(printed.getvalue())
        line[result["command"]] = result
