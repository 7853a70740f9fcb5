"""Grid slices -> where the lungs are: ``docs/formats.md``, "Preset lung, rule 3".

Terms. The *sampled* grid has every fourth row and column of every grid slice; a sampled voxel represents its block of
4 x 4 pixels. *Air* is below -400 HU: lung, airways, gas, what surrounds the body, and what is light (foam, blankets).
*Padding* is what a scanner writes where it measured nothing. The *edge* of the image is its border and the rim of the
padding. The *trunk* of a slice is the convex hull of its thick tissue.

What touches the edge is not always outside: a tight field of view cuts through the lungs. What does not is not always
inside: a table is hollow. So air is told from lung by its density, and what is as light as lung by the trunk, which a
mattress is not part of.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped,unused-ignore]

from lungct.errors import SeriesError
from lungct.preprocess.grid import GRID_MM

SAMPLING = 4
"""One row and column in four is sampled."""
AIR_BELOW_HU = -400.0

_DENSEST_AIR_HU = -950.0  # a component whose mean is no higher is air and not lung
_PADDING_BELOW_HU = -1500.0  # no matter is as light; scanners write -2000 or -3024
_FLAT_PADDING_HU = -1000.0  # others write the lightest value that they can store, in the corners of the image
_LEAST_COMPONENT_L = 0.05
_LEAST_LUNGS_L = 0.2
_LEAST_SECOND_SHARE = 10  # the second component is a lung if it has at least a tenth of the largest
_LEAST_TRUNK_SHARE = 4  # a quarter of a lung lies in the trunk, however tight the field of view
_LEAST_TISSUE_SHARE = 5  # a part of the trunk has at least a fifth of the area of its largest
_THICK_MM = 6.0  # what is thinner is no part of the trunk: the shells of a table, folds of cloth
_LEAST_END_CM2 = 10.0  # more than a windpipe

Sampled = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lungs:
    """The lungs of a series.

    Attributes
    ----------
    mask
        Where they are on the sampled grid, bool, shape (K, rows, columns).
    litres
        Their volume.
    at_edge
        Whether they reach the edge of the image, so that a part may be missing.
    at_end
        Whether the first or the last grid slice cuts through them.

    """

    mask: Mask
    litres: float
    at_edge: bool
    at_end: bool


@dataclass(frozen=True, eq=False)
class _Components:
    """Air that may be lung, in components connected in space by faces; entry 0 of each array is the rest.

    Attributes
    ----------
    labels
        The number of each voxel's component, shape (K, rows, columns).
    litres, mean_hu
        Volume and mean of each component, shape (n + 1,).
    at_edge
        Whether each touches the edge of the image, shape (n + 1,).

    """

    labels: NDArray[np.int32]
    litres: NDArray[np.float64]
    mean_hu: NDArray[np.float64]
    at_edge: Mask

    def as_light_as_lung(self) -> list[int]:
        """Return the numbers of those that are large enough and denser than air, the largest first."""
        fit = np.flatnonzero((self.litres >= _LEAST_COMPONENT_L) & (self.mean_hu > _DENSEST_AIR_HU))
        return sorted(fit.tolist(), key=lambda n: -float(self.litres[n]))


def find_lungs(sampled: Sampled, spacing_mm: tuple[float, float]) -> Lungs:
    """Find the lungs on the sampled grid.

    Parameters
    ----------
    sampled
        HU, shape (K, rows, columns).
    spacing_mm
        Between sampled rows and between sampled columns.

    Raises
    ------
    SeriesError
        ``no_lungs``, if there is less than 0.2 litre of lung.

    """
    components = _components(sampled, spacing_mm)
    candidates = components.as_light_as_lung()
    chosen = _choose(components, candidates, sampled, spacing_mm)
    litres = float(components.litres[chosen].sum())
    if litres < _LEAST_LUNGS_L:
        left = [n for n in candidates if components.at_edge[n] and n not in chosen]
        raise _no_lungs(litres, float(components.litres[left].sum()))
    mask = _voxels(components.labels, chosen)
    cm2 = spacing_mm[0] * spacing_mm[1] / 100
    at_end = max(int(mask[0].sum()), int(mask[-1].sum())) * cm2 >= _LEAST_END_CM2
    return Lungs(mask, litres, bool(components.at_edge[chosen].any()), at_end)


def _choose(
    components: _Components, candidates: list[int], sampled: Sampled, spacing_mm: tuple[float, float]
) -> list[int]:
    """Return which of the candidates, the largest first, are lungs.

    Airways often join both lungs to one component, and the second is then the gas in the stomach: it counts only if it
    has at least a tenth of the largest.
    """
    chosen: list[int] = []
    for n in candidates:
        if chosen and _LEAST_SECOND_SHARE * components.litres[n] < components.litres[chosen[0]]:
            break
        if _is_in_trunk(components.labels == n, sampled, spacing_mm):
            chosen.append(n)
        if len(chosen) == 2:
            break
    return chosen


def _voxels(labels: NDArray[np.int32], numbers: list[int]) -> Mask:
    mask: Mask = labels == numbers[0]
    for n in numbers[1:]:
        mask |= labels == n
    return mask


def _no_lungs(litres: float, doubtful: float) -> SeriesError:
    sentence = f"no lungs found: {litres:.2f} litres look like lung, and at least {_LEAST_LUNGS_L} are needed"
    if doubtful > 0:
        sentence += (
            f"; {doubtful:.2f} litres at the image's edge are as light as lung, "
            "so the field of view may be too small to show the chest"
        )
    return SeriesError(sentence, code="no_lungs")


def _components(sampled: Sampled, spacing_mm: tuple[float, float]) -> _Components:
    padding = _padding(sampled)
    edge = _edge(padding)
    air = sampled < AIR_BELOW_HU
    air &= ~padding
    for k in range(len(air)):
        _remove_outside(air[k], sampled[k], edge[k])
    labels, count = ndimage.label(air, output=np.int32)
    at = np.flatnonzero(air)  # far fewer than all voxels
    numbers = labels.ravel()[at]
    sizes = np.bincount(numbers, minlength=count + 1)
    sums = np.bincount(numbers, weights=sampled.ravel()[at], minlength=count + 1)
    at_edge = np.zeros(count + 1, bool)
    at_edge[labels[edge]] = True
    voxel_l = spacing_mm[0] * spacing_mm[1] * GRID_MM / 1e6
    return _Components(labels, sizes * voxel_l, sums / np.maximum(sizes, 1), at_edge)


def _padding(sampled: Sampled) -> Mask:
    """Return where the scanner measured nothing: far lighter than air, or one value in a corner beyond the circle."""
    padding: Mask = sampled < _PADDING_BELOW_HU
    count, rows, columns = sampled.shape
    hu, is_padding = sampled.reshape(count, -1), padding.reshape(count, -1)
    for corner in _corners(rows, columns):
        for k in np.flatnonzero(hu[:, corner[0]] == hu[:, corner[-1]]).tolist():  # few, where air is not flat
            values = hu[k, corner]
            if values[0] <= _FLAT_PADDING_HU and (values == values[0]).all():
                is_padding[k, corner] = True
    return padding


def _corners(rows: int, columns: int) -> list[NDArray[np.intp]]:
    """Return the places of the pixels in each corner of an image beyond its inscribed circle, counted row by row."""
    y = np.arange(rows)[:, None] - (rows - 1) / 2
    x = np.arange(columns)[None, :] - (columns - 1) / 2
    beyond = np.hypot(x, y) > min(rows, columns) / 2 + 1
    corners = [np.flatnonzero(beyond & above & left) for above in (y < 0, y >= 0) for left in (x < 0, x >= 0)]
    return [corner for corner in corners if len(corner)]


def _edge(padding: Mask) -> Mask:
    """Return where the image ends: its border, and what lies beside the padding."""
    edge = np.zeros_like(padding)
    if padding.any():
        edge[:, 1:] |= padding[:, :-1]
        edge[:, :-1] |= padding[:, 1:]
        edge[:, :, 1:] |= padding[:, :, :-1]
        edge[:, :, :-1] |= padding[:, :, 1:]
    edge[:, [0, -1]] = True
    edge[:, :, [0, -1]] = True
    return edge


def _remove_outside(air: Mask, hu: Sampled, edge: Mask) -> None:
    """Remove, in one slice and in place, the air outside the body: what is joined to the edge and no denser than air.

    In one slice, because airways may lead outside: a slice through the open mouth must not cost the lungs.
    """
    _, labels = cv2.connectedComponents(air.view(np.uint8), connectivity=4)
    for n in np.unique(labels[edge]).tolist():
        component = labels == n
        if n > 0 and cv2.mean(hu, component.view(np.uint8))[0] <= _DENSEST_AIR_HU:
            air ^= component


def _is_in_trunk(component: Mask, sampled: Sampled, spacing_mm: tuple[float, float]) -> bool:
    """Return whether a quarter of a component lies within the trunk, by every fourth of its slices."""
    inside = total = 0
    for k in np.flatnonzero(component.any(axis=(1, 2)))[::SAMPLING].tolist():
        total += int(component[k].sum())
        inside += int(component[k][_trunk(sampled[k], spacing_mm)].sum())
    return _LEAST_TRUNK_SHARE * inside >= total


def _trunk(hu: Sampled, spacing_mm: tuple[float, float]) -> Mask:
    """Return the trunk in one slice, bool (rows, columns)."""
    rows, columns = (2 * round(_THICK_MM / 2 / mm) + 1 for mm in spacing_mm)
    tissue = cv2.morphologyEx((hu >= AIR_BELOW_HU).view(np.uint8), cv2.MORPH_OPEN, np.ones((rows, columns), np.uint8))
    _, labels = cv2.connectedComponents(tissue, connectivity=4)
    areas = np.bincount(labels.ravel())
    areas[0] = 0  # what is no tissue
    trunk = np.zeros(hu.shape, np.uint8)
    if areas.any():
        large = (_LEAST_TISSUE_SHARE * areas >= areas.max())[labels]
        cv2.fillConvexPoly(trunk, cv2.convexHull(_outline(large)), 1)
    return trunk.view(bool)


def _outline(parts: Mask) -> NDArray[np.int32]:
    """Return the first and the last point of each row that has any, (column, row), shape (n, 2)."""
    rows = np.flatnonzero(parts.any(axis=1))
    first = parts[rows].argmax(axis=1)
    last = parts.shape[1] - 1 - parts[rows, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([first, rows], 1), np.stack([last, rows], 1)]).astype(np.int32)
