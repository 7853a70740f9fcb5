"""The feature table: one row a patient, in Parquet shards that appear whole or not at all.

    DIR/features/part-<16 hex digits>.parquet    the shards: whoever globs them sees the table
    DIR/settings.json                            what every row was made with; written before the first shard
    DIR/.lungct/                                 the owner's record and staging; nobody else reads it

The protocol, which keeps the table right whatever process dies when:

1. Whoever computes writes only below ``DIR/.lungct/staging/<run>/`` (`stage_rows`) and hands back the path and ids.
2. The driver alone commits (`TableWriter.commit`), while the owner's record is its own: it knows every id in the
   table, drops those that are there, and makes the file visible in one step: by a rename on a disk, by one copy that
   the store makes itself in an object store.
3. A shard's name is a function of the settings and of the ids in it, so the same file written twice is the same file.
   A row with features is never replaced by an error row; ``retry`` replaces a file by one with the same ids.
4. The owner's record (`lungct.storage.ownership`) is the operating system's lock on a disk, and in a store an object
   that is only ever written on the condition that it is still the owner's; staging of other runs is removed by the
   owner. A reader therefore never sees a torn file, nor a patient twice.

What this gives, whatever dies when: an actor or a node, its units are done again by Ray and their old files stay
unseen in staging; the driver, the same command again does what is missing; the storage, the run ends with exit 3 and
what was committed stays.

Nothing that varies from run to run is in a shard. Terms: a *row* is a patient, with features or with an *error* (a
sentence) and its *error_code*; *pooling* turns a patient's T rows of D numbers into one vector.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct import __version__
from lungct.errors import StorageError, UsageError
from lungct.storage import (
    ObjectPath,
    Owner,
    Place,
    discard,
    locate,
    make_directory,
    new_run_id,
    open_parquet,
    publish,
    remove,
    stage,
    storage_faults,
    write_atomically,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

SCHEMA = 1
# Raised whenever pixels, the choice of series or arithmetic change: rows of two revisions do not mix.
REVISION = 1
POOLINGS = ("mean", "max", "meanmax", "meanstd")
INFORMATION = ("lungct", "weights")
# Files read from a store at the same time.
READERS = 16
REMOVED_AT_ONCE = 500


@dataclass(frozen=True)
class Settings:
    """What every row of a table was made with (``settings.json``).

    Attributes
    ----------
    preset, backbone, weights, precision, device, batch_size
        As `lungct.extract` takes them, settled: no "auto".
    weights_sha256
        What the weights are, whatever file they came in.
    depth
        Directory levels down to a patient, or "patient-id".
    pseudonym_key
        A fingerprint of the key that ids are hashed with, or None.
    dim
        D, numbers in a feature.

    """

    preset: str
    backbone: str
    weights: str
    weights_sha256: str
    precision: str
    device: str
    batch_size: int
    depth: int | str
    pseudonym_key: str | None
    dim: int
    schema: int = SCHEMA
    revision: int = REVISION
    lungct: str = __version__

    def as_dict(self) -> dict[str, Any]:
        """Give the settings in the order of the documentation."""
        first = ("schema", "revision", "lungct")
        values = asdict(self)
        return {name: values[name] for name in first} | {
            name: value for name, value in values.items() if name not in first
        }

    def comparable(self) -> dict[str, Any]:
        """Give what must be equal for two runs to make one table."""
        return {k: v for k, v in self.as_dict().items() if k not in INFORMATION}

    def to_json(self) -> str:
        """Give the text of ``settings.json`` and of the shards' metadata."""
        return json.dumps(self.as_dict(), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, *, where: str) -> Settings:
        """Read settings back; UsageError where they are none of ours."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise TypeError("not an object")
            if values.get("schema") != SCHEMA:
                raise UsageError(
                    f"{where} has schema {values.get('schema')!r} and this lungct reads {SCHEMA}: "
                    "use the version that wrote it, or another --out"
                )
            names = {field.name for field in fields(cls)}
            return cls(**{name: values[name] for name in names})
        except KeyError as error:
            raise UsageError(
                f"{where} is not a feature table's settings.json (it has no {error})"
            ) from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"{where} is not a feature table's settings.json ({error})") from error

    def differences(self, other: Settings) -> list[str]:
        """Say each comparable difference with both values."""
        mine, theirs = self.comparable(), other.comparable()
        return [f"{k}: {mine[k]!r} against {theirs[k]!r}" for k in mine if mine[k] != theirs[k]]


def schema(dim: int) -> pa.Schema:
    """Give the Arrow schema of a table whose features have ``dim`` numbers."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("patient_id", pa.string(), nullable=False),
            pa.field("error", pa.string()),
            pa.field("error_code", pa.string()),
            pa.field("slices", pa.int32()),
            pa.field("spacing_mm", pa.list_(pa.float64(), 3)),
            pa.field("manufacturer", pa.string()),
            pa.field("kernel", pa.string()),
            pa.field("series_reason", pa.string()),
            pa.field("pixel_hash", pa.string()),
            pa.field("positions_mm", pa.list_(pa.float64())),
            pa.field("features", pa.list_(pa.list_(pa.float32(), dim))),
        ]
    )


