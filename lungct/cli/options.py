"""The command line: every command, every option, and what `--help` prints."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from lungct._version import __version__
from lungct.cli import commands
from lungct.errors import UsageError

ADDRESS = "Ray cluster to run on (default: Ray on this machine)"


class PrintAndExit(Exception):
    """A text to print instead of running a command: the help or the version."""


class Parser(argparse.ArgumentParser):
    """A parser that raises: an error is a UsageError of one line, and the help a PrintAndExit."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def print_help(self, file: Any = None) -> NoReturn:
        """Raise the help as a PrintAndExit."""
        raise PrintAndExit(self.format_help().rstrip())

    def error(self, message: str) -> NoReturn:
        """Raise a UsageError."""
        raise UsageError(f"{message} (see `{self.prog} --help`)")


class _Version(argparse.Action):
    """Raise the version as a PrintAndExit."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, *_: Any, **__: Any) -> None:
        raise PrintAndExit(f"lungct {__version__}")


STOPPED = "stopped by a signal"
EXTRACTION_STOPPED = f"{STOPPED}; finished rows are kept, and the same command continues from there"
TRAINING_STOPPED = f"{STOPPED}; an earlier run is left as it was"


def make_parser() -> Parser:
    """Build the whole command line.

    The parsed options have ``function``, the command, and ``when_stopped``, what to say if a signal ends it.
    """
    parser = Parser(
        prog="lungct",
        **help_texts(
            "From an archive of chest CTs to a table of deep features and a cross-validated model. Not a medical "
            "device.",
            "lungct extract SCANS --out FEATURES",
            "lungct train FEATURES --labels labels.csv --out RUN",
            "lungct predict RUN FEATURES --out submission.csv",
        ),
    )
    parser.add_argument("--version", action=_Version)
    parser.set_defaults(when_stopped=STOPPED)
    add_common(parser, default=False)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="command")
    for add in (
        _add_extract,
        _add_train,
        _add_predict,
        _add_status,
        _add_doctor,
        _add_pseudonyms,
        _add_inspect,
        _add_report,
        _add_phantom,
    ):
        # Without a default, so that a flag before the command is not undone by its absence after it.
        add_common(add(subparsers), default=argparse.SUPPRESS)
    return parser


def help_texts(description: str, *examples: str) -> dict[str, str]:
    """Return a parser's description and, for the end of its help, examples of one command each."""
    title = "examples:" if len(examples) > 1 else "example:"
    return {
        "description": textwrap.fill(description, 78),
        "epilog": "\n".join([title, *(f"  {example}" for example in examples)]),
    }


def add_common(parser: argparse.ArgumentParser, *, default: Any = False) -> None:
    """Add the options that every command takes."""
    for flag, what in (
        ("--quiet", "show no progress on stderr, and no results of train there"),
        ("--debug", "print tracebacks and Ray's messages"),
    ):
        parser.add_argument(flag, action="store_true", default=default, help=what)


def _add_extract(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "extract",
        help="extract features from scans into a feature table",
        **help_texts(
            "Extract deep features of every patient in SRC into the feature table DIR. The same command again does "
            "only what is missing.",
            "lungct extract scans --out features --preset lung --backbone resnet50",
        ),
    )
    p.add_argument("src", metavar="SRC", help="directory or prefix that contains the patient folders")
    p.add_argument("--out", metavar="DIR", required=True, help="directory of the feature table (required)")
    add_extraction(p)
    p.add_argument("--address", help=ADDRESS)
    p.set_defaults(function=commands.extract, when_stopped=EXTRACTION_STOPPED)
    return p


