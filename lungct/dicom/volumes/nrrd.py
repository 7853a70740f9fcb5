"""NRRD (``.nrrd``, and ``.nhdr`` with a data file beside it) -> `VolumeHeader`.

The header is text: a first line with the version, then ``field: value``, comments (``#``) and pairs that mean nothing
here (``key:=value``), up to an empty line. Where the voxels lie is told by *space* (LPS, RAS or LAS), *space
directions* and *space origin*; without them nothing says which way is up.

http://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lungct.dicom.volumes.header import RAS_TO_LPS, VolumeHeader, VoxelData, three_sizes, undecodable, unplaced
from lungct.dicom.volumes.textheader import file_beside, numbers, read_start, whole_numbers

_END = re.compile(rb"\r?\n\r?\n")
_VECTOR = re.compile(r"none|\(([^()]*)\)", re.IGNORECASE)

_NAMES_OF_TYPES = {
    "i1": "signed char; int8; int8_t",
    "u1": "uchar; unsigned char; uint8; uint8_t",
    "i2": "short; short int; signed short; signed short int; int16; int16_t",
    "u2": "ushort; unsigned short; unsigned short int; uint16; uint16_t",
    "i4": "int; signed int; int32; int32_t",
    "u4": "uint; unsigned int; uint32; uint32_t",
    "i8": "longlong; long long; long long int; signed long long; signed long long int; int64; int64_t",
    "u8": "ulonglong; unsigned long long; unsigned long long int; uint64; uint64_t",
    "f4": "float",
    "f8": "double",
}
_TYPES = {name: kind for kind, names in _NAMES_OF_TYPES.items() for name in names.split("; ")}
_RAW, _GZIP = ("raw",), ("gzip", "gz")
_SPACES = {
    "left-posterior-superior": np.eye(3),
    "right-anterior-superior": RAS_TO_LPS,
    "left-anterior-superior": np.diag([1.0, -1.0, 1.0]),
}
_SHORT = {"lps": "left-posterior-superior", "ras": "right-anterior-superior", "las": "left-anterior-superior"}
_MILLIMETRES = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres", ""), 1.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers", "micrometre"), 0.001),
}


def read_header(path: str) -> VolumeHeader:
    """Read the header of a NRRD file.

    Raises
    ------
    SeriesError
        ``undecodable``, or ``geometry`` if the header does not say where the voxels lie.
    StorageError
        If a file cannot be read.

    """
    start = read_start(path)
    if not start.startswith(b"NRRD"):
        raise undecodable("the file has the name of a NRRD volume but not the header of one")
    end = _END.search(start)
    text = start if end is None else start[: end.start()]
    fields = dict(_field(line) for line in text.decode("utf-8", "replace").splitlines()[1:])
    sizes = whole_numbers(_needed(fields, "sizes"), "sizes")
    space = _space_axes(fields, sizes)
    kept = three_sizes([sizes[i] for i in space] + [size for i, size in enumerate(sizes) if i not in space])
    dtype = _dtype(fields)
    data = _data(fields, path, None if end is None else end.end())
    axes, origin = _place(fields, space)
    return VolumeHeader(sizes=kept, dtype=dtype, axes_mm=axes, origin_mm=origin, data=data)


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or value.startswith("=") or name.startswith("#"):
        return "", ""
    name = name.strip().lower()
    return {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip"}.get(name, name), value.strip()


def _needed(fields: Mapping[str, str], name: str) -> str:
    if not fields.get(name):
        raise undecodable(f"the volume's header lacks a field that every NRRD file has ({name})")
    return fields[name]


def _dtype(fields: Mapping[str, str]) -> np.dtype[np.generic]:
    kind = _TYPES.get(_needed(fields, "type").lower())
    if kind is None:
        raise undecodable("the type of the volume's voxels is not supported")
    dtype = np.dtype(kind)
    if dtype.itemsize == 1:
        return dtype
    endian = _needed(fields, "endian").lower()
    if endian not in ("little", "big"):
        raise undecodable("the volume's header is damaged: its byte order is neither little nor big")
    return dtype.newbyteorder(">" if endian == "big" else "<")


def _space_axes(fields: Mapping[str, str], sizes: list[int]) -> list[int]:
    """Return the stored axes that lie in space: of more than three, those that have a direction."""
    if len(sizes) <= 3:
        return list(range(len(sizes)))
    vectors = _vectors(fields)
    space = [i for i, vector in enumerate(vectors) if vector is not None]
    if len(vectors) != len(sizes) or len(space) != 3:
        raise undecodable(f"the volume file has {len(sizes)} axes, and its header does not say which three are space")
    values = [size for i, size in enumerate(sizes) if i not in space and size > 1]
    if values:
        raise undecodable(f"the volume file has {values[0]} values for each voxel; a scan has one")
    return space


def _vectors(fields: Mapping[str, str]) -> list[str | None]:
    """Return the vectors of "space directions" as text, and None for the axes that are not in space."""
    return [match[1] for match in _VECTOR.finditer(fields.get("space directions", ""))]


def _data(fields: Mapping[str, str], path: str, end: int | None) -> VoxelData:
    encoding = _needed(fields, "encoding").lower()
    if encoding not in _RAW + _GZIP:
        raise undecodable(
            "the volume's voxels are neither raw nor compressed with gzip, but in an encoding that is not supported"
        )
    skip = whole_numbers(fields.get("byte skip") or "0", "byte skip")[0]
    if fields.get("line skip", "0") != "0" or skip < -1 or (skip == -1 and encoding in _GZIP):
        raise undecodable("the volume's header skips part of its data file in a way that is not supported")
    if "data file" in fields:
        path, start = file_beside(path, fields["data file"]), 0
    elif end is None:
        raise undecodable("the volume file ends within its header, or its header is too long")
    else:
        start = end
    if encoding in _GZIP:
        return VoxelData(path, start, True, skip)
    return VoxelData(path, None if skip == -1 else start + skip)


def _place(fields: Mapping[str, str], space: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the axes and the origin in mm, LPS."""
    name = fields.get("space", "").lower().removesuffix("-time")
    vectors = _vectors(fields)
    if not name or not vectors:
        raise unplaced("the volume does not say how it lies in the body (its header has no space or no directions)")
    to_lps = _SPACES.get(_SHORT.get(name, name))
    if to_lps is None:
        raise unplaced("the volume's directions are not those of a body (LPS, RAS or LAS)")
    directions = [vector or "" for vector in vectors if vector is not None]
    if len(directions) != len(space):
        raise unplaced(f"the volume's header has {len(directions)} space directions for {len(space)} axes")
    axes = np.array([numbers(text.replace(",", " "), 3, "a space direction") for text in directions]).T
    origin = fields.get("space origin", "(0,0,0)").strip("()").replace(",", " ")
    turn = to_lps @ np.diag(_units(fields))
    return turn @ axes, turn @ np.array(numbers(origin, 3, "the space origin"))


def _units(fields: Mapping[str, str]) -> list[float]:
    """Return the length in mm of each space axis' unit; files that name none mean millimetres."""
    named = re.findall(r'"([^"]*)"', fields.get("space units", ""))
    units = [_MILLIMETRES.get(unit.strip().lower()) for unit in named[:3]] or [1.0, 1.0, 1.0]
    known = [unit for unit in units if unit is not None]
    if len(known) != 3:
        raise unplaced("the volume's unit of length is not supported")
    return known
