"""Where bytes are kept: list, read, put whole or not at all, own a table; on local disks and in object stores.

    places.py      what a user typed -> a place: a `pathlib.Path`, or an `ObjectPath` that is used like one
    local.py       local disks: a file is written beside its place, synced, renamed, its directory synced
    objects.py     object stores (``s3://``, ``gs://``, ``abfs://``): one put or one server-side copy makes a file
    ownership.py   the right to change one table: a lock on a disk, a record with a sign of life in a store
    fetching.py    a patient's objects -> files on this machine's disk, many requests at once
    volumefiles.py which files are volumes, by the ends of their names

Everything written through this package appears in one step or not at all. What does not exist is a
`FileNotFoundError`; whatever else storage refuses is a `lungct.errors.StorageError`, whose sentence names the place and
never a credential.
"""

from lungct.storage.fetching import is_remote, kept_copy, local_copies, local_copy
from lungct.storage.local import storage_faults
from lungct.storage.objects import ObjectPath
from lungct.storage.ownership import Owner, check_free, own
from lungct.storage.places import (
    Place,
    check_directory,
    discard,
    lies_in,
    local_path,
    locate,
    make_directory,
    new_run_id,
    open_parquet,
    output_file,
    publish,
    removals,
    remove,
    same_place,
    stage,
    subdirectories,
    write_atomically,
)

__all__ = [
    "ObjectPath",
    "Owner",
    "Place",
    "check_directory",
    "check_free",
    "discard",
    "is_remote",
    "kept_copy",
    "lies_in",
    "local_copies",
    "local_copy",
    "local_path",
    "locate",
    "make_directory",
    "new_run_id",
    "open_parquet",
    "output_file",
    "own",
    "publish",
    "removals",
    "remove",
    "same_place",
    "stage",
    "storage_faults",
    "subdirectories",
    "write_atomically",
]
