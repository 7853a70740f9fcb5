"""One wording for each kind of invalid argument, with the argument's name as its reader typed it.

The same code serves the command line and Python, where an argument has two names: ``--early-stopping`` and
``early_stopping``, or ``DIR`` and ``dir``. Sentences are built with `spelled`, so that callers in Python read of
keywords, and users of the command line of options.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lungct.errors import UsageError

MOST_LISTED = 5
"""How many values a sentence lists before it only counts the rest."""

_for_command_line = False


@contextmanager
def command_line() -> Iterator[None]:
    """Spell arguments as on the command line within the block: ``--limit`` and ``SRC``."""
    global _for_command_line
    before, _for_command_line = _for_command_line, True
    try:
        yield
    finally:
        _for_command_line = before


def spelled(argument: str, value: object = None) -> str:
    """Return an argument's name as its reader typed it, with its value if one is given.

    Parameters
    ----------
    argument
        The keyword in Python; in capitals if the command line takes it by position ("SRC").

    >>> spelled("SRC"), spelled("early_stopping"), spelled("take_over", True), spelled("device", "cpu")
    ('src', 'early_stopping', 'take_over=True', "device='cpu'")
    >>> with command_line():
    ...     spelled("SRC"), spelled("early_stopping"), spelled("take_over", True), spelled("device", "cpu")
    ('SRC', '--early-stopping', '--take-over', '--device cpu')
    """
    if not _for_command_line:
        name = argument.lower()
        return name if value is None else f"{name}={value!r}"
    name = argument if argument.isupper() else f"--{argument.replace('_', '-')}"
    return name if value is None or value is True else f"{name} {value}"


def one_of(value: Any, allowed: Collection[str], argument: str) -> None:
    """Raise UsageError if a value is not one of the allowed ones.

    Raises
    ------
    UsageError
        "preset must be one of dsb2017, lung, not 'x'".

    """
    if value not in allowed:
        raise UsageError(f"{spelled(argument)} must be one of {', '.join(allowed)}, not {_shown(value)}")


def at_least(value: Any, least: int, argument: str, *, most: int | None = None) -> None:
    """Raise UsageError if a value is not a whole number of at least ``least`` (and at most ``most``).

    Raises
    ------
    UsageError
        "limit must be a whole number of at least 1, not 0".

    """
    if is_whole_number(value) and value >= least and (most is None or value <= most):
        return
    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise UsageError(f"{spelled(argument)} must be a whole number {span}, not {_shown(value)}")


def is_whole_number(value: Any) -> bool:
    """Return whether a value is an integer of Python or NumPy, and not a bool."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def listed(values: Iterable[object]) -> str:
    """Return the first few of many values, strings quoted, and a count of the rest.

    >>> listed(["a", "b"]), listed(range(8))
    ("'a', 'b'", '0, 1, 2, 3, 4 and 3 more')
    """
    return listed_texts(repr(value) if isinstance(value, str) else str(value) for value in values)


def listed_texts(texts: Iterable[str]) -> str:
    """Return the first few of many strings, not quoted, and a count of the rest."""
    every = list(texts)
    more = f" and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
    return ", ".join(every[:MOST_LISTED]) + more


def counted(number: int, one: str, many: str) -> str:
    """Return a count with its noun: "1 label", "3 labels"."""
    return f"{number} {one if number == 1 else many}"


def _shown(value: object) -> str:
    return str(value) if is_whole_number(value) or isinstance(value, float) else repr(value)
