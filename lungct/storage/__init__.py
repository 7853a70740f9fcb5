"""Where bytes are kept: list, read, write whole or not at all, own a table; on local disks and in object stores.

    places.py       what a user typed -> a place: a `pathlib.Path`, or an `ObjectPath` that is used like one
    local.py        local disks: a file is written beside its final place, synced and renamed
    exchange.py     two directories of a local disk, exchanged in one step
    client.py       opening an object store (``s3://``, ``gs://``, ``abfs://``), and the translation of its errors
    oddkeys.py      directories of S3 in which a key has an empty part
    objects.py      objects used like files: one put or one copy within the store makes a file
    ownership/      the right to change one table: a lock on a disk, a record with a heartbeat in a store
    fetching.py     a patient's objects -> files on this machine's disk, fetched by many requests at once
    volumefiles.py  which files are volumes, and which have the voxels of one

Everything written through this package appears in one step or not at all. What does not exist is a
`FileNotFoundError`. Every other failure of storage is a `lungct.errors.StorageError`, which names the place and never a
credential.
"""

from lungct.storage.fetching import fetch_copy, is_remote, local_copies, local_copy
from lungct.storage.local import storage_faults
from lungct.storage.objects import ObjectPath
from lungct.storage.ownership import Owner, check_free, check_locks, own
from lungct.storage.places import (
    Place,
    check_directory,
    depth_below,
    discard,
    is_utf8,
    list_levels,
    local_path,
    locate,
    make_directory,
    open_parquet,
    output_file,
    publish,
    removal_batches,
    remove,
    same_place,
    stage,
    unique_name,
    write_atomically,
)

__all__ = [
    "ObjectPath",
    "Owner",
    "Place",
    "check_directory",
    "check_free",
    "check_locks",
    "depth_below",
    "discard",
    "fetch_copy",
    "is_remote",
    "is_utf8",
    "list_levels",
    "local_copies",
    "local_copy",
    "local_path",
    "locate",
    "make_directory",
    "open_parquet",
    "output_file",
    "own",
    "publish",
    "removal_batches",
    "remove",
    "same_place",
    "stage",
    "storage_faults",
    "unique_name",
    "write_atomically",
]
