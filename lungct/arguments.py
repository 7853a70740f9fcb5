"""One wording for each kind of refusal, in the words of whoever made the call.

The same code serves the command line and Python, where an argument has two names: ``--early-stopping`` and
``early_stopping``, or ``DIR`` and ``dir``. Sentences are built with `spelled`, so that a caller in Python never reads
of an option, and a user of the command line never of a keyword.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lungct.errors import UsageError

MOST_LISTED = 5
"""Values that a sentence names before it only counts them."""

_spoken_to_command_line = False


@contextmanager
def command_line() -> Iterator[None]:
    """Within it, arguments are spelled as the command line has them: ``--limit`` and ``SRC``."""
    global _spoken_to_command_line
    before, _spoken_to_command_line = _spoken_to_command_line, True
    try:
        yield
    finally:
        _spoken_to_command_line = before


def spelled(argument: str, value: object = None) -> str:
    """Return an argument's name as its reader typed it, with a value where one is given.

    Parameters
    ----------
    argument
        The keyword in Python; in capitals where the command line has no option but a place for it ("SRC").

    >>> spelled("SRC"), spelled("early_stopping"), spelled("take_over", True), spelled("device", "cpu")
    ('src', 'early_stopping', 'take_over=True', "device='cpu'")
    >>> with command_line():
    ...     spelled("SRC"), spelled("early_stopping"), spelled("take_over", True), spelled("device", "cpu")
    ('SRC', '--early-stopping', '--take-over', '--device cpu')
    """
    if not _spoken_to_command_line:
        name = argument.lower()
        return name if value is None else f"{name}={value!r}"
    name = argument if argument.isupper() else f"--{argument.replace('_', '-')}"
    return name if value is None or value is True else f"{name} {value}"


def one_of(value: Any, allowed: Collection[str], argument: str) -> None:
    """Refuse a value that is not among the allowed ones.

    Raises
    ------
    UsageError
        "preset must be one of dsb2017, lung, not 'x'".

    """
    if value not in allowed:
        raise UsageError(f"{spelled(argument)} must be one of {', '.join(allowed)}, not {_shown(value)}")


def at_least(value: Any, least: int, argument: str, *, most: int | None = None) -> None:
    """Refuse what is not a whole number in a range.

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
    """Return whether a value is an integer, of Python's or of NumPy's, and not a bool."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def listed(values: Iterable[object]) -> str:
    """Name the first few of many values, and count the rest; texts are quoted.

    >>> listed(["a", "b"]), listed(range(8))
    ("'a', 'b'", '0, 1, 2, 3, 4 and 3 more')
    """
    return listed_texts(repr(value) if isinstance(value, str) else str(value) for value in values)


def listed_texts(texts: Iterable[str]) -> str:
    """Name the first few of many texts as they are, and count the rest."""
    every = list(texts)
    more = f" and {len(every) - MOST_LISTED} more" if len(every) > MOST_LISTED else ""
    return ", ".join(every[:MOST_LISTED]) + more


def counted(number: int, one: str, many: str) -> str:
    """Return a count with its noun: "1 label", "3 labels"."""
    return f"{number} {one if number == 1 else many}"


def _shown(value: object) -> str:
    return str(value) if is_whole_number(value) or isinstance(value, float) else repr(value)
