"""MetaImage (``.mha``, and ``.mhd`` with a data file beside it) -> `VolumeHeader`.

The header is text: ``Key = value``, up to ElementDataFile, which names the file of the voxels, or is LOCAL if they
follow. Coordinates are LPS, and the directions are the patient's own unless TransformMatrix says otherwise.

https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lungct.dicom.volumes.header import VolumeHeader, VoxelData, three_sizes, undecodable, unplaced
from lungct.dicom.volumes.textheader import file_beside, numbers, read_start, whole_numbers

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_MILLIMETRES = {"mm": 1.0, "um": 0.001, "cm": 10.0, "m": 1000.0, "?": 1.0, "": 1.0}
_OTHER_NAMES = {
    "position": "offset",
    "origin": "offset",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "elementbyteordermsb": "binarydatabyteordermsb",
}
_TRUE = ("true", "1")


def read_header(path: str) -> VolumeHeader:
    """Read the header of a MetaImage file.

    Raises
    ------
    SeriesError
        ``undecodable``, or ``geometry`` if the header does not say how large the voxels are.
    StorageError
        If a file cannot be read.

    """
    fields, end = _fields(read_start(path))
    sizes = whole_numbers(_needed(fields, "dimsize"), "DimSize")
    if whole_numbers(_needed(fields, "ndims"), "NDims") != [len(sizes)]:
        raise undecodable("the volume's header contradicts itself: NDims is not the number of its sizes")
    kept = three_sizes(sizes)
    dtype = _dtype(fields)
    data = _data(fields, path, end)
    axes, origin = _place(fields, len(sizes))
    return VolumeHeader(sizes=kept, dtype=dtype, axes_mm=axes, origin_mm=origin, data=data)


def _fields(start: bytes) -> tuple[dict[str, str], int]:
    """Return the header's fields, by their names in lower case, and where it ends."""
    fields: dict[str, str] = {}
    at = 0
    for line in start.splitlines(keepends=True):
        at += len(line)
        name, equals, value = os.fsdecode(line).partition("=")
        if not equals:
            break
        name = name.strip().lower()
        fields[_OTHER_NAMES.get(name, name)] = value.strip()
        if name == "elementdatafile":
            return fields, at
    raise undecodable("the file has the name of a MetaImage volume but not the header of one")


def _needed(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise undecodable("the volume's header lacks a field that every MetaImage file has")
    return fields[name]


def _is_true(fields: Mapping[str, str], name: str) -> bool:
    return fields.get(name, "").lower() in _TRUE


def _dtype(fields: Mapping[str, str]) -> np.dtype[np.generic]:
    channels = whole_numbers(fields.get("elementnumberofchannels") or "1", "ElementNumberOfChannels")[0]
    if channels != 1:
        raise undecodable(f"the volume file has {channels} values for each voxel; a scan has one")
    kind = _TYPES.get(_needed(fields, "elementtype").upper())
    if kind is None:
        raise undecodable("the type of the volume's voxels is not supported")
    slope = numbers(fields.get("elementtointensityfunctionslope") or "1", 1, "the slope")
    intercept = numbers(fields.get("elementtointensityfunctionoffset") or "0", 1, "the intercept")
    if (slope, intercept) != ([1.0], [0.0]):
        raise undecodable("the volume's header states a slope or intercept, which some readers apply and others ignore")
    return np.dtype(kind).newbyteorder(">" if _is_true(fields, "binarydatabyteordermsb") else "<")


def _data(fields: Mapping[str, str], path: str, end: int) -> VoxelData:
    if fields.get("binarydata", "true").lower() not in _TRUE:
        raise undecodable("the volume's voxels are written as text, which is not supported")
    named = _needed(fields, "elementdatafile")
    compressed = _is_true(fields, "compresseddata")
    skip = whole_numbers(fields.get("headersize") or "0", "HeaderSize")[0]
    if skip < -1 or (skip == -1 and compressed):
        raise undecodable("the volume's header skips part of its data file in a way that is not supported")
    if named.upper() == "LOCAL":
        return VoxelData(path, end, compressed)
    path = file_beside(path, named)
    return VoxelData(path, None if skip == -1 else skip, compressed)


def _place(fields: Mapping[str, str], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes and the origin in mm, LPS; the first three of each."""
    unit = _MILLIMETRES.get(fields.get("distanceunits", "").lower())
    if unit is None:
        raise unplaced("the volume's unit of length is not supported")
    spacing = fields.get("elementspacing") or fields.get("elementsize")
    if not spacing:
        raise unplaced("the volume's header does not say how large its voxels are")
    voxel_mm = np.array(numbers(spacing, count, "ElementSpacing")) * unit
    matrix = np.eye(count)
    if fields.get("transformmatrix"):  # a row for each stored axis
        matrix = np.array(numbers(fields["transformmatrix"], count * count, "TransformMatrix")).reshape(count, count)
    directions = matrix[:3, :3].T
    if np.abs(np.linalg.norm(directions, axis=0) - 1).max() > 0.01:
        raise unplaced("the volume's directions (TransformMatrix) are not of length 1, so its voxel size is in doubt")
    origin = np.array(numbers(fields.get("offset") or " ".join(["0"] * count), count, "Offset")) * unit
    return directions * voxel_mm[:3], origin[:3]
