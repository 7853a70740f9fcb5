"""Every exception that a user of lungct ever sees, and the exit code that each means.

    LungCTError                 3   a fault of lungct or of the cluster
    ├── UsageError              2   the user must change something: an option, a file, a label
    ├── NothingUsableError      1   it ran to its end and there is nothing to use
    ├── SeriesError             1   a patient's own bytes: one error row, never the end of a run
    ├── StorageError            3   a disk, a bucket, credentials: never the patient's fault
    └── ClusterError            3   Ray, a node, a worker that was lost

An error has a *message* (what is wrong, and where) and, where there is one, a *fix* (what to do about it); its ``str``
is one sentence with both. A SeriesError's sentence goes into the feature table, so it names counts and numbers of the
scan and nothing that identifies anybody: no file name, path, UID, date or person (``docs/intake.md`` lists the codes).
"""

from __future__ import annotations

from typing import Any


class LungCTError(Exception):
    """The root: a fault of lungct or of what it runs on.

    Parameters
    ----------
    message
        What is wrong and where, without a full stop.
    fix
        What to do about it, in the imperative: "give a smaller --batch-size".

    """

    exit_code = 3

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}: {self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keep every attribute when the error crosses a process boundary."""
        return _rebuilt, (type(self), self.args, vars(self))


def _rebuilt(kind: type[LungCTError], arguments: tuple[object, ...], attributes: dict[str, Any]) -> LungCTError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class UsageError(LungCTError):
    """The user must change something; nothing was begun that a later run would trust."""

    exit_code = 2


class NothingUsableError(LungCTError):
    """The work ran to its end and left nothing to use.

    Parameters
    ----------
    message, fix
        As for `LungCTError`.
    summary
        What was done all the same, as the command prints it.

    """

    exit_code = 1

    def __init__(self, message: str, *, fix: str | None = None, summary: object = None) -> None:
        super().__init__(message, fix=fix)
        self.summary = summary


class SeriesError(LungCTError):
    """A patient's files give no usable series.

    Parameters
    ----------
    message, fix
        As for `LungCTError`; neither may identify the patient.
    code
        A word that stays the same from version to version (the table's ``error_code``).

    """

    exit_code = 1

    def __init__(self, message: str, *, code: str, fix: str | None = None) -> None:
        super().__init__(message, fix=fix)
        self.code = code


class StorageError(LungCTError):
    """Storage refused, vanished or filled up: the patient is not to blame and stays missing."""


class ClusterError(LungCTError):
    """Ray, a node or a worker failed and retries did not help."""


class LungCTWarning(UserWarning):
    """A warning of lungct's own, for users of the Python interface."""
