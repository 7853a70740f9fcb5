"""The commands: each does one thing, calls the library, and prints one line of JSON on stdout.

stdout is for results alone, and stderr for progress, warnings and errors of ours (one line each, and an exit code:
`lungct.errors`). Ray's native code and C libraries write to file descriptors 1 and 2 whatever they are told, so for the
whole of a command both descriptors lead nowhere (``--debug``: to stderr), and results and messages go through
duplicates that were taken before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from lungct import __version__
from lungct.errors import LungCTError, LungCTWarning, NothingUsableError, UsageError

# `ray job stop` kills three seconds after SIGTERM.
CLEAN_END_SECONDS = 2.5


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and ours, and whose help goes to the real stdout."""

    def __init__(self, **named: Any) -> None:
        super().__init__(allow_abbrev=False, **named)

    def print_help(self, file: Any = None) -> NoReturn:
        raise _Printed(self.format_help().rstrip())

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see `{self.prog} --help`")


class _Interrupted(BaseException):
    """SIGTERM or SIGINT came: unwind, keep what is finished, end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code.

    Parameters
    ----------
    arguments
        The command line without the program's name; None: this process's own.

    """
    line = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in line
    if debug:
        os.environ["LUNGCT_DEBUG"] = "1"
    with _own_streams(debug=debug) as results, _interruptible():
        try:
            options = _parser().parse_args(line)
            with _plain_warnings():
                code = options.run(options, results)
            results.flush()
        except LungCTError as error:
            if debug:
                raise
            return _say_error(str(error), error.exit_code)
        except _Printed as text:
            print(text, file=results, flush=True)
            return 0
        except _Interrupted as interrupt:
            _say(
                "stopped by a signal; what is finished is kept, and the same command goes on from there"
            )
            return interrupt.exit_code
        except OSError as error:
            # Every file of ours has its own errors: what is left is stdout, full or unread.
            if debug:
                raise
            return _say_error(f"the result could not be printed on stdout: {error.strerror}", 3)
        except Exception as error:
            if debug:
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return _say_error(
                f"a fault of lungct, not yours ({reason}); run again with --debug for the whole of it",
                3,
            )
        return int(code)


def entry() -> NoReturn:
    """Run as a program: the exit code is the process's."""
    for fd in (0, 1, 2):
        _reopen(fd)
    code = main()
    sys.stderr.flush()
    if code > 128:
        # Whoever sent the signal waits: nothing that libraries do at exit may take longer.
        os._exit(code)
    sys.exit(code)


def _reopen(fd: int) -> None:
    """Put /dev/null where the caller closed a standard stream, or the next file opened would take its number."""
    try:
        os.fstat(fd)
    except OSError:
        os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


# --- the commands ---


