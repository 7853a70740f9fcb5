"""NIfTI-1 and NIfTI-2 (``.nii``, ``.nii.gz``) -> `VolumeHeader`.

A file says up to twice where its voxels lie: by a matrix (*sform*) and by a rotation (*qform*), both in RAS. The sform
is used if there is one, as nibabel does; a file whose two statements contradict each other is refused. A file with
neither is refused, too: readers disagree about which way its rows run.

https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h
"""

from __future__ import annotations

import math
import zlib
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lungct.dicom import elements
from lungct.dicom.discovery import open_file
from lungct.dicom.volumes.header import GZIP, RAS_TO_LPS, VolumeHeader, VoxelData, three_sizes, undecodable, unplaced
from lungct.dicom.volumes.placement import check_right_angles

ByteOrder = Literal["<", ">"]

_FIELDS = (
    *("sizeof_hdr", "dim", "datatype", "pixdim", "vox_offset", "scl_slope", "scl_inter", "xyzt_units"),
    *("qform_code", "sform_code", "quatern", "qoffset", "srow", "magic"),
)
_NIFTI_1 = np.dtype(
    {
        "names": _FIELDS,
        "formats": ("i4", "8i2", "i2", "8f4", "f4", "f4", "f4", "u1", "i2", "i2", "3f4", "3f4", "(3,4)f4", "S4"),
        "offsets": (0, 40, 70, 76, 108, 112, 116, 123, 252, 254, 256, 268, 280, 344),
        "itemsize": 348,
    }
)
_NIFTI_2 = np.dtype(
    {
        "names": _FIELDS,
        "formats": ("i4", "8i8", "i2", "8f8", "i8", "f8", "f8", "i4", "i4", "i4", "3f8", "3f8", "(3,4)f8", "S8"),
        "offsets": (0, 16, 12, 104, 168, 176, 184, 500, 344, 348, 352, 376, 400, 4),
        "itemsize": 540,
    }
)
_VOXELS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_OTHER_VOXELS = {
    1: "single bits",
    32: "complex numbers",
    128: "colours",
    1536: "128-bit numbers",
    1792: "complex numbers",
    2048: "complex numbers",
    2304: "colours",
}
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""A unit of length in mm, by its code; files that name none mean millimetres."""
_ROUNDING = 1e-7
_SAME_LENGTH = 0.01
_SAME_DIRECTION = math.cos(
    math.radians(30)
)  # a rotation to a template is less; an axis that is reversed or another, more


def read_header(path: str) -> VolumeHeader:
    """Read the header of a NIfTI file.

    Raises
    ------
    SeriesError
        ``undecodable``, or ``geometry`` if the header does not say where the voxels lie, or contradicts itself.
    StorageError
        If the file cannot be read.

    """
    with open_file(path) as fd:
        start = elements.read_fully(fd, 0, 1 << 16)
    compressed = start.startswith(GZIP)
    fields, order = _fields(_inflated(start) if compressed else start)
    datatype = int(fields["datatype"])
    if datatype not in _VOXELS:
        held = _OTHER_VOXELS.get(datatype, f"values of the unknown type {datatype}")
        raise undecodable(f"the volume's voxels are {held}, not numbers in Hounsfield units")
    sizes = _sizes(fields)
    offset = _voxel_offset(fields)
    slope, intercept = _rescale(fields)
    axes, origin = _place(fields)
    return VolumeHeader(
        sizes=sizes,
        dtype=np.dtype(_VOXELS[datatype]).newbyteorder(order),
        axes_mm=axes,
        origin_mm=origin,
        data=VoxelData(path, 0, True, offset) if compressed else VoxelData(path, offset),
        slope=slope,
        intercept=intercept,
    )


def _inflated(start: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(start, _NIFTI_2.itemsize)
    except zlib.error:
        raise undecodable("the volume file is a damaged gzip file") from None


def _fields(header: bytes) -> tuple[Any, ByteOrder]:
    """Return the header's fields, and the byte order of everything in the file."""
    for layout in (_NIFTI_1, _NIFTI_2):
        order = _byte_order(header[:4], layout.itemsize)
        if order is None:
            continue
        if len(header) < layout.itemsize:
            raise undecodable("the volume file ends within its header")
        fields = np.frombuffer(header, layout.newbyteorder(order), 1)[0]
        _check_magic(bytes(fields["magic"]))
        return fields, order
    if not header:
        raise undecodable("the volume file is empty")
    raise undecodable("the file has the name of a NIfTI volume but not the header of one")


