"""One process that runs one command: its streams, its signals, its exit code.

stdout is for results alone, and stderr for progress, warnings and errors of ours (one line each, and an exit code:
`lungct.errors`). Ray's native code and C libraries write to file descriptors 1 and 2 whatever they are told, so for the
whole of a command both descriptors lead nowhere (``--debug``: to stderr), and results and messages go through
duplicates that were taken before.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from lungct.arguments import command_line
from lungct.cli.options import Printed
from lungct.errors import LungCTError, LungCTWarning
from lungct.progress import say

# `ray job stop` kills three seconds after SIGTERM.
CLEAN_END_SECONDS = 2.5
STOPPED = "stopped by a signal; what is finished is kept, and the same command goes on from there"

# stdout is full, or nobody reads it.
_UNPRINTED = (errno.ENOSPC, errno.EPIPE, errno.EIO)

Parse = Callable[[Sequence[str]], argparse.Namespace]


class _Interrupted(BaseException):
    """SIGTERM or SIGINT came: unwind, keep what is finished, end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def run(parse: Parse, line: Sequence[str]) -> int:
    """Run one command and give its exit code.

    Parameters
    ----------
    parse
        Command line -> options, whose ``run(options, results)`` is the command.
    line
        The command line without the program's name.

    """
    debug = "--debug" in line
    if debug:
        os.environ["LUNGCT_DEBUG"] = "1"
    with _own_streams(debug=debug) as results, _interruptible(), command_line():
        try:
            options = parse(line)
            with _plain_warnings():
                code = options.run(options, results)
            results.flush()
        except LungCTError as error:
            if debug:
                raise
            return _say_error(str(error), error.exit_code)
        except Printed as text:
            print(text, file=results, flush=True)
            return 0
        except _Interrupted as interrupt:
            say(STOPPED)
            return interrupt.exit_code
        except Exception as error:
            if debug:
                raise
            if isinstance(error, OSError) and error.filename is None and error.errno in _UNPRINTED:
                return _say_error(f"the result could not be printed on stdout: {error.strerror}", 3)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return _say_error(
                f"a fault of lungct, not yours ({reason}); run again with --debug for the whole of it",
                3,
            )
        return int(code)


def exit_with(parse: Parse) -> NoReturn:
    """Run as a program: the command line is the process's, and so is the exit code."""
    for fd in (0, 1, 2):
        _reopen(fd)
    code = run(parse, sys.argv[1:])
    sys.stderr.flush()
    if code > 128:
        # Whoever sent the signal waits: nothing that libraries do at exit may take longer.
        os._exit(code)
    sys.exit(code)


def _reopen(fd: int) -> None:
    """Put /dev/null where the caller closed a standard stream, or the next file opened would take its number."""
    try:
        os.fstat(fd)
    except OSError:
        os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


@contextlib.contextmanager
def _own_streams(*, debug: bool) -> Iterator[TextIO]:
    """Keep stdout for the result and stderr for our messages, and hide what native code writes to either.

    Gives the stream for results; ``sys.stderr`` is ours meanwhile.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept_out, kept_err = os.dup(1), os.dup(2)
    python_err = sys.stderr
    hidden = os.dup(2) if debug else os.open(os.devnull, os.O_WRONLY)
    results = os.fdopen(kept_out, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    try:
        os.dup2(hidden, 1)
        os.dup2(hidden, 2)
        if not debug:
            sys.stderr = os.fdopen(kept_err, "w", buffering=1, errors="backslashreplace", closefd=False)
        yield results
    finally:
        with contextlib.suppress(OSError):
            results.close()
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stderr = python_err
        os.dup2(kept_out, 1)
        os.dup2(kept_err, 2)
        for fd in (kept_out, kept_err, hidden):
            os.close(fd)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Turn SIGTERM and SIGINT into an unwinding that ends in time, whatever hangs on the way."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        for ours in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ours, signal.SIG_IGN)
        raise _Interrupted(number)

    def lost(failure: Any) -> None:
        # Where Python cannot raise (a callback of an import, a destructor), the interruption ends the process here.
        if isinstance(failure.exc_value, _Interrupted):
            say(STOPPED)
            os._exit(failure.exc_value.exit_code)
        unraisable(failure)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    unraisable, sys.unraisablehook = sys.unraisablehook, lost
    try:
        with _end_in_time():
            yield
    finally:
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _end_in_time() -> Iterator[None]:
    """End the process `CLEAN_END_SECONDS` after a signal, also where Python's handler waits for native code."""
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def watch() -> None:
        while number := os.read(heard, 1):
            if number[0] in (signal.SIGTERM, signal.SIGINT):
                time.sleep(CLEAN_END_SECONDS)
                if not over.is_set():
                    say(STOPPED)
                    os._exit(128 + number[0])
        os.close(heard)

    over = threading.Event()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="lungct signals", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(told)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print lungct's own warnings as one line each, and keep libraries' to --debug."""
    show: Callable[..., None] = warnings.showwarning

    def show_ours(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, LungCTWarning):
            say(f"warning: {message}")
        elif os.environ.get("LUNGCT_DEBUG"):
            show(message, category, *rest, **named)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LungCTWarning)
        warnings.showwarning = show_ours
        yield


def _say_error(text: str, code: int) -> int:
    say(f"error: {' '.join(text.split())}")
    return code
