"""`Triplets`: a patient's images as every preset returns them, with the position of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import Scan

TRIPLET_SIZE = 224
"""Rows and columns of a triplet's images: the size that ImageNet networks are trained on."""


@dataclass(frozen=True, eq=False)
class Triplets:
    """A patient's images for the network.

    Attributes
    ----------
    pixels
        uint8, shape (T, 3, 224, 224); ``pixels[t, c]`` is slice c of triplet t.
    positions_mm
        float64, shape (T,): positions of the middle slices along the normal, in mm; NaN where the files do not state
        them.
    scan
        What reading and the preset found out about the scan.

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
        """What a careful reader should know about the scan, one code each (``docs/intake.md``)."""
        return self.scan.notes

    @property
    def pixel_hash(self) -> str:
        """SHA-256 of the pixels' bytes in C order, 64 hex digits: the same for all copies of a scan."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels).data).hexdigest()
