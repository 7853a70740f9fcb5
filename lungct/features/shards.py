"""A table's files: their bytes and names, staging, listing and reading."""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lungct.errors import StorageError
from lungct.features.rows import Row, rows_to_table
from lungct.features.settings import Settings
from lungct.storage import Place, locate, open_parquet, stage, storage_faults, unique_name

if TYPE_CHECKING:
    import pyarrow as pa

# Files read from a store at the same time.
READERS = 16


@dataclass(frozen=True)
class Staged:
    """A finished file in staging, not yet part of the table: its patients, and which of them have error rows."""

    path: str
    ids: list[str]
    failed: list[str]


def stage_rows(rows: Iterable[Row], settings: Settings, staging: str) -> Staged:
    """Write rows as a whole file into a run's staging; for whoever computes, on any node."""
    return stage_table(rows_to_table(rows, settings.dim), settings, locate(staging, argument="STAGING"))


def stage_table(table: pa.Table, settings: Settings, staging: Place) -> Staged:
    """Write a table of rows as a whole file into a run's staging."""
    path = staging / f"{unique_name()}.parquet"
    stage(path, shard_bytes(table, settings))
    ids, codes = (table.column(name).to_pylist() for name in ("patient_id", "error_code"))
    failed = [name for name, code in zip(ids, codes, strict=True) if code is not None]
    return Staged(str(path), ids, failed)


def shard_bytes(table: pa.Table, settings: Settings) -> bytes:
    """Give the bytes of a shard: zstd, one row group, the settings in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    described = table.replace_schema_metadata({"lungct.settings": settings.to_json()})
    pq.write_table(described, sink, compression="zstd", row_group_size=max(1, table.num_rows))
    return sink.getvalue().to_pybytes()


def shard_name(settings: Settings, ids: Sequence[str]) -> str:
    """Name a shard after the settings and the ids in it, in their order."""
    key = json.dumps([settings.comparable(), list(ids)], sort_keys=True, separators=(",", ":"))
    return f"part-{hashlib.sha256(key.encode()).hexdigest()[:16]}.parquet"


def is_shard(name: str) -> bool:
    """Whether a file's name is one that `shard_name` gives."""
    return re.fullmatch(r"part-[0-9a-f]{16}\.parquet", name) is not None


def list_shards(directory: Place) -> list[Place]:
    """List a table's files, by name."""
    with storage_faults(f"{directory} cannot be listed"):
        found = (directory / "features").glob("part-*.parquet")
        return sorted((p for p in found if is_shard(p.name)), key=lambda path: path.name)


def read_shards(
    directory: Place, columns: Sequence[str] | None, *, tolerant: bool = False
) -> Iterator[tuple[Place, pa.Table]]:
    """Read some columns of each of a table's files (None: all of them), by name; from a store several at a time.

    Parameters
    ----------
    tolerant
        Pass over a file that cannot be read.

    Raises
    ------
    StorageError
        If a file cannot be read; the sentence says what to do about it.

    """
    paths = list_shards(directory)
    if isinstance(directory, Path):
        reads: Iterator[tuple[Place, Callable[[], pa.Table]]] = (
            (path, partial(read_shard, path, columns)) for path in paths
        )
    else:
        reads = _several_at_a_time(paths, columns)
    for path, read in reads:
        try:
            table = read()
        except StorageError:
            if tolerant:
                continue
            raise
        yield path, table


def _several_at_a_time(
    paths: Sequence[Place], columns: Sequence[str] | None
) -> Iterator[tuple[Place, Callable[[], pa.Table]]]:
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[tuple[Place, Future[pa.Table]]] = deque()
        for path in paths:
            waiting.append((path, pool.submit(read_shard, path, columns)))
            if len(waiting) == 2 * READERS:
                done, future = waiting.popleft()
                yield done, future.result
        for done, future in waiting:
            yield done, future.result


def read_shard(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read some columns of one file (None: all of them); StorageError where it cannot be read."""
    import pyarrow.parquet as pq

    with _unreadable(path):
        file = pq.ParquetFile(open_parquet(path))
        return file.read(columns=columns).replace_schema_metadata(None)


@contextmanager
def _unreadable(path: Place) -> Iterator[None]:
    """Turn what pyarrow raises over a broken file into a sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, KeyError) as error:
        reason = str(error).splitlines()[0][:120]
        raise StorageError(
            f"{path.parent.parent} has an unreadable shard, {path.name} ({reason}): "
            "delete that file and run the same extract again, which makes its patients anew"
        ) from error
