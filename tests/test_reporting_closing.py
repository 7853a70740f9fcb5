"""What `train` says at its end, and which earlier run it names before it replaces it."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import textwrap
from datetime import datetime
from pathlib import Path

import pytest
from support.commands import FinishedCommand, lungct
from support.planted import cohort, write_labels, write_table
from support.runs import made_up_run, write_run

from lungct import reporting
from lungct.reporting.closing import WIDTH
from lungct.reporting.verdict import judge, plain
from lungct.rundir import earlier_run
from lungct.storage import locate


def test_the_table_has_each_metric_beside_what_it_has_to_beat(tmp_path: Path) -> None:
    run = made_up_run(tmp_path)
    said = reporting.closing_lines(run)
    for key, name in (("auc", "AUC"), ("log_loss", "log loss"), ("brier", "Brier score")):
        (line,) = [line for line in said.splitlines() if line.startswith(name)]
        constant = {"value": 0.5, "low": None, "high": None} if key == "auc" else run.metrics["baseline"][key]
        models = [run.metrics[key], run.metrics["linear"][key], constant]
        assert " ".join(line.split()) == " ".join([name, *map(reporting.in_brackets, models)])
    assert "60 patients, 20 positive" in said


@pytest.mark.parametrize("older", [True, False])
def test_the_last_lines_fit_a_terminal_and_say_what_the_report_says(tmp_path: Path, older: bool) -> None:
    run = made_up_run(Path("run"), older=older, label_of=lambda i: int(i >= 20))
    said = reporting.closing_lines(run)
    assert max(map(len, said.splitlines())) <= WIDTH
    assert said.isascii()
    assert textwrap.fill(plain(judge(run).sentence), WIDTH, break_on_hyphens=False) in said
    assert said.endswith("report: run/report.html")
    assert "undefined" in said


def test_an_earlier_run_is_known_by_its_date_and_auc(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    os.utime(run / "metrics.json", (1_700_000_000, 1_700_000_000))
    found = earlier_run(locate(run, argument="out"))
    assert found is not None
    assert found.finished == datetime.fromtimestamp(1_700_000_000).astimezone()
    assert (found.patients, found.auc) == (60, json.loads((run / "metrics.json").read_text())["auc"])


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", '{"auc": 0.7, "patients": 3}', '{"auc": {}, "patients": 3}'])
def test_what_is_no_run_is_not_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "metrics.json").write_text(text)
    assert earlier_run(tmp_path) is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinishedCommand]:
    """A training by its command, into RUN."""
    root = tmp_path_factory.mktemp("closing")
    rows, labels = cohort(60)
    write_table(root / "features", rows)
    write_labels(root / "labels.csv", labels)
    (root / "params.json").write_text('{"learning_rate": 0.05, "min_child_samples": 5, "force_col_wise": true}')
    return root, train(root, "run")


def train(root: Path, out: str, *more: str) -> FinishedCommand:
    return lungct(
        "train", root / "features", "--labels", root / "labels.csv", "--out", root / out, "--inner",
        "--objective", "binary", "--rounds", 60, "--folds", 3, "--params", root / "params.json", *more,
    )  # fmt: skip


@pytest.mark.ray
def test_train_ends_with_its_result_on_stderr(trained: tuple[Path, FinishedCommand]) -> None:
    root, ran = trained
    assert ran.code == 0, ran
    run = root / "run"
    page = (run / "report.html").read_text()
    (sentence,) = re.findall(r'<div class="verdict \w+"><p><strong>(.*)</p></div>', page)
    said = " ".join(ran.stderr.split())
    assert plain(html.unescape(sentence.replace("</strong>", ""))) in said
    assert said.endswith(f"report: {run}/report.html")
    assert f"AUC {reporting.in_brackets(ran.line['auc'])} " in said
    assert "replaces" not in ran.stderr


@pytest.mark.ray
def test_a_run_that_is_replaced_is_named_once_unless_quiet(trained: tuple[Path, FinishedCommand]) -> None:
    root, before = trained
    again = train(root, "run")
    auc = reporting.in_brackets(before.line["auc"])
    (line,) = [line for line in again.stderr.splitlines() if "replaces" in line]
    assert line.startswith(f"lungct: {root / 'run'} holds a run of 20")
    assert f"(60 patients, AUC {auc})" in line
    assert train(root, "run", "--quiet").stderr == ""


@pytest.mark.ray
def test_the_command_line_in_the_report_trains_the_same_run(trained: tuple[Path, FinishedCommand]) -> None:
    root, _ = trained
    scores = (root / "run" / "scores.csv").read_bytes()
    page = (root / "run" / "report.html").read_text()
    command, params = (
        html.unescape(text) for text in re.findall(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)[:2]
    )
    program, *words = shlex.split(command.replace("\\\n", ""))
    assert program == "lungct"
    (root / "again.json").write_text(params)
    elsewhere = {"params.json": str(root / "again.json"), str(root / "run"): str(root / "again")}
    assert lungct(*(elsewhere.get(word, word) for word in words)).code == 0
    assert (root / "again" / "scores.csv").read_bytes() == scores
