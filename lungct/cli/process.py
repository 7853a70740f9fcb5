"""One process that runs one command: its streams, its signals, its exit code.

stdout carries the result alone; stderr carries lungct's progress, warnings and errors (one line each, and an exit code:
`lungct.errors`). Ray's native code and C libraries write to file descriptors 1 and 2, which no setting prevents, so
while a command runs both descriptors lead nowhere (with ``--debug``, to stderr), and results and messages go through
duplicates made before.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from lungct.arguments import command_line
from lungct.cli.commands import Result
from lungct.cli.options import STOPPED, PrintAndExit
from lungct.errors import LungCTError, LungCTWarning
from lungct.machine import ensure_account
from lungct.progress import print_message

# `ray job stop` sends SIGKILL three seconds after SIGTERM.
CLEAN_END_SECONDS = 2.5

# stdout is full, or nobody reads it.
_UNPRINTED = (errno.ENOSPC, errno.EPIPE, errno.EIO)

Parse = Callable[[Sequence[str]], argparse.Namespace]

# What a signal ends, in the words of the command that is running.
_stopped = STOPPED


class _Interrupted(BaseException):
    """SIGTERM or SIGINT has arrived: unwind, keep finished work, exit."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def run_command(parse: Parse, line: Sequence[str]) -> int:
    """Run one command, print its result, and return its exit code.

    Parameters
    ----------
    parse
        Command line -> options, whose ``function(options)`` is the command and returns a `Result`, and whose
        ``when_stopped`` is what to say after a signal.
    line
        The command line without the program's name.

    """
    global _stopped
    _stopped = STOPPED
    debug = "--debug" in line
    if debug:
        os.environ["LUNGCT_DEBUG"] = "1"
    with _own_streams(debug=debug) as stdout, _interruptible(), command_line():
        try:
            options = parse(line)
            _stopped = options.when_stopped
            with _plain_warnings():
                result: Result = options.function(options)
            print(_text(result, terminal=stdout.isatty()), file=stdout, flush=True)
            if result.error is not None:
                raise result.error
        except PrintAndExit as text:
            print(text, file=stdout, flush=True)
            return 0
        except _Interrupted as interrupt:
            print_message(_stopped)
            return interrupt.exit_code
        except Exception as error:
            if interruption := _interruption(error):
                print_message(_stopped)
                return interruption.exit_code
            if debug:
                traceback.print_exc()
            return _report(error)
        return result.code


def _interruption(error: BaseException) -> _Interrupted | None:
    """Return the signal that an error comes from: native code may raise an error of its own over it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, _Interrupted):
        cause = cause.__cause__ or cause.__context__
    return cause


def _text(result: Result, *, terminal: bool) -> str:
    """Return what a command prints: its text, or one line of JSON."""
    if result.text is None:
        return json.dumps(result.values, allow_nan=False)
    return result.short_text if terminal and result.short_text is not None else result.text


def _report(error: Exception) -> int:
    """Report an error in one line on stderr, and return its exit code."""
    code = error.exit_code if isinstance(error, LungCTError) else LungCTError.exit_code
    if isinstance(error, LungCTError):
        text = str(error)
    elif isinstance(error, OSError) and error.filename is None and error.errno in _UNPRINTED:
        text = f"the result could not be printed on stdout ({error.strerror})"
    else:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        text = f"internal error ({reason}); please report it with the output of --debug"
    print_message(f"error: {' '.join(text.split())}")
    return code


def exit_with(parse: Parse) -> NoReturn:
    """Run the process's command line as a program, and exit with its exit code."""
    for fd in (0, 1, 2):
        _reopen(fd)
    ensure_account()
    code = run_command(parse, sys.argv[1:])
    sys.stderr.flush()
    if code > 128:
        # The sender of the signal is waiting: skip what libraries do at exit.
        os._exit(code)
    sys.exit(code)


def _reopen(fd: int) -> None:
    """Open /dev/null in place of a closed standard stream; else the next file opened would take its number."""
    try:
        os.fstat(fd)
    except OSError:
        os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - open as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


@contextlib.contextmanager
def _own_streams(*, debug: bool) -> Iterator[TextIO]:
    """Keep stdout for the result and stderr for lungct's messages, and hide what native code writes to either.

    Yields the stream for the result. While the context lasts, ``sys.stderr`` carries only messages written by Python.
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
    """Turn SIGTERM and SIGINT into an exception, and end the process in time even if unwinding hangs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        for further in (signal.SIGTERM, signal.SIGINT):
            signal.signal(further, signal.SIG_IGN)
        raise _Interrupted(number)

    def lost(failure: Any) -> None:
        # If Python cannot raise (in a callback of an import, in a destructor), the process ends here.
        if isinstance(failure.exc_value, _Interrupted):
            print_message(_stopped)
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
    """End the process `CLEAN_END_SECONDS` after a signal, even if Python's handler has to wait for native code."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)

    def watch() -> None:
        while number := os.read(readable, 1):
            if number[0] in (signal.SIGTERM, signal.SIGINT):
                time.sleep(CLEAN_END_SECONDS)
                if not over.is_set():
                    print_message(_stopped)
                    os._exit(128 + number[0])
        os.close(readable)

    over = threading.Event()
    before = signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="lungct signals", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.close(writable)


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print lungct's own warnings as one line each, and those of libraries only with --debug."""
    show: Callable[..., None] = warnings.showwarning

    def show_plainly(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
        if issubclass(category, LungCTWarning):
            print_message(f"warning: {message}")
        elif os.environ.get("LUNGCT_DEBUG"):
            show(message, category, *rest, **named)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LungCTWarning)
        warnings.showwarning = show_plainly
        yield
