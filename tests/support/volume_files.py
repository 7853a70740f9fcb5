"""Volume files for tests, written byte by byte: any field may be wrong."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SPACING = (0.7, 0.8, 2.5)
ORIGIN = (10.0, 20.0, -300.0)

_CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768, "i8": 1024, "u8": 1280}


def noise(slices: int = 5, rows: int = 6, columns: int = 7, kind: Any = np.int16) -> NDArray[Any]:
    """Return voxels of shape (slices, rows, columns)."""
    values = np.random.default_rng(slices).integers(-1000, 400, (slices, rows, columns))
    return (np.abs(values) % 256 if np.dtype(kind).kind == "u" else values).astype(kind)


def lps_rows(spacing: tuple[float, ...] = SPACING) -> list[list[float]]:
    """Return the sform, in RAS, of a volume whose columns run to the left, rows to the back and slices to the head."""
    x, y, z = spacing
    return [[-x, 0, 0, -ORIGIN[0]], [0, -y, 0, -ORIGIN[1]], [0, 0, z, ORIGIN[2]]]


def nifti(
    voxels: NDArray[Any],
    *,
    version: int = 1,
    order: Literal["<", ">"] = "<",
    srow: Sequence[Sequence[float]] | None = None,
    codes: tuple[int, int] = (0, 1),
    quatern: tuple[float, float, float] = (0.0, 0.0, 1.0),
    pixdim: tuple[float, ...] = (1.0, *SPACING),
    slope: float = 0.0,
    intercept: float = 0.0,
    unit: int = 2,
    datatype: int | None = None,
    dim: tuple[int, ...] | None = None,
    offset: float | None = None,
    magic: bytes | None = None,
) -> bytes:
    """Return a NIfTI file of voxels with the shape (slices, rows, columns)."""
    size = {1: 348, 2: 540}[version]
    header = bytearray(size + 4)
    fields: list[tuple[int, str, Any]] = [(0, "i", [size])]
    sizes = list(dim or (3, *reversed(voxels.shape)))
    sizes += [1] * (8 - len(sizes))
    kind = [_CODES[voxels.dtype.str[1:]] if datatype is None else datatype]
    start = [size + 4 if offset is None else offset]
    rows = [value for row in (lps_rows() if srow is None else srow) for value in row]
    lengths = [*pixdim, *[0.0] * (8 - len(pixdim))]
    shift = [-ORIGIN[0], -ORIGIN[1], ORIGIN[2]]
    if version == 1:
        fields += [(40, "8h", sizes), (70, "h", kind), (76, "8f", lengths), (108, "f", start)]
        fields += [(112, "f", [slope]), (116, "f", [intercept]), (123, "B", [unit]), (252, "2h", codes)]
        fields += [(256, "3f", quatern), (268, "3f", shift), (280, "12f", rows), (344, "4s", [magic or b"n+1"])]
    else:
        fields += [(16, "8q", sizes), (12, "h", kind), (104, "8d", lengths), (168, "q", [int(start[0])])]
        fields += [(176, "d", [slope]), (184, "d", [intercept]), (500, "i", [unit]), (344, "2i", codes)]
        fields += [(352, "3d", quatern), (376, "3d", shift), (400, "12d", rows)]
        fields += [(4, "8s", [magic or b"n+2\0\r\n\032\n"])]
    for at, form, values in fields:
        struct.pack_into(order + form, header, at, *values)
    return bytes(header) + voxels.astype(voxels.dtype.newbyteorder(order)).tobytes()


def nrrd_header(voxels: NDArray[Any], **fields: str | None) -> str:
    """Return the header of a NRRD file, without the empty line; a field that is None is left out."""
    x, y, z = SPACING
    values: dict[str, str | None] = {
        "type": {"i2": "short", "f4": "float", "f8": "double", "u1": "uchar", "i4": "int"}[voxels.dtype.str[1:]],
        "dimension": "3",
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, reversed(voxels.shape))),
        "space directions": f"({x},0,0) (0,{y},0) (0,0,{z})",
        "space origin": f"({ORIGIN[0]},{ORIGIN[1]},{ORIGIN[2]})",
        "encoding": "raw",
        "endian": "little",
    }
    values |= {name.replace("_", " "): value for name, value in fields.items()}
    lines = ["NRRD0005", "# a comment", "key:=value: more"]
    return "\n".join(lines + [f"{name}: {value}" for name, value in values.items() if value is not None]) + "\n"


def nrrd(voxels: NDArray[Any], **fields: str | None) -> bytes:
    """Return a NRRD file with its voxels, compressed if the encoding says so."""
    data = voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()
    return nrrd_header(voxels, **fields).encode() + b"\n" + (gzip.compress(data) if "encoding" in fields else data)


def metaimage_header(voxels: NDArray[Any], **fields: str | None) -> str:
    """Return the header of a MetaImage file up to ElementDataFile; a field that is None is left out."""
    values: dict[str, str | None] = {
        "ObjectType": "Image",
        "NDims": "3",
        "DimSize": " ".join(map(str, reversed(voxels.shape))),
        "ElementSpacing": " ".join(map(str, SPACING)),
        "Offset": " ".join(map(str, ORIGIN)),
        "ElementType": {"i2": "MET_SHORT", "f4": "MET_FLOAT", "f8": "MET_DOUBLE", "u1": "MET_UCHAR"}[
            voxels.dtype.str[1:]
        ],
    }
    values |= fields
    values["ElementDataFile"] = fields.get("ElementDataFile", "LOCAL")
    last = values.pop("ElementDataFile")
    return "".join(f"{name} = {value}\n" for name, value in values.items() if value is not None) + (
        "" if last is None else f"ElementDataFile = {last}\n"
    )


def metaimage(voxels: NDArray[Any], **fields: str | None) -> bytes:
    """Return a MetaImage file with its voxels, compressed if the header says so."""
    data = voxels.astype(voxels.dtype.newbyteorder("<")).tobytes()
    return metaimage_header(voxels, **fields).encode() + (zlib.compress(data) if "CompressedData" in fields else data)


def save(path: Path, content: bytes | str) -> Path:
    """Write a file, with its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
