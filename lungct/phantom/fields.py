"""Depth fields: what the shapes of a chest are computed on.

A *field* has a value for each point of a slice, float32. A *depth* is a signed distance in mm, positive inside. Depths
are smooth, so they are computed on a coarse grid (a quarter of the rows and columns of a slice) and enlarged; the
edges drawn from them are as sharp as the pixels of the slice.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Point = tuple[float, float]

SLICE_SIZE = 512
"""Rows and columns of a slice."""
COARSE_SIZE = 128
"""Rows and columns of a coarse field."""


def smoothstep(x: float, low: float, high: float) -> float:
    """Rise smoothly from 0 at `low` to 1 at `high`."""
    s = min(max((x - low) / (high - low), 0.0), 1.0)
    return s * s * (3 - 2 * s)


def length(dx: Field, dy: Field) -> Field:
    """Return the length of vectors; ten times as fast as numpy.hypot, and nothing here overflows."""
    return np.asarray(np.sqrt(dx * dx + dy * dy))


def ellipse_depth(dx: Field, dy: Field, u: Field, v: Field, square: float, ripple: Field) -> Field:
    """Return the depth in a rounded ellipse, measured along the ray from its centre.

    Parameters
    ----------
    dx, dy
        Distances from the centre in mm.
    u, v
        The same distances in half axes.
    square
        How far the ellipse is rounded towards a rectangle.
    ripple
        Relative change of the radius.

    """
    q = u * u + v * v + np.float32(1e-6)
    corner = u * v / q
    rho = np.sqrt(q) * (1.0 + ripple - np.float32(4.0 * square) * corner * corner)
    away = length(dx, dy)
    return np.asarray(away / np.maximum(rho, np.float32(0.02)) - away, np.float32)


def overlay(below: Field, hu: Field | np.float32, depth: Field) -> Field:
    """Return `below` with an organ laid over it, with an edge two millimetres wide."""
    alpha = np.clip(depth * np.float32(0.5) + np.float32(0.5), 0.0, 1.0)
    return np.asarray(below + alpha * (hu - below), np.float32)


def enlarged(field: Field, size: int = SLICE_SIZE) -> Field:
    """Return a coarse field enlarged to a size."""
    return np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR))


def pixel_share(depth: NDArray[np.floating], pixel_mm: float) -> Field:
    """Return the share of each pixel that is inside, from depths in mm; edges are one and a half pixels wide."""
    alpha = np.asarray(depth * np.float32(1 / (1.5 * pixel_mm)), np.float32)
    alpha += np.float32(0.5)
    return np.clip(alpha, 0.0, np.float32(1.0), out=alpha)


def blend(hu: Field, over: Field | np.float32, alpha: Field) -> None:
    """Paint `over` onto `hu`, in place."""
    change = over - hu
    change *= alpha
    hu += change
