"""Every exception that a user of lungct ever sees, and the exit code that each means.

    LungCTError                 3   a fault of ours or of the cluster
    ├── UsageError              2   the user must change something: an option, a file, a label
    ├── NothingUsableError      1   it ran to its end and there is nothing to use
    ├── SeriesError             1   a patient's own bytes: one error row, never the end of a run
    ├── StorageError            3   a disk, a bucket, credentials: never the patient's fault
    └── ClusterError            3   Ray, a node, a worker that is gone

A message is one sentence for the person who must act: what, where, and the way out. A SeriesError's sentence goes
into the feature table, so it names counts and numbers of the scan and nothing that identifies anybody: no file
name, path, UID, date or person (``docs/intake.md`` lists the codes).
"""

from __future__ import annotations


class LungCTError(Exception):
    """The root: a fault of lungct or of what it runs on."""

    exit_code = 3


class UsageError(LungCTError):
    """The user must change something; nothing was begun that a later run would trust."""

    exit_code = 2


class NothingUsableError(LungCTError):
    """The work ran to its end and left nothing to use.

    Parameters
    ----------
    summary
        What was done all the same, as the command prints it.

    """

    exit_code = 1

    def __init__(self, message: str, *, summary: object = None) -> None:
        super().__init__(message)
        self.summary = summary


class SeriesError(LungCTError):
    """A patient's files give no usable series.

    Parameters
    ----------
    message
        One sentence for a person, without anything that identifies the patient.
    code
        A word that stays the same from version to version (the table's ``error_code``).

    """

    exit_code = 1

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the code when the error crosses a process boundary."""
        return _series_error, (str(self), self.code)


def _series_error(message: str, code: str) -> SeriesError:
    return SeriesError(message, code=code)


class StorageError(LungCTError):
    """Storage refused, vanished or filled up: the patient is not to blame and stays missing."""


class ClusterError(LungCTError):
    """Ray, a node or a worker failed beyond what retries mend."""


class LungCTWarning(UserWarning):
    """A warning of lungct's own, for users of the Python interface."""