def _byte_order(first: bytes, size: int) -> ByteOrder | None:
    """Return the byte order in which a header's first bytes state its size; None if in neither."""
    if first == size.to_bytes(4, "little"):
        return "<"
    return ">" if first == size.to_bytes(4, "big") else None


def _check_magic(magic: bytes) -> None:
    if magic.startswith(b"ni"):
        raise undecodable("the NIfTI header has its voxels in another file (.img): convert it to one file")
    if not magic.strip(b"\0"):
        raise undecodable("the file is Analyze 7.5, which does not say where left and right are: convert it to NIfTI")
    if not magic.startswith(b"n+"):
        raise undecodable("the volume's header is damaged: it has the size of a NIfTI header but not the mark of one")


def _sizes(fields: Any) -> tuple[int, int, int]:
    axes = int(fields["dim"][0])
    if not 1 <= axes <= 7:
        raise undecodable(f"the volume claims {axes} axes")
    return three_sizes([int(size) for size in fields["dim"][1 : axes + 1]])


def _voxel_offset(fields: Any) -> int:
    offset = float(fields["vox_offset"])
    least = int(fields["sizeof_hdr"])
    if offset == 0:
        return least + 4  # the header, and four bytes that say whether extensions follow
    if not least <= offset < 1 << 32 or offset != int(offset):
        raise undecodable("the volume's header is contradictory: its voxels would begin within it")
    return int(offset)


def _rescale(fields: Any) -> tuple[float, float]:
    """Return slope and intercept; a slope of 0, or one that is no number, stands for none (nifti1.h)."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise undecodable("the volume's header has a slope, and an intercept that is not a number")
    return slope, intercept


def _place(fields: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes and the origin in mm, LPS."""
    unit = int(fields["xyzt_units"]) & 7
    if unit not in _MILLIMETRES:
        raise unplaced(f"the volume's unit of length is not supported (code {unit})")
    sform, qform = int(fields["sform_code"]) > 0, int(fields["qform_code"]) > 0
    if sform:
        srow = np.asarray(fields["srow"], np.float64)
        axes, origin = srow[:, :3], srow[:, 3]
        _check_agreement(axes, fields, qform=qform)
    elif qform:
        axes, origin = _rotation(fields) * _voxel_mm(fields), np.asarray(fields["qoffset"], np.float64)
    else:
        raise unplaced("the volume does not say how it lies in the body (it has neither sform nor qform)")
    turn = RAS_TO_LPS * _MILLIMETRES[unit]
    return turn @ axes, turn @ origin


def _rotation(fields: Any) -> NDArray[np.float64]:
    """Return the directions of the axes by the qform: three components of a unit quaternion, and a sign (nifti1.h)."""
    b, c, d = (float(value) for value in fields["quatern"])
    square = b * b + c * c + d * d
    if not square < 1.01:
        raise unplaced("the volume's qform is not a rotation")
    if 1.0 - square < _ROUNDING:  # half a turn
        a, length = 0.0, math.sqrt(square)
        b, c, d = b / length, c / length, d / length
    else:
        a = math.sqrt(1.0 - square)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    return rotation * [1.0, 1.0, -1.0 if float(fields["pixdim"][0]) < 0 else 1.0]


def _voxel_mm(fields: Any) -> NDArray[np.float64]:
    """Return the voxel size by pixdim."""
    return np.abs(np.asarray(fields["pixdim"][1:4], np.float64))


def _check_agreement(axes: NDArray[np.float64], fields: Any, *, qform: bool) -> None:
    """Refuse a sform that contradicts the voxel size (pixdim), or a qform by more than a small rotation."""
    check_right_angles(axes)  # of a sheared sform, the shear is the reason to name
    lengths, stated = np.linalg.norm(axes, axis=0), _voxel_mm(fields)
    if stated.all() and (np.abs(lengths - stated) > _SAME_LENGTH * stated).any():
        raise unplaced(
            "the volume's header contradicts itself: its voxels measure "
            f"{' x '.join(f'{length:.4g}' for length in lengths)} by the sform, "
            f"{' x '.join(f'{length:.4g}' for length in stated)} by pixdim"
        )
    if qform and ((axes / lengths) * _rotation(fields)).sum(axis=0).min() < _SAME_DIRECTION:
        raise unplaced("the volume's header contradicts itself: sform and qform turn its axes differently")
