"""Digests of a shard's columns, and what is checked when a shard is read.

Parquet's page checksums cover the data of a page, but neither its header nor the file's footer, which holds the types,
lengths and places of the columns: when single bits of a small shard with checksums were flipped, one in forty changed
what was read without an error. So the metadata of a shard has ``lungct.digests``, a JSON object with a digest of each
column's *values*, and lungct compares the columns that it reads with it. Other readers of Parquet ignore it, and a
shard that another program wrote without it is read all the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lungct.features.rows import schema

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

SETTINGS_KEY = b"lungct.settings"
DIGESTS_KEY = b"lungct.digests"


def column_digest(column: pa.ChunkedArray) -> str:
    """Return the first 16 hex digits of SHA-256 over a column's values, however they are laid out in memory."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_list(column.type) and pa.types.is_fixed_size_list(column.type.value_type)):
        return hashlib.sha256(json.dumps(column.to_pylist()).encode()).hexdigest()[:16]
    # The features: as bytes, without a Python object for each number.
    digest = hashlib.sha256(json.dumps(pc.list_value_length(column).to_pylist()).encode())
    digest.update(feature_values(column).data)
    return digest.hexdigest()[:16]


def feature_values(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Return the numbers of a column of features, one patient's after another's, as a flat array."""
    values = column.combine_chunks().flatten().flatten()
    return np.ascontiguousarray(values.to_numpy(zero_copy_only=False))


def check_contents(table: pa.Table, columns: Sequence[str] | None) -> None:
    """Compare what was read of a shard with the digests in its metadata.

    Parameters
    ----------
    table
        What was read, with the file's metadata.
    columns
        The columns that were asked for; None: all of them.

    Raises
    ------
    ValueError
        If a column is missing, has another type or other values than were written, or holds features that are not
        finite.

    """
    if columns is not None and table.column_names != list(columns):
        raise ValueError("it has other columns")
    if DIGESTS_KEY in (table.schema.metadata or {}):
        _check_digests(table, whole=columns is None)
    if "features" in table.column_names and not np.isfinite(feature_values(table.column("features"))).all():
        raise ValueError("it has features that are not finite")


def _check_digests(table: pa.Table, *, whole: bool) -> None:
    metadata = table.schema.metadata
    if SETTINGS_KEY not in metadata:
        raise ValueError("its metadata is incomplete")
    wanted, digests = schema(json.loads(metadata[SETTINGS_KEY])["dim"]), json.loads(metadata[DIGESTS_KEY])
    if whole and table.column_names != wanted.names:
        raise ValueError("it has other columns")
    for field in table.schema:
        if not field.equals(wanted.field(field.name)):
            raise ValueError(f"column {field.name} has another type")
        if column_digest(table.column(field.name)) != digests.get(field.name):
            raise ValueError(f"column {field.name} is damaged")
