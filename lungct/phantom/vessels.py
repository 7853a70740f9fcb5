"""The shape of a lung -> trees of vessels and airways in it, and their cut through a slice.

A tree grows from the root of a lung: points are drawn in the lung, and each is joined, from the root outwards, to the
node that keeps both the new branch and the way from the root short. The thickness of a branch follows from the number
of twigs that it feeds (Murray's law, with an exponent of 0.36 in place of one third).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lungct.phantom.anatomy import Anatomy
from lungct.phantom.fields import SLICE_SIZE, Field

Points = NDArray[np.float64]
"""(n, 3): x, y, z in mm."""

_FINE = 2  # lines are drawn on a canvas of twice the slice's size, so that widths come in half pixels
_FRACTION_BITS = 4  # and with coordinates in sixteenths of a pixel


@dataclass(frozen=True)
class Branches:
    """Straight segments: ends (n, 2, 3) in mm (x, y, z) and radii (n,) in mm."""

    ends: NDArray[np.float64]
    radii: NDArray[np.float64]

    @staticmethod
    def join(parts: list[Branches]) -> Branches:
        """Return all segments of several sets as one set."""
        ends = [part.ends for part in parts] or [np.empty((0, 2, 3))]
        radii = [part.radii for part in parts] or [np.empty(0)]
        return Branches(np.concatenate(ends), np.concatenate(radii))


def draw_trees(
    rng: np.random.Generator, anatomy: Anatomy, depth: Field, heights: NDArray[np.float64]
) -> tuple[Branches, Branches]:
    """Grow arteries and veins, and airways, in both lungs.

    Parameters
    ----------
    rng
        The patient's generator.
    anatomy
        The chest.
    depth
        Depth in the lungs at each slice, (slices, 128, 128).
    heights
        z of each slice in mm, (slices,).

    Returns
    -------
    vessels, airways

    """
    vessels: list[Branches] = []
    airways: list[Branches] = []
    step = float(np.median(np.diff(heights)))
    for side in (-1, 1):
        k, i, j = np.nonzero((depth > 3.0) & (np.sign(anatomy.x) == side))
        if len(k) < 100:
            continue
        hilum = anatomy.carina - 22.0  # the height of the root of the lung
        lung = np.stack([anatomy.x[0, j], anatomy.y[i, 0], heights[k]], axis=1)
        jitter = np.array([1.0, 1.0, step / 2])
        arteries, veins, bronchi = (
            _grow(rng, root, _points(rng, lung, count, jitter), twig)
            for root, count, twig in (  # where a tree begins, its number of points, and the radius of a twig
                ((30.0 * side, 2.0, hilum + 4.0), 360, 0.45),
                ((26.0 * side, 4.0, hilum - 16.0), 280, 0.45),
                ((30.0 * side, 11.0, hilum), 26, 0.9),
            )
        )
        vessels += [arteries, veins]
        wide = bronchi.radii > 1.6  # narrower ones would not be seen between the vessels
        airways.append(Branches(bronchi.ends[wide], bronchi.radii[wide]))
    return Branches.join(vessels), Branches.join(airways)


def _points(rng: np.random.Generator, lung: Points, count: int, jitter: NDArray[np.float64]) -> Points:
    """Draw some of the given points of a lung, each moved a little off their grid."""
    picked = lung[rng.integers(len(lung), size=count)]
    return np.asarray(picked + rng.uniform(-1.0, 1.0, (count, 3)) * jitter, np.float64)


def _grow(rng: np.random.Generator, root: tuple[float, float, float], targets: Points, twig: float) -> Branches:
    """Grow one tree from a root to the targets, with twigs of a given radius in mm."""
    targets = targets[np.argsort(np.linalg.norm(targets - root, axis=1), kind="stable")]
    nodes = np.vstack([[root], targets])
    way = np.zeros(len(nodes))
    parent = np.zeros(len(nodes), int)
    for n in range(1, len(nodes)):
        away = np.sqrt(((nodes[:n] - nodes[n]) ** 2).sum(axis=1))
        best = int((away + 0.4 * way[:n]).argmin())
        parent[n], way[n] = best, way[best] + away[best]
    twigs = np.zeros(len(nodes))
    for n in range(len(nodes) - 1, 0, -1):
        twigs[n] += 1.0
        twigs[parent[n]] += twigs[n]
    starts, stops = nodes[parent[1:]], nodes[1:]
    length = np.linalg.norm(stops - starts, axis=1, keepdims=True)
    bent = (starts + stops) / 2 + rng.normal(0, 0.07, starts.shape) * length
    radii = twig * twigs**0.36
    thick = np.minimum(radii[parent[1:]], 1.5 * radii[1:])  # a branch tapers along its way
    ends = np.concatenate([np.stack([starts, bent], 1), np.stack([bent, stops], 1)])
    return Branches(ends, np.concatenate([(thick + radii[1:]) / 2, radii[1:]]))


def draw_cut(
    branches: Branches, z: float, thickness: float, spacing: float, *, wider: float = 0.0
) -> NDArray[np.uint8] | None:
    """Draw the branches within a slice of some thickness, each widened by `wider` mm.

    Returns
    -------
    numpy.ndarray or None
        uint8 (512, 512), the share of a pixel's volume that is branch, in 255ths; None if no branch is near.

    """
    within = _between(branches, z - thickness / 2, z + thickness / 2)
    if within is None:
        return None
    a, b, radii = within
    # A branch that runs along the slice fills as much of the thickness as it is wide; one that crosses it fills all.
    filled = np.minimum((np.abs(b[:, 2] - a[:, 2]) + 2 * radii) / thickness, 1.0)
    scale = _FINE << _FRACTION_BITS
    pixel = np.stack([a[:, :2], b[:, :2]], 1) / spacing + (SLICE_SIZE - 1) / 2
    pixels = np.rint(((pixel + 0.5) * scale) - (1 << (_FRACTION_BITS - 1))).astype(int)
    widths = np.maximum(np.rint((radii + wider) * 2 * _FINE / spacing), 1).astype(int)
    canvas = np.zeros((SLICE_SIZE * _FINE, SLICE_SIZE * _FINE), np.uint8)
    for n in np.argsort(filled, kind="stable").tolist():
        (x0, y0), (x1, y1) = pixels[n].tolist()
        cv2.line(canvas, (x0, y0), (x1, y1), int(255 * filled[n]), int(widths[n]), cv2.LINE_8, _FRACTION_BITS)
    small = cv2.resize(canvas, (SLICE_SIZE, SLICE_SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (3, 3), 0.6))


def _between(branches: Branches, low: float, high: float) -> tuple[Points, Points, NDArray[np.float64]] | None:
    """Return the parts of the branches between two heights, as two ends and a radius each; None if there are none."""
    za, zb = branches.ends[:, 0, 2], branches.ends[:, 1, 2]
    near = (np.minimum(za, zb) < high) & (np.maximum(za, zb) > low)
    if not near.any():
        return None
    ends = branches.ends[near]
    za, rise = ends[:, 0, 2], ends[:, 1, 2] - ends[:, 0, 2]
    flat = np.abs(rise) < 1e-6
    safe = np.where(flat, 1.0, rise)
    # Where a branch enters and leaves, as shares of its length.
    s, e = np.where(flat, 0.0, (low - za) / safe), np.where(flat, 1.0, (high - za) / safe)
    s, e = np.clip(np.minimum(s, e), 0, 1), np.clip(np.maximum(s, e), 0, 1)
    whole = ends[:, 1] - ends[:, 0]
    return ends[:, 0] + s[:, None] * whole, ends[:, 0] + e[:, None] * whole, branches.radii[near]
