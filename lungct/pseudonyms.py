"""Keyed ids and pixel hashes, which replace the names of directories in a table.

A *pseudonym* is the first 32 hex digits of HMAC-SHA-256 of the id under the key. Anyone who has the key and a list of
ids can compute the pseudonyms again and so identify the patients; without both, nobody can. The table is pseudonymous,
not anonymous: anyone who has a scan can still match its features.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.arguments import spelled
from lungct.csvfile import csv_bytes, place_of, read_rows
from lungct.errors import UsageError
from lungct.storage import local_path, locate, output_file, same_place, write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGITS = 32
LEAST_KEY_BYTES = 16
MOST_KEY_BYTES = 1 << 16
MAKE_KEY = "make one with `head -c 32 /dev/urandom > KEYFILE`"


@dataclass(frozen=True)
class Key:
    """A secret that ids are hashed with; it is never printed."""

    secret: bytes = field(repr=False)

    def pseudonym(self, patient_id: str) -> str:
        """Return an id's pseudonym, 32 hex digits."""
        return self._digest(b"id\0" + patient_id.encode())[:DIGITS]

    def pixel_hash(self, pixels: NDArray[Any]) -> str:
        """Return HMAC-SHA-256 of the pixels' bytes, 64 hex digits."""
        return hmac.new(self.secret, np.ascontiguousarray(pixels).data.cast("B"), hashlib.sha256).hexdigest()

    @property
    def fingerprint(self) -> str:
        """16 hex digits that identify the key without revealing it."""
        return self._digest(b"lungct key fingerprint")[:16]

    def _digest(self, message: bytes) -> str:
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()


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
) -> int:
    """Write a CSV again with pseudonyms in its id column, and return the number of rows.

    Raises
    ------
    UsageError
        If the CSV cannot be read, lacks the column, has a row without an id or an id twice, or ``out`` cannot be
        written to.

    """
    where = f"{spelled('LABELS')} {labels}"
    source, target = locate(labels, argument="LABELS"), output_file(out, argument="out")
    if same_place(target, source):
        raise UsageError(f"{spelled('out')} {target} is {spelled('LABELS')} itself", fix="give another file")
    if target.exists() and target.read_bytes() == key.secret:
        raise UsageError(f"{spelled('out')} {target} is the key", fix="give another file")
    header, rows = read_rows(source, argument="LABELS")
    column = place_of(header, id_column, where)
    seen: set[str] = set()
    for line, values in rows:
        if not values[column] or values[column] in seen:
            # Not the id itself, which may be a name.
            problem = "repeats an id" if values[column] else "has no id"
            raise UsageError(f"{where}, line {line}, {problem}", fix="give each patient one row")
        seen.add(values[column])
        values[column] = key.pseudonym(values[column])
    write_atomically(target, csv_bytes(header, [values for _, values in rows]))
    return len(rows)
