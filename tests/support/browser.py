"""Debian's Chromium, driven by Playwright, and what a careful eye sees on a page in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CONTRAST = 4.5
"""WCAG 2.2, success criterion 1.4.3 (AA), for text of ordinary size."""


@dataclass
class Sight:
    """What was seen of a page; each list is of faults, in words.

    Attributes
    ----------
    said
        Errors and warnings on the console.
    fetched
        What was requested besides the page.
    wide
        What is wider than the page, or cut off by its own box.
    scrolling
        What has to be scrolled sideways within its box.
    pale
        Texts whose contrast is too low.
    missing
        Figures without a visible drawing.
    headings
        The levels of the headings, in order.
    verdict_ends
        Where the first sentence ends, in pixels from the top.

    """

    said: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    wide: list[str] = field(default_factory=list)
    scrolling: list[str] = field(default_factory=list)
    pale: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    headings: list[int] = field(default_factory=list)
    verdict_ends: float = 0.0

    @property
    def faults(self) -> list[str]:
        """All faults but those of headings, and but what can be scrolled to."""
        return [*self.said, *self.fetched, *self.wide, *self.pale, *self.missing]


@contextmanager
def chromium(user_data: Path) -> Iterator[Any]:
    """Start Chromium with an empty profile; yield its Playwright context."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="make test-browser installs Playwright")
    program = shutil.which("chromium")
    assert program, "there is no chromium: make test-browser installs it (Debian: apt install chromium)"
    with sync_api.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            user_data, executable_path=program, headless=True, args=list(FLAGS)
        )
        try:
            yield context
        finally:
            context.close()


def look(
    context: Any, page: Path, *, width: int, scheme: str, media: str = "screen", picture: Path | None = None
) -> Sight:
    """Open a page in a window 800 pixels high and look at all of it, folded parts included.

    Parameters
    ----------
    media
        ``screen`` or ``print``; paper is white.
    picture
        Where to keep a picture of the whole page, as it is before its folded parts are opened.

    """
    sight = Sight()
    tab = context.new_page()
    try:
        tab.emulate_media(color_scheme=scheme, media=media)
        tab.set_viewport_size({"width": width, "height": 800})
        tab.on("console", lambda message: sight.said.append(message.text))
        tab.on("pageerror", lambda error: sight.said.append(str(error)))
        tab.on("request", lambda request: sight.fetched.append(request.url))
        tab.goto(page.as_uri())
        if picture is not None:
            tab.screenshot(path=picture, full_page=True)
        sight.fetched.remove(page.as_uri())
        seen = tab.evaluate(_LOOK, [CONTRAST, media == "print"])
    finally:
        tab.close()
    for name, value in seen.items():
        setattr(sight, name, value)
    return sight


_LOOK = r"""
([least, printed]) => {
  const verdict = document.querySelector('.verdict');
  const verdict_ends = verdict ? verdict.getBoundingClientRect().bottom : 0;
  document.querySelectorAll('details').forEach(part => { part.open = true; });
  const named = element => element.tagName.toLowerCase() + (element.className ? '.' + element.className : '') +
      ' "' + element.textContent.trim().replace(/\s+/g, ' ').slice(0, 40) + '"';
  const style = getComputedStyle;
  // Headers of columns that each cell repeats are for screen readers alone.
  const unseen = element => element.closest('thead') && style(element.closest('thead')).position === 'absolute';
  const scrolls = element => ['auto', 'scroll'].includes(style(element).overflowX);
  const inside = element => {
    for (let at = element.parentElement; at; at = at.parentElement) if (scrolls(at)) return true;
    return false;
  };

  const wide = [], scrolling = [];
  if (document.documentElement.scrollWidth > innerWidth)
    wide.push('the page is ' + document.documentElement.scrollWidth + ' wide in a window of ' + innerWidth);
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('svg') || unseen(element) || !element.getClientRects().length) continue;
    const right = element.getBoundingClientRect().right, left = element.getBoundingClientRect().left;
    if ((right > innerWidth + 1 || left < -1) && !inside(element)) wide.push('off the page: ' + named(element));
    if (scrolls(element) && element.scrollWidth > element.clientWidth + 1) scrolling.push(named(element));
    if (style(element).display === 'inline' || scrolls(element)) continue;
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth) wide.push('cut off: ' + named(element));
  }

  const parsed = colour => {
    const numbers = colour.match(/[\d.]+/g).map(Number);
    return {rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1};
  };
  const over = (top, below) => top.rgb.map((c, i) => top.alpha * c + (1 - top.alpha) * below[i]);
  const behind = element => {
    if (!element || printed) return [255, 255, 255];
    const own = parsed(style(element).backgroundColor);
    return own.alpha === 1 ? own.rgb : over(own, behind(element.parentElement));
  };
  const luminance = rgb => {
    const [r, g, b] = rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const pale = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || unseen(element) || !element.getClientRects().length) continue;
    const ground = behind(element.closest('svg') || element);
    const ink = over(parsed(element.closest('svg') ? style(element).fill : style(element).color), ground);
    const found = contrast(ink, ground);
    if (found < least) pale.add('contrast ' + found.toFixed(2) + ': ' + named(element));
  }

  const missing = [];
  for (const figure of document.querySelectorAll('figure')) {
    const drawing = figure.querySelector('svg');
    const box = drawing && drawing.getBoundingClientRect();
    const lines = drawing ? [...drawing.querySelectorAll('path')].filter(p => p.getBBox().width > 20) : [];
    if (!drawing || box.width < 150 || box.height < 100 || !lines.length) missing.push('no drawing: ' + named(figure));
  }
  const headings = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => Number(h.tagName[1]));
  return {wide, scrolling, pale: [...pale], missing, headings, verdict_ends};
}
"""
