"""OpenCV, kept to the thread that calls it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def single_threaded() -> Iterator[None]:
    """Keep OpenCV on the calling thread within the block, and restore the previous setting.

    Patients are prepared side by side, each in a task that has one core: a pool of OpenCV threads in every task would
    only make the tasks wait for one another. The pixels are the same either way.
    """
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