def add_extraction(p: argparse.ArgumentParser) -> None:
    """Add the options of extraction."""
    group = p.add_argument_group("patients")
    group.add_argument("--depth", type=int, metavar="N", help="directory levels from SRC to a patient (default: 1)")
    group.add_argument("--by-patient-id", action="store_true", help="group files by their PatientID, not by directory")
    group.add_argument("--patients", metavar="FILE", help="only these ids: one per line, or a CSV with a column id")
    group.add_argument("--limit", type=int, metavar="N", help="only the first N patients in order of id")
    group.add_argument("--pseudonyms", metavar="KEYFILE", help="replace ids and pixel hashes by keyed hashes")
    group = p.add_argument_group("which series is the scan", "By default, rules decide (docs/intake.md).")
    add_series_options(group)
    group = p.add_argument_group("features", "If the table exists, options that are not given take its values.")
    group.add_argument(
        "--preset", metavar="NAME", help="dsb2017 (default: the 2017 system's) or lung (scans of any scanner)"
    )
    group.add_argument("--backbone", metavar="NAME", help="resnet18, 34, 50, 101 or 152 (default: resnet152)")
    group.add_argument("--weights", metavar="W", help="imagenet (default), random:SEED or a file")
    group.add_argument(
        "--device",
        metavar="NAME",
        help="auto (default; for a new table in a cluster job, cuda), cpu or cuda",
    )
    group.add_argument("--precision", metavar="NAME", default="auto", help="auto (default), fp32 or bf16")
    group.add_argument(
        "--batch-size", type=int, metavar="N", help="triplets per forward pass (default: 16 on a CPU, 64 on a GPU)"
    )
    group = p.add_argument_group("table and workers")
    group.add_argument("--overwrite", action="store_true", help="remove the old table and start again")
    group.add_argument("--retry-errors", action="store_true", help="extract patients with error rows again")
    group.add_argument("--max-errors", type=int, metavar="N", help="stop after N error rows (exit code 1)")
    group.add_argument(
        "--take-over",
        action="store_true",
        help="take the table from a running extract (in object storage, after a minute)",
    )
    group.add_argument(
        "--shard-patients", type=int, default=8, metavar="N", help="patients per file (default: %(default)s)"
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="processes that run the network (default: one per GPU, else 1)"
    )


def add_series_options(group: Any) -> None:
    """Add the options that say which of a patient's series is the scan."""
    group.add_argument(
        "--series-include",
        metavar="TEXT",
        help="only series whose SeriesDescription contains TEXT (upper or lower case)",
    )
    group.add_argument(
        "--series-exclude", metavar="TEXT", help="no series whose SeriesDescription contains TEXT (upper or lower case)"
    )
    group.add_argument(
        "--body-part", metavar="TEXT", help="only series whose BodyPartExamined contains TEXT (upper or lower case)"
    )
    group.add_argument(
        "--volume", metavar="GLOB", help="the volume file to read where a patient has several: imaging.nii.gz"
    )


def _add_train(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "train",
        help="cross-validate a model on a feature table and labels",
        **help_texts(
            "Cross-validate LightGBM on a feature table, beside a logistic regression as reference: boosters, "
            "out-of-fold scores, metrics with intervals, and a report. With 5 folds that is 15 fits of boosters: each "
            "pair of folds chooses the number of rounds of the others. For 1,595 patients with 2,048 features, two "
            "cores need about an hour at 5,000 rounds; --inner needs about half of that.",
            "lungct train features --labels labels.csv --out run",
            "lungct train features --labels labels.csv --out run --inner --positive yes",
        ),
    )
    p.add_argument("dir", metavar="DIR", help="the feature table")
    p.add_argument("--labels", metavar="CSV", required=True, help="ids and their labels, 0 or 1 (required)")
    p.add_argument("--out", metavar="RUN", required=True, help="directory of the run (required)")
    add_training(p)
    p.add_argument("--address", help=ADDRESS)
    p.set_defaults(function=commands.train, when_stopped=TRAINING_STOPPED)
    return p


