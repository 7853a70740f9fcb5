"""What this process may use of its machine, and what may be missing there: a user's name, a home directory."""

from __future__ import annotations

import getpass
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Where a control group's limit on memory is written: version 2, version 1.
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def usable_cpus() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def usable_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or fewer in a container with a limit."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in _MEMORY_LIMITS:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # version 2 writes "max" where there is no limit
            limits.append(int(text))
    return min(limits)


@dataclass(frozen=True)
class Account:
    """Who this process runs as.

    Attributes
    ----------
    name, home
        The user's name and home directory.
    substituted
        Whether `ensure_account` had to invent either.

    """

    name: str
    home: str
    substituted: bool


def ensure_account() -> Account:
    """Give this process a user's name and a home directory if its account has none; its children inherit both.

    A container that runs under an arbitrary user id has no account of that id. But PyTorch asks for the user's name
    when it is imported, and for the home directory before it downloads weights.
    """
    if not _has_name():
        os.environ["LOGNAME"] = _invented_name()
    if not _has_home():
        os.environ["HOME"] = _temporary_home()
    name, home = getpass.getuser(), os.path.expanduser("~")
    return Account(name, home, name == _invented_name() or _PREFIX in home)


def _has_name() -> bool:
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError):  # OSError since Python 3.13
        return False


def _invented_name() -> str:
    return f"user{os.getuid()}"


def _has_home() -> bool:
    """Return whether there is a home directory; "/" is what container engines say if they know none."""
    home = os.path.expanduser("~")
    return os.path.isdir(home) and (home != "/" or os.access(home, os.W_OK))


_PREFIX = "lungct-home-"


def _temporary_home() -> str:
    """Return a directory that serves as home to every process of this user id, and that belongs to nobody else."""
    home = os.path.join(tempfile.gettempdir(), f"{_PREFIX}{os.getuid()}")
    try:
        os.mkdir(home, 0o700)
    except FileExistsError:
        status = os.lstat(home)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            return tempfile.mkdtemp(prefix=_PREFIX)
    return home
