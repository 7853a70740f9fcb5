"""Numbers drawn from a seed -> a chest: how deep every point lies in its organs, at any height.

``fields.py`` has the terms. Heights are z in mm: 0 at the lowest end of the lungs, `height` at their tops;
t = z / height.

Nothing here was measured on a person: sizes are plausible for adults, no more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from lungct.phantom.fields import COARSE_SIZE, SLICE_SIZE, Field, Point, ellipse_depth, length, overlay, smoothstep


@dataclass(frozen=True)
class Disc:
    """A round structure in one slice: its centre and half axes in mm, and its Hounsfield units."""

    x: float
    y: float
    a: float
    b: float
    hu: float


@dataclass(frozen=True)
class Layers:
    """Coarse fields at one height, each (128, 128) float32.

    Attributes
    ----------
    body, wall, lung, bone
        Depths in mm: in the body, *outside* the thoracic cavity, in a lung, in a rib or shoulder blade.
    muscle
        Thickness of the muscle of the chest wall, in mm.
    inner
        Hounsfield units inside the cavity where there is no lung: fat, heart, liver, spleen, stomach.
    discs
        Large vessels, airways and oesophagus, in the order in which they are painted.

    """

    body: Field
    wall: Field
    lung: Field
    bone: Field
    muscle: Field
    inner: Field
    discs: tuple[Disc, ...]


@dataclass(frozen=True, eq=False)
class Anatomy:
    """One chest: lengths in mm, `x` to the patient's left, `y` to the back; the module docstring defines `z`."""

    height: float
    cavity: Point  # half axes at its widest
    body: Point
    breast: float
    fat: float
    spacing: float  # between rows and between columns
    spine_y: float
    blood: float  # HU
    tissue: float  # HU of liver and spleen
    lung_hu: float
    noise_hu: float
    heart: tuple[float, float, float]
    heart_axes: tuple[float, float, float]
    domes: Point  # heights of the right and the left half of the diaphragm
    carina: float
    rib_pitch: float
    rib_phase: float
    gas: bool
    ripples: Field  # (fields, heights, 128, 128): smooth noise, standard normal at its knots
    x: Field
    y: Field

    def ripple(self, which: int, z: float) -> Field:
        """Return smooth noise that changes slowly with height, (128, 128)."""
        knots = self.ripples[which]
        place = min(max(z / self.height, -0.5), 1.5) * 4 + 2  # 4 knots per height of the lungs
        low = min(int(place), len(knots) - 2)
        share = np.float32(place - low)
        mixed: Field = knots[low] * (1 - share) + knots[low + 1] * share
        return mixed

    def lung_depth(self, z: float) -> Field:
        """Return the depth in a lung, (128, 128)."""
        inside = -self._wall(z)
        top = ((np.abs(self.x) - 0.38 * self.cavity[0]) / 62.0) ** 2 + ((self.y - 8.0) / 78.0) ** 2
        inside = np.minimum(inside, (self.height - 50.0 * top - z) * 0.6)
        depth = np.minimum(inside - 1.5, -self._mediastinum(z))
        depth = np.minimum(depth, (z - self._dome(z)) * 0.6)
        return np.asarray(cv2.GaussianBlur(depth, (0, 0), 1.1))

    def layers(self, z: float, lung: Field) -> Layers:
        """Return all fields at one height, given the depth in the lungs there."""
        wall, body = self._wall(z), self._body(z)
        radius = length(self.x, self.y) + 1e-3
        back = self.y / radius  # 1 towards the back, -1 towards the front
        return Layers(
            body=body,
            wall=wall,
            lung=lung,
            bone=np.maximum(self._rib(z, wall, back), self._scapula(z, wall, back)),
            muscle=self._muscle(z, back),
            inner=self._inner(z),
            discs=tuple(self._discs(z)),
        )

    def _wall(self, z: float) -> Field:
        """Return the distance outside the thoracic cavity: two half ellipses that move apart towards the top."""
        t = min(max(z / self.height, 0.0), 1.06)
        shrink = 0.42 + 0.58 * math.sqrt(max(1.0 - (t / 1.07) ** 3.0, 0.0))
        a = self.cavity[0] * shrink * (0.93 + 0.07 * smoothstep(t, 0.0, 0.3))
        b = self.cavity[1] * (0.35 + 0.65 * shrink)
        apart = 20.0 * smoothstep(t, 0.7, 1.0)
        half = max(a - apart, 8.0)
        u = np.asarray(np.maximum(np.abs(self.x) - apart, 0.0) / half, np.float32)
        v = np.asarray((self.y - 8.0 * smoothstep(t, 0.5, 1.0)) / b, np.float32)
        return -ellipse_depth(u * half, v * b, u, v, 0.05, self.ripple(0, z) * 0.025)

    def _body(self, z: float) -> Field:
        t = z / self.height
        a = self.body[0] * (1.0 - 0.05 * smoothstep(t, 0.5, 0.9) + 0.06 * smoothstep(t, 0.85, 1.1))
        b = self.body[1] * (1.0 - 0.10 * smoothstep(t, 0.5, 1.1))
        depth = ellipse_depth(self.x, self.y, self.x / a, self.y / b, 0.07, self.ripple(1, z) * 0.018)
        swell = self.breast * math.exp(-(((t - 0.42) / 0.2) ** 2))
        if swell > 1.0:
            angle = np.arctan2(np.abs(self.x), -self.y)
            depth += swell * np.exp(-(((angle - 0.72) / 0.36) ** 2))
        return np.asarray(depth)

    def _muscle(self, z: float, back: Field) -> Field:
        t = z / self.height
        thick = 11.0 + 26.0 * np.clip((back - 0.72) / 0.25, 0.0, 1.0)
        thick += (4.0 + 16.0 * smoothstep(t, 0.5, 0.85)) * np.exp(-(((back + 0.6) / 0.25) ** 2))
        thick += (3.0 + 26.0 * smoothstep(t, 0.4, 0.8)) * np.exp(-(((back - 0.35) / 0.42) ** 2))
        return np.asarray(thick * (1.0 + 0.15 * self.ripple(2, z)), np.float32)

    def _rib(self, z: float, wall: Field, back: Field) -> Field:
        """Return the depth in a rib. Ribs run down from the spine to the front, so a slice cuts several at an angle."""
        drop = 47.0 * (1.0 - back)
        phase = (z + drop) * (2 * math.pi / self.rib_pitch) + self.rib_phase
        across = (np.cos(phase) - 0.2) * (self.rib_pitch / 6.0)
        thick = 3.6 + 0.8 * self.ripple(9, z)
        return np.asarray(np.minimum(thick - np.abs(wall - 5.5), across), np.float32)

    def _scapula(self, z: float, wall: Field, back: Field) -> Field:
        t = z / self.height
        width = 0.36 * smoothstep(t, 0.45, 0.62) * (1.0 - smoothstep(t, 0.92, 1.0))
        away = 17.0 + 5.0 * (back - 0.4)
        plate = np.minimum(3.4 - np.abs(wall - away), (width - np.abs(back - 0.42)) * 70.0)
        return np.asarray(plate, np.float32)

    def _dome(self, z: float) -> Field:
        """Return the height of the diaphragm: a dome on each side, the right one higher."""
        a, b = self.cavity
        right = (self.x < 0).astype(np.float32)
        top = self.domes[1] + (self.domes[0] - self.domes[1]) * right
        away = ((np.abs(self.x) - 0.43 * a) / (0.56 * a)) ** 2
        away += ((self.y + 0.28 * b) / (1.12 * b)) ** 2
        return np.asarray(top * (1.0 - 0.9 * away) + 4.0 * self.ripple(3, z), np.float32)

    def _heart_depth(self, z: float) -> Field:
        (cx, cy, cz), (a, b, c) = self.heart, self.heart_axes
        dz = (z - cz) / c
        # The axis of the heart leans: in lower slices it is further to the left and to the front.
        u = (self.x - cx - 12.0 * -dz) / a
        v = (self.y - cy - 8.0 * dz) / b
        rho = np.sqrt(u * u + v * v + dz * dz)
        return np.asarray((1.0 - rho * (1.0 + 0.04 * self.ripple(4, z))) * 50.0, np.float32)

    def _mediastinum(self, z: float) -> Field:
        t = z / self.height
        _, b = self.cavity
        half = 12.0 + 17.0 * smoothstep(t, 0.3, 0.5) + 3.0 * smoothstep(t, 0.85, 1.0)
        u, v = (self.x - 2.0) / half, (self.y - 0.12 * b) / (0.62 * b)
        depth = ellipse_depth(self.x - 2.0, self.y - 0.12 * b, u, v, 0.1, self.ripple(5, z) * 0.05)
        depth = np.maximum(depth, self._heart_depth(z) + 5.0)
        junction = 3.5 - np.abs(self.x - 6.0 - 4.0 * self.ripple(6, z))
        depth = np.maximum(depth, np.where(self.y < 0, junction, -50.0))
        depth = np.maximum(depth, 25.0 - length(self.x, self.y - self.spine_y))
        ax, ay = self.aorta
        depth = np.maximum(depth, 16.0 - length(self.x - ax, self.y - ay))
        for side, top in ((-1, 0.50), (1, 0.54)):  # the roots of the lungs
            far = ((z - top * self.height) / 24.0) ** 2
            root = length(self.x - side * 34.0, self.y - 8.0)
            depth = np.maximum(depth, 16.0 * math.exp(-far) - root)
        return np.asarray(depth, np.float32)

    def table_top(self, x: Field) -> Field:
        """Return how far behind the middle of the body the table's top is, in mm."""
        return np.asarray(self.body[1] * 0.99 + 4.0 - 0.0011 * x * x)

    @property
    def aorta(self) -> Point:
        """Centre of the descending aorta: in front of the spine and to its left."""
        return 21.0, self.spine_y - 17.0

    def _inner(self, z: float) -> Field:
        mixed = self.ripple(7, z)
        hu = np.asarray(-62.0 + 45.0 * np.clip(mixed, -0.8, 1.6), np.float32)
        below = np.asarray((self._dome(z) - z) * 0.6, np.float32)
        hu = overlay(hu, self._belly(z), below)
        heart = self._heart_depth(z)
        hu = overlay(hu, np.float32(48.0), heart)
        chamber: Field = np.asarray(heart - 9.0 - 7.0 * np.abs(self.ripple(8, z)), np.float32)
        return np.asarray(overlay(hu, np.float32(self.blood), chamber), np.float32)

    def _belly(self, z: float) -> Field:
        """Return HU below the diaphragm: liver on the right, stomach and spleen in fat on the left."""
        a, b = self.cavity
        hu = np.full((COARSE_SIZE, COARSE_SIZE), -95.0, np.float32)
        stomach = 34.0 - length(self.x - 0.48 * a, (self.y + 0.25 * b) * 1.2)
        hu = overlay(hu, np.float32(40.0), stomach)
        if self.gas:
            gas = np.minimum(stomach - 5.0, -0.35 * b - self.y)
            hu = overlay(hu, np.float32(-960.0), gas)
        spleen = 32.0 - length((self.x - 0.68 * a), (self.y - 0.45 * b) * 0.8)
        hu = overlay(hu, np.float32(self.tissue - 4.0), spleen)
        liver = 0.12 * a - 0.25 * self.y * (self.y < 0) + 8.0 * self.ripple(9, z) - self.x
        return overlay(hu, np.float32(self.tissue), liver)

    def _discs(self, z: float) -> list[Disc]:
        """Return the large vessels, airways and the oesophagus at one height."""
        h, blood, (ax, ay) = self.height, self.blood, self.aorta
        discs = [Disc(6.0, ay - 9.0, 8.0, 6.0, 32.0), Disc(ax, ay, 12.0, 12.0, blood)]
        root, arch = 0.44 * h, self.carina + 22.0
        if root < z < arch:
            discs.append(Disc(-12.0, -24.0, 15.5, 15.5, blood))
        if arch - 9.0 < z < arch + 9.0:  # the arch, from front right to back left
            steps = np.linspace(0.0, 1.0, 9)
            xs, ys = -12.0 + steps * (ax + 12.0), -24.0 + steps * (ay + 24.0)
            bend = 7.0 * np.sin(np.pi * steps)
            discs += [Disc(float(x + d), float(y), 12.0, 12.0, blood) for x, y, d in zip(xs, ys, bend, strict=True)]
        if root < z < self.carina - 6.0:
            discs.append(Disc(16.0, -30.0, 14.0, 14.0, blood))
        if self.carina - 32.0 < z < self.carina - 10.0:  # right and left pulmonary artery
            for k in range(9):
                s = k / 8
                discs.append(Disc(16.0 - 48.0 * s, -24.0 + 26.0 * s, 9.0, 8.0, blood))
                discs.append(Disc(16.0 + 20.0 * s, -28.0 + 34.0 * s, 9.5, 8.5, blood))
        if z > root:
            discs.append(Disc(-29.0, -14.0, 8.5, 8.0, blood * 0.9 + 8.0))
        if z > arch + 9.0:
            up = z - arch
            discs += [
                Disc(-10.0 - 0.10 * up, -18.0 + 0.1 * up, 6.5, 6.5, blood),
                Disc(4.0 + 0.06 * up, -14.0 + 0.2 * up, 4.5, 4.5, blood),
                Disc(16.0 + 0.12 * up, -6.0 + 0.2 * up, 5.5, 5.5, blood),
            ]
        return discs + self._airways(z)

    def _airways(self, z: float) -> list[Disc]:
        below = self.carina - z
        tubes: list[tuple[float, float, float, float]] = []
        if below <= 0:
            tubes.append((-1.0, 4.0, 9.0, 9.5))
        elif below < 36:
            tubes.append((-6.0 - 0.62 * below, 5.0 + 0.22 * below, 8.0, 7.0))
            tubes.append((6.0 + 0.86 * below, 5.0 + 0.18 * below, 8.0, 6.0))
        walls = [Disc(x, y, a + 1.6, b + 1.6, 30.0) for x, y, a, b in tubes]
        return walls + [Disc(x, y, a, b, -985.0) for x, y, a, b in tubes]


