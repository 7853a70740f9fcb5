"""A volume file -> `Volume`: what is known of its slices, and their pixels on request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.dicom.decoding import Stored
from lungct.dicom.frames import MAX_FRAMES
from lungct.dicom.geometry import position_along_normal
from lungct.dicom.headers import MAX_SLICE_PIXELS
from lungct.dicom.slices import Encoding, Slice
from lungct.dicom.volumes import metaimage, nifti, nrrd
from lungct.dicom.volumes.header import too_large
from lungct.dicom.volumes.placement import Placement, place
from lungct.dicom.volumes.voxels import Planes, check_length, open_planes
from lungct.errors import SeriesError

_MOST_STORED = 1 << 30
_READERS = {
    (".nii", ".nii.gz"): nifti.read_header,
    (".nrrd", ".nhdr"): nrrd.read_header,
    (".mhd", ".mha"): metaimage.read_header,
}


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume whose slices are read on request.

    Attributes
    ----------
    planes
        The voxels.
    placement
        How they are turned to slices, and where these lie.
    slices
        What is known of each slice, from the feet to the head.

    """

    planes: Planes
    placement: Placement
    slices: tuple[Slice, ...]

    has_instances = False

    def __repr__(self) -> str:
        return f"Volume({' x '.join(map(str, self.placement.sizes))})"

    def stored(self, image: Slice) -> Stored:
        """Return one slice in Hounsfield units as integers (rounded, if the file has fractions), (rows, columns)."""
        return np.rint(np.clip(self.hu(image), -_MOST_STORED, _MOST_STORED)).astype(np.int32)

    def hu(self, image: Slice) -> NDArray[np.float32]:
        """Return one slice in Hounsfield units, float32, shape (rows, columns)."""
        (columns, leftwards), (rows, forwards), (_, downwards) = self.placement.axes
        number = len(self.slices) - 1 - image.frame if downwards else image.frame
        plane = self.planes.plane(number)
        if columns > rows:
            plane = plane.T
        return np.ascontiguousarray(plane[:: -1 if forwards else 1, :: -1 if leftwards else 1])


def read_volume_file(path: str) -> Volume:
    """Read a volume file: its header, and as much of its voxels as makes its slices readable.

    Raises
    ------
    SeriesError
        ``undecodable`` (damaged, or not one grey volume), ``geometry`` (its axes are sheared, oblique to the body's, or
        unknown) or ``limits``.
    StorageError
        If a file cannot be read, or the temporary directory cannot be written to.

    """
    read_header = next(reader for endings, reader in _READERS.items() if path.lower().endswith(endings))
    with np.errstate(all="ignore"):  # numbers that are absurd are refused, and NumPy need not warn of them
        header = read_header(path)
        check_length(header)
        placement = place(header)
    slices, rows, columns = placement.sizes
    if rows * columns > MAX_SLICE_PIXELS or slices > MAX_FRAMES:
        raise too_large(header.sizes)
    try:
        planes = open_planes(header, placement.axes[2][0])
    except MemoryError:
        raise SeriesError("a plane of the volume does not fit into memory", code="limits") from None
    return Volume(planes, placement, _slices(path, placement))


def _slices(path: str, placement: Placement) -> tuple[Slice, ...]:
    count, rows, columns = placement.sizes
    _, row_mm, column_mm = placement.spacing_mm
    encoding = Encoding("", 0, 0, 0, count, 32, 32, 31, True)
    slices = []
    for k in range(count):
        position = placement.image_position(k)
        slices.append(
            Slice(
                path=path,
                frame=k,
                position_mm=position_along_normal(position, placement.orientation),
                instance_number=None,
                slope=1.0,
                intercept=0.0,
                rows=rows,
                columns=columns,
                encoding=encoding,
                image_position=position,
                orientation=placement.orientation,
                pixel_spacing_mm=(row_mm, column_mm),
            )
        )
    return tuple(slices)
