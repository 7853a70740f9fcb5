"""The commands: each does one thing, calls the library, and prints one line of JSON on stdout.

options.py    the command line and what `--help` prints
commands.py   what each command does: parsed options -> a result
process.py    streams, signals and exit codes of the process that runs a command
jobs.py       the same commands as jobs of a Ray cluster
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; None: this process's own command line."""
    from lungct.cli.options import make_parser
    from lungct.cli.process import run_command

    return run_command(make_parser().parse_args, sys.argv[1:] if arguments is None else list(arguments))


def entry() -> NoReturn:
    """Run as a program and exit with the command's exit code."""
    from lungct.cli.options import make_parser
    from lungct.cli.process import exit_with

    exit_with(make_parser().parse_args)
