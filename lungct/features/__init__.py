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

    settings.py    what every row was made with
    rows.py        a patient's row, and the Arrow schema
    shards.py      files: bytes, names, staging, listing, reading
    writing.py     the driver's side: the index, commits, removal
    reading.py     the whole table, and pooling
"""

from lungct.features.reading import POOLINGS, pooled, read_columns, read_features
from lungct.features.rows import Row, schema
from lungct.features.settings import REVISION, Settings, read_settings
from lungct.features.shards import (
    Staged,
    is_shard,
    list_shards,
    read_shards,
    shard_name,
    stage_rows,
)
from lungct.features.writing import Known, TableWriter, index, remove_table

__all__ = [
    "POOLINGS",
    "REVISION",
    "Known",
    "Row",
    "Settings",
    "Staged",
    "TableWriter",
    "index",
    "is_shard",
    "list_shards",
    "pooled",
    "read_columns",
    "read_features",
    "read_settings",
    "read_shards",
    "remove_table",
    "schema",
    "shard_name",
    "stage_rows",
]
