"""A table read as a whole, or pooled into one vector per patient."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from lungct.arguments import one_of
from lungct.features.rows import check_finite, schema
from lungct.features.settings import read_settings
from lungct.features.shards import as_unreadable, read_shards
from lungct.storage import ObjectPath, Place, locate

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

Pooling = Literal["mean", "max", "meanmax", "meanstd"]
"""How the rows of a patient become one vector."""
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def read_features(dir: str | os.PathLike[str] | ObjectPath) -> pa.Table:
    """Read a whole feature table.

    Parameters
    ----------
    dir
        The directory that `lungct.extract` wrote.

    Returns
    -------
    pyarrow.Table
        The columns of `lungct.features.schema`, ordered by patient_id; error rows included.

    Raises
    ------
    UsageError
        If the directory is not a feature table.
    StorageError
        If a shard cannot be read or is damaged.

    """
    return read_feature_columns(dir, None)


def read_feature_columns(dir: str | os.PathLike[str] | ObjectPath, columns: Sequence[str] | None) -> pa.Table:
    """Read columns of a feature table (in the order of its schema; None: all of them), as `read_features` does."""
    import pyarrow as pa

    wanted = _schema(read_settings(dir).dim, columns)
    table = pa.concat_tables([wanted.empty_table(), *_read_as(wanted, locate(dir, argument="DIR"), columns)])
    return table.sort_by("patient_id").combine_chunks()


def _schema(dim: int, columns: Sequence[str] | None) -> pa.Schema:
    import pyarrow as pa

    whole = schema(dim)
    return whole if columns is None else pa.schema([whole.field(name) for name in columns])


def _read_as(wanted: pa.Schema, directory: Place, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    """Read columns of each shard in the schema's types, whatever a file declares (StorageError if it cannot be)."""
    import pyarrow as pa

    for path, table in read_shards(directory, columns):
        with as_unreadable(path):
            try:
                converted = table.cast(wanted)
            except (pa.ArrowException, ValueError) as error:
                raise ValueError(f"it has columns of other types, {error}") from error
        yield converted


def pooled(
    dir_or_table: str | os.PathLike[str] | ObjectPath | pa.Table, pooling: Pooling = "mean"
) -> tuple[list[str], NDArray[np.float32]]:
    """Pool each patient's features into one vector.

    Parameters
    ----------
    dir_or_table
        The directory of a feature table, or what `read_features` returned.
    pooling
        ``mean``, ``max``, ``meanmax`` (mean, then max) or ``meanstd`` (mean, then population standard deviation),
        over the patient's T rows, in float64.

    Returns
    -------
    ids : list of str
        Patients with features, ordered by id.
    X : float32 (n, P)
        P is D for ``mean`` and ``max``, 2 D for the others.

    Raises
    ------
    UsageError
        If the directory is not a feature table, or there is no such pooling.
    StorageError
        If a shard cannot be read or is damaged.
    LungCTError
        If features are not finite.

    """
    one_of(pooling, POOLINGS, "pooling")
    if isinstance(dir_or_table, str | os.PathLike | ObjectPath):
        # Shard by shard: the features of a screening programme do not fit in memory, but the pooled ones do.
        dim = read_settings(dir_or_table).dim
        columns, place = ("patient_id", "features"), locate(dir_or_table, argument="DIR")
        parts = [_pool_table(table, pooling) for table in _read_as(_schema(dim, columns), place, columns)]
    else:
        dim = dir_or_table.schema.field("features").type.value_type.list_size
        parts = [_pool_table(dir_or_table, pooling)]
    ids = [patient_id for names, _ in parts for patient_id in names]
    X = np.concatenate([np.empty((0, _width(dim, pooling)), np.float32), *(x for _, x in parts)])
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return [ids[i] for i in order], X[order]


def _pool_table(table: pa.Table, pooling: Pooling) -> tuple[list[str], NDArray[np.float32]]:
    """Pool the patients of a table who have features, in the order of the table."""
    import pyarrow.compute as pc

    table = table.filter(pc.is_valid(table.column("features")))
    ids: list[str] = table.column("patient_id").to_pylist()
    dim = table.schema.field("features").type.value_type.list_size
    out = np.empty((len(ids), _width(dim, pooling)), dtype=np.float32)
    for i, scalar in enumerate(table.column("features")):
        rows = scalar.values.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        check_finite(rows, ids[i])
        out[i] = _pool(rows.astype(np.float64), pooling)
    return ids, out


def _width(dim: int, pooling: Pooling) -> int:
    return dim * (2 if pooling in ("meanmax", "meanstd") else 1)


def _pool(rows: NDArray[np.float64], pooling: Pooling) -> NDArray[np.float64]:
    """Pool (T, D) into (P,)."""
    if pooling == "mean":
        return rows.mean(axis=0)
    if pooling == "max":
        return rows.max(axis=0)
    second = rows.max(axis=0) if pooling == "meanmax" else rows.std(axis=0)
    return np.concatenate([rows.mean(axis=0), second])
