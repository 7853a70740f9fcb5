"""How far a long piece of work is, on stderr: a bar on a terminal, a line every 30 s where there is none.

A progress counts things a person knows (patients, folds), never Ray's tasks or blocks.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

LINE_EVERY_S = 30.0


class Progress:
    """Counts ``total`` things done and shows how long the rest will take.

    Parameters
    ----------
    total
        How many there are.
    noun
        What they are, in the plural: "patients", "folds".
    quiet
        Show nothing at all.

    """

    def __init__(self, total: int, *, noun: str, quiet: bool = False) -> None:
        self.total = total
        self.noun = noun
        self.done = 0
        self.failed = 0
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._begun = time.monotonic()
        self._ended = threading.Event()

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(file=sys.stderr),
            )
            self._bar.start()
            self._task = self._bar.add_task(self.noun, total=self.total, note="")
        elif not self._quiet:
            threading.Thread(target=self._say, name="lungct progress", daemon=True).start()
        return self

    def advance(self, n: int = 1, *, failed: int = 0) -> None:
        """Count ``n`` more things as done, ``failed`` of them without a result."""
        self.done += n
        self.failed += failed
        if self._bar is not None:
            note = f"{self.failed} failed" if self.failed else ""
            self._bar.update(self._task, completed=self.done, note=note)

    def _say(self) -> None:
        """Print a line now and then, also while nothing is done: a silence would say that something hangs."""
        while not self._ended.wait(LINE_EVERY_S):
            print(self.line(), file=sys.stderr, flush=True)

    def line(self) -> str:
        """One line of text: done, failed, per second, left, and the time the rest will take."""
        spent = max(time.monotonic() - self._begun, 1e-9)
        rate = self.done / spent
        left = self.total - self.done
        eta = _duration(left / rate) if rate > 0 else "unknown"
        return (
            f"lungct: {self.done} of {self.total} {self.noun} done, {self.failed} failed, "
            f"{rate:.2f} per second, {left} left, ETA {eta}"
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()


def say(message: str, *, quiet: bool = False) -> None:
    """Say a line of ours on stderr."""
    if not quiet:
        print(f"lungct: {message}", file=sys.stderr, flush=True)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