def add_training(p: argparse.ArgumentParser) -> None:
    """Add the options of training."""
    group = p.add_argument_group("labels")
    group.add_argument("--id-column", default="id", metavar="NAME", help="column of the ids (default: %(default)s)")
    group.add_argument(
        "--label-column",
        default="cancer",
        metavar="NAME",
        help="column of the labels, 0 or 1; blank where a patient has none (default: %(default)s)",
    )
    group.add_argument(
        "--positive",
        metavar="VALUE",
        help="where the labels are two texts, not 0 and 1: the one that counts as 1, such as yes",
    )
    group.add_argument(
        "--group-column",
        metavar="NAME",
        help="column that says who belongs together (a person's scans, a family) and stays within one fold",
    )
    group.add_argument("--allow-unmatched", action="store_true", help="train even if fewer than half of the ids match")
    group = p.add_argument_group("model")
    group.add_argument(
        "--pooling",
        metavar="NAME",
        default="mean",
        help="how to pool a patient's triplets: mean (default), max, meanmax or meanstd",
    )
    group.add_argument(
        "--objective", metavar="NAME", default="l2", help="l2 (default: the 2017 system's regression) or binary"
    )
    group.add_argument(
        "--params",
        metavar="FILE",
        help='JSON file of LightGBM parameters to override: {"lambda_l1": 1, "lambda_l2": 1, "boosting": "dart"}',
    )
    group.add_argument(
        "--rounds",
        type=int,
        default=5000,
        metavar="N",
        help="boosting rounds at most; fewer are used where they are better (default: %(default)s)",
    )
    group.add_argument(
        "--early-stopping",
        type=int,
        default=300,
        metavar="N",
        help="stop after N rounds without a smaller loss (default: %(default)s)",
    )
    group = p.add_argument_group("cross-validation")
    group.add_argument(
        "--folds", type=int, default=5, metavar="N", help="number of folds, at least 3 (default: %(default)s)"
    )
    group.add_argument(
        "--inner",
        action="store_true",
        help="choose the number of rounds on a fifth of each training part, not by pairs of folds: 10 fits of boosters "
        "instead of 15, and no optimistic score",
    )
    group.add_argument("--seed", type=int, default=42, metavar="N", help="random seed (default: %(default)s)")


def _add_predict(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "predict",
        help="predict from a run and a feature table",
        **help_texts(
            "Predict every patient of DIR who has features. Patients used in training are scored only by the booster "
            "that did not see them.",
            "lungct predict run features --out submission.csv",
        ),
    )
    p.add_argument("run_dir", metavar="RUN", help="the directory that train wrote")
    p.add_argument(
        "dir", metavar="DIR", help="a feature table with the run's preset, backbone, weights and choice of series"
    )
    p.add_argument("--out", metavar="CSV", required=True, help="file of the predictions (required)")
    p.add_argument("--ids", metavar="CSV", help="only these ids, in their order (default: all)")
    p.add_argument(
        "--missing",
        metavar="WHAT",
        default="refuse",
        help="what --ids without features get: refuse (default: nothing is predicted), blank (an empty field) or "
        "prevalence (the run's share of positives)",
    )
    p.set_defaults(function=commands.predict)
    return p


def _add_inspect(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "inspect",
        help="show what a patient's directory contains",
        **help_texts(
            "List the series in a directory, show which one is used and why, and draw what the network sees. With "
            "--all, do so for every patient of an archive.",
            "lungct inspect scans/0042 --preset lung --png 0042.png",
            "lungct inspect scans --all --preset lung --out series.csv",
        ),
    )
    p.add_argument("path", metavar="PATH", help="a patient's directory; with --all, an archive")
    p.add_argument("--preset", metavar="NAME", help="also prepare the patient as extract does: dsb2017 or lung")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
    group = p.add_argument_group("one patient")
    group.add_argument("--png", metavar="FILE", help="draw three views, HU, and six triplets under each preset")
    group.add_argument(
        "--names", action="store_true", help="print what the files say about each series (may identify people)"
    )
    group = p.add_argument_group("an archive")
    group.add_argument("--all", action="store_true", help="inspect every patient of PATH; count patients and problems")
    group.add_argument("--out", metavar="CSV", help="write a line for each series, with the patients' ids")
    group.add_argument("--depth", type=int, metavar="N", help="directory levels from PATH to a patient (default: 1)")
    group.add_argument("--by-patient-id", action="store_true", help="group files by their PatientID, not by directory")
    group = p.add_argument_group("which series is the scan", "By default, rules decide (docs/intake.md).")
    add_series_options(group)
    p.set_defaults(function=commands.inspect)
    return p


def _add_report(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "report",
        help="write a run's report again",
        **help_texts("Write RUN/report.html again from the other files of RUN.", "lungct report run"),
    )
    p.add_argument("run_dir", metavar="RUN", help="the directory that train wrote")
    p.set_defaults(function=commands.report)
    return p


