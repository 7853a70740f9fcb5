"""Ids and pixel hashes under a key: what a table says instead of a directory's name.

A *pseudonym* is HMAC-SHA-256 of the id under the key, its first 32 hex digits. Who has the key and a list of ids can
make the pseudonyms again and so find out who is who; who has neither cannot. That is pseudonymous, not anonymous: who
has a scan can still match its features.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.csvfile import csv_bytes, place_of, read_rows
from lungct.errors import UsageError
from lungct.storage import local_path, locate, output_file, same_place, write_atomically

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIGITS = 32
LEAST_KEY_BYTES = 16
MOST_KEY_BYTES = 1 << 16


@dataclass(frozen=True)
class Key:
    """A secret that ids are hashed with; never printed."""

    secret: bytes = field(repr=False)

    def pseudonym(self, patient_id: str) -> str:
        """Give an id's pseudonym, 32 hex digits."""
        return self._digest(b"id\0" + patient_id.encode())[:DIGITS]

    def pixel_hash(self, pixels: NDArray[Any]) -> str:
        """Give HMAC-SHA-256 of the pixels' bytes, 64 hex digits."""
        return hmac.new(self.secret, np.ascontiguousarray(pixels).data.cast("B"), hashlib.sha256).hexdigest()

    @property
    def fingerprint(self) -> str:
        """Say which key it is without telling it, 16 hex digits."""
        return self._digest(b"lungct key fingerprint")[:16]

    def _digest(self, message: bytes) -> str:
        return hmac.new(self.secret, message, hashlib.sha256).hexdigest()


def read_key(path: str | os.PathLike[str]) -> Key:
    """Read a key from a file: its bytes, at least 16 of them, as they are.

    Raises
    ------
    UsageError
        If it cannot be read, or is too short to be a secret.

    """
    file = local_path(path, argument="KEYFILE")
    try:
        with open(file, "rb") as stream:
            secret = stream.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"KEYFILE {file} cannot be read ({error.strerror}): make one with `head -c 32 /dev/urandom > KEYFILE`"
        ) from error
    if not LEAST_KEY_BYTES <= len(secret) <= MOST_KEY_BYTES:
        raise UsageError(
            f"KEYFILE {file} has {len(secret)} bytes and a key has {LEAST_KEY_BYTES} to {MOST_KEY_BYTES}: "
            "make one with `head -c 32 /dev/urandom > KEYFILE`"
        )
    return Key(secret)


def pseudonymise_csv(
    labels: str | os.PathLike[str],
    key: Key,
    out: str | os.PathLike[str],
    *,
    id_column: str = "id",
) -> int:
    """Write a CSV again with pseudonyms in its id column, and give the number of rows.

    Raises
    ------
    UsageError
        If the CSV cannot be read, lacks the column, or has a row without an id or an id twice.

    """
    source, target = locate(labels, argument="LABELS"), output_file(out, argument="out")
    if same_place(target, source):
        raise UsageError(f"--out {target} is LABELS itself: give another file")
    if target.exists() and target.read_bytes() == key.secret:
        raise UsageError(f"--out {target} is the key: give another file")
    header, rows = read_rows(source, argument="LABELS")
    column = place_of(header, id_column, f"LABELS {source}")
    seen: set[str] = set()
    for line, values in rows:
        if not values[column] or values[column] in seen:
            # The id itself may be a name: the line says enough.
            what = "has an id for the second time" if values[column] else "has no id"
            raise UsageError(f"LABELS {source}, line {line}, {what}: give each patient one row")
        seen.add(values[column])
        values[column] = key.pseudonym(values[column])
    write_atomically(target, csv_bytes(header, [values for _, values in rows]))
    return len(rows)
