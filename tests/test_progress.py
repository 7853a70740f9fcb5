from __future__ import annotations

import time

import pytest

from lungct.progress import Progress, print_message


def test_a_line_is_printed_at_intervals_even_if_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, noun="patients", line_every_s=0.05) as progress:
        time.sleep(0.12)
        progress.advance(4, failed=1)
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("lungct: 0 of 10 patients done, 0 failed, 0.00 per second, 10 left")
    assert lines[0].endswith("ETA unknown")
    assert lines[-1].startswith("lungct: 4 of 10 patients done, 1 failed, ")
    assert "6 left, ETA 0:00:0" in lines[-1]
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1, noun="folds", quiet=True, line_every_s=0.01) as progress:
        time.sleep(0.05)
        progress.advance()
    print_message("hidden", quiet=True)
    assert capsys.readouterr().err == ""
    print_message("shown")
    assert capsys.readouterr().err == "lungct: shown\n"