def _add_phantom(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "phantom",
        help="write a synthetic cohort as real DICOM",
        **help_texts(
            "Write chest phantoms as CT Image Storage objects, half of them (rounded down) with nodules, and their "
            "labels in DIR.csv. The same seed writes the same bytes.",
            "lungct phantom --out cohort --patients 24 --seed 7",
        ),
    )
    p.add_argument("--out", metavar="DIR", required=True, help="a directory that does not exist yet (required)")
    p.add_argument("--patients", type=int, default=24, metavar="N", help="number of patients (default: %(default)s)")
    p.add_argument(
        "--slices",
        type=int,
        default=120,
        metavar="N",
        help="most slices per patient (each gets 75–100 %% of N) (default: %(default)s)",
    )
    p.add_argument(
        "--nodules", type=int, default=1, metavar="N", help="nodules per positive patient (default: %(default)s)"
    )
    p.add_argument(
        "--diameter",
        type=float,
        nargs=2,
        default=(8, 30),
        metavar=("MIN", "MAX"),
        help="diameter of the nodules in mm (default: 8 30)",
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (default: %(default)s)")
    p.set_defaults(function=commands.phantom)
    return p


def _add_doctor(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "doctor",
        help="check that a job has everything it needs",
        **help_texts(
            "Check packages, decoders, device, weights, disk space and Ray before a long job. Each check is a line: "
            "pass, warning or failure, and the fix. Exit code 1 if something fails.",
            "lungct doctor --device cuda --weights imagenet",
        ),
    )
    p.add_argument("--device", metavar="NAME", default="auto", help="auto (default), cpu or cuda")
    p.add_argument(
        "--backbone", default="resnet152", metavar="NAME", help="backbone of the weights (default: %(default)s)"
    )
    p.add_argument("--weights", metavar="W", help="also load these weights: imagenet, random:SEED or a file")
    p.add_argument("--address", help="Ray cluster to check (default: Ray on this machine)")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
    p.set_defaults(function=commands.doctor)
    return p


def _add_status(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "status",
        help="count the patients of a feature table",
        **help_texts(
            "Count a table's patients: done, failed (by reason), left (if SRC is given), and those with each note.",
            "lungct status features scans --check",
            "lungct status features --failed --out failed.csv",
        ),
    )
    p.add_argument("dir", metavar="DIR", help="the feature table")
    p.add_argument("src", metavar="SRC", nargs="?", help="the archive that the table is made from")
    p.add_argument("--check", action="store_true", help="also read and check every file; exit code 3 if one is wrong")
    p.add_argument("--failed", action="store_true", help="name each patient with an error row, and the error")
    p.add_argument("--out", metavar="CSV", help="with --failed: write them to this file")
    p.add_argument("--pseudonyms", metavar="KEYFILE", help="the table's key, needed to compare it with SRC")
    p.add_argument("--json", action="store_true", help="print JSON instead of text")
    p.set_defaults(function=commands.status)
    return p


def _add_pseudonyms(subparsers: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = subparsers.add_parser(
        "pseudonyms",
        help="replace the ids of labels by pseudonyms",
        **help_texts(
            "Copy a CSV and replace its ids by the pseudonyms that `extract --pseudonyms KEYFILE` writes. A key is a "
            "file of at least 16 bytes that you keep secret. Other columns are copied as they are.",
            "head -c 32 /dev/urandom > KEYFILE",
            "lungct pseudonyms labels.csv --key KEYFILE --out pseudonymous.csv",
        ),
    )
    p.add_argument("labels", metavar="LABELS", help="a CSV with a column of ids")
    p.add_argument("--key", metavar="KEYFILE", required=True, help="file of the key (required)")
    p.add_argument("--out", metavar="CSV", required=True, help="file to write (required)")
    p.add_argument("--id-column", default="id", metavar="NAME", help="column of the ids (default: %(default)s)")
    p.add_argument("--group-column", metavar="NAME", help="column of persons, which get pseudonyms too")
    p.set_defaults(function=commands.pseudonyms)
    return p
