"""``python -m lungct.cli``: the program."""

from lungct.cli import entry

entry()
