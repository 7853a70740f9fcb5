"""Progress of long work on stderr: a bar on a terminal, otherwise a line every 30 s.

It counts what people know (patients, folds), never Ray's tasks or blocks.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

LINE_EVERY_S = 30.0


class Progress:
    """A count of finished items, with an estimate of the time that the rest will take.

    Parameters
    ----------
    total
        Number of items.
    noun
        What the items are, in the plural: "patients", "folds".
    quiet
        Show nothing at all.
    line_every_s
        Seconds between two lines if stderr is not a terminal.

    """

    def __init__(self, total: int, *, noun: str, quiet: bool = False, line_every_s: float = LINE_EVERY_S) -> None:
        self.total = total
        self.noun = noun
        self.done = 0
        self.failed = 0
        self._quiet = quiet
        self._line_every_s = line_every_s
        self._bar: Any = None
        self._task: Any = None
        self._begun = time.monotonic()
        self._ended = threading.Event()

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            self._bar = _new_bar()
            self._bar.start()
            self._task = self._bar.add_task(self.noun, total=self.total, note="")
        elif not self._quiet:
            threading.Thread(target=self._print_lines, name="lungct progress", daemon=True).start()
        return self

    def advance(self, n: int = 1, *, failed: int = 0) -> None:
        """Count ``n`` more items as done, ``failed`` of them without a result."""
        self.done += n
        self.failed += failed
        if self._bar is not None:
            note = f"{self.failed} failed" if self.failed else ""
            self._bar.update(self._task, completed=self.done, note=note)

    def line(self) -> str:
        """Return one line of text: done, failed, rate, left, and the estimated time to the end."""
        spent = max(time.monotonic() - self._begun, 1e-9)
        rate = self.done / spent
        left = self.total - self.done
        eta = _duration(left / rate) if rate > 0 else "unknown"
        return (
            f"lungct: {self.done} of {self.total} {self.noun} done, {self.failed} failed, "
            f"{rate:.2f} per second, {left} left, ETA {eta}"
        )

    def _print_lines(self) -> None:
        """Print a line at intervals, even if nothing is done meanwhile: silence would look like a hang."""
        while not self._ended.wait(self._line_every_s):
            print(self.line(), file=sys.stderr, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()


def print_message(message: str, *, quiet: bool = False) -> None:
    """Print one line on stderr, after lungct's name."""
    if not quiet:
        print(f"lungct: {message}", file=sys.stderr, flush=True)


def _new_bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
