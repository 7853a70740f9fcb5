"""A second implementation of the preset dsb2017, slow and plain, from ``docs/formats.md``, "Preset dsb2017", alone.

It uses nothing of lungct: pydicom reads each file whole, and NumPy and OpenCV follow the rules, in 64-bit integers
where a rule says integers. ``lungct.triplets(…, "dsb2017")`` must return the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames


def reference_triplets(patient_dir: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return pixels, uint8 (T, 3, 224, 224), and positions, float64 (T,), of a directory of one axial series."""
    files = ordered([pydicom.dcmread(path) for path in sorted(patient_dir.iterdir())])
    images = [
        slice_image(stored_values(file), float(file.RescaleSlope), float(file.RescaleIntercept)) for file in files
    ]
    triplets, positions = [], []
    i = 0
    while i < len(images) - 3:  # rule 7
        triplets.append([images[i], images[i + 1], images[i + 2]])
        positions.append(position(files[i + 1]))
        i += 3
    return np.array(triplets, np.uint8), np.array(positions, np.float64)


def stored_values(file: pydicom.Dataset) -> NDArray[Any]:
    """Return the stored values: pydicom's, or imagecodecs' where pydicom has no plugin (JPEG lossless, JPEG 2000)."""
    syntax = str(file.file_meta.TransferSyntaxUID)
    if not syntax.startswith("1.2.840.10008.1.2.4."):
        pixels: NDArray[Any] = file.pixel_array
        return pixels
    import imagecodecs

    (frame,) = generate_frames(file.PixelData, number_of_frames=1)
    decode = imagecodecs.jpeg2k_decode if syntax[20:] in ("90", "91") else imagecodecs.jpeg8_decode
    signed = bool(file.PixelRepresentation)
    decoded: NDArray[Any] = decode(frame).astype("<u2").view("<i2" if signed else "<u2")
    return decoded


def position(file: pydicom.Dataset) -> float:
    """Return ImagePositionPatient along the normal, turned so that its largest component is positive."""
    row = np.array(file.ImageOrientationPatient[:3], float)
    column = np.array(file.ImageOrientationPatient[3:], float)
    normal = np.cross(row, column)
    if normal[np.argmax(np.abs(normal))] < 0:
        normal = -normal
    return float(np.dot(np.array(file.ImagePositionPatient, float), normal))


def ordered(files: Sequence[pydicom.Dataset]) -> list[pydicom.Dataset]:
    """Return the files in order (rule 1)."""
    numbers = [file.get("InstanceNumber") for file in files]
    if None in numbers or len(set(numbers)) < len(files):
        return sorted(files, key=position)
    return sorted(files, key=lambda file: int(file.InstanceNumber))


def slice_image(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[np.uint8]:
    """Return one slice as a channel of a triplet (rules 2 to 6)."""
    v = np.rint(stored.astype(np.float64) * slope + intercept).astype(np.int64) + 1024  # rule 2
    v[v < 0] = 0
    m = int(v.max())  # rule 3
    if m == 0:
        grey = np.zeros(stored.shape, np.uint8)
    else:
        quotient = np.float64(255.0) / np.float64(m)
        grey = np.trunc(quotient * v.astype(np.float64)).astype(np.uint8)
    equalised = cv2.equalizeHist(grey)  # rule 4
    rows, columns = stored.shape
    top, left = (40 * rows) // 512, (40 * columns) // 512
    inside = equalised[top : rows - top, left : columns - left]  # rule 5
    resized: NDArray[np.uint8] = cv2.resize(inside, (224, 224), interpolation=cv2.INTER_LINEAR)  # rule 6
    return resized
