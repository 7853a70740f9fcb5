"""Preset ``lung``: the chest on a 2.5 mm grid, in a fixed Hounsfield window and of a fixed size; for any scanner.

Rule numbers are those of ``docs/formats.md``, "Preset lung"; each has a module: ``orientation.py`` (rule 1),
``grid.py`` (2), ``mask.py`` (3) and ``view.py`` (4). Grid slices are windowed to 8 bits as they are made, so that a
whole scan of the largest scanners fits into the memory of one process; where it does not, the slices are read again
once it is known which part is needed. The pixels are the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lungct.dicom.notes import LUNG_AT_EDGE, LUNG_AT_END, VIEW_GROWN_MM, in_order, note
from lungct.errors import SeriesError
from lungct.preprocess.grid import GRID_MM, grid_positions, grid_slices
from lungct.preprocess.mask import SAMPLING, Lungs, find_lungs
from lungct.preprocess.opencv import single_threaded
from lungct.preprocess.orientation import turned, turned_pair
from lungct.preprocess.stack import TRIPLET_SIZE, Triplets
from lungct.preprocess.view import Pixels, View, grey, triplet, view_of

if TYPE_CHECKING:
    from lungct.dicom import Scan, Series
    from lungct.dicom.geometry import Orientation

KEPT_BYTES = 640 << 20
"""Windowed grid slices of a scan are kept if they take no more memory; otherwise the scan is read twice."""


@dataclass(frozen=True, eq=False)
class Chest:
    """A series with the lungs and the view found in it.

    Attributes
    ----------
    series
        Ordered by position, from the feet to the head.
    positions_mm
        Positions of the grid slices along the normal, float64, shape (K,).
    lungs, view
        On the grid slices, turned to LPS.
    kept
        The windowed grid slices, turned to LPS, uint8 (K, rows, columns), or None if there are too many to keep.

    """

    series: Series
    positions_mm: NDArray[np.float64]
    lungs: Lungs
    view: View
    kept: Pixels | None

    def images(self) -> Iterator[Pixels]:
        """Yield the windowed grid slices, turned to LPS, in order."""
        if self.kept is not None:
            yield from self.kept
            return
        for hu in _turned_slices(self.series):
            image = np.empty(hu.shape, np.uint8)
            grey(hu, image, np.empty(hu.shape, np.float32))
            yield image

    @property
    def scan(self) -> Scan:
        """What is known of the scan, with what the preset found."""
        found = {LUNG_AT_EDGE: self.lungs.at_edge, LUNG_AT_END: self.lungs.at_end}
        notes = [note(code) for code, true in found.items() if true]
        if self.view.grown:
            notes.append(note(VIEW_GROWN_MM, self.view.side_mm))
        scan = self.series.scan
        return replace(scan, lung_litres=self.lungs.litres, notes=in_order((*scan.notes, *notes)))


def prepare(series: Series) -> Triplets:
    """Convert a series to triplets of the chest.

    Raises
    ------
    SeriesError
        ``geometry`` (positions or pixel spacing unknown, or a gap of more than 10 mm), ``no_lungs``, or
        ``too_few_slices`` (fewer than three grid slices in the view).

    """
    with single_threaded():
        return chest_triplets(find_chest(series))


def find_chest(series: Series) -> Chest:
    """Find the lungs in a series, and place the view (rules 1 to 4).

    Raises
    ------
    SeriesError
        ``geometry`` or ``no_lungs``, as for `prepare`.

    """
    series = series.by_position()
    _, row_mm, column_mm = series.spacing_mm
    if not (0 < row_mm < math.inf and 0 < column_mm < math.inf):
        raise SeriesError("the files do not state the pixel spacing, which the preset lung needs", code="geometry")
    orientation = _orientation(series)
    shape, spacing = (
        turned_pair((series.rows, series.columns), orientation),
        turned_pair((row_mm, column_mm), orientation),
    )
    positions = grid_positions(series)
    sampled = np.empty((len(positions), *(math.ceil(pixels / SAMPLING) for pixels in shape)), np.float32)
    kept = np.empty((len(positions), *shape), np.uint8) if len(positions) * math.prod(shape) <= KEPT_BYTES else None
    scratch = np.empty(shape, np.float32)
    for k, hu in enumerate(_turned_slices(series)):
        sampled[k] = hu[::SAMPLING, ::SAMPLING]
        if kept is not None:
            grey(hu, kept[k], scratch)
    lungs = find_lungs(sampled, (SAMPLING * spacing[0], SAMPLING * spacing[1]))
    return Chest(series, positions, lungs, view_of(lungs.mask, sampled, shape, spacing), kept)


def chest_triplets(chest: Chest) -> Triplets:
    """Cut the view out of its grid slices, resize it, three slices at a time (rules 4 and 5).

    Raises
    ------
    SeriesError
        ``too_few_slices`` for fewer than three grid slices in the view.

    """
    first, last = chest.view.slices
    count = (last - first) // 3
    if count < 1:
        raise SeriesError(
            f"the preset lung needs at least 3 slices of {GRID_MM} mm; the lungs span {last - first}",
            code="too_few_slices",
        )
    pixels = np.empty((count, 3, TRIPLET_SIZE, TRIPLET_SIZE), np.uint8)
    images = islice(chest.images(), first, None)
    for t in range(count):
        pixels[t] = triplet(list(islice(images, 3)), chest.view)
    middles = chest.positions_mm[first + 1 : first + 3 * count : 3]
    return Triplets(pixels, middles.copy(), chest.scan)


def _orientation(series: Series) -> Orientation | None:
    """Return the orientation of the slices, which is the same for all that have one."""
    return next((image.orientation for image in series.slices if image.orientation is not None), None)


def _turned_slices(series: Series) -> Iterator[NDArray[np.float32]]:
    """Yield the grid slices in HU, turned to LPS."""
    orientation = _orientation(series)
    return (turned(hu, orientation) for hu in grid_slices(series))
