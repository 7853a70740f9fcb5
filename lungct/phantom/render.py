"""A chest at one height -> a slice in Hounsfield units.

Everything is painted over what is there, softest edges last: fat, muscle, skin, bones, what lies
between the lungs, the lungs and what is in them, the air around, the table, noise. Slices of one
chest are independent of one another, but for what they are drawn from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from lungct.phantom.anatomy import SIDE, Anatomy, Disc, Field, Layers, Mask, length, smoothstep
from lungct.phantom.nodules import Nodule
from lungct.phantom.vessels import Branches, draw_cut

Part = tuple[slice, slice]

_BANK = 1024
_ONE = np.float32(1.0)
_HALF = np.float32(0.5)


@dataclass(frozen=True, eq=False)
class NoiseBank:
    """Noise to cut pieces from, both (1024, 1024) float32 with standard deviation 1.

    Attributes
    ----------
    quantum
        Noise as a CT reconstruction leaves it: strongest at middle frequencies, none at the lowest.
    texture
        Blotches of 2 to 5 mm, for tissue.

    """

    quantum: Field
    texture: Field


def noise_bank(seed: int) -> NoiseBank:
    """Draw the noise that all patients of a cohort cut theirs from."""
    rng = np.random.default_rng([seed, 1])
    white = np.fft.rfft2(rng.standard_normal((_BANK, _BANK)))
    rows, columns = np.fft.fftfreq(_BANK)[:, None], np.fft.rfftfreq(_BANK)[None, :]
    frequency = np.hypot(rows, columns)
    quantum = np.fft.irfft2(white * frequency * np.exp(-((frequency / 0.22) ** 2)))
    blotches = np.fft.irfft2(white[::-1] * np.exp(-((frequency / 0.09) ** 2)))
    return NoiseBank(_unit(quantum), _unit(blotches))


def _unit(field: NDArray[np.float64]) -> Field:
    return np.asarray((field - field.mean()) / field.std(), np.float32)


class Renderer:
    """Draws the slices of one chest.

    Parameters
    ----------
    anatomy, vessels, airways, nodules, spicules
        What there is to draw.
    thickness
        Of a slice, in mm.
    bank
        The cohort's noise.

    """

    def __init__(
        self,
        anatomy: Anatomy,
        *,
        vessels: Branches,
        airways: Branches,
        nodules: list[Nodule],
        spicules: Branches,
        thickness: float,
        bank: NoiseBank,
    ) -> None:
        self.anatomy = anatomy
        self.vessels, self.airways = vessels, airways
        self.nodules, self.spicules = nodules, spicules
        self.thickness = thickness
        self.bank = bank
        self.axis = (np.arange(SIDE, dtype=np.float64) - (SIDE - 1) / 2) * anatomy.spacing
        x, y = np.meshgrid(self.axis.astype(np.float32), self.axis.astype(np.float32))
        radius2 = (x / anatomy.body[0]) ** 2 + (y / anatomy.body[1]) ** 2
        self.noise = anatomy.noise_hu * (0.55 + 0.75 * np.exp(-1.2 * radius2)).astype(np.float32)
        self.table = self._table(x, y)
        self.outside_view = x * x + y * y > (anatomy.spacing * SIDE / 2) ** 2
        self.gravity = (0.45 * y).astype(np.float32)  # the lung's lower, hindmost parts are denser

    def render(self, z: float, lung: Field, rng: np.random.Generator) -> Field:
        """Draw the slice at height `z`, (SIDE, SIDE) float32 in HU.

        `lung` is the lungs' coarse depth there and `rng` the slice's own.
        """
        layers = self.anatomy.layers(z, lung)
        hu = _large(self._tissue(layers, rng))
        for disc in layers.discs:
            self._disc(hu, disc)
        self._spine(hu, z, rng)
        self._lungs(hu, z, layers.lung, rng)
        hu += 1000.0
        hu *= self._edge(_large(layers.body))
        hu -= 1000.0
        np.maximum(hu, self.table, out=hu)
        shoulders = 1.0 + 0.8 * smoothstep(z / self.anatomy.height, 0.75, 1.0)
        hu += self._cut(self.bank.quantum, rng) * (self.noise * np.float32(shoulders))
        return hu

    # --- walls
    # -------------------------------------------------------------------------------------------

    def _tissue(self, layers: Layers, rng: np.random.Generator) -> Field:
        """Paint the body without lungs, vessels and spine on half the slice's rows and columns."""
        body, wall, muscle, bone, inner = (
            _large(field, SIDE // 2) for field in (layers.body, layers.wall, layers.muscle, layers.bone, layers.inner)
        )
        texture = self._cut(self.bank.texture, rng, SIDE // 2)
        hu = texture * np.float32(9.0)
        hu -= 104.0
        # A thin sheet of fat between the layers of muscle.
        sheet = np.abs(wall - 0.62 * muscle - 3.0) - 0.4
        alpha = self._edge(np.minimum(muscle - wall, body - 6.0), 2)
        alpha *= np.clip(sheet * _HALF + np.float32(0.7), 0.25, 1.0)
        hu += alpha * np.float32(158.0)
        hu += self._edge(2.4 - body, 2) * (np.float32(15.0) - hu)
        x = self.axis[None, ::2].astype(np.float32)
        sternum = (1.0 - np.sqrt((x / 18.0) ** 4 + ((wall - 7.5) / 5.5) ** 2)) * 5.5
        sternum[SIDE // 4 :] = -50.0
        self._bone(hu, np.maximum(bone, sternum), texture, 1.7, coarse=2)
        inner += texture * np.float32(7.0)
        _blend(hu, inner, self._edge(-wall, 2))
        return hu

    def _bone(self, hu: Field, depth: Field, texture: Field, cortex: float, *, coarse: int = 1) -> None:
        """Paint a bone: a hard shell around spongy marrow."""
        value = texture * np.float32(45.0)
        value -= 360.0
        value *= self._edge(depth - cortex, coarse)
        value += 560.0
        _blend(hu, value, self._edge(depth, coarse))

    def _spine(self, hu: Field, z: float, rng: np.random.Generator) -> None:
        """A vertebra or a disc between two, the canal, the arch and its processes."""
        y0 = self.anatomy.spine_y
        part = self._box(0.0, y0 + 18.0, 46.0)
        texture = self._cut(self.bank.texture, rng)[part]
        x = self.axis[part[1]].astype(np.float32)[None, :]
        y = self.axis[part[0]].astype(np.float32)[:, None]
        level = (z + 5.0) % 24.0
        body = (1.0 - np.sqrt((x / 18.0) ** 2 + ((y - y0) / 14.0) ** 2)) * 16.0
        canal = 8.5 - length(x, (y - y0 - 22.0) * 1.1)
        body = np.minimum(body, -canal - 1.5)
        ring = np.minimum(canal + 6.0, -canal)
        if level < 8.0:  # between the roots of two arches: only the back half is closed
            ring = np.minimum(ring, y - y0 - 22.0)
        spinous = np.minimum(3.4 - np.abs(x), np.minimum(y - y0 - 28.0, y0 + 40.0 + level * 0.4 - y))
        bone = np.maximum(ring, spinous)
        if 8.0 <= level < 18.0:  # the transverse processes
            slant = np.abs(y - y0 - 17.0 - 0.12 * np.abs(x))
            across = np.minimum(np.abs(x) - 12.0, 38.0 - np.abs(x))
            bone = np.maximum(bone, np.minimum(4.2 - slant, across))
        if level < 5.0:
            _blend(hu[part], np.float32(85.0), self._edge(body))
        else:
            self._bone(hu[part], body, texture, 1.5)
        self._bone(hu[part], np.asarray(bone, np.float32), texture, 1.8)
        _blend(hu[part], np.float32(30.0), self._edge(canal))

    def _disc(self, hu: Field, disc: Disc) -> None:
        part = self._box(disc.x, disc.y, max(disc.a, disc.b) + 2.0)
        x = (self.axis[part[1]] - disc.x).astype(np.float32)[None, :]
        y = (self.axis[part[0]] - disc.y).astype(np.float32)[:, None]
        depth = (1.0 - np.sqrt((x / disc.a) ** 2 + (y / disc.b) ** 2)) * min(disc.a, disc.b)
        _blend(hu[part], np.float32(disc.hu), self._edge(depth))

    # --- lungs
    # -------------------------------------------------------------------------------------------

    def _lungs(self, hu: Field, z: float, coarse: Field, rng: np.random.Generator) -> None:
        """Paint the lungs' air and everything in it, within the box that holds them."""
        part = _bounds(coarse > -8.0)
        if part is None:
            return
        depth = _large(coarse)[part]
        inside = self._edge(depth)
        air = self._cut(self.bank.texture, rng)[part] * np.float32(14.0)
        # Vessels too small to be drawn one by one.
        twigs = np.maximum(self._cut(self.bank.texture, rng)[part], np.float32(1.6))
        twigs *= np.float32(110.0)
        air += twigs
        air += self.gravity[part]
        air += np.float32(self.anatomy.lung_hu - 1.6 * 110.0)
        view = hu[part]
        _blend(view, air, inside)
        self._airways(view, z, part)
        vessels = self._drawn(self.vessels, z, part)
        if vessels is not None:
            vessels *= np.clip(depth * np.float32(0.2) + 2.0, 0.0, _ONE)  # they end in the root
            _blend(view, np.float32(min(self.anatomy.blood, 170.0)), vessels)
        strands = self._drawn(self.spicules, z, part)
        if strands is not None:
            _blend(view, np.float32(20.0), strands * inside)
        whole = np.zeros((SIDE, SIDE), np.float32)
        whole[part] = inside
        for nodule in self.nodules:
            self._nodule(hu, z, nodule, whole)

    def _airways(self, view: Field, z: float, part: Part) -> None:
        walls = self._drawn(self.airways, z, part, wider=0.9)
        lumen = self._drawn(self.airways, z, part)
        if walls is not None and lumen is not None:
            _blend(view, np.float32(-60.0), walls * np.float32(0.8))
            _blend(view, np.float32(-950.0), lumen)

    def _drawn(self, branches: Branches, z: float, part: Part, *, wider: float = 0.0) -> Field | None:
        cut = draw_cut(branches, z, self.thickness, self.anatomy.spacing, wider=wider)
        return None if cut is None else cut[part] * np.float32(1 / 255)

    def _nodule(self, hu: Field, z: float, nodule: Nodule, inside: Field) -> None:
        reach = 0.65 * nodule.diameter
        if abs(z - nodule.centre[2]) > reach + self.thickness / 2:
            return
        part = self._box(nodule.centre[0], nodule.centre[1], reach + 2.0)
        x, y = self.axis[part[1]], self.axis[part[0]]
        alpha = np.zeros((len(y), len(x)), np.float32)
        for away in (-1 / 3, 0.0, 1 / 3):  # a slice averages over its thickness
            depth = nodule.depth(x[::2], y[::2], z + away * self.thickness)
            alpha += self._edge(cv2.resize(depth, (len(x), len(y)))) * np.float32(1 / 3)
        _blend(hu[part], np.float32(nodule.hu), alpha * inside[part])

    # --- around
    # ------------------------------------------------------------------------------------------

    def _table(self, x: Field, y: Field) -> Field:
        """The couch: two curved shells below the back, joined by foam."""
        a = self.anatomy
        top = a.body[1] * 0.99 + 4.0 - 0.0011 * x * x
        below = y - top
        table = np.full((SIDE, SIDE), -1000.0, np.float32)
        inner = np.minimum(below, 38.0 - below) + np.minimum(235.0 - np.abs(x), 0.0)
        _blend(table, np.float32(-955.0), self._edge(inner))
        for away, hu in ((0.0, 60.0), (38.0, 160.0)):
            shell = np.minimum(1.6 - np.abs(below - away), 235.0 - np.abs(x))
            _blend(table, np.float32(hu), self._edge(np.asarray(shell, np.float32)))
        return table

    # --- tools
    # -------------------------------------------------------------------------------------------

    def _edge(self, depth: NDArray[np.floating], coarse: int = 1) -> Field:
        """Turn a depth in mm into a share of the pixel, with an edge one and a half pixels wide."""
        alpha = np.asarray(depth * np.float32(1 / (1.5 * coarse * self.anatomy.spacing)), np.float32)
        alpha += _HALF
        return np.clip(alpha, 0.0, _ONE, out=alpha)

    def _box(self, x: float, y: float, reach: float) -> Part:
        """Return the rows and columns of the image within `reach` mm of a point."""
        s, middle = self.anatomy.spacing, (SIDE - 1) / 2

        def span(centre: float) -> slice:
            low = math.floor((centre - reach) / s + middle)
            high = math.ceil((centre + reach) / s + middle) + 1
            return slice(min(max(low, 0), SIDE), min(max(high, 0), SIDE))

        return span(y), span(x)

    def _cut(self, bank: Field, rng: np.random.Generator, side: int = SIDE) -> Field:
        """Cut a piece of the bank somewhere: a view."""
        row, column = rng.integers(0, _BANK - side, 2).tolist()
        return bank[row : row + side, column : column + side]


def _bounds(coarse: Mask) -> Part | None:
    """Return the rows and columns of the slice that hold all that is true in a coarse field."""
    rows, columns = np.flatnonzero(coarse.any(axis=1)), np.flatnonzero(coarse.any(axis=0))
    if len(rows) == 0:
        return None
    step = SIDE // len(coarse)
    return (
        slice(int(rows[0]) * step, (int(rows[-1]) + 1) * step),
        slice(int(columns[0]) * step, (int(columns[-1]) + 1) * step),
    )


def _large(field: Field, side: int = SIDE) -> Field:
    """Enlarge a coarse field."""
    return np.asarray(cv2.resize(field, (side, side), interpolation=cv2.INTER_LINEAR))


def _blend(hu: Field, over: Field | np.float32, alpha: Field) -> None:
    """Paint `over` onto `hu`, in place."""
    change = over - hu
    change *= alpha
    hu += change
