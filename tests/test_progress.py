from __future__ import annotations

import time

import pytest

from lungct import progress
from lungct.progress import Progress


def test_a_line_comes_while_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.05)
    with Progress(10, noun="patients") as bar:
        time.sleep(0.12)
        bar.advance(4, failed=1)
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("lungct: 0 of 10 patients done, 0 failed, 0.00 per second, 10 left")
    assert lines[0].endswith("ETA unknown")
    assert lines[-1].startswith("lungct: 4 of 10 patients done, 1 failed, ")
    assert "6 left, ETA 0:00:0" in lines[-1]
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_quiet_says_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.01)
    with Progress(1, noun="folds", quiet=True) as bar:
        time.sleep(0.05)
        bar.advance()
    assert capsys.readouterr().err == ""