@dataclass(frozen=True)
class Row:
    """One patient's row: features, or an error and its code.

    Attributes
    ----------
    features
        float32 (T, D), or None with ``error``.
    positions_mm
        float64 (T,), or None with ``error``.

    """

    patient_id: str
    error: str | None = None
    error_code: str | None = None
    slices: int | None = None
    spacing_mm: tuple[float, float, float] | None = None
    manufacturer: str | None = None
    kernel: str | None = None
    series_reason: str | None = None
    pixel_hash: str | None = None
    positions_mm: NDArray[np.float64] | None = None
    features: NDArray[np.float32] | None = None


def rows_to_table(rows: Iterable[Row], dim: int) -> pa.Table:
    """Turn rows into an Arrow table of section 4's schema, ordered by patient_id; an empty text is null."""
    import pyarrow as pa

    ordered = sorted(rows, key=lambda row: row.patient_id)
    target = schema(dim)

    def column(name: str) -> pa.Array:
        kind = target.field(name).type
        if name == "features":
            return _features_array([row.features for row in ordered], dim)
        values = [getattr(row, name) for row in ordered]
        if pa.types.is_string(kind):
            values = [value if value else None for value in values]
        return pa.array(values, type=kind)

    return pa.Table.from_arrays([column(name) for name in target.names], schema=target)


def _features_array(features: Sequence[NDArray[np.float32] | None], dim: int) -> pa.Array:
    """Build list<fixed_size_list<float>[dim]> without a Python object for each number."""
    import pyarrow as pa

    lengths = [0 if block is None else len(block) for block in features]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    blocks = [block for block in features if block is not None]
    flat = np.concatenate(blocks).astype(np.float32, copy=False).ravel() if blocks else np.empty(0)
    values = pa.FixedSizeListArray.from_arrays(pa.array(flat, type=pa.float32()), dim)
    mask = pa.array([block is None for block in features], type=pa.bool_())
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


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


@dataclass(frozen=True)
class Staged:
    """A finished file in staging, not yet part of the table: its patients, and which of them have error rows."""

    path: str
    ids: list[str]
    failed: list[str]


def stage_rows(rows: Iterable[Row], settings: Settings, staging: str) -> Staged:
    """Write rows as a whole file into a run's staging; for whoever computes, on any node."""
    table = rows_to_table(rows, settings.dim)
    path = locate(staging, option="staging") / f"{new_run_id()}.parquet"
    stage(path, shard_bytes(table, settings))
    ids, codes = (table.column(name).to_pylist() for name in ("patient_id", "error_code"))
    failed = [name for name, code in zip(ids, codes, strict=True) if code is not None]
    return Staged(str(path), ids, failed)


@dataclass
class Known:
    """A patient's row that is in the table: which file, and whether it is an error row."""

    file: str
    failed: bool


