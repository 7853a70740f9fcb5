"""A volume file (NIfTI, NRRD, MetaImage) -> slices like those of a DICOM series; optional extra lungct[volumes].

Public sets come in these formats (LUNA16, NSCLC-Radiomics): one file per patient, voxels in Hounsfield units, no
information about scanner or person. The array is turned into the order of axial DICOM slices (LPS: columns to the left,
rows to the back, slices to the head); positions and spacing are those of ``geometry.py``.

Volumes have no InstanceNumber, which the preset dsb2017 orders slices by, so they work with the preset lung only.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import elements
from lungct.dicom.decoding import Stored
from lungct.dicom.discovery import open_file
from lungct.dicom.geometry import is_axial, position_along_normal, valid_orientation
from lungct.dicom.headers import MAX_FRAMES, MAX_SLICE_PIXELS
from lungct.dicom.slices import Encoding, Slice
from lungct.errors import SeriesError, UsageError
from lungct.storage.volumefiles import is_volume, is_voxels

MAX_VOXELS = 1 << 29
"""Voxels of one volume: 512 x 512 x 2048."""


def only_volume(files: Sequence[str]) -> str | None:
    """Return the volume if a patient's files are exactly one, or one header with the files of its voxels."""
    found = [file for file in files if is_volume(file)]
    others = [file for file in files if not is_volume(file)]
    if len(found) == 1 and all(is_voxels(file) for file in others):
        return found[0]
    return None


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume in memory.

    Attributes
    ----------
    voxels
        Hounsfield units, int16, int32 or float32, shape (slices, rows, columns), from the feet to the head.
    slices
        What is known of each.
    spacing_mm
        Between slices, rows, columns.

    """

    voxels: NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32]
    slices: tuple[Slice, ...]
    spacing_mm: tuple[float, float, float]

    has_instances = False

    def __repr__(self) -> str:
        slices, rows, columns = self.shape
        return f"Volume({slices} x {rows} x {columns}, {self.voxels.dtype})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of slices, rows and columns."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    def stored(self, image: Slice) -> Stored:
        """Return one slice as integers (rounded, if the file has fractions), shape (rows, columns)."""
        plane = self.voxels[image.frame]
        return np.rint(plane).astype(np.int32) if plane.dtype.kind == "f" else plane.copy()

    def hu(self, image: Slice) -> NDArray[np.float32]:
        """Return one slice in Hounsfield units, float32, shape (rows, columns)."""
        return self.voxels[image.frame].astype(np.float32)


def read(path: str) -> Volume:
    """Read a volume file.

    Raises
    ------
    SeriesError
        ``undecodable`` (damaged, or not one grey volume), ``geometry`` (oblique to the body's axes) or ``limits``.
    UsageError
        If SimpleITK is not installed.
    StorageError
        If the file cannot be read.

    """
    if importlib.util.find_spec("SimpleITK") is None:
        raise UsageError("volume files need SimpleITK, which is not installed", fix="pip install 'lungct[volumes]'")
    with open_file(path) as fd:  # a fault of the disk shows here, as a StorageError; SimpleITK would call it damage
        elements.read_fully(fd, 0, 1)
    try:
        return _read(path)
    except MemoryError:
        raise SeriesError("the volume does not fit into memory", code="limits") from None


def _read(path: str) -> Volume:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name the file
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(path)
        reader.ReadImageInformation()
        size = reader.GetSize()
        components = reader.GetNumberOfComponents()
    except RuntimeError:
        raise SeriesError("the volume file cannot be read", code="undecodable") from None
    if components != 1 or len([n for n in size if n > 1]) > 3 or len(size) < 3:
        raise SeriesError(
            f"the file has {len(size)} dimensions and {components} components, so it is not one volume",
            code="undecodable",
        )
    columns, rows, count = (int(n) for n in size[:3])
    if math.prod(size) > MAX_VOXELS or rows * columns > MAX_SLICE_PIXELS or count > MAX_FRAMES:
        raise SeriesError(
            f"the volume claims {columns} x {rows} x {count} voxels; the limit is {MAX_VOXELS}",
            code="limits",
        )
    try:
        image = reader.Execute()
        if image.GetDimension() == 4:
            image = image[:, :, :, 0]
        image = sitk.DICOMOrient(image, "LPS")
    except (RuntimeError, TypeError):
        raise SeriesError("the volume file cannot be read", code="undecodable") from None
    return _as_slices(
        path,
        sitk.GetArrayFromImage(image),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
        spacing=image.GetSpacing(),
    )


def _as_slices(
    path: str,
    voxels: NDArray[np.generic],
    *,
    origin: Sequence[float],
    direction: Sequence[float],
    spacing: Sequence[float],
) -> Volume:
    if voxels.dtype.kind not in "iuf":
        raise SeriesError("the volume's voxels are not numbers", code="undecodable")
    if voxels.dtype.kind == "f":
        kept = np.asarray(voxels, np.float32)
        if not np.isfinite(kept).all():
            raise SeriesError("the volume has voxels that are not finite numbers", code="undecodable")
    elif voxels.dtype.itemsize <= 2 and voxels.dtype != np.uint16:
        kept = np.asarray(voxels, np.int16)
    else:
        kept = np.asarray(voxels, np.int32)
    # Columns of the direction matrix are the axes; a row of the image runs along the first.
    orientation = valid_orientation([direction[i] for i in (0, 3, 6, 1, 4, 7)])
    if orientation is None or not is_axial(orientation):
        raise SeriesError("the volume is oblique to the body's axes", code="geometry")
    step = (direction[2] * spacing[2], direction[5] * spacing[2], direction[8] * spacing[2])
    count, rows, columns = kept.shape
    encoding = Encoding("", 0, 0, 0, count, 32, 32, 31, True)
    slices = []
    for k in range(count):
        place = (origin[0] + k * step[0], origin[1] + k * step[1], origin[2] + k * step[2])
        slices.append(
            Slice(
                path=path,
                frame=k,
                position_mm=position_along_normal(place, orientation),
                instance_number=None,
                slope=1.0,
                intercept=0.0,
                rows=rows,
                columns=columns,
                encoding=encoding,
                image_position=place,
                orientation=orientation,
                pixel_spacing_mm=(float(spacing[1]), float(spacing[0])),
            )
        )
    return Volume(kept, tuple(slices), (float(spacing[2]), float(spacing[1]), float(spacing[0])))
