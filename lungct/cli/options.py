"""The command line: every command, every option, and what `--help` teaches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from lungct._version import __version__
from lungct.cli import commands
from lungct.errors import UsageError


class Printed(Exception):
    """Something to print instead of running a command."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and ours, and whose help goes to the real stdout."""

    def __init__(self, **named: Any) -> None:
        super().__init__(allow_abbrev=False, **named)

    def print_help(self, file: Any = None) -> NoReturn:
        """Give the help to who prints it."""
        raise Printed(self.format_help().rstrip())

    def error(self, message: str) -> NoReturn:
        """Refuse the command line in one line."""
        raise UsageError(f"{message}; see `{self.prog} --help`")


def make_parser(*, device: str = "auto") -> Parser:
    """Build the whole command line; the parsed options have ``run``, the command's function.

    Parameters
    ----------
    device
        What ``--device auto`` asks for where there is no table yet.

    """
    parser = Parser(
        prog="lungct",
        description="From an archive of chest CTs to a table of deep features and a cross-validated model. "
        "Not a medical device.",
        epilog="In order: lungct extract SCANS --out FEATURES; lungct train FEATURES --labels labels.csv --out RUN; "
        "lungct predict RUN FEATURES --out submission.csv. `lungct COMMAND --help` explains each.",
    )
    parser.add_argument("--version", action=_Version)
    add_common(parser, default=False)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
    for add in (
        partial(_add_extract, device=device),
        _add_train,
        _add_predict,
        _add_status,
        _add_doctor,
        _add_pseudonyms,
        _add_inspect,
        _add_report,
        _add_phantom,
    ):
        command = add(subparsers)
        # Suppressed, so that a flag before the command is not undone by its absence after it.
        add_common(command, default=argparse.SUPPRESS)
    return parser


def add_common(parser: argparse.ArgumentParser, *, default: Any = False) -> None:
    """Add what every command takes."""
    for flag, what in (
        ("--quiet", "no progress on stderr"),
        ("--debug", "tracebacks, and what Ray says"),
    ):
        parser.add_argument(flag, action="store_true", default=default, help=what)


