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

import math
from dataclasses import dataclass
from functools import lru_cache

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
_DENSEST_GAS_HU = -965.0  # nor is one of which half is no denser, and the mean of what lies within, neither
_PADDING_BELOW_HU = -1500.0  # no matter is as light; scanners write -2000 or -3024
_FLAT_PADDING_HU = -1000.0  # others write the lightest value that they can store, in the corners of the image
_LEAST_COMPONENT_L = 0.05
_LEAST_LUNGS_L = 0.2
_LEAST_SECOND_SHARE = 10  # the second component is a lung if it has at least a tenth of the largest
_LEAST_TRUNK_SHARE = 0.4  # of a lung lies in the trunk, however tight the field of view
_LEAST_TISSUE_SHARE = 5  # a part of the trunk has at least a fifth of the area of its largest
_MOST_AIR_SHARE = 0.05  # of a lung's voxels that are no denser than air; a mattress or a table has three times as many
_THICK_MM = 6.0  # what is thinner is no part of the trunk: the shells of a table, folds of cloth
_LEAST_END_CM2 = 10.0  # more than a windpipe
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_SLICES_AT_ONCE = 16  # bounds the memory of what is summed

Sampled = NDArray[np.float32]
Mask = NDArray[np.bool_]
Places = NDArray[np.intp]


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
    litres, mean_hu, gas_share
        Volume and mean of each component, and the share of its voxels that are no denser than gas, shape (n + 1,).
    edge
        Where the image ends, bool, shape (K, rows, columns).
    outside_litres
        Volume of the air outside the body that was told from them.

    """

    labels: NDArray[np.int32]
    litres: NDArray[np.float64]
    mean_hu: NDArray[np.float64]
    gas_share: NDArray[np.float64]
    edge: Mask
    outside_litres: float

    def touches_edge(self, n: int) -> bool:
        """Return whether a component touches the edge of the image."""
        return bool(((self.labels == n) & self.edge).any())

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
        left = [n for n in candidates if n not in chosen and components.touches_edge(n)]
        raise _no_lungs(litres, float(components.litres[left].sum()))
    mask = _voxels(components.labels, chosen)
    cm2 = spacing_mm[0] * spacing_mm[1] / 100
    at_end = max(int(mask[0].sum()), int(mask[-1].sum())) * cm2 >= _LEAST_END_CM2
    return Lungs(mask, litres, bool((mask & components.edge).any()), at_end)


def _choose(
    components: _Components, candidates: list[int], sampled: Sampled, spacing_mm: tuple[float, float]
) -> list[int]:
    """Return which of the candidates, the largest first, are lungs.

    Airways often join both lungs to one component, and the second is then the gas in the stomach: it counts only if it
    has at least a tenth of the largest.
    """
    within_body = components.outside_litres < _LEAST_COMPONENT_L
    trunk = _Trunk(sampled, spacing_mm)
    chosen: list[int] = []
    for n in candidates:
        if chosen and _LEAST_SECOND_SHARE * components.litres[n] < components.litres[chosen[0]]:
            break
        component = components.labels == n
        if components.gas_share[n] >= 0.5 and _mean_within(component, sampled) <= _DENSEST_GAS_HU:
            continue
        if trunk.holds(component) or (within_body and not _holds_air(sampled[component])):
            chosen.append(n)
        if len(chosen) == 2:
            break
    return chosen


def _mean_within(component: Mask, sampled: Sampled) -> float:
    """Return the mean of the voxels whose six neighbours belong to a component, too; -inf if there are none.

    At the wall of a bowel, a voxel holds gas and tissue, which raises the mean of the whole.
    """
    as_bytes = component.view(np.uint8)
    total = voxels = 0.0
    for k in np.flatnonzero(component.any(axis=(1, 2))).tolist():
        within = cv2.erode(as_bytes[k], _CROSS)
        for beside in range(max(k - 1, 0), min(k + 2, len(component))):
            within &= as_bytes[beside]
        values = sampled[k][within.view(bool)]
        total += float(values.sum(dtype=np.float64))
        voxels += len(values)
    return total / voxels if voxels else -math.inf


def _voxels(labels: NDArray[np.int32], numbers: list[int]) -> Mask:
    mask: Mask = labels == numbers[0]
    for n in numbers[1:]:
        mask |= labels == n
    return mask


def _no_lungs(litres: float, doubtful: float) -> SeriesError:
    shown = math.floor(litres * 100) / 100  # never 0.20 where 0.2 would do
    sentence = f"no lungs found: {shown:.2f} litres look like lung, and at least {_LEAST_LUNGS_L} are needed"
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
    all_air = np.count_nonzero(air)
    for each in zip(air, sampled, edge, strict=True):
        _remove_outside(*each)
    outside = all_air - np.count_nonzero(air)
    labels, count = ndimage.label(air, output=np.int32)
    sizes, sums, gas = np.zeros(count + 1), np.zeros(count + 1), np.zeros(count + 1)
    for first in range(0, len(air), _SLICES_AT_ONCE):
        part = slice(first, first + _SLICES_AT_ONCE)
        at = np.flatnonzero(air[part])  # far fewer than all voxels
        numbers, hu = labels[part].ravel()[at], sampled[part].ravel()[at]
        sizes += np.bincount(numbers, minlength=count + 1)
        sums += np.bincount(numbers, weights=hu, minlength=count + 1)
        gas += np.bincount(numbers[hu <= _DENSEST_GAS_HU], minlength=count + 1)
    voxel_l = spacing_mm[0] * spacing_mm[1] * GRID_MM / 1e6
    voxels = np.maximum(sizes, 1.0)
    return _Components(labels, sizes * voxel_l, sums / voxels, gas / voxels, edge, outside * voxel_l)


def _padding(sampled: Sampled) -> Mask:
    """Return where the scanner measured nothing: far lighter than air, or one value in a corner beyond the circle."""
    padding: Mask = sampled < _PADDING_BELOW_HU
    count, rows, columns = sampled.shape
    hu, is_padding = sampled.reshape(count, -1), padding.reshape(count, -1)
    for corner, rim in _corners(rows, columns):
        first, last = hu[:, corner[0]], hu[:, corner[-1]]
        may_be_flat = (first == last) & (first <= _FLAT_PADDING_HU) & (first >= _PADDING_BELOW_HU)
        for k in np.flatnonzero(may_be_flat).tolist():
            value = hu[k, corner[0]]
            if (hu[k, corner] == value).all():
                is_padding[k, rim[hu[k, rim] == value]] = True
    return padding


@lru_cache(maxsize=8)
def _corners(rows: int, columns: int) -> list[tuple[Places, Places]]:
    """Return the places of the pixels in each corner of an image beyond its inscribed circle, counted row by row.

    The first of a pair is surely beyond, by a pixel and more; the second may be, since nobody says where in its pixels
    the circle runs.
    """
    y = np.arange(rows)[:, None] - (rows - 1) / 2
    x = np.arange(columns)[None, :] - (columns - 1) / 2
    beyond = np.hypot(x, y) - min(rows, columns) / 2
    quarters = [above & left for above in (y < 0, y >= 0) for left in (x < 0, x >= 0)]
    corners = [
        (np.flatnonzero(quarter & (beyond > 1)), np.flatnonzero(quarter & (beyond > -1))) for quarter in quarters
    ]
    return [(corner, rim) for corner, rim in corners if len(corner)]


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
    """Remove, in one slice and in place, the air outside the body: what is joined to the edge, and no denser than air.

    In one slice, because airways may lead outside: a slice through the open mouth must not cost the lungs.
    """
    count, labels = cv2.connectedComponents(air.view(np.uint8), connectivity=4)
    at_edge = np.zeros(count, bool)
    at_edge[labels[edge]] = True
    at_edge[0] = False  # what is no air
    for n in np.flatnonzero(at_edge).tolist():
        component = labels == n
        if cv2.mean(hu, component.view(np.uint8))[0] <= _DENSEST_AIR_HU:
            air ^= component


def _holds_air(hu: Sampled) -> bool:
    return bool(np.count_nonzero(hu <= _DENSEST_AIR_HU) > _MOST_AIR_SHARE * hu.size)


class _Trunk:
    """The trunk of a scan, found in every fourth slice, where it is asked for."""

    def __init__(self, sampled: Sampled, spacing_mm: tuple[float, float]) -> None:
        self._sampled = sampled
        rows, columns = (2 * round(_THICK_MM / 2 / mm) + 1 for mm in spacing_mm)
        self._thick = np.ones((rows, columns), np.uint8)
        self._found: dict[int, Mask] = {}

    def holds(self, component: Mask) -> bool:
        """Return whether enough of a component lies in the trunk, by every fourth of its slices."""
        inside = total = 0
        for k in np.flatnonzero(component.any(axis=(1, 2)))[::SAMPLING].tolist():
            total += int(np.count_nonzero(component[k]))
            inside += int(np.count_nonzero(component[k] & self._in_slice(k)))
        return inside >= _LEAST_TRUNK_SHARE * total

    def _in_slice(self, k: int) -> Mask:
        if k not in self._found:
            self._found[k] = _hull(self._sampled[k], self._thick)
        return self._found[k]


def _hull(hu: Sampled, thick: NDArray[np.uint8]) -> Mask:
    """Return the trunk in one slice, bool (rows, columns)."""
    tissue = cv2.morphologyEx((hu >= AIR_BELOW_HU).view(np.uint8), cv2.MORPH_OPEN, thick)
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
