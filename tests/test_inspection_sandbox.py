"""`lungct inspect` and files that crash or hang what opens them: real children that really end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ROOT
from support.ct_files import write_series

from lungct.dicom.slices import Words
from lungct.errors import KilledError, LungCTError, SeriesError
from lungct.inspection import archive, asking, inspect, inspect_all, page
from lungct.inspection.description import ChosenSeries, Description, SeriesDescription
from lungct.sandbox import Answer, Sandbox, parent


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "KILL_PAUSES_S", (0.0, 0.0))
    # The child imports functions of this file and what it imports.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")


@pytest.fixture
def src(tmp_path: Path) -> Path:
    for name in ("p1", "p2", "p3"):
        write_series(tmp_path / "src" / name, slices=6, rows=32, columns=32)
    return tmp_path / "src"


def ended(_: str, *, number: int) -> Answer:
    """End the child by a signal; 0: exceed its time."""
    if number:
        os.kill(os.getpid(), number)
    time.sleep(60)
    return Answer({})


def strike(
    monkeypatch: pytest.MonkeyPatch, number: int, questions: tuple[Callable[..., Answer], ...] = (asking.described,)
) -> list[Sandbox]:
    """Have the child end when it is asked certain questions about p2; return the sandboxes that are made."""
    made: list[Sandbox] = []

    class StruckSandbox(Sandbox):
        def __init__(self) -> None:
            super().__init__(base_seconds=30.0 if number else 0.5, seconds_per_mib=0.0)
            made.append(self)

        def call(self, function: Callable[..., Answer], location: Any, **arguments: Any) -> Any:
            if function in questions and str(location).endswith("p2"):
                return super().call(ended, location, number=number)
            return super().call(function, location, **arguments)

    for module in (archive, page):
        monkeypatch.setattr(module, "Sandbox", StruckSandbox)
    return made


@pytest.mark.parametrize(
    ("number", "code", "sentence"),
    [
        (signal.SIGSEGV, "undecodable", "the process that decoded the files was ended by SIGSEGV, twice"),
        (0, "limits", "reading the files took more than 0.5 s and 0 s per MiB, twice"),
    ],
)
def test_a_file_that_ends_the_child_is_its_patients_error(
    number: int, code: str, sentence: str, src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = strike(monkeypatch, number)
    found = inspect_all(src)
    assert [patient.error_code for patient in found.patients] == [None, code, None]
    assert found.patients[1].text == sentence
    assert found.error is None
    assert len(made) == 1
    one = inspect(src / "p2")
    assert (one.error, one.error_code) == (sentence, code)
    assert sentence.split(",")[0] in " ".join(one.text().split())


def test_a_child_that_is_killed_says_nothing_about_its_patient(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strike(monkeypatch, signal.SIGKILL)
    found = inspect_all(src)
    assert [patient.error_code for patient in found.patients] == [None, "not_read", None]
    assert isinstance(found.error, KilledError)
    assert found.error.exit_code == 3
    with pytest.raises(KilledError):
        inspect(src / "p2")


def test_pixels_that_end_the_child_leave_what_the_headers_said(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strike(monkeypatch, signal.SIGSEGV, (asking.decoded,))
    one = inspect(src / "p2")
    assert one.error_code == "undecodable"
    assert one.as_dict()["slices"] == 6
    assert one.hu_range is None
    assert inspect(src / "p2", preset="dsb2017").usable  # the preset has the last word, as in an extraction


def test_a_picture_that_cannot_be_drawn_is_said(src: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strike(monkeypatch, signal.SIGSEGV, (asking.drawn,))
    with pytest.raises(SeriesError, match=r"^the picture cannot be drawn .*SIGSEGV, twice.*leave png out$"):
        inspect(src / "p2", png=src / "p2.png")
    assert not (src / "p2.png").exists()


WATCHED = """
import sys
src, file, picture = sys.argv[1:]
opened = []
def watch(event, arguments):
    if event == "open" and str(arguments[0]).startswith(src):
        opened.append(arguments[0])
sys.addaudithook(watch)
from lungct.inspection import inspect, inspect_all
open(file).close()  # which shows that it would be seen
assert inspect(src + "/p1", preset="dsb2017", png=picture).usable
assert inspect(src + "/p1").usable
assert inspect_all(src, preset="dsb2017").usable
assert inspect_all(src).usable
print(opened)
"""


def test_the_command_itself_opens_no_file_of_a_patient(src: Path) -> None:
    file = next((src / "p1").iterdir())
    command = [sys.executable, "-c", WATCHED, str(src), str(file), str(src.parent / "p1.png")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == (f"['{file}']\n", "")


TEXT = st.text(max_size=3)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
NUMBER = st.floats(allow_nan=False)
SERIES = st.builds(SeriesDescription, words=st.lists(st.builds(Words), max_size=2).map(tuple), thickness_mm=NUMBER)
CHOSEN = st.builds(
    ChosenSeries, spacing_mm=st.tuples(NUMBER, NUMBER, NUMBER), positions_mm=st.none() | st.tuples(NUMBER, NUMBER)
)


@given(st.builds(Description, chosen=st.none() | CHOSEN, series=st.lists(SERIES, max_size=2).map(tuple)))
def test_a_description_comes_out_of_the_child_as_it_went_in(found: Description) -> None:
    assert Description.from_json(json.loads(json.dumps(asdict(found)))) == found


def test_a_missing_directory_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(LungCTError, match="does not exist") as error:
        inspect(tmp_path / "missing")
    assert error.value.exit_code == 2
