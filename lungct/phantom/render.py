"""A chest at one height -> a slice in Hounsfield units.

Everything is painted over what is already there: fat, muscle, skin, bones, the organs between the lungs, the lungs and
their contents, the air around, the table, noise. Slices of one chest are drawn independently of one another.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from lungct.phantom.anatomy import Anatomy, Disc, Layers
from lungct.phantom.fields import SLICE_SIZE, Field, Mask, blend, enlarged, length, pixel_share, smoothstep
from lungct.phantom.nodules import Nodule
from lungct.phantom.noise import NoiseBank, random_window
from lungct.phantom.variations import ORDINARY, Painter, Variation
from lungct.phantom.vessels import Branches, draw_cut

Window = tuple[slice, slice]
"""Rows and columns of a slice."""

_ONE = np.float32(1.0)
_HALF = np.float32(0.5)


class Renderer:
    """Draws the slices of one chest.

    Parameters
    ----------
    anatomy, vessels, airways, nodules, spicules
        The chest and its contents.
    thickness
        Thickness of a slice in mm.
    bank
        The noise of the cohort.
    variation
        What is unusual about the body and its scan.

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
        variation: Variation = ORDINARY,
    ) -> None:
        self.anatomy = anatomy
        self.vessels, self.airways = vessels, airways
        self.nodules, self.spicules = nodules, spicules
        self.thickness = thickness
        self.bank = bank
        self.axis = (np.arange(SLICE_SIZE, dtype=np.float64) - (SLICE_SIZE - 1) / 2) * anatomy.spacing
        x, y = np.meshgrid(self.axis.astype(np.float32), self.axis.astype(np.float32))
        radius2 = (x / anatomy.body[0]) ** 2 + (y / anatomy.body[1]) ** 2
        self.noise = anatomy.noise_hu * (0.55 + 0.75 * np.exp(-1.2 * radius2)).astype(np.float32)
        self.table = self._table(x, -y if variation.prone else y)
        self.painter = Painter(variation, anatomy, bank, x, y)
        self.outside_view = x * x + y * y > (anatomy.spacing * SLICE_SIZE / 2) ** 2
        self.gravity = (0.45 * y).astype(np.float32)  # gravity makes lung denser towards the back

    def render(self, z: float, lung: Field, rng: np.random.Generator) -> Field:
        """Draw the slice at a height, (512, 512) float32 in HU.

        Parameters
        ----------
        z
            The height in mm.
        lung
            Depth in the lungs there, a coarse field.
        rng
            The generator of this slice.

        """
        layers = self.anatomy.layers(z, lung)
        hu = enlarged(self._body(layers, rng))
        for disc in layers.discs:
            self._paint_disc(hu, disc)
        self._paint_spine(hu, z, rng)
        self._paint_lungs(hu, z, layers.lung, rng)
        self.painter.paint_lungs(hu, z, layers.lung)
        hu += 1000.0
        hu *= self._pixel_share(enlarged(layers.body))
        hu -= 1000.0
        np.maximum(hu, self.table, out=hu)
        self.painter.paint_around(hu, layers.body)
        shoulders = 1.0 + 0.8 * smoothstep(z / self.anatomy.height, 0.75, 1.0)
        hu += random_window(self.bank.quantum, rng) * (self.noise * np.float32(shoulders))
        return hu

    def _body(self, layers: Layers, rng: np.random.Generator) -> Field:
        """Draw the body without lungs, vessels and spine, on every second row and column of the slice."""
        body, wall, muscle, bone, inner = (
            enlarged(field, SLICE_SIZE // 2)
            for field in (layers.body, layers.wall, layers.muscle, layers.bone, layers.inner)
        )
        texture = random_window(self.bank.texture, rng, SLICE_SIZE // 2)
        hu = texture * np.float32(9.0)
        hu -= 104.0
        # A thin sheet of fat between the layers of muscle.
        sheet = np.abs(wall - 0.62 * muscle - 3.0) - 0.4
        alpha = self._pixel_share(np.minimum(muscle - wall, body - 6.0), 2)
        alpha *= np.clip(sheet * _HALF + np.float32(0.7), 0.25, 1.0)
        hu += alpha * np.float32(158.0)
        hu += self._pixel_share(2.4 - body, 2) * (np.float32(15.0) - hu)
        x = self.axis[None, ::2].astype(np.float32)
        sternum = (1.0 - np.sqrt((x / 18.0) ** 4 + ((wall - 7.5) / 5.5) ** 2)) * 5.5
        sternum[SLICE_SIZE // 4 :] = -50.0
        self._paint_bone(hu, np.maximum(bone, sternum), texture, 1.7, coarse=2)
        inner += texture * np.float32(7.0)
        blend(hu, inner, self._pixel_share(-wall, 2))
        return hu

    def _paint_bone(self, hu: Field, depth: Field, texture: Field, cortex: float, *, coarse: int = 1) -> None:
        """Paint a bone: a hard shell around spongy marrow."""
        value = texture * np.float32(45.0)
        value -= 360.0
        value *= self._pixel_share(depth - cortex, coarse)
        value += 560.0
        blend(hu, value, self._pixel_share(depth, coarse))

    def _paint_spine(self, hu: Field, z: float, rng: np.random.Generator) -> None:
        """Paint a vertebra or the disc between two, the spinal canal, the arch and its processes."""
        y0 = self.anatomy.spine_y
        part = self._window(0.0, y0 + 18.0, 46.0)
        texture = random_window(self.bank.texture, rng)[part]
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
            blend(hu[part], np.float32(85.0), self._pixel_share(body))
        else:
            self._paint_bone(hu[part], body, texture, 1.5)
        self._paint_bone(hu[part], np.asarray(bone, np.float32), texture, 1.8)
        blend(hu[part], np.float32(30.0), self._pixel_share(canal))

    def _paint_disc(self, hu: Field, disc: Disc) -> None:
        part = self._window(disc.x, disc.y, max(disc.a, disc.b) + 2.0)
        x = (self.axis[part[1]] - disc.x).astype(np.float32)[None, :]
        y = (self.axis[part[0]] - disc.y).astype(np.float32)[:, None]
        depth = (1.0 - np.sqrt((x / disc.a) ** 2 + (y / disc.b) ** 2)) * min(disc.a, disc.b)
        blend(hu[part], np.float32(disc.hu), self._pixel_share(depth))

    def _paint_lungs(self, hu: Field, z: float, coarse: Field, rng: np.random.Generator) -> None:
        """Paint the air of the lungs and everything in it, within the window that contains them."""
        part = _bounds(coarse > -8.0)
        if part is None:
            return
        depth = enlarged(coarse)[part]
        inside = self._pixel_share(depth)
        air = random_window(self.bank.texture, rng)[part] * np.float32(14.0)
        # Vessels too small to be drawn one by one.
        twigs = np.maximum(random_window(self.bank.texture, rng)[part], np.float32(1.6))
        twigs *= np.float32(110.0)
        air += twigs
        air += self.gravity[part]
        air += np.float32(self.anatomy.lung_hu - 1.6 * 110.0)
        view = hu[part]
        blend(view, air, inside)
        self._paint_airways(view, z, part)
        vessels = self._branch_shares(self.vessels, z, part)
        if vessels is not None:
            vessels *= np.clip(depth * np.float32(0.2) + 2.0, 0.0, _ONE)  # vessels end in the root of the lung
            blend(view, np.float32(min(self.anatomy.blood, 170.0)), vessels)
        strands = self._branch_shares(self.spicules, z, part)
        if strands is not None:
            blend(view, np.float32(20.0), strands * inside)
        whole = np.zeros((SLICE_SIZE, SLICE_SIZE), np.float32)
        whole[part] = inside
        for nodule in self.nodules:
            self._paint_nodule(hu, z, nodule, whole)

    def _paint_airways(self, view: Field, z: float, part: Window) -> None:
        walls = self._branch_shares(self.airways, z, part, wider=0.9)
        lumen = self._branch_shares(self.airways, z, part)
        if walls is not None and lumen is not None:
            blend(view, np.float32(-60.0), walls * np.float32(0.8))
            blend(view, np.float32(-950.0), lumen)

    def _branch_shares(self, branches: Branches, z: float, part: Window, *, wider: float = 0.0) -> Field | None:
        cut = draw_cut(branches, z, self.thickness, self.anatomy.spacing, wider=wider)
        return None if cut is None else cut[part] * np.float32(1 / 255)

    def _paint_nodule(self, hu: Field, z: float, nodule: Nodule, inside: Field) -> None:
        reach = 0.65 * nodule.diameter
        if abs(z - nodule.centre[2]) > reach + self.thickness / 2:
            return
        part = self._window(nodule.centre[0], nodule.centre[1], reach + 2.0)
        x, y = self.axis[part[1]], self.axis[part[0]]
        alpha = np.zeros((len(y), len(x)), np.float32)
        for away in (-1 / 3, 0.0, 1 / 3):  # a slice averages over its thickness
            depth = nodule.depth(x[::2], y[::2], z + away * self.thickness)
            alpha += self._pixel_share(cv2.resize(depth, (len(x), len(y)))) * np.float32(1 / 3)
        blend(hu[part], np.float32(nodule.hu), alpha * inside[part])

    def _table(self, x: Field, y: Field) -> Field:
        """Draw the table: two curved shells below the back, with foam between them."""
        below = y - self.anatomy.table_top(x)
        table = np.full((SLICE_SIZE, SLICE_SIZE), -1000.0, np.float32)
        inner = np.minimum(below, 38.0 - below) + np.minimum(235.0 - np.abs(x), 0.0)
        blend(table, np.float32(-955.0), self._pixel_share(inner))
        for away, hu in ((0.0, 60.0), (38.0, 160.0)):
            shell = np.minimum(1.6 - np.abs(below - away), 235.0 - np.abs(x))
            blend(table, np.float32(hu), self._pixel_share(np.asarray(shell, np.float32)))
        return table

    def _pixel_share(self, depth: NDArray[np.floating], coarse: int = 1) -> Field:
        """Return the share of each pixel that is inside, from depths in mm."""
        return pixel_share(depth, coarse * self.anatomy.spacing)

    def _window(self, x: float, y: float, reach: float) -> Window:
        """Return the window of the slice within `reach` mm of a point."""
        s, middle = self.anatomy.spacing, (SLICE_SIZE - 1) / 2

        def span(centre: float) -> slice:
            low = math.floor((centre - reach) / s + middle)
            high = math.ceil((centre + reach) / s + middle) + 1
            return slice(min(max(low, 0), SLICE_SIZE), min(max(high, 0), SLICE_SIZE))

        return span(y), span(x)


def _bounds(coarse: Mask) -> Window | None:
    """Return the smallest window of the slice that contains a coarse mask; None if the mask is empty."""
    rows, columns = np.flatnonzero(coarse.any(axis=1)), np.flatnonzero(coarse.any(axis=0))
    if len(rows) == 0:
        return None
    step = SLICE_SIZE // len(coarse)
    return (
        slice(int(rows[0]) * step, (int(rows[-1]) + 1) * step),
        slice(int(columns[0]) * step, (int(columns[-1]) + 1) * step),
    )
