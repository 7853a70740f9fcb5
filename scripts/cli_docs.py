"""Write docs/cli.md from the command line's own parser.

usage: python scripts/cli_docs.py [--check]      (--check: write nothing, and fail if the page is not up to date)

The page is made from what the parser knows and not from the text that argparse prints, so that it is the same on every
terminal and under every version of Python.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "cli.md"
sys.path.insert(0, str(ROOT))

INTRODUCTION = """\
# Commands

<!-- Made by scripts/cli_docs.py from `lungct --help`: change the help in lungct/cli/options.py, not this page. -->

Every command prints one line of JSON on stdout (`inspect`, `status` and `doctor` print text unless `--json` is given);
progress, warnings and errors go to stderr. Every command takes `--help`, `--quiet` and `--debug`. Exit codes:

| code | meaning |
|---:|---|
| 0 | done |
| 1 | the work is done, but there is nothing to use |
| 2 | you must change something; one line says what |
| 3 | lungct, the machine or the cluster failed |
| 130, 143 | stopped by SIGINT or SIGTERM; finished work is kept |
"""


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    from lungct.cli.jobs import pipeline_parser
    from lungct.cli.options import make_parser

    text = page(make_parser(), pipeline_parser())
    if not arguments:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print("docs/cli.md is not up to date: run python scripts/cli_docs.py", file=sys.stderr)
        return 1
    return 0


def page(program: argparse.ArgumentParser, pipeline: argparse.ArgumentParser) -> str:
    """Return the whole page."""
    sections = [INTRODUCTION, *section(program, common_options=True)]
    (subparsers,) = (action for action in program._actions if isinstance(action, argparse._SubParsersAction))
    for parser in subparsers.choices.values():
        sections += section(parser)
    sections += section(pipeline)
    return "\n".join(sections)


def section(parser: argparse.ArgumentParser, *, common_options: bool = False) -> Iterator[str]:
    """Yield one command's heading, description, usage, table of options and examples."""
    yield f"## {parser.prog}\n"
    yield f"{textwrap.fill(one_line(parser.description or ''), 120)}\n"
    yield f"    {usage(parser)}\n"
    rows = [line for group in parser._action_groups for line in group_rows(group, common_options)]
    if rows:
        yield "\n".join(["| argument | |", "|---|---|", *rows, ""])
    title, *examples = (parser.epilog or "").splitlines()
    yield f"{title.capitalize()}\n"
    yield "".join(f"    {line.removeprefix('  ')}\n" for line in examples)


def group_rows(group: argparse._ArgumentGroup, common_options: bool) -> list[str]:
    """Return the rows of one group of options, after its title if it has one."""
    rows = [row(action) for action in group._group_actions if is_shown(action, common_options)]
    if not rows or group.title in ("positional arguments", "options"):
        return rows
    return [f"| **{group.title}** | {group.description or ''} |", *rows]


def is_shown(action: argparse.Action, common_options: bool) -> bool:
    """Return whether an option has a row; those that every command takes are listed once, for the program."""
    if isinstance(action, argparse._SubParsersAction):
        return False
    return common_options or action.dest not in ("help", "quiet", "debug")


def usage(parser: argparse.ArgumentParser) -> str:
    """Return a command's usage: what must be given, and whether there is more."""
    words = [parser.prog]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            words.append("COMMAND")
        elif not action.option_strings:
            words.append(f"[{names(action)}]" if action.nargs == "?" else names(action))
        elif action.required:
            words.append(names(action))
    return " ".join([*words, "[OPTIONS]"])


def row(action: argparse.Action) -> str:
    """Return an option's line of the table."""
    text = (action.help or "") % {"default": action.default} if action.help else ""
    return f"| `{names(action)}` | {one_line(text)} |".replace("\\", "\\\\")


def names(action: argparse.Action) -> str:
    """Return an option as it is typed, with what follows it."""
    metavar = action.metavar
    if not action.option_strings:
        return str(metavar or action.dest)
    name = ", ".join(action.option_strings)
    if action.nargs == 0:
        return name
    values = " ".join(metavar) if isinstance(metavar, tuple) else str(metavar or action.dest.upper())
    return f"{name} {values}"


def one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