class _Version(argparse.Action):
    """Print the version on the real stdout and end."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and end")

    def __call__(self, *_: Any, **__: Any) -> None:
        raise Printed(f"lungct {__version__}")


def _add_extract(subparsers: Any, *, device: str) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "extract",
        help="scans -> feature table",
        description="Extract deep features of every patient below SRC into the feature table DIR. The same command "
        "again does only what is missing.",
        epilog="example: lungct extract scans --out features --backbone resnet50 --weights resnet50.safetensors",
    )
    p.add_argument("src", metavar="SRC", help="the archive: a directory of patients' directories")
    p.add_argument("--out", metavar="DIR", required=True, help="the feature table's directory")
    add_extraction(p, device=device)
    p.add_argument("--address", help="a Ray cluster (default: Ray in this process)")
    p.set_defaults(run=commands.extract)
    return p


def add_extraction(p: argparse.ArgumentParser, *, device: str = "auto") -> None:
    """Add the options that say how to extract; ``device`` is what ``auto`` asks for where there is no table yet."""
    meant = "" if device == "auto" else f": {device}, or what the table was made on"
    p.set_defaults(default_device=device)
    p.add_argument("--preset", metavar="NAME", help="dsb2017 (default: the 2017 chain) or lung (any scanner)")
    p.add_argument("--backbone", metavar="NAME", help="resnet18, 34, 50, 101 or 152 (default resnet152)")
    p.add_argument("--weights", metavar="W", help="imagenet (default), random:SEED, or a file")
    p.add_argument("--device", default="auto", help=f"auto (default{meant}), cpu or cuda")
    p.add_argument("--precision", default="auto", help="auto (default), fp32 or bf16")
    p.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="triplets a forward pass (16 on a CPU, 64 on a GPU)",
    )
    p.add_argument("--workers", type=int, metavar="N", help="network actors (default: one a GPU, else one)")
    p.add_argument("--shard-patients", type=int, default=8, metavar="N", help="patients a file (default 8)")
    p.add_argument("--depth", type=int, metavar="N", help="directory levels down to a patient (default 1)")
    p.add_argument("--by-patient-id", action="store_true", help="group files by PatientID, not by directory")
    p.add_argument("--patients", metavar="FILE", help="only these ids: one a line, or a CSV with a column id")
    p.add_argument("--limit", type=int, metavar="N", help="the first N patients in order of id")
    p.add_argument("--pseudonyms", metavar="KEYFILE", help="ids and pixel hashes as hashes under this key")
    p.add_argument("--max-errors", type=int, metavar="N", help="end after N error rows (exit 1)")
    p.add_argument("--overwrite", action="store_true", help="remove the old table, begin anew")
    p.add_argument("--retry-errors", action="store_true", help="do the error rows again")
    p.add_argument(
        "--take-over",
        action="store_true",
        help="take the table from a run that holds it (a store: after a minute)",
    )


def _add_train(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="feature table + labels -> cross-validated model and report",
        description="Cross-validate LightGBM on a feature table: boosters, out-of-fold scores, metrics with "
        "intervals, and a report.",
        epilog="example: lungct train features --labels labels.csv --out run",
    )
    p.add_argument("dir", metavar="DIR", help="the feature table")
    p.add_argument("--labels", metavar="CSV", required=True, help="ids and labels of 0 or 1")
    p.add_argument("--out", metavar="RUN", required=True, help="the run's directory")
    add_training(p)
    p.add_argument("--address", help="a Ray cluster (default: Ray in this process)")
    p.set_defaults(run=commands.train)
    return p


def add_training(p: argparse.ArgumentParser) -> None:
    """Add the options that say how to train."""
    p.add_argument("--id-column", default="id", metavar="NAME", help="default id")
    p.add_argument("--label-column", default="cancer", metavar="NAME", help="default cancer")
    p.add_argument("--folds", type=int, default=5, metavar="N", help="default 5")
    p.add_argument("--pooling", default="mean", help="mean (default), max, meanmax or meanstd, over a patient")
    p.add_argument("--objective", default="l2", help="l2 (default: the 2017 regressor) or binary")
    p.add_argument("--params", metavar="FILE", help="JSON of LightGBM parameters that override single ones")
    p.add_argument("--rounds", type=int, default=5000, metavar="N", help="at most (default 5000)")
    p.add_argument(
        "--early-stopping",
        type=int,
        default=300,
        metavar="N",
        help="rounds without gain (default 300)",
    )
    p.add_argument("--inner", action="store_true", help="choose the round inside the training part")
    p.add_argument("--seed", type=int, default=42, metavar="N", help="default 42")


def _add_predict(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "predict",
        help="run + feature table -> predictions",
        description="Predict every patient of DIR who has features. Patients that RUN was trained on are scored by "
        "the booster that never saw them.",
        epilog="example: lungct predict run features --out submission.csv",
    )
    p.add_argument("run_dir", metavar="RUN", help="what train wrote")
    p.add_argument("dir", metavar="DIR", help="a feature table made with the same settings")
    p.add_argument("--out", metavar="CSV", required=True, help="the predictions")
    p.add_argument("--ids", metavar="CSV", help="only these ids, in their order")
    p.set_defaults(run=commands.predict)
    return p


def _add_inspect(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "inspect",
        help="what is in a patient's directory",
        description="Say what series a directory holds, and draw what the network sees of it.",
        epilog="example: lungct inspect scans/0042 --png 0042.png",
    )
    p.add_argument("path", metavar="PATH", help="a patient's directory")
    p.add_argument("--png", metavar="FILE", help="three views, HU, and six triplets under each preset")
    p.add_argument("--all", action="store_true", help="PATH is an archive: count its patients by what they are")
    p.add_argument("--json", action="store_true", help="JSON instead of text")
    p.set_defaults(run=commands.inspect)
    return p


def _add_report(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="write a run's report again",
        description="Write RUN/report.html again from what is in RUN.",
        epilog="example: lungct report run",
    )
    p.add_argument("run_dir", metavar="RUN", help="what train wrote")
    p.set_defaults(run=commands.report)
    return p


def _add_phantom(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "phantom",
        help="write a synthetic cohort as real DICOM",
        description="Write chest phantoms as CT Image Storage objects, half of them (rounded down) with nodules, and "
        "their labels in DIR.csv. The same seed gives the same bytes.",
        epilog="example: lungct phantom --out cohort --patients 24 --seed 7",
    )
    p.add_argument("--out", metavar="DIR", required=True, help="a directory that is not there yet")
    p.add_argument("--patients", type=int, default=24, metavar="N", help="default 24")
    p.add_argument("--slices", type=int, default=120, metavar="N", help="the most; from 0.75 N (default 120)")
    p.add_argument("--nodules", type=int, default=1, metavar="N", help="a positive patient's (default 1)")
    p.add_argument("--diameter", type=float, nargs=2, default=(8, 30), metavar=("MIN", "MAX"), help="mm (8 30)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    p.set_defaults(run=commands.phantom)
    return p


def _add_doctor(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "doctor",
        help="is everything here that a job needs",
        description="Check packages, decoders, device, weights, room and Ray before a long job: a line each, with "
        "the fix.",
        epilog="example: lungct doctor --device cuda --weights imagenet",
    )
    p.add_argument("--device", default="auto", help="auto, cpu or cuda (default %(default)s)")
    p.add_argument("--backbone", default="resnet152", metavar="NAME", help="default resnet152")
    p.add_argument("--weights", metavar="W", help="load these too: imagenet, random:SEED or a file")
    p.add_argument("--address", help="a Ray cluster (default: Ray in this process)")
    p.add_argument("--json", action="store_true", help="JSON instead of text")
    p.set_defaults(run=commands.doctor)
    return p


def _add_status(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "status",
        help="how far a feature table is",
        description="Count a table's patients: done, failed by reason, and left where SRC is given.",
        epilog="example: lungct status features scans --check",
    )
    p.add_argument("dir", metavar="DIR", help="the feature table")
    p.add_argument("src", metavar="SRC", nargs="?", help="the archive that it is made from")
    p.add_argument("--check", action="store_true", help="read every file whole; exit 3 where one is wrong")
    p.add_argument("--pseudonyms", metavar="KEYFILE", help="the table's key, to compare with SRC")
    p.add_argument("--json", action="store_true", help="JSON instead of text")
    p.set_defaults(run=commands.status)
    return p


def _add_pseudonyms(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "pseudonyms",
        help="labels with ids -> labels with pseudonyms",
        description="Write a CSV again with the pseudonyms that `extract --pseudonyms KEYFILE` gives its ids. A key "
        "is a file of 16 bytes or more that you keep secret.",
        epilog="example: lungct pseudonyms labels.csv --key KEYFILE --out pseudonymous.csv",
    )
    p.add_argument("labels", metavar="LABELS", help="a CSV with an id column")
    p.add_argument(
        "--key",
        metavar="KEYFILE",
        required=True,
        help="`head -c 32 /dev/urandom > KEYFILE` makes one",
    )
    p.add_argument("--out", metavar="CSV", required=True, help="the CSV with pseudonyms")
    p.add_argument("--id-column", default="id", metavar="NAME", help="default id")
    p.set_defaults(run=commands.pseudonyms)
    return p
