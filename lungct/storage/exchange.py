"""Replace one directory by another in one step, if the operating system and the file system can."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_RENAME_EXCHANGE = 2  # <linux/fs.h>
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


def exchange(one: Path, other: Path) -> None:
    """Exchange the names of two existing directories or files in one step; raise OSError if that fails."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), str(one), None, str(other))
    paths = [os.fsencode(path) for path in (one, other)]
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))
