"""The command line within this process: parsing, printing and exit codes, with the commands replaced."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

import lungct
from lungct.cli import commands, jobs, main
from lungct.cli.commands import Result
from lungct.cli.options import make_parser
from lungct.cli.process import run_command
from lungct.errors import NothingUsableError, StorageError

COMMANDS = ["extract", "train", "predict", "status", "doctor", "pseudonyms", "inspect", "report", "phantom"]


def run_result(result: Result | Exception) -> int:
    """Run a command that returns, or raises, what is given."""

    def command(options: argparse.Namespace) -> Result:
        if isinstance(result, Exception):
            raise result
        return result

    def parse(line: Sequence[str]) -> argparse.Namespace:
        return argparse.Namespace(function=command, when_stopped="stopped")

    return run_command(parse, [])


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_fits_80_columns(
    command: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command, "--help"]) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert max(map(len, printed.out.splitlines())) <= 80
    assert printed.out.startswith(" ".join(["usage: lungct", *command]))


def test_the_version_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"lungct {lungct.__version__}\n"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ([], "the following arguments are required: COMMAND (see `lungct --help`)"),
        (["extract", "src"], "the following arguments are required: --out (see `lungct extract --help`)"),
        (["status", "x", "--lim", "3"], "unrecognized arguments: --lim 3 (see `lungct --help`)"),
        (["inspect", "x", "--all", "--png", "y"], "--png draws one patient and --all counts an archive"),
        (["predict", "r", "d", "--out", "o", "--missing", "blank"], "--missing blank says what the ids of --ids"),
        (["phantom", "--out", ""], "--out is empty: give a path"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    line: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*line, "--quiet"]) == 2
    printed = capfd.readouterr()
    assert printed.out == ""
    (error,) = printed.err.splitlines()
    assert error.startswith("lungct: error: ")
    assert sentence in error


def test_flags_work_before_and_after_the_command() -> None:
    for line in (["--quiet", "report", "run"], ["report", "run", "--quiet"]):
        assert make_parser().parse_args(line).quiet is True
    assert make_parser().parse_args(["report", "run"]).quiet is False


def test_a_result_is_printed_as_one_line_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_result(Result({"command": "x", "out": "é"})) == 0
    assert json.loads(capfd.readouterr().out) == {"command": "x", "out": "é"}


def test_a_text_is_printed_instead_with_its_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_result(Result({"command": "status"}, text="two\nlines", code=3)) == 3
    assert capfd.readouterr() == ("two\nlines\n", "")


def test_a_result_with_an_error_prints_both(capfd: pytest.CaptureFixture[str]) -> None:
    error = NothingUsableError("none of 2 patients has features", fix="read the column error")
    assert run_result(Result({"command": "extract", "failed": 2}, error=error)) == 1
    printed = capfd.readouterr()
    assert json.loads(printed.out) == {"command": "extract", "failed": 2}
    assert printed.err == "lungct: error: none of 2 patients has features: read the column error\n"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (StorageError("the disk\nis full"), 3, "the disk is full"),
        (KeyError("x"), 3, "internal error (KeyError: 'x'); please report it with the output of --debug"),
    ],
)
def test_an_error_is_one_line_and_its_exit_code(
    error: Exception, code: int, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_result(error) == code
    assert capfd.readouterr() == ("", f"lungct: error: {line}\n")


@pytest.mark.parametrize("native", [False, True])
def test_a_signal_is_its_exit_code_even_if_native_code_raises_over_it(
    native: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    def command(_: argparse.Namespace) -> Result:
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException as interruption:
            if native:
                raise SystemError("returned a result with an exception set") from interruption
            raise
        raise AssertionError("no signal came")

    parsed = argparse.Namespace(function=command, when_stopped="stopped, and all is well")
    assert run_command(lambda line: parsed, []) == 143
    assert capfd.readouterr() == ("", "lungct: stopped, and all is well\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["extract", "s", "--out", "o"], "the same command continues"),
        (["train", "d", "--labels", "l", "--out", "o"], "an earlier run is left as it was"),
        (["doctor"], "stopped by a signal"),
    ],
)
def test_what_a_signal_ends_is_said_in_the_commands_own_words(line: list[str], message: str) -> None:
    assert message in make_parser().parse_args(line).when_stopped


def test_a_directory_that_was_removed_is_not_an_internal_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert main(["status", "features"]) == 2
    assert "the current directory no longer exists" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("given", "table", "device"),
    [
        ([], False, "cuda"),
        ([], True, None),
        (["--overwrite"], True, "cuda"),
        (["--device", "auto"], False, "auto"),
        (["--device", "cpu"], False, "cpu"),
        (["--device", "cpu", "--overwrite"], True, "cpu"),
    ],
)
def test_a_job_makes_a_new_table_on_a_gpu(
    given: list[str], table: bool, device: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if table:
        (tmp_path / "settings.json").write_text("{}")
    monkeypatch.setattr(commands, "extract", lambda options: Result({"device": options.device}))
    options = make_parser().parse_args(["extract", "scans", "--out", str(tmp_path), *given])
    assert jobs.extract(options).values == {"device": device}


def run_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **results: Result) -> Result:
    """Run the pipeline with commands that return these results."""
    for name, result in results.items():
        monkeypatch.setattr(commands, name, lambda options, result=result: result)
    line = ["scans", "--labels", "labels.csv", "--out", f"{tmp_path}/"]
    return jobs.pipeline(jobs.pipeline_parser().parse_args(line))


def test_the_pipeline_prints_the_three_results_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results: dict[str, Any] = {name: Result({"command": name, "x": 1}) for name in ("extract", "train", "predict")}
    result = run_pipeline(tmp_path, monkeypatch, **results)
    assert list(result.values) == ["command", "out", "extract", "train", "predict"]
    assert result.values["out"] == str(tmp_path)
    assert result.values["train"] == {"command": "train", "x": 1}
    assert (result.code, result.error) == (0, None)


def test_the_pipeline_stops_where_there_is_nothing_to_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = NothingUsableError("no patient has features")
    result = run_pipeline(tmp_path, monkeypatch, extract=Result({"command": "extract", "failed": 2}, error=error))
    assert result.values == {
        "command": "pipeline",
        "out": str(tmp_path),
        "extract": {"command": "extract", "failed": 2},
    }
    assert result.error is error


def test_the_page_of_commands_is_up_to_date() -> None:
    script = ROOT / "scripts" / "cli_docs.py"
    assert subprocess.run([sys.executable, script, "--check"], check=False).returncode == 0
