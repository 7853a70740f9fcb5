"""Every exception that a user of lungct can see, and the exit code of each.

    LungCTError                 3   lungct or the cluster failed
    ├── UsageError              2   the user must change something: an option, a file, a label
    ├── NothingUsableError      1   the work is done, but there is nothing to use
    ├── SeriesError             1   a patient's own files: one error row, never the end of an extraction
    ├── StorageError            3   a disk, a bucket, credentials: never the patient's files
    ├── ClusterError            3   Ray, a node, a lost worker
    └── KilledError             3   the system ended a process: out of memory, most often; the patient stays missing

An error has a *message* (what is wrong, and where) and, if there is one, a *fix* (what to do about it); its ``str`` is
one sentence with both. The sentence of a SeriesError is written to the feature table, so it names counts and numbers of
the scan and nothing that identifies anyone: no file name, path, UID, date or person (``docs/intake.md`` lists the
codes).
"""

from __future__ import annotations

from typing import Any


class LungCTError(Exception):
    """Any error of lungct; by itself, a failure of lungct or of what it runs on.

    Parameters
    ----------
    message
        What is wrong and where, without a full stop.
    fix
        What to do about it, in the imperative: "give a smaller batch size".

    """

    exit_code = 3

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.message}: {self.fix}" if self.fix else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keep every attribute when the error is passed to another process."""
        return _rebuilt, (type(self), self.args, vars(self))


def _rebuilt(kind: type[LungCTError], arguments: tuple[object, ...], attributes: dict[str, Any]) -> LungCTError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(attributes)
    return error


class UsageError(LungCTError):
    """The user must change something; nothing was written that a later command would trust."""

    exit_code = 2


class NothingUsableError(LungCTError):
    """The work is done, but there is nothing to use.

    Parameters
    ----------
    message, fix
        As for `LungCTError`.
    summary
        What was done: the summary that the command prints all the same.

    """

    exit_code = 1

    def __init__(self, message: str, *, fix: str | None = None, summary: object = None) -> None:
        super().__init__(message, fix=fix)
        self.summary = summary


class SeriesError(LungCTError):
    """A patient's files contain no usable series.

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
    """Storage failed, disappeared or is full; the patient's files are not at fault, and the patient stays missing."""


class ClusterError(LungCTError):
    """Ray, a node or a worker failed, and retries did not help."""


class KilledError(LungCTError):
    """The process that read a patient's files was killed from outside; the machine is at fault, not the files."""


class LungCTWarning(UserWarning):
    """A warning by lungct itself."""
