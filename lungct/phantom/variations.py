"""What may be unusual about a body and its scan: a diseased lung, arms, cloth, the way the person lies, the field.

An ordinary phantom breathes with both lungs, lies on its back on a bare table with its arms above the head, and fills
the field of view. A `Variation` changes some of it. It draws no random numbers, so that the ordinary bodies of a seed
keep their bytes, and a varied one differs from them in nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lungct.phantom.anatomy import Anatomy, field_axes
from lungct.phantom.fields import Field, blend, enlarged, length, pixel_share
from lungct.phantom.noise import NoiseBank

_FLUID_HU = np.float32(15.0)
_BULLA_HU = np.float32(-985.0)
_DESTROYED_HU = np.float32(-955.0)
_BLANKET_HU = np.float32(-880.0)
_MATTRESS_HU = np.float32(-890.0)
_MATTRESS_MM = 30.0
_ARM_MM = 42.0  # radius
_CORE_MM = 34.0  # a collapsed lung is what lies deeper than this


@dataclass(frozen=True)
class Variation:
    """What is unusual about a body and its scan.

    Attributes
    ----------
    left_lung
        ``"air"``; ``"filled"``: all fluid; ``"collapsed"``: a small core of air in fluid.
    emphysema
        Whether much of both lungs is as light as air.
    arms
        Whether arms lie beside the body.
    blanket, mattress
        Whether light cloth lies on the body, and foam between it and the table.
    prone
        Whether the person lies on the belly; the files then say so (ImageOrientationPatient), and hold the image as it
        lay in the scanner.
    field_mm
        Side of the field of view; None fits it to the body.

    """

    left_lung: Literal["air", "filled", "collapsed"] = "air"
    emphysema: bool = False
    arms: Literal["up", "left down", "down"] = "up"
    blanket: bool = False
    mattress: bool = False
    prone: bool = False
    field_mm: float | None = None


ORDINARY = Variation()


def fitted(anatomy: Anatomy, variation: Variation) -> Anatomy:
    """Return the chest in the field of view of a variation."""
    if variation.field_mm is None:
        return anatomy
    spacing, x, y = field_axes(variation.field_mm)
    return replace(anatomy, spacing=spacing, x=x, y=y)


@dataclass(frozen=True, eq=False)
class Painter:
    """Paints a variation of one chest over its slices.

    Attributes
    ----------
    variation, anatomy, bank
        What to paint, of which chest, and the noise of the cohort.
    x, y
        Coordinates of the pixels in mm, (512, 512) float32.

    """

    variation: Variation
    anatomy: Anatomy
    bank: NoiseBank
    x: Field
    y: Field

    def paint_lungs(self, hu: Field, z: float, coarse: Field) -> None:
        """Paint disease over the lungs, whose depth is given on the coarse grid."""
        if self.variation == ORDINARY:
            return
        depth = enlarged(coarse)
        if self.variation.emphysema:
            rows = int(z * 2) % 512
            blotches = self.bank.texture[rows : rows + 512, :512]
            lung = self._share(depth - 3.0)
            blend(hu, _DESTROYED_HU, lung * np.clip(blotches + 1.0, 0.0, 1.0))
            blend(hu, _BULLA_HU, self._share(depth - 12.0) * np.clip(2 * blotches - 1.0, 0.0, 1.0))
        if self.variation.left_lung != "air":
            filled = depth if self.variation.left_lung == "filled" else np.minimum(depth, _CORE_MM - depth)
            blend(hu, _FLUID_HU, self._share(filled) * (self.x > 0))

    def paint_around(self, hu: Field, body: Field) -> None:
        """Paint what lies around the body, given the depth in the body on the coarse grid."""
        if self.variation == ORDINARY:
            return
        away = -enlarged(body)
        down = -self.y if self.variation.prone else self.y
        if self.variation.mattress:
            above = self.anatomy.table_top(self.x) - down
            _cover(hu, _MATTRESS_HU, self._share(np.minimum(np.minimum(above, _MATTRESS_MM - above), away)))
        if self.variation.blanket:
            cloth = np.minimum(np.minimum(away - 4.0, 16.0 - away), 0.4 * self.anatomy.body[1] - down)
            _cover(hu, _BLANKET_HU, self._share(cloth))
        for side in {"up": (), "left down": (1,), "down": (-1, 1)}[self.variation.arms]:
            x = side * (self.anatomy.body[0] + _ARM_MM - 2.0)
            centre = length(self.x - np.float32(x), down - np.float32(0.15 * self.anatomy.body[1]))
            for radius, value in ((_ARM_MM, -90.0), (_ARM_MM - 9.0, 50.0), (12.0, 700.0), (7.0, 100.0)):
                blend(hu, np.float32(value), self._share(radius - centre))

    def _share(self, depth: Field) -> Field:
        return pixel_share(depth, self.anatomy.spacing)


def _cover(hu: Field, over: np.float32, alpha: Field) -> None:
    """Paint something light over air, but not over what is denser."""
    blend(hu, over, alpha * (hu < over))
