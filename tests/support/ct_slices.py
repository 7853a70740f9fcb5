"""Slices as headers would describe them, without files: for rules that read no pixel."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

from lungct.dicom.geometry import Orientation, Vector, position_along_normal
from lungct.dicom.slices import Encoding, Slice

AXIAL: Orientation = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_ENCODING = Encoding("1.2.840.10008.1.2.1", 0, 0, 0, 1, 16, 16, 15, True)
_numbers = count(1)


def image(z: float | None, **facts: Any) -> Slice:
    """Return an axial slice at z mm, the only one with its SOPInstanceUID; ``facts`` are fields of `Slice`."""
    uid = next(_numbers)
    place: Vector | None = None if z is None else (-178.0, -178.0, z)
    known: dict[str, Any] = {
        "path": f"{uid}.dcm",
        "frame": 0,
        "instance_number": 1,
        "slope": 1.0,
        "intercept": 0.0,
        "rows": 512,
        "columns": 512,
        "encoding": _ENCODING,
        "image_position": place,
        "orientation": AXIAL,
        "pixel_spacing_mm": (0.7, 0.7),
        "slice_thickness_mm": math.nan,
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "kernel": "B30f",
        "study_uid": "1",
        "series_uid": "1.1",
        "sop_instance_uid": f"1.1.{uid:06d}",
        "acquisition_number": 1,
    } | facts
    known.setdefault("position_mm", position_along_normal(known["image_position"], known["orientation"]))
    return Slice(**known)


def images(
    positions: Iterable[float],
    each: Callable[[int], Mapping[str, Any]] = lambda i: {},
    *,
    first: int = 1,
    **facts: Any,
) -> list[Slice]:
    """Return a slice for each position, numbered from ``first``; ``each`` returns the fields of slice i."""
    return [image(z, **{"instance_number": first + i, **facts, **each(i)}) for i, z in enumerate(positions)]


def along(count: int, step: float = 2.5, start: float = 0.0) -> list[float]:
    """Return evenly spaced positions."""
    return [round(start + step * i, 6) for i in range(count)]
