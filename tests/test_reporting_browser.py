"""The report in a real browser, on a wide window and on a phone, light and dark (``make test-browser``).

With LUNGCT_PICTURES=DIR, a picture of each page is kept there, for a person to look at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.browser import chromium, look
from support.runs import write_run

from lungct import reporting

pytestmark = pytest.mark.browser

LEFT_OUT = [("a1", "The files are no CT."), ("a2", "The files are no CT."), ("b", "features, but no label")]
RUNS: dict[str, dict[str, Any]] = {
    "ordinary": {"n": 120, "folds": 5, "left_out": LEFT_OUT, "weights": "imagenet"},
    "worrying": {"n": 120, "folds": 5, "left_out": LEFT_OUT, "signal": 0.06, "linear_signal": 0.4, "twins": True},
    "inner": {"inner": True},
    "tiny": {"n": 12},
    "nothing": {"n": 100, "folds": 5, "signal": 0.0, "linear_signal": 0.0},
    "one class": {"n": 30, "label_of": lambda i: int(i >= 20)},
    "older": {"older": True, "left_out": LEFT_OUT},
    "repeats": {"n": 90, "repeats": 8},
    "many left out": {
        "n": 300,
        "folds": 24,
        "left_out": [(f"patient-{i:06d}", f"reason {i % 7}") for i in range(3000)],
    },
    "long ids": {
        "id_of": lambda i: f"{i:03d}-" + "x" * 200,
        "left_out": [("y" * 250, "no CT " + "z" * 300), ("y" * 251, "features, but no label")],
    },
    "right to left": {"id_of": lambda i: f"מטופל-{i:03d}", "left_out": [("مريض-7", "no CT")]},
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("chromium")) as context:
        yield context


@pytest.fixture(scope="module", params=RUNS)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the report of each run."""
    run = write_run(tmp_path_factory.mktemp("runs") / request.param, **RUNS[request.param])
    written = reporting.report(run)
    assert isinstance(written, Path)
    return written


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_the_report_is_whole_legible_and_fetches_nothing(browser: Any, page: Path, width: int, scheme: str) -> None:
    kept = os.environ.get("LUNGCT_PICTURES")
    picture = Path(kept) / f"{page.parent.name}-{width}-{scheme}.png" if kept else None
    seen = look(browser, page, width=width, scheme=scheme, picture=picture)
    assert seen.faults == []
    assert seen.scrolling == []
    assert seen.headings[0] == 1
    assert seen.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(seen.headings, seen.headings[1:], strict=False))
    # The answer is on the first screen.
    assert 0 < seen.verdict_ends <= 800


def test_a_page_printed_from_a_dark_window_is_legible(browser: Any, page: Path) -> None:
    seen = look(browser, page, width=800, scheme="dark", media="print")
    assert seen.faults == []


BROKEN = """<!doctype html><html><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"></head>
<body style="margin: 0; background: #fff; color: #000"><h1>A page</h1>{}</body></html>"""
DRAWING = '<svg viewBox="0 0 200 150" width="200" height="150"><path d="M0 0L200 150" stroke="#000"/></svg>'


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (f"<figure>{DRAWING}</figure>", None),
        ('<p style="width: 900px">far</p>', "off the page"),
        ('<p style="width: 900px">far</p>', "the page is 900 wide"),
        ('<div style="overflow: auto"><p style="width: 900px">far</p></div>', None),
        ('<div style="overflow: hidden"><p style="width: 900px">far</p></div>', "cut off"),
        ('<p style="color: #999">pale</p>', "contrast 2.8"),
        ('<div style="background: #222"><p style="color: #999">clear</p></div>', None),
        ('<p style="color: rgba(0, 0, 0, 0.3)">pale</p>', "contrast 2.1"),
        ("<details><summary>folded</summary><p style='color: #999'>pale</p></details>", "contrast 2.8"),
        ("<figure></figure>", "no drawing"),
        ('<figure><svg viewBox="0 0 200 150" width="200" height="150"></svg></figure>', "no drawing"),
        ('<img src="https://example.invalid/x.png" alt="">', "Content Security Policy"),
        ("<script>alert(1)</script>", "Content Security Policy"),
    ],
)
def test_what_is_wrong_with_a_page_is_seen(browser: Any, tmp_path: Path, body: str, fault: str | None) -> None:
    page = tmp_path / "broken.html"
    page.write_text(BROKEN.format(body), encoding="utf-8")
    faults = look(browser, page, width=400, scheme="light").faults
    assert any(fault in found for found in faults) if fault else faults == []


def test_what_has_to_be_scrolled_is_seen(browser: Any, tmp_path: Path) -> None:
    page = tmp_path / "wide.html"
    page.write_text(BROKEN.format('<div style="overflow: auto"><p style="width: 900px">far</p></div>'))
    assert look(browser, page, width=400, scheme="light").scrolling == ['div "far"']


def test_what_a_page_fetches_is_seen(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "style.css").write_text("p { color: #000 }")
    page = tmp_path / "fetching.html"
    page.write_text('<!doctype html><link rel="stylesheet" href="style.css"><p>text</p>')
    assert look(browser, page, width=400, scheme="light").fetched == [(tmp_path / "style.css").as_uri()]
