"""Nodules and masses: where they fit in a lung, and what a slice shows of them.

A nodule is a ball of soft tissue whose radius varies with direction (lobes) and from which thin strands run outwards
(spicules). It is placed where all of it fits into a lung; one that fits nowhere goes where the lung is deepest, and
ends at the pleura.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped,unused-ignore]

from lungct.phantom.anatomy import Anatomy
from lungct.phantom.fields import Field
from lungct.phantom.vessels import Branches

LOBES = 0.22
"""Largest relative deviation of the radius from half the diameter."""


@dataclass(frozen=True, eq=False)
class Nodule:
    """One nodule.

    Attributes
    ----------
    centre
        (x, y, z) in mm.
    diameter
        Mean diameter in mm.
    waves, phases, heights
        The lobes: plane waves over the unit sphere, (n, 3), (n,) and (n,).
    hu
        Hounsfield units.

    """

    centre: NDArray[np.float64]
    diameter: float
    waves: NDArray[np.float64]
    phases: NDArray[np.float64]
    heights: NDArray[np.float64]
    hu: float

    def radius(self, directions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the radius in mm in each of the directions, unit vectors (..., 3)."""
        lobes = np.cos(directions @ self.waves.T + self.phases) @ self.heights
        return np.asarray(self.diameter / 2 * (1.0 + lobes))

    def depth(self, x: NDArray[np.float64], y: NDArray[np.float64], z: float) -> Field:
        """Return the depth in mm at a height, for columns `x` and rows `y`: (len(y), len(x))."""
        away = np.empty((len(y), len(x), 3))
        away[..., 0] = x[None, :] - self.centre[0]
        away[..., 1] = y[:, None] - self.centre[1]
        away[..., 2] = z - self.centre[2]
        length = np.sqrt((away * away).sum(axis=2)) + 1e-6
        return np.asarray(self.radius(away / length[..., None]) - length, np.float32)


def draw_nodules(
    rng: np.random.Generator,
    anatomy: Anatomy,
    depth: Field,
    heights: NDArray[np.float64],
    *,
    count: int,
    diameter_mm: tuple[float, float],
) -> tuple[list[Nodule], Branches]:
    """Draw nodules and their spicules in the lungs; `depth` and `heights` are those of `draw_trees`."""
    room = _room(anatomy, depth, heights)
    k, i, j = np.nonzero(room > 0)
    if len(k) == 0:  # too few slices: none of them has lung in it
        return [], Branches.join([])
    at = np.stack([anatomy.x[0, ::2][j], anatomy.y[::2, 0][i], heights[k]], axis=1)
    free = room[k, i, j].astype(np.float64)
    nodules: list[Nodule] = []
    spicules: list[Branches] = []
    for diameter in np.sort(rng.uniform(*diameter_mm, size=count))[::-1].tolist():
        nodule = _draw(rng, at, free, diameter)
        nodules.append(nodule)
        spicules.append(_spicules(rng, nodule))
        free = np.minimum(free, np.linalg.norm(at - nodule.centre, axis=1) - diameter / 2)
    return nodules, Branches.join(spicules)


def _room(anatomy: Anatomy, depth: Field, heights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance in mm to the edge of the lung or the end of the slices, on every second row and column."""
    inside = np.pad(depth[:, ::2, ::2] > 0, ((1, 1), (0, 0), (0, 0)))
    step = float(np.median(np.diff(heights)))
    pixel = 2 * float(anatomy.x[0, 1] - anatomy.x[0, 0])
    room = ndimage.distance_transform_edt(inside, sampling=(step, pixel, pixel))
    return np.asarray(room[1:-1], np.float64)


def _draw(rng: np.random.Generator, at: NDArray[np.float64], free: NDArray[np.float64], diameter: float) -> Nodule:
    wanted = diameter / 2 * (1.0 + LOBES) + 2.0
    # Where it fits; if nowhere, one of the 2 % of places with the most room.
    fits = np.flatnonzero(free >= min(wanted, float(np.quantile(free, 0.98))))
    centre = at[int(rng.choice(fits))]
    waves = rng.normal(size=(7, 3))
    waves *= rng.uniform(2.0, 7.0, (7, 1)) / np.linalg.norm(waves, axis=1, keepdims=True)
    heights = rng.uniform(0.3, 1.0, 7)
    heights *= LOBES / heights.sum()
    return Nodule(centre, diameter, waves, rng.uniform(0, 2 * np.pi, 7), heights, float(rng.uniform(25, 55)))


def _spicules(rng: np.random.Generator, nodule: Nodule) -> Branches:
    count = int(rng.integers(8, 26))
    away = rng.normal(size=(count, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    radius = nodule.radius(away)[:, None]
    reach = rng.uniform(1.1, 1.45, (count, 1))
    ends = np.stack([nodule.centre + away * radius * 0.9, nodule.centre + away * radius * reach], 1)
    return Branches(ends, rng.uniform(0.4, 0.9, count))
