"""Replace one directory by another in one step, if the operating system and the file system can."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path

_RENAME_EXCHANGE = 2  # <linux/fs.h>
_OCTAL = re.compile(rb"\\([0-7]{3})")
_AT_FDCWD = -100  # <fcntl.h>: paths are relative to the working directory

# A mount point, another file system, a directory of another account, or no such system call.
_NOT_POSSIBLE = frozenset(
    (errno.EBUSY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EACCES)
)


def replace_directory(new: Path, place: Path) -> bool:
    """Move the directory ``new`` to ``place`` in one step, even if a directory exists there.

    If ``place`` is a directory with anything in it, the two change places (renameat2 with RENAME_EXCHANGE), so
    ``new`` is the old directory afterwards. Otherwise ``new`` no longer exists.

    Returns
    -------
    bool
        False if this is impossible, for example because ``place`` is a mount point; both are then unchanged.

    Raises
    ------
    OSError
        If anything else fails.

    """
    try:
        try:
            os.rename(new, place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            exchange(new, place)
    except OSError as error:
        if error.errno in _NOT_POSSIBLE:
            return False
        raise
    return True


def has_mount(directory: Path) -> bool:
    """Return whether anything is mounted at a directory or below it, binds of the same file system included."""
    top = os.path.realpath(directory)
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().split(b"\n")
    except OSError:
        return os.path.ismount(top)
    # proc(5): the fifth field is the mount point, where \ and three octal digits stand for a blank or a backslash.
    points = (_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4]) for line in lines if line)
    return any(os.fsdecode(point) == top or os.fsdecode(point).startswith(f"{top}/") for point in points)


def exchange(one: Path, other: Path) -> None:
    """Exchange the names of two existing directories or files in one step; raise OSError if that fails."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one), None, str(other))
    paths = [os.fsencode(path) for path in (one, other)]
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))