class TableWriter:
    """The driver's hand on a table that it owns.

    Parameters
    ----------
    directory
        DIR.
    owner
        The ownership, taken before.
    settings
        The settings of every row.

    """

    def __init__(self, directory: Place, owner: Owner, settings: Settings) -> None:
        self.directory = directory
        self.owner = owner
        self.settings = settings
        self.known = index(directory)

    def begin(self) -> None:
        """Write ``settings.json`` where there is none yet."""
        with self.owner.committing():
            make_directory(self.directory / "features", option="--out")
            path = self.directory / "settings.json"
            if not path.exists():
                write_atomically(path, self.settings.to_json().encode())

    def commit(self, staged: Staged) -> None:
        """Make a staged file part of the table, but for patients who are there already.

        Error rows of patients in the table are replaced within their own file.
        """
        with self.owner.committing():
            fresh = [name for name in staged.ids if name not in self.known]
            old = {self.known[name].file for name in staged.ids if self._replaceable(name)}
            source = locate(staged.path, option="staging")
            for file in sorted(old):
                self._replace(file, source)
            if len(fresh) == len(staged.ids):
                self._publish(source, fresh, set(staged.failed))
            elif fresh:
                rows = _select(_read_shard(source), set(fresh))
                self._publish_table(rows)
            discard(source)

    def _replaceable(self, patient_id: str) -> bool:
        return patient_id in self.known and self.known[patient_id].failed

    def _replace(self, file: str, source: Place) -> None:
        """Put the new rows of patients who have error rows in ``file`` in their places."""
        import pyarrow as pa

        path = self.directory / "features" / file
        old, new = _read_shard(path), _read_shard(source)
        renewed = {
            name
            for name in new.column("patient_id").to_pylist()
            if self._replaceable(name) and self.known[name].file == file
        }
        kept = set(old.column("patient_id").to_pylist()) - renewed
        merged = pa.concat_tables([_select(old, kept), _select(new, renewed)])
        merged = merged.sort_by("patient_id").combine_chunks()
        if not merged.equals(old):
            self._publish_table(merged)

    def _publish_table(self, table: pa.Table) -> None:
        staged = self.owner.staging / f"{new_run_id()}.parquet"
        stage(staged, shard_bytes(table, self.settings))
        ids, codes = (table.column(n).to_pylist() for n in ("patient_id", "error_code"))
        failed = {name for name, code in zip(ids, codes, strict=True) if code is not None}
        self._publish(staged, ids, failed)

    def _publish(self, staged: Place, ids: list[str], failed: set[str]) -> None:
        name = shard_name(self.settings, ids)
        publish(staged, self.directory / "features" / name)
        for patient_id in ids:
            self.known[patient_id] = Known(name, patient_id in failed)


def index(directory: Place) -> dict[str, Known]:
    """Read which patients a table has, file by file.

    Raises
    ------
    StorageError
        If a shard cannot be read, or a patient stands in two.

    """
    known: dict[str, Known] = {}
    for path, table in read_shards(directory, ["patient_id", "error_code"]):
        for patient_id, code in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if patient_id in known:
                raise StorageError(
                    f"{directory} has a patient in two shards, {known[patient_id].file} and {path.name}: "
                    "it was changed by hand; begin anew with --overwrite"
                )
            known[patient_id] = Known(path.name, code is not None)
    return known


def remove_table(directory: Place, owner: Owner) -> None:
    """Remove a table's shards and settings, and nothing that lungct did not write.

    ``settings.json`` goes last: a kill in between leaves a smaller table, never rows without settings. Each
    batch begins as a commit does, so that a long removal neither goes stale nor goes on after a take-over.
    """
    paths = shards(directory)
    for start in range(0, len(paths), REMOVED_AT_ONCE):
        with owner.committing():
            remove(paths[start : start + REMOVED_AT_ONCE])
    with owner.committing(), storage_faults(f"{directory} cannot be emptied"):
        (directory / "settings.json").unlink(missing_ok=True)
        folder = directory / "features"
        if isinstance(folder, Path) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def read_settings(directory: str | os.PathLike[str] | ObjectPath) -> Settings:
    """Read a table's settings.

    Raises
    ------
    UsageError
        If the directory is no feature table.

    """
    path = locate(directory, option="DIR") / "settings.json"
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{directory} is not a feature table (it has no settings.json): give the --out of an extract"
        ) from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    return Settings.from_json(text, where=str(path))


def read_features(dir: str | os.PathLike[str] | ObjectPath) -> pa.Table:
    """Read a whole feature table.

    Parameters
    ----------
    dir
        The ``--out`` of an extract.

    Returns
    -------
    pyarrow.Table
        The columns of `schema`, ordered by patient_id; error rows included.

    Raises
    ------
    UsageError
        If the directory is no feature table.
    StorageError
        If a shard cannot be read.

    """
    return read_columns(dir, None)


