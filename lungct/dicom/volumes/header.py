"""`VolumeHeader`: what the header of a volume file contains, whatever its format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.arguments import counted
from lungct.dicom.frames import MAX_FRAMES
from lungct.dicom.headers import MAX_SLICE_PIXELS
from lungct.errors import SeriesError

GZIP = b"\x1f\x8b"
"""The first bytes of a gzip stream."""
MAX_VOXELS = 1 << 29
"""Voxels of one volume: 512 x 512 x 2048."""
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
"""What turns NIfTI's coordinates (right, anterior, superior) into DICOM's (left, posterior, superior)."""


@dataclass(frozen=True)
class VoxelData:
    """Where the voxels are.

    Attributes
    ----------
    path
        The file: the header's own, or one beside it.
    offset
        Where they begin in the file, or the compressed stream that contains them; None if they end the file.
    compressed
        Whether they are in a gzip or zlib stream.
    skip
        Bytes of that stream before them.

    """

    path: str
    offset: int | None
    compressed: bool = False
    skip: int = 0


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """The header of a volume file.

    Attributes
    ----------
    sizes
        Voxels along each stored axis.
    dtype
        Of the voxels in the file: integers or floating point, with the byte order.
    slope, intercept
        Hounsfield units are the file's values x slope + intercept.
    axes_mm
        Column i is the step from one voxel to the next along stored axis i, float64 (3, 3), LPS.
    origin_mm
        Centre of the first voxel, float64 (3,), LPS.
    data
        Where the voxels are.

    """

    sizes: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    axes_mm: NDArray[np.float64]
    origin_mm: NDArray[np.float64]
    data: VoxelData
    slope: float = 1.0
    intercept: float = 0.0


def three_sizes(sizes: Sequence[int]) -> tuple[int, int, int]:
    """Return the sizes of one volume; further axes must have the size 1.

    Raises
    ------
    SeriesError
        ``undecodable``, if it is not one volume; ``limits``, if it has more than `MAX_VOXELS`.

    """
    if len(sizes) < 3:
        raise undecodable(f"the volume file has {counted(len(sizes), 'axis', 'axes')}; a volume has three")
    if min(sizes) < 1:
        raise undecodable("the volume's header is damaged: an axis has no voxels")
    volumes = math.prod(sizes[3:])
    if volumes > 1:
        raise undecodable(f"the file has {volumes} volumes; a scan is one")
    if math.prod(sizes) > MAX_VOXELS:
        raise too_large(sizes[:3])
    return sizes[0], sizes[1], sizes[2]


def undecodable(sentence: str) -> SeriesError:
    """Return the error of a file whose header or voxels cannot be understood."""
    return SeriesError(sentence, code="undecodable")


def unplaced(sentence: str) -> SeriesError:
    """Return the error of a volume that does not lie in the patient as a stack of slices must."""
    return SeriesError(sentence, code="geometry")


def too_large(sizes: Sequence[int]) -> SeriesError:
    """Return the error of a volume that claims more than the limits."""
    return SeriesError(
        f"the volume claims {' x '.join(map(str, sizes))} voxels; the limits are {MAX_VOXELS} in all, "
        f"{MAX_SLICE_PIXELS} in a slice and {MAX_FRAMES} slices",
        code="limits",
    )