def field_axes(field_mm: float) -> tuple[float, Field, Field]:
    """Return the distance between pixels in a field of view, and x and y of the coarse grid's points, in mm."""
    spacing = field_mm / SLICE_SIZE
    centre = (np.arange(COARSE_SIZE, dtype=np.float32) - (COARSE_SIZE - 1) / 2) * (spacing * SLICE_SIZE / COARSE_SIZE)
    size = (COARSE_SIZE, COARSE_SIZE)
    x, y = np.broadcast_to(centre[None, :], size), np.broadcast_to(centre[:, None], size)
    return spacing, np.ascontiguousarray(x), np.ascontiguousarray(y)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a chest."""
    cavity = (float(rng.uniform(112, 140)), float(rng.uniform(80, 100)))
    fat = float(rng.gamma(3.0, 4.0))
    body = (
        cavity[0] + float(rng.uniform(27, 36)) + min(fat, 28.0),
        cavity[1] + float(rng.uniform(32, 40)) + min(fat, 28.0) * 0.7,
    )
    breast = float(rng.uniform(4, 34)) if rng.random() < 0.5 else 0.0
    field = round(min(max(2.0 * body[0] * rng.uniform(1.03, 1.14), 310.0), 455.0))
    spacing, x, y = field_axes(field)
    contrast = rng.random() < 0.6
    height = float(rng.uniform(225, 285))
    return Anatomy(
        height=height,
        cavity=cavity,
        body=body,
        breast=breast,
        fat=fat,
        spacing=spacing,
        spine_y=0.74 * cavity[1],
        blood=float(rng.uniform(120, 260)) if contrast else float(rng.uniform(36, 48)),
        tissue=float(rng.uniform(90, 120)) if contrast else float(rng.uniform(48, 62)),
        lung_hu=float(rng.uniform(-885, -815)),
        noise_hu=float(rng.uniform(6, 14)),
        heart=(
            float(rng.uniform(16, 26)),
            -0.22 * cavity[1],
            height * float(rng.uniform(0.27, 0.31)),
        ),
        heart_axes=(float(rng.uniform(50, 62)), float(rng.uniform(42, 50)), height * 0.27),
        domes=(height * float(rng.uniform(0.27, 0.36)), height * float(rng.uniform(0.22, 0.29))),
        carina=height * float(rng.uniform(0.60, 0.65)),
        rib_pitch=float(rng.uniform(25, 30)),
        rib_phase=float(rng.uniform(0, 2 * math.pi)),
        gas=bool(rng.random() < 0.5),
        ripples=_ripples(rng),
        x=x,
        y=y,
    )


def _ripples(rng: np.random.Generator) -> Field:
    """Draw smooth noise: 10 fields at 9 heights, each from 7 x 7 knots."""
    knots = rng.standard_normal((10, 9, 7, 7)).astype(np.float32)
    large = [
        [cv2.resize(k, (COARSE_SIZE, COARSE_SIZE), interpolation=cv2.INTER_CUBIC) for k in field] for field in knots
    ]
    return np.array(large, np.float32)
