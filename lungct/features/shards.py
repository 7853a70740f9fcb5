"""A table's files: bytes, names, staging, listing, reading."""

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
from lungct.features.digests import DIGESTS_KEY, SETTINGS_KEY, check_contents, column_digest
from lungct.features.rows import Row, rows_to_table
from lungct.features.settings import Settings
from lungct.storage import Place, locate, open_parquet, stage, storage_faults, unique_name

if TYPE_CHECKING:
    import pyarrow as pa

# Files read from a store at the same time.
READERS = 16


@dataclass(frozen=True)
class StagedShard:
    """A finished file in staging that is not yet part of the table.

    Attributes
    ----------
    path
        The file.
    ids
        Its patients, in order.
    failed
        Those with an error row.

    """

    path: str
    ids: list[str]
    failed: list[str]


def stage_rows(rows: Iterable[Row], settings: Settings, staging: str) -> StagedShard:
    """Write rows as one whole file into an owner's staging directory; for workers, on any node.

    Raises
    ------
    LungCTError
        If features are not finite.
    StorageError
        If the file cannot be written.

    """
    return stage_table(rows_to_table(rows, settings.dim), settings, locate(staging, argument="out"))


def stage_table(table: pa.Table, settings: Settings, staging: Place) -> StagedShard:
    """Write a table of rows as one whole file into an owner's staging directory."""
    path = staging / f"{unique_name()}.parquet"
    stage(path, shard_bytes(table, settings))
    ids, codes = (table.column(name).to_pylist() for name in ("patient_id", "error_code"))
    failed = [name for name, code in zip(ids, codes, strict=True) if code is not None]
    return StagedShard(str(path), ids, failed)


def shard_bytes(table: pa.Table, settings: Settings) -> bytes:
    """Return the bytes of a shard: zstd, one row group, page checksums, settings and digests in the metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    digests = {name: column_digest(table.column(name)) for name in table.column_names}
    metadata = {SETTINGS_KEY: settings.to_json(), DIGESTS_KEY: json.dumps(digests)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata(metadata),
        sink,
        compression="zstd",
        row_group_size=max(1, table.num_rows),
        write_page_checksum=True,
    )
    return sink.getvalue().to_pybytes()


def shard_name(settings: Settings, ids: Sequence[str]) -> str:
    """Return the name of a shard: a hash of the settings and of its patients' ids, in their order."""
    key = json.dumps([settings.comparable(), list(ids)], sort_keys=True, separators=(",", ":"))
    return f"part-{hashlib.sha256(key.encode()).hexdigest()[:16]}.parquet"


def is_shard(name: str) -> bool:
    """Return whether a file's name is one that `shard_name` makes."""
    return re.fullmatch(r"part-[0-9a-f]{16}\.parquet", name) is not None


def list_shards(directory: Place) -> list[Place]:
    """List a table's files, ordered by name."""
    with storage_faults(f"{directory} cannot be listed"):
        found = (directory / "features").glob("part-*.parquet")
        return sorted((p for p in found if is_shard(p.name)), key=lambda path: path.name)


def read_shards(
    directory: Place, columns: Sequence[str] | None, *, tolerant: bool = False
) -> Iterator[tuple[Place, pa.Table]]:
    """Read columns of each of a table's files, ordered by name; several at a time from a store.

    Parameters
    ----------
    directory
        DIR.
    columns
        Their names, in the order of `schema`; None: all of them.
    tolerant
        Leave out files that cannot be read.

    Raises
    ------
    StorageError
        If a file cannot be read, or is damaged.

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
    """Read columns of one file (None: all of them), without its metadata.

    Raises
    ------
    StorageError
        If the file cannot be read, or is damaged.

    """
    return read_described_shard(path, columns).replace_schema_metadata(None)


def read_described_shard(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    """Read columns of one file as `read_shard` does, with its metadata."""
    import pyarrow.parquet as pq

    with as_unreadable(path):
        file = pq.ParquetFile(open_parquet(path), page_checksum_verification=True)
        table = file.read(columns=columns)
        check_contents(table, columns)
        return table


@contextmanager
def as_unreadable(path: Place) -> Iterator[None]:
    """Raise StorageError in place of anything that a damaged file makes pyarrow raise."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, KeyError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise StorageError(
            f"{path.parent.parent} has an unreadable shard, {path.name} ({reason})",
            fix="delete that file and repeat the extraction, which makes its patients' rows again",
        ) from error
