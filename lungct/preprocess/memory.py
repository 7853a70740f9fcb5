"""Freed memory that stays with the process, for the next slice."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

_BLOCK_BYTES = 31 << 20  # the largest that glibc learns from has 32 MiB


def keep_freed_memory() -> None:
    """Let this process keep up to 64 MiB of freed memory instead of returning it to the system at once.

    The system clears each page that it hands out again, which takes longer than windowing a slice. glibc returns freed
    memory by the size of the largest block that was freed before (``mallopt(3)``, M_MMAP_THRESHOLD), so a large block
    is freed here. None of its pages is ever used, and it takes a few microseconds. Elsewhere it changes nothing.
    """
    with suppress(MemoryError):
        np.empty(_BLOCK_BYTES, np.uint8)