def read_columns(
    dir: str | os.PathLike[str] | ObjectPath, columns: Sequence[str] | None
) -> pa.Table:
    """Read some columns of a feature table (None: all of them), as `read_features` does."""
    import pyarrow as pa

    wanted = schema(read_settings(dir).dim)
    if columns is not None:
        wanted = pa.schema([wanted.field(name) for name in columns])
    found = [table.cast(wanted) for _, table in read_shards(locate(dir, option="DIR"), columns)]
    table = pa.concat_tables([wanted.empty_table(), *found])
    return table.sort_by("patient_id").combine_chunks()


def pooled(
    dir_or_table: str | os.PathLike[str] | ObjectPath | pa.Table, pooling: str = "mean"
) -> tuple[list[str], NDArray[np.float32]]:
    """Pool each patient's features into one vector.

    Parameters
    ----------
    dir_or_table
        A feature table's directory, or the table that `read_features` gives.
    pooling
        ``mean``, ``max``, ``meanmax`` (mean, then max) or ``meanstd`` (mean, then population standard deviation),
        over the patient's T rows, in float64.

    Returns
    -------
    ids : list of str
        Patients with features, ordered by id.
    X : float32 (n, P)
        P is D for ``mean`` and ``max``, 2 D for the others.

    """
    if pooling not in POOLINGS:
        raise UsageError(f"--pooling {pooling} is unknown: take one of {', '.join(POOLINGS)}")
    if isinstance(dir_or_table, str | os.PathLike | ObjectPath):
        # Shard by shard: a programme's features do not fit in memory, their pooled ones do.
        dim = read_settings(dir_or_table).dim
        place = locate(dir_or_table, option="DIR")
        parts = [
            _pool_table(table, pooling)
            for _, table in read_shards(place, ["patient_id", "features"])
        ]
    else:
        dim = dir_or_table.schema.field("features").type.value_type.list_size
        parts = [_pool_table(dir_or_table, pooling)]
    ids = [patient_id for names, _ in parts for patient_id in names]
    X = np.concatenate([np.empty((0, _width(dim, pooling)), np.float32), *(x for _, x in parts)])
    order = sorted(range(len(ids)), key=ids.__getitem__)
    return [ids[i] for i in order], X[order]


def _pool_table(table: pa.Table, pooling: str) -> tuple[list[str], NDArray[np.float32]]:
    """Pool the patients of a table who have features, in its order."""
    import pyarrow.compute as pc

    table = table.filter(pc.is_valid(table.column("features")))
    ids: list[str] = table.column("patient_id").to_pylist()
    dim = table.schema.field("features").type.value_type.list_size
    out = np.empty((len(ids), _width(dim, pooling)), dtype=np.float32)
    for i, scalar in enumerate(table.column("features")):
        rows = scalar.values.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
        out[i] = _pool(rows.astype(np.float64), pooling)
    return ids, out


def _width(dim: int, pooling: str) -> int:
    return dim * (2 if pooling in ("meanmax", "meanstd") else 1)


def _pool(rows: NDArray[np.float64], pooling: str) -> NDArray[np.float64]:
    """Pool (T, D) into (P,)."""
    if pooling == "mean":
        return rows.mean(axis=0)
    if pooling == "max":
        return rows.max(axis=0)
    second = rows.max(axis=0) if pooling == "meanmax" else rows.std(axis=0)
    return np.concatenate([rows.mean(axis=0), second])


def is_shard(name: str) -> bool:
    """Whether a file's name is one that `shard_name` gives."""
    return re.fullmatch(r"part-[0-9a-f]{16}\.parquet", name) is not None


def shards(directory: Place) -> list[Place]:
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
    paths = shards(directory)
    if isinstance(directory, Path):
        reads: Iterator[tuple[Place, Callable[[], pa.Table]]] = (
            (path, partial(_read_shard, path, columns)) for path in paths
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
            waiting.append((path, pool.submit(_read_shard, path, columns)))
            if len(waiting) == 2 * READERS:
                done, future = waiting.popleft()
                yield done, future.result
        for done, future in waiting:
            yield done, future.result


def _read_shard(path: Place, columns: Sequence[str] | None = None) -> pa.Table:
    import pyarrow.parquet as pq

    with _unreadable(path):
        file = pq.ParquetFile(open_parquet(path))
        return file.read(columns=columns).replace_schema_metadata(None)


def _select(table: pa.Table, ids: set[str]) -> pa.Table:
    import pyarrow as pa

    wanted = [name in ids for name in table.column("patient_id").to_pylist()]
    return table.filter(pa.array(wanted, type=pa.bool_()))


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
