"""What every preset gives: a stack of triplets with the position of each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import Scan

SIZE = 224
"""Rows and columns of a triplet's images: what ImageNet's networks were trained on."""


@dataclass(frozen=True, eq=False)
class Triplets:
    """A patient's images for the network.

    Attributes
    ----------
    pixels
        uint8, shape (T, 3, 224, 224); ``pixels[t, c]`` is the c-th slice of triplet t.
    positions_mm
        float64, shape (T,): the middle slices' positions along the normal, in mm; NaN where the
        files do not say.
    scan
        What is known of the scan: what reading found, and what the preset added.

    """

    pixels: NDArray[np.uint8]
    positions_mm: NDArray[np.float64]
    scan: Scan

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        rows, columns = self.pixels.shape[2:]
        return f"Triplets({len(self)} of 3 x {rows} x {columns})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a careful reader should know about the scan, a code each (``docs/intake.md``)."""
        return self.scan.notes

    @property
    def pixel_hash(self) -> str:
        """SHA-256 of the pixels' bytes in C order, 64 hex digits: one for all copies of a scan."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV on the calling thread, and give back the setting found.

    Patients are prepared side by side, each in a task that owns one core; a pool of OpenCV's own
    threads in each of them would only make them wait for one another. The pixels are the same
    either way.
    """
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
