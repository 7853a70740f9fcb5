"""The preset dsb2017 written a second time, plainly and slowly, from its numbered rules alone.

Nothing of lungct is used: pydicom reads each file whole, NumPy and OpenCV do what the rules say, in 64-bit integers
where a rule says integers. `lungct.triplets(…, "dsb2017")` must give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.encaps import generate_frames


def reference_triplets(patient_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels, uint8 (T, 3, 224, 224), and positions, float64 (T,), of a directory of one axial series."""
    files = [pydicom.dcmread(path) for path in sorted(Path(patient_dir).iterdir())]
    files = ordered(files)
    images = [grey_image(stored_values(file), float(file.RescaleSlope), float(file.RescaleIntercept)) for file in files]
    triplets, positions = [], []
    i = 0
    while i < len(images) - 3:  # rule 7
        triplets.append([images[i], images[i + 1], images[i + 2]])
        positions.append(position(files[i + 1]))
        i += 3
    return np.array(triplets, np.uint8), np.array(positions, np.float64)


def stored_values(file: pydicom.Dataset) -> np.ndarray:
    """Pixels as pydicom gives them; JPEG lossless and JPEG 2000 by imagecodecs, which pydicom has no plugin for."""
    syntax = str(file.file_meta.TransferSyntaxUID)
    if not syntax.startswith("1.2.840.10008.1.2.4."):
        return file.pixel_array
    import imagecodecs

    (frame,) = generate_frames(file.PixelData, number_of_frames=1)
    decode = imagecodecs.jpeg2k_decode if syntax[20:] in ("90", "91") else imagecodecs.jpeg8_decode
    signed = bool(file.PixelRepresentation)
    return decode(frame).astype("<u2").view("<i2" if signed else "<u2")


def position(file: pydicom.Dataset) -> float:
    """ImagePositionPatient along the normal, turned so that its largest component is positive."""
    row = np.array(file.ImageOrientationPatient[:3], float)
    column = np.array(file.ImageOrientationPatient[3:], float)
    normal = np.cross(row, column)
    if normal[np.argmax(np.abs(normal))] < 0:
        normal = -normal
    return float(np.dot(np.array(file.ImagePositionPatient, float), normal))


def ordered(files: list[pydicom.Dataset]) -> list[pydicom.Dataset]:
    """Rule 1."""
    if any(file.get("InstanceNumber") is None for file in files):
        return sorted(files, key=position)
    return sorted(files, key=lambda file: (int(file.InstanceNumber), position(file)))


def grey_image(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Rules 2 to 6 for one slice."""
    real = np.rint(stored.astype(np.float64) * slope + intercept)
    v = real.astype(np.int64) + 1024  # 2
    v[v < 0] = 0
    m = int(v.max())
    if m == 0:
        g = np.zeros(stored.shape, np.uint8)
    else:
        quotient = np.float64(255.0) / np.float64(m)
        g = np.trunc(quotient * v.astype(np.float64)).astype(np.uint8)  # 3
    g = cv2.equalizeHist(g)  # 4
    rows, columns = g.shape
    top, left = (40 * rows) // 512, (40 * columns) // 512
    g = g[top : rows - top, left : columns - left]  # 5
    return cv2.resize(g, (224, 224), interpolation=cv2.INTER_LINEAR)  # 6
