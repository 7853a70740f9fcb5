"""What this process may use of its machine."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0))