def _extract(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.extraction import extract

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
    _print_json(summary.as_dict(), results)
    if summary.usable == 0:
        raise NothingUsableError(
            f"none of the {summary.patients} selected patients has features in {summary.out}: "
            "the column error says why, patient by patient"
        )
    return 0


def _train(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.report import write_report
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
        before_commit=write_report,
        quiet=options.quiet,
    )
    _print_json(summary.as_dict(), results)
    return 0


def _predict(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.prediction import predict_to_csv

    summary = predict_to_csv(options.run_dir, options.dir, options.out, ids=options.ids)
    _print_json(summary.as_dict(), results)
    return 0


def _inspect(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.inspection import inspect, inspect_all

    if options.all and options.png:
        raise UsageError("--png draws one patient and --all counts an archive: give one of them")
    page = (
        inspect_all(options.path, quiet=options.quiet)
        if options.all
        else inspect(options.path, png=options.png)
    )
    print(json.dumps(page.as_dict()) if options.json else page.text(), file=results)
    return 0 if page.usable else 1


def _report(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.report import write_report

    path = write_report(Path(options.run_dir))
    _print_json({"command": "report", "out": str(path)}, results)
    return 0


def _phantom(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.phantom import write_cohort
    from lungct.progress import Progress

    begun = time.monotonic()
    with Progress(options.patients, noun="phantoms", quiet=options.quiet) as progress:
        summary = write_cohort(
            Path(options.out),
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
    _print_json(line, results)
    return 0


def _doctor(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.checks import examine

    found = examine(
        device=options.device,
        backbone=options.backbone,
        weights=options.weights,
        address=options.address,
    )
    print(json.dumps(found.as_dict()) if options.json else found.text(), file=results)
    return 0 if found.ready else 1


def _status(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.extraction.status import status

    found = status(options.dir, options.src, check=options.check, pseudonyms=options.pseudonyms)
    print(json.dumps(found.as_dict()) if options.json else found.text(), file=results)
    return 3 if found.problems else 0


def _pseudonyms(options: argparse.Namespace, results: TextIO) -> int:
    from lungct.pseudonyms import pseudonymise_csv, read_key

    rows = pseudonymise_csv(
        options.labels, read_key(options.key), options.out, id_column=options.id_column
    )
    _print_json({"command": "pseudonyms", "out": options.out, "patients": rows}, results)
    return 0


# --- the command line ---


def _parser() -> _Parser:
    parser = _Parser(
        prog="lungct",
        description="From an archive of chest CTs to a table of deep features and a cross-validated model. "
        "Not a medical device.",
        epilog="In order: lungct extract SCANS --out FEATURES; lungct train FEATURES --labels labels.csv --out RUN; "
        "lungct predict RUN FEATURES --out submission.csv. `lungct COMMAND --help` explains each.",
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")
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
        command = add(commands)
        command.add_argument("--quiet", action="store_true", help="no progress on stderr")
        command.add_argument("--debug", action="store_true", help="tracebacks, and what Ray says")
    return parser


class _Version(argparse.Action):
    """Print the version on the real stdout and end."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and end")

    def __call__(self, *_: Any, **__: Any) -> None:
        raise _Printed(f"lungct {__version__}")


class _Printed(Exception):
    """Something to print instead of running a command."""


def _add_extract(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        "extract",
        help="scans -> feature table",
        description="Extract deep features of every patient below SRC into the feature table DIR. The same command "
        "again does only what is missing.",
        epilog="example: lungct extract scans --out features --backbone resnet50 --weights resnet50.safetensors",
    )
    p.add_argument("src", metavar="SRC", help="the archive: a directory of patients' directories")
    p.add_argument("--out", metavar="DIR", required=True, help="the feature table's directory")
    p.add_argument(
        "--preset", metavar="NAME", help="dsb2017 (default: the 2017 chain) or lung (any scanner)"
    )
    p.add_argument(
        "--backbone", metavar="NAME", help="resnet18, 34, 50, 101 or 152 (default resnet152)"
    )
    p.add_argument("--weights", metavar="W", help="imagenet (default), random:SEED, or a file")
    p.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    p.add_argument("--precision", default="auto", help="auto (default), fp32 or bf16")
    p.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="triplets a forward pass (16 on a CPU, 64 on a GPU)",
    )
    p.add_argument(
        "--workers", type=int, metavar="N", help="network actors (default: one a GPU, else one)"
    )
    p.add_argument(
        "--shard-patients", type=int, default=8, metavar="N", help="patients a file (default 8)"
    )
    p.add_argument(
        "--depth", type=int, metavar="N", help="directory levels down to a patient (default 1)"
    )
    p.add_argument(
        "--by-patient-id", action="store_true", help="group files by PatientID, not by directory"
    )
    p.add_argument(
        "--patients", metavar="FILE", help="only these ids: one a line, or a CSV with a column id"
    )
    p.add_argument("--limit", type=int, metavar="N", help="the first N patients in order of id")
    p.add_argument(
        "--pseudonyms", metavar="KEYFILE", help="ids and pixel hashes as hashes under this key"
    )
    p.add_argument("--max-errors", type=int, metavar="N", help="end after N error rows (exit 1)")
    p.add_argument("--overwrite", action="store_true", help="remove the old table, begin anew")
    p.add_argument("--retry-errors", action="store_true", help="do the error rows again")
    p.add_argument(
        "--take-over", action="store_true", help="take the table from a run that holds it"
    )
    p.add_argument("--address", help="a Ray cluster (default: Ray in this process)")
    p.set_defaults(run=_extract)
    return p


def _add_train(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        "train",
        help="feature table + labels -> cross-validated model and report",
        description="Cross-validate LightGBM on a feature table: boosters, out-of-fold scores, metrics with "
        "intervals, and a report.",
        epilog="example: lungct train features --labels labels.csv --out run",
    )
    p.add_argument("dir", metavar="DIR", help="the feature table")
    p.add_argument("--labels", metavar="CSV", required=True, help="ids and labels of 0 or 1")
    p.add_argument("--out", metavar="RUN", required=True, help="the run's directory")
    p.add_argument("--id-column", default="id", metavar="NAME", help="default id")
    p.add_argument("--label-column", default="cancer", metavar="NAME", help="default cancer")
    p.add_argument("--folds", type=int, default=5, metavar="N", help="default 5")
    p.add_argument(
        "--pooling", default="mean", help="mean (default), max, meanmax or meanstd, over a patient"
    )
    p.add_argument("--objective", default="l2", help="l2 (default: the 2017 regressor) or binary")
    p.add_argument(
        "--params", metavar="FILE", help="JSON of LightGBM parameters that override single ones"
    )
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
    p.add_argument("--address", help="a Ray cluster (default: Ray in this process)")
    p.set_defaults(run=_train)
    return p


def _add_predict(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
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
    p.set_defaults(run=_predict)
    return p


def _add_inspect(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="what is in a patient's directory",
        description="Say what series a directory holds, and draw what the network sees of it.",
        epilog="example: lungct inspect scans/0042 --png 0042.png",
    )
    p.add_argument("path", metavar="PATH", help="a patient's directory")
    p.add_argument(
        "--png", metavar="FILE", help="three views, HU, and six triplets under each preset"
    )
    p.add_argument(
        "--all", action="store_true", help="PATH is an archive: count its patients by what they are"
    )
    p.add_argument("--json", action="store_true", help="JSON instead of text")
    p.set_defaults(run=_inspect)
    return p


def _add_report(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="write a run's report again",
        description="Write RUN/report.html again from what is in RUN.",
        epilog="example: lungct report run",
    )
    p.add_argument("run_dir", metavar="RUN", help="what train wrote")
    p.set_defaults(run=_report)
    return p


def _add_phantom(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        "phantom",
        help="write a synthetic cohort as real DICOM",
        description="Write chest phantoms as CT Image Storage objects, half of them (rounded down) with nodules, and "
        "their labels in DIR.csv. The same seed gives the same bytes.",
        epilog="example: lungct phantom --out cohort --patients 24 --seed 7",
    )
    p.add_argument("--out", metavar="DIR", required=True, help="a directory that is not there yet")
    p.add_argument("--patients", type=int, default=24, metavar="N", help="default 24")
    p.add_argument(
        "--slices", type=int, default=120, metavar="N", help="the most; from 0.75 N (default 120)"
    )
    p.add_argument(
        "--nodules", type=int, default=1, metavar="N", help="a positive patient's (default 1)"
    )
    p.add_argument(
        "--diameter", type=float, nargs=2, default=(8, 30), metavar=("MIN", "MAX"), help="mm (8 30)"
    )
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    p.set_defaults(run=_phantom)
    return p


def _add_doctor(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="is everything here that a job needs",
        description="Check packages, decoders, device, weights, room and Ray before a long job: a line each, with "
        "the fix.",
        epilog="example: lungct doctor --device cuda --weights imagenet",
    )
    p.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    p.add_argument("--backbone", default="resnet152", metavar="NAME", help="default resnet152")
    p.add_argument("--weights", metavar="W", help="load these too: imagenet, random:SEED or a file")
    p.add_argument("--address", help="a Ray cluster (default: Ray in this process)")
    p.add_argument("--json", action="store_true", help="JSON instead of text")
    p.set_defaults(run=_doctor)
    return p


def _add_status(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
        "status",
        help="how far a feature table is",
        description="Count a table's patients: done, failed by reason, and left where SRC is given.",
        epilog="example: lungct status features scans --check",
    )
    p.add_argument("dir", metavar="DIR", help="the feature table")
    p.add_argument("src", metavar="SRC", nargs="?", help="the archive that it is made from")
    p.add_argument(
        "--check", action="store_true", help="read every file whole; exit 3 where one is wrong"
    )
    p.add_argument("--pseudonyms", metavar="KEYFILE", help="the table's key, to compare with SRC")
    p.add_argument("--json", action="store_true", help="JSON instead of text")
    p.set_defaults(run=_status)
    return p


def _add_pseudonyms(commands: Any) -> argparse.ArgumentParser:
    p: argparse.ArgumentParser = commands.add_parser(
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
    p.set_defaults(run=_pseudonyms)
    return p


# --- the process ---


@contextlib.contextmanager
def _own_streams(*, debug: bool) -> Iterator[TextIO]:
    """Keep stdout for the result and stderr for our messages, and hide what native code writes to either.

    Gives the stream for results; ``sys.stderr`` is ours meanwhile.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept_out, kept_err = os.dup(1), os.dup(2)
    python_err = sys.stderr
    hidden = os.dup(2) if debug else os.open(os.devnull, os.O_WRONLY)
    results = os.fdopen(kept_out, "w", encoding="utf-8", closefd=False)
    try:
        os.dup2(hidden, 1)
        os.dup2(hidden, 2)
        if not debug:
            sys.stderr = os.fdopen(
                kept_err, "w", buffering=1, errors="backslashreplace", closefd=False
            )
        yield results
    finally:
        with contextlib.suppress(OSError):
            results.close()
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stderr = python_err
        os.dup2(kept_out, 1)
        os.dup2(kept_err, 2)
        for fd in (kept_out, kept_err, hidden):
            os.close(fd)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into an unwinding that ends in time, whatever hangs on the way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        for ours in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ours, signal.SIG_IGN)
        last = threading.Timer(CLEAN_END_SECONDS, os._exit, (128 + number,))
        last.daemon = True
        last.start()
        raise _Interrupted(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print lungct's own warnings as one line each, and keep libraries' to --debug."""
    show: Callable[..., None] = warnings.showwarning

    def say(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, LungCTWarning):
            _say(f"warning: {message}")
        elif os.environ.get("LUNGCT_DEBUG"):
            show(message, category, *rest, **named)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LungCTWarning)
        warnings.showwarning = say
        yield


def _print_json(values: dict[str, Any], results: TextIO) -> None:
    print(json.dumps(values, allow_nan=False), file=results, flush=True)


def _say(text: str) -> None:
    print(f"lungct: {text}", file=sys.stderr, flush=True)


def _say_error(text: str, code: int) -> int:
    _say(f"error: {' '.join(text.split())}")
    return code


if __name__ == "__main__":
    entry()
