"""The program as a user runs it, in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


@dataclass
class FinishedCommand:
    """A command that has ended: its exit code, stdout and stderr."""

    code: int
    stdout: str
    stderr: str

    @property
    def line(self) -> dict[str, Any]:
        """The one line of JSON on stdout."""
        (line,) = self.stdout.splitlines()
        values: dict[str, Any] = json.loads(line)
        return values


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command and return at once."""
    return subprocess.Popen(
        [sys.executable, "-m", "lungct.cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def lungct(*arguments: object, **environment: str) -> FinishedCommand:
    """Run a command to its end."""
    process = start(*arguments, **environment)
    stdout, stderr = process.communicate(timeout=240)
    return FinishedCommand(process.returncode, stdout, stderr)


def refused(*arguments: object) -> str:
    """Run a command that must fail with exit code 2, and return its one line on stderr."""
    ran = lungct(*arguments)
    assert ran.code == 2, ran
    assert ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert line.startswith("lungct: error: "), line
    return line.removeprefix("lungct: error: ")
