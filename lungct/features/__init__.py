"""The feature table: one row per patient, in Parquet shards that appear whole or not at all.

    DIR/features/part-<16 hex digits>.parquet    the shards; reading every one of them is reading the table
    DIR/settings.json                            what every row was made with; written before the first shard
    DIR/.lungct/                                 the owner's record and staged files; readers ignore it

The protocol, which keeps the table correct whichever process dies, and when:

1. Workers write only below ``DIR/.lungct/staging/<owner>/`` (`stage_rows`) and return the path and the ids.
2. Only the driver commits (`TableWriter.commit`), and only while the owner's record is its own. It knows every id in
   the table, drops rows of patients who have one already, and makes a file visible in one step: a rename on a disk, a
   server-side copy in an object store.
3. A shard's name is a function of the settings and of the ids in it, so the same rows written twice are one file. A
   row with features is never replaced by an error row; a retried error row is replaced within its own file, which
   keeps its name because it keeps its ids.
4. On a disk, the owner's record (`lungct.storage.ownership`) is backed by a lock of the operating system. In a store
   it is an object that is only ever replaced on the condition that it is still the version that this owner wrote. The
   owner removes what earlier owners left in staging. So no reader ever sees a torn file, or a patient twice.

Consequences: if an actor or a node dies, Ray repeats its units, and their first files stay unseen in staging; if the
driver dies, the same command does what is missing; if the storage fails, the command ends with exit code 3, and every
committed row stays.

A shard is checked whenever it is read. Its pages have checksums, and a digest of each column in its metadata covers
what those do not (`lungct.features.digests`). Nothing in a shard varies between repetitions of an extraction, so the
same rows are the same bytes.

Terms: a *row* is a patient, either with features or with an *error* (a sentence) and its *error_code*; *pooling* turns
the T rows of D numbers of one patient into one vector.

    settings.py    what every row was made with
    rows.py        a patient's row, and the Arrow schema
    digests.py     digests of a shard's columns, and what is checked when it is read
    shards.py      files: bytes, names, staging, listing, reading
    writing.py     the driver's side: the table's entries, commits, removal
    reading.py     the whole table, and pooling
    checking.py    every file of a table, read and compared with what it should be
"""

from lungct.features.checking import check_table
from lungct.features.reading import POOLINGS, Pooling, pooled, read_feature_columns, read_features
from lungct.features.rows import Row, schema
from lungct.features.settings import (
    BY_PATIENT_ID,
    REVISION,
    SERIES_OPTIONS,
    Settings,
    looks_like_settings,
    read_settings,
)
from lungct.features.shards import (
    StagedShard,
    is_shard,
    list_shards,
    read_shards,
    shard_name,
    stage_rows,
)
from lungct.features.writing import TableEntry, TableWriter, read_entries, remove_table

__all__ = [
    "BY_PATIENT_ID",
    "POOLINGS",
    "REVISION",
    "SERIES_OPTIONS",
    "Pooling",
    "Row",
    "Settings",
    "StagedShard",
    "TableEntry",
    "TableWriter",
    "check_table",
    "is_shard",
    "list_shards",
    "looks_like_settings",
    "pooled",
    "read_entries",
    "read_feature_columns",
    "read_features",
    "read_settings",
    "read_shards",
    "remove_table",
    "schema",
    "shard_name",
    "stage_rows",
]
