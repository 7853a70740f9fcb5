"""`lungct inspect DIR`: every series with what each step of the choice said, notes, the preset's verdict, and names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.commands import lungct as run
from support.commands import refused
from support.ct_files import JPEG_2000_LOSSLESS, write_series

from lungct.dicom import Scan, SeriesOptions
from lungct.dicom.options import NO_OPTIONS
from lungct.inspection import describe, inspect, inspect_all
from lungct.inspection.asking import PatientFiles
from lungct.inspection.page import Page
from lungct.sandbox import Prepared, Sandbox

KEYWORDS = ("BodyPartExamined", "SeriesDescription", "StudyDescription", "ProtocolName")


def write_two(directory: Path, **choices: Any) -> Path:
    for series, slices, plane in (("1", 12, "STANDARD"), ("2", 6, "BONE")):
        tags = {"ConvolutionKernel": plane}
        write_series(directory, slices=slices, rows=32, columns=32, series=series, tags=tags, **choices)
    return directory


def test_a_scan_whose_pixels_are_damaged_is_found_and_not_chosen(tmp_path: Path) -> None:
    """Text and JSON say the same of it."""
    for path in write_series(tmp_path, slices=6, transfer_syntax=JPEG_2000_LOSSLESS)[:3]:
        data = bytearray(path.read_bytes())
        at = data.index(b"\xff\x93")  # the beginning of the image's data
        data[at:-8] = bytes(len(data) - 8 - at)
        path.write_bytes(data)
    page = inspect(tmp_path)
    assert (page.usable, page.error_code) == (False, "undecodable")
    (series,) = page.as_dict()["series"]
    assert (series["chosen"], series["reason"]) == (False, f"undecodable: {page.error}")
    assert "\nfound " in page.text()
    assert "\nchosen " not in page.text()


def test_every_series_has_what_each_step_said(tmp_path: Path) -> None:
    page = inspect(write_two(tmp_path))
    text = page.text()
    assert max(map(len, text.splitlines())) <= 80
    assert text.index("chosen     axial series of 12 images") < text.index("found      axial series of 6 images")
    assert text.count("\n  why      ") == 2
    assert "of 2 CT series" in text
    assert "  why      ranked lower (" in text
    assert text.count("\n  steps    ") == 2
    chosen, found = json.loads(json.dumps(page.as_dict(), allow_nan=False))["series"]
    assert (chosen["chosen"], found["chosen"]) == (True, False)
    assert chosen["steps"].keys() == found["steps"].keys()
    assert chosen["steps"] != found["steps"]


def test_a_preset_is_applied_as_in_an_extraction(tmp_path: Path) -> None:
    write_series(tmp_path, slices=9, rows=64, columns=64)
    assert inspect(tmp_path).usable
    page = inspect(tmp_path, preset="dsb2017")
    assert page.usable
    assert "preset     dsb2017: 2 triplets" in page.text()
    assert (page.as_dict()["preset"], page.as_dict()["triplets"], page.as_dict()["lung_litres"]) == ("dsb2017", 2, None)
    ran = run("inspect", tmp_path, "--preset", "lung", "--json")
    assert ran.code == 1
    assert ran.line["error_code"] == "no_lungs"
    assert ran.line["slices"] == 9
    assert [series["chosen"] for series in ran.line["series"]] == [False]
    assert "--preset must be one of dsb2017, lung, not 'lungs'" in refused("inspect", tmp_path, "--preset", "lungs")


@pytest.mark.parametrize("preset", [None, "dsb2017"])
def test_a_slice_that_cannot_be_decoded_is_left_out_and_noted(preset: str | None, tmp_path: Path) -> None:
    paths = write_series(tmp_path / "p", slices=12, transfer_syntax=JPEG_2000_LOSSLESS)
    data = paths[5].read_bytes()
    paths[5].write_bytes(data[:-600] + b"\xff" * 592 + data[-8:])
    page = inspect(tmp_path / "p", preset=preset, png=tmp_path / "p.png")
    assert page.usable
    assert page.as_dict()["slices"] == 11
    assert "damaged_slices=1" in page.as_dict()["notes"]
    assert page.hu_range is not None
    assert (tmp_path / "p.png").stat().st_size > 10_000


class PretendedSandbox(Sandbox):
    """A sandbox that has used the series at one place in the order of choice."""

    def __init__(self, choice: int, scan: Scan) -> None:
        super().__init__()
        self._prepared = Prepared(np.zeros((4, 3, 224, 224), np.uint8), np.zeros(4), scan, choice=choice)

    def prepare(
        self,
        location: str | Sequence[str],
        preset: str,
        options: SeriesOptions = NO_OPTIONS,
        *,
        archive: str | None = None,
    ) -> Prepared:
        return self._prepared


def test_what_the_preset_found_and_used_is_shown(tmp_path: Path) -> None:
    scan = Scan(slices=6, series_reason="the first with lungs", notes=("lung_at_end", "gap_mm=7.5"), lung_litres=4.25)
    with PretendedSandbox(1, scan) as sandbox:
        files = PatientFiles(sandbox, str(write_two(tmp_path)))
        found = files.describe("lung")
        assert files.decode(found)[0] == found
    assert found.chosen is not None
    assert found.chosen.positions_mm == (0.0, 12.5)
    assert found.chosen.kernel == "BONE"
    text = Page("p", found, None, None, None).text()
    assert "preset     lung: 4 triplets, 4.25 litres of lung" in text
    assert "note       lung_at_end: lung reaches the first or the last slice" in text
    assert "note       gap_mm=7.5: a gap of 7.5 mm between neighbouring slices" in text
    assert text.index("found      axial series of 12") < text.index("chosen     axial series of 6")
    assert [found.why(number) for number in (0, 1)] == ["tried earlier: no lungs found", "the first with lungs"]
    assert Page("p", found, None, None, None).as_dict()["notes"] == ["lung_at_end", "gap_mm=7.5"]


def test_series_that_do_not_fit_the_options_are_listed_last(tmp_path: Path) -> None:
    for series, slices in (("1", 12), ("2", 6)):
        tags = {"SeriesDescription": f"number {series}"}
        write_series(tmp_path, slices=slices, rows=32, columns=32, series=series, tags=tags)
    found = describe(tmp_path, SeriesOptions(series_exclude="number 1"))
    assert [(series.slices, series.fits) for series in found.series] == [(6, True), (12, False)]
    assert found.why(1) == "does not fit the options"


def test_a_person_says_which_series_is_the_scan(tmp_path: Path) -> None:
    for series, slices, text in (("1", 12, "Abdomen"), ("2", 6, "Thorax")):
        tags = {"SeriesDescription": f"{text} 2.5", "BodyPartExamined": text.upper()}
        write_series(tmp_path / "p", slices=slices, rows=32, columns=32, series=series, tags=tags)
    for option, slices in (
        (("--series-include", "abdo"), 12),
        (("--series-exclude", "thorax"), 12),
        (("--body-part", "ABDOMEN"), 12),
        (("--body-part", "thor"), 6),
    ):
        page = run("inspect", tmp_path / "p", *option, "--json").line
        assert page["slices"] == slices
        assert [series["fits"] for series in page["series"]] == [True, False]
        assert page["series"][1]["reason"] == "does not fit the options"
        archive = run("inspect", tmp_path, "--all", *option, "--json").line
        assert archive["patients"][0]["slices"] == slices
    ran = run("inspect", tmp_path / "p", "--series-include", "pelvis", "--json")
    assert (ran.code, ran.line["error_code"]) == (1, "no_series")
    for place in ((tmp_path / "p",), (tmp_path, "--all")):
        assert "--body-part" in refused("inspect", *place, "--body-part", "")


@settings(max_examples=30, deadline=None)
@given(first=st.floats(-2000, 2000), tenths=st.integers(20, 110))
def test_a_gap_is_more_than_ten_millimetres_not_a_rounding_error_more(first: float, tenths: int) -> None:
    with TemporaryDirectory() as directory:
        positions = [round(first, 1) + 0.1 * tenths * i for i in range(5)]
        write_series(Path(directory), slices=5, rows=8, columns=8, positions=positions)
        problems = describe(directory).problems
    assert bool(problems) == (tenths > 100)
    assert all("4 gaps of more than 10 mm" in problem for problem in problems)


WORDS = st.text("BCDFGHJKLMNPQRSTVWXZ", min_size=10, max_size=16)


@settings(max_examples=5, deadline=None)
@given(texts=st.lists(WORDS, min_size=8, max_size=8, unique=True))
def test_what_files_say_in_words_is_printed_with_names_alone(texts: list[str]) -> None:
    with TemporaryDirectory() as directory:
        src = Path(directory)
        for series in ("1", "2"):
            tags = dict(zip(KEYWORDS, texts[4 * (series == "2") :], strict=False))
            write_series(src / "p", slices=4 + int(series), rows=16, columns=16, series=series, tags=tags)
        page, archive = inspect(src / "p"), inspect_all(src)
    outputs = (
        page.text(),
        json.dumps(page.as_dict()),
        repr(page),
        repr(page.description),
        archive.text(),
        json.dumps(archive.as_dict()),
        archive.as_csv().decode(),
        repr(archive),
    )
    for text in texts:
        assert not any(text in output for output in outputs)
    named = page.text(names=True)
    for text, keyword in zip(texts, KEYWORDS * 2, strict=True):
        assert f"  names    {keyword}: {text}" in named.splitlines()


def test_no_command_prints_or_writes_words_without_names(tmp_path: Path) -> None:
    src, png, out = tmp_path / "src", tmp_path / "p.png", tmp_path / "series.csv"
    write_two(src / "p", each=lambda _: dict.fromkeys(KEYWORDS, "CANARY THORAX"))
    said = [
        run("inspect", src / "p", "--png", png, "--preset", "dsb2017"),
        run("inspect", src / "p", "--preset", "lung", "--json"),
        run("inspect", src, "--all", "--preset", "dsb2017", "--out", out),
        run("inspect", src, "--all", "--json"),
    ]
    written = [png.read_bytes(), out.read_bytes()]
    for data in (*written, *(stream.encode() for ran in said for stream in (ran.stdout, ran.stderr))):
        assert b"CANARY" not in data
    assert "SeriesDescription: CANARY THORAX" in run("inspect", src / "p", "--names").stdout


def test_names_are_printed_on_one_line_each(tmp_path: Path) -> None:
    tags = {"SeriesDescription": "x" * 64, "ProtocolName": "\x07red"}
    write_series(tmp_path, slices=5, rows=16, columns=16, tags=tags)
    text = inspect(tmp_path).text(names=True)
    assert f"SeriesDescription: {'x' * 64}" in text
    assert "\x07" not in text


@pytest.mark.parametrize("other", ["--json", "--all"])
def test_names_go_to_the_terminal_alone(other: str, tmp_path: Path) -> None:
    sentence = refused("inspect", tmp_path, "--names", other)
    assert sentence == (
        f"--names prints what one patient's files say to the terminal, and nowhere else: leave {other} out"
    )
