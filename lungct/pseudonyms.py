"""Keyed ids and pixel hashes, which replace the names of directories in a table.

A *pseudonym* is the first 32 hex digits of HMAC-SHA-256 of the id under the key. Of an id of several path components it
has as many, each the hash of the id up to there: ``H(person)/H(person/scan)``. So scans of one person still have their
first component in common, and cross-validation keeps them in one fold.

Anyone who has the key and a list of ids can compute the pseudonyms again and so identify the patients; without both,
nobody can. The table is pseudonymous, not anonymous: anyone who has a scan can still match its features.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.arguments import listed, spelled
from lungct.csvfile import CsvFile, cannot_be_used, csv_bytes, id_problems, read_csv
from lungct.errors import LungCTWarning, UsageError
from lungct.ids import canonical
from lungct.storage import local_path, locate, output_file, same_place, write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGITS = 32
LEAST_KEY_BYTES = 16
MOST_KEY_BYTES = 1 << 16
_PSEUDONYM = re.compile(rf"[0-9a-f]{{{DIGITS}}}(?:/[0-9a-f]{{{DIGITS}}})*")
MAKE_KEY = "make one with `head -c 32 /dev/urandom > KEYFILE`"


@dataclass(frozen=True)
class Key:
    """A secret that ids are hashed with; it is never printed."""

    secret: bytes = field(repr=False)

    def pseudonym(self, patient_id: str) -> str:
        """Return an id's pseudonym: 32 hex digits for each component of its path, separated by slashes.

        Ids that differ only in their Unicode form have one pseudonym (`lungct.ids.canonical`).
        """
        components = canonical(patient_id).split("/")
        paths = ("/".join(components[: count + 1]) for count in range(len(components)))
        return "/".join(self._digest(b"id\0" + path.encode())[:DIGITS] for path in paths)

    def pixel_hash(self, pixels: NDArray[Any]) -> str:
        """Return HMAC-SHA-256 of the pixels' bytes, 64 hex digits."""
        return hmac.new(self.secret, np.ascontiguousarray(pixels).data.cast("B"), hashlib.sha256).hexdigest()

    @property
    def fingerprint(self) -> str:
        """16 hex digits that identify the key, and the rule of its pseudonyms, without revealing it.

        The rule is part of it because a table made under another rule, one hash of the whole ``person/scan``, would
        otherwise be continued with the same patients under other ids. Raise the number when the rule changes.
        """
        return self._digest(b"lungct key fingerprint, pseudonyms 2")[:16]

    def _digest(self, message: bytes) -> str:
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()


def is_pseudonym(text: str) -> bool:
    """Return whether a text is written as pseudonyms are, so that it names nobody.

    >>> is_pseudonym("0" * 32 + "/" + "f" * 32), is_pseudonym("Doe")
    (True, False)
    """
    return _PSEUDONYM.fullmatch(text) is not None


def read_key(path: str | os.PathLike[str]) -> Key:
    """Read a key: the bytes of a file as they are, 16 to 65,536 of them.

    Raises
    ------
    UsageError
        If the file cannot be read, or has another size.

    """
    file = local_path(path, argument="KEYFILE")
    try:
        with open(file, "rb") as stream:
            secret = stream.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the key file {file} cannot be read ({error.strerror})", fix=MAKE_KEY) from error
    if not LEAST_KEY_BYTES <= len(secret) <= MOST_KEY_BYTES:
        size = f"more than {MOST_KEY_BYTES}" if len(secret) > MOST_KEY_BYTES else len(secret)
        raise UsageError(
            f"the key file {file} has {size} bytes, and a key has {LEAST_KEY_BYTES} to {MOST_KEY_BYTES}", fix=MAKE_KEY
        )
    return Key(secret)


def pseudonymise_csv(
    labels: str | os.PathLike[str],
    key: Key,
    out: str | os.PathLike[str],
    *,
    id_column: str = "id",
    group_column: str | None = None,
) -> int:
    """Write a CSV again with pseudonyms in its id column, and return the number of rows.

    Parameters
    ----------
    labels
        The CSV: columns separated by commas, semicolons or tabs, in UTF-8, UTF-16 or Windows-1252.
    key
        What ids are hashed with.
    out
        The file to write: separated by commas, in UTF-8.
    id_column
        The column of the ids.
    group_column
        A column of persons or other groups, which get pseudonyms too: a person's is the table's ``person``. A blank
        stays blank.

    Raises
    ------
    UsageError
        If the CSV cannot be read, lacks a column, has a row without an id or an id twice, or ``out`` cannot be
        written to.

    Warns
    -----
    LungCTWarning
        If a column that is copied as it is has the ids, or the persons in them.

    """
    source, target = locate(labels, argument="LABELS"), output_file(out, argument="out")
    if same_place(target, source):
        raise UsageError(f"{spelled('out')} {target} is {spelled('LABELS')} itself", fix="give another file")
    if target.exists() and target.read_bytes() == key.secret:
        raise UsageError(f"{spelled('out')} {target} is the key", fix="give another file")
    columns: dict[str, str | None] = {id_column: "id_column"}
    if group_column is not None:
        if group_column == id_column:
            raise UsageError(
                f"{spelled('id_column')} and {spelled('group_column')} are both {id_column!r}", fix="give two columns"
            )
        columns[group_column] = "group_column"
    file = read_csv(source, columns, argument="LABELS")
    ids, lines = file.column(id_column), [line for line, _ in file.rows]
    # Lines and not ids, which may be names.
    problems = [*file.problems, *id_problems(lines, ids, lambda line, _: f"line {line}")]
    if problems:
        raise cannot_be_used(file.where, problems)
    places = [file.place(column) for column in columns]
    if telling := _telling_columns(file, ids, places):
        warnings.warn(
            f"{file.where}: ids or persons in {listed(telling)} are copied as they are; leave such columns out, or "
            f"give that of persons as {spelled('group_column')}",
            LungCTWarning,
            stacklevel=2,
        )
    for _, values in file.rows:
        for place in places:
            values[place] = key.pseudonym(values[place]) if values[place] else ""
    write_atomically(target, csv_bytes(file.header, [values for _, values in file.rows]))
    return len(file.rows)


def _telling_columns(file: CsvFile, ids: list[str], hidden: list[int]) -> list[str]:
    """Return the columns, other than the hidden ones, most of whose texts are ids or the persons in them.

    A column of few different texts, such as a label, is none, even if a patient is called 1.
    """
    names = set(ids) | {patient_id.partition("/")[0] for patient_id in ids}
    telling = []
    for place, name in enumerate(file.header):
        texts = {values[place] for _, values in file.rows} - {""}
        if place not in hidden and len(texts) > 2 and 2 * len(texts & names) > len(texts):
            telling.append(name)
    return telling
