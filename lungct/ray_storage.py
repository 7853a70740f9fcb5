"""Where Ray in this process keeps what it writes: sockets and logs in a directory, objects in shared memory.

Ray takes TMPDIR and /dev/shm as it finds them and refuses to start if one of them does not suit it: paths of sockets
are short, and a container's shared memory is often 64 MiB. What does not suit is replaced here, with a warning.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from lungct.errors import UsageError
from lungct.machine import usable_memory
from lungct.patients import printable
from lungct.storage import is_utf8

SHARED_MEMORY = "/dev/shm"
MORE_SHARED_MEMORY = "give the container more shared memory (docker run --shm-size=4g)"
# What is between decoding and the network at any moment needs far less. On a laptop, Ray's default (30 % of the memory)
# would let Ray Data buffer gigabytes for nothing.
MOST_OBJECT_BYTES = 4 << 30
# Two units of long scans fit into this. Less shared memory than this is not used at all.
LEAST_OBJECT_BYTES = 512 << 20
# Ray accepts no less than this.
_RAYS_LEAST_BYTES = 75 << 20
# A socket's path has at most 107 bytes (unix(7)), and this is what Ray appends to its directory.
MOST_DIRECTORY_BYTES = 107 - len("/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store")


@dataclass(frozen=True)
class RayStorage:
    """Where Ray in this process keeps its files and objects.

    Attributes
    ----------
    directory
        For sockets, logs, and objects that do not fit into memory.
    objects, object_bytes
        The directory of the object store, and the store's size.
    directory_warning, objects_warning
        What did not suit Ray, in a sentence; None if all did.

    """

    directory: str
    objects: str
    object_bytes: int
    directory_warning: str | None
    objects_warning: str | None


def find_ray_storage() -> RayStorage:
    """Return the places that suit Ray on this machine.

    Raises
    ------
    UsageError
        If there are none.

    """
    directory, directory_warning = _find_directory()
    objects, object_bytes, objects_warning = _find_objects(directory)
    return RayStorage(directory, objects, object_bytes, directory_warning, objects_warning)


def _find_directory() -> tuple[str, str | None]:
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    wanted = os.path.join(os.path.abspath(os.environ[variable]) if variable else "/tmp", "ray")
    problem = _problem(wanted)
    if problem is None:
        return wanted, None
    named = f"{variable} {printable(os.path.dirname(wanted))}" if variable else printable(wanted)
    for other in ("/tmp/ray", f"/tmp/ray-{os.getuid()}"):
        if _problem(other) is None:
            return other, f"Ray's files are written to {other}, because {named} {problem}"
    raise UsageError(
        f"Ray needs a directory for its sockets and logs: {named} {problem}, and /tmp cannot be written",
        fix="set TMPDIR to a directory with a short path",
    )


def _problem(directory: str) -> str | None:
    """Return why a directory does not suit Ray; None if it does."""
    if not is_utf8(directory):
        return "is not UTF-8"
    length = len(directory.encode())
    if length > MOST_DIRECTORY_BYTES:
        most = MOST_DIRECTORY_BYTES - len("/ray")
        return f"is too long for a socket's path ({length - len('/ray')} bytes; at most {most})"
    nearest = directory
    while not os.path.lexists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest) or not os.access(nearest, os.W_OK | os.X_OK):
        return "cannot be written"
    return None


def _find_objects(directory: str) -> tuple[str, int, str | None]:
    wanted = max(_RAYS_LEAST_BYTES, min(MOST_OBJECT_BYTES, int(0.3 * usable_memory())))
    shared = _free_bytes(SHARED_MEMORY)
    if 0.9 * shared >= min(wanted, LEAST_OBJECT_BYTES):
        return SHARED_MEMORY, min(wanted, int(0.9 * shared)), None
    found = f"{SHARED_MEMORY} has only {shared >> 20} MiB free"
    on_disk = os.path.dirname(directory)
    room = int(0.5 * _free_bytes(on_disk))
    if room < _RAYS_LEAST_BYTES:
        raise UsageError(
            f"{found}, and {on_disk} {_free_bytes(on_disk) >> 20} MiB, too little for Ray's objects",
            fix=f"{MORE_SHARED_MEMORY}, or set TMPDIR to a larger disk",
        )
    warning = f"Ray's objects are kept in {on_disk}, because {found}"
    return on_disk, min(wanted, room), warning


def _free_bytes(directory: str) -> int:
    """Return what may still be written to a directory's file system; 0 if it does not exist."""
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return 0
