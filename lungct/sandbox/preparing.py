"""A patient's files -> triplets, in the child; and what the child sends of them -> `Prepared`, in the parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lungct.dicom.scan import Scan
from lungct.sandbox.messages import Answer, Location

if TYPE_CHECKING:
    from lungct.dicom import Series


@dataclass(frozen=True, eq=False)
class Prepared:
    """A patient ready for the network.

    Attributes
    ----------
    pixels
        uint8 (T, 3, 224, 224).
    positions_mm
        float64 (T,).
    scan
        What is known of the scan.
    choice
        Its place, from 0, in the order of choice of the patient's series.

    """

    pixels: NDArray[np.uint8]
    positions_mm: NDArray[np.float64]
    scan: Scan
    choice: int = 0

    def __repr__(self) -> str:
        return f"Prepared({len(self.pixels)} triplets of {self.scan.slices} slices)"


def prepare(location: Location, *, preset: str, options: Mapping[str, str], archive: str | None) -> Answer:
    """Read a patient's series and prepare its triplets.

    Parameters
    ----------
    location
        The patient's directory or volume file, or a list of the patient's files.
    preset
        One of `lungct.preprocess.PRESETS`.
    options
        The options of `lungct.dicom.SeriesOptions` that were given.
    archive
        The directory in which other patients are; None: the one above the patient's.

    Raises
    ------
    SeriesError
        If the files contain no usable series.
    StorageError
        If a file cannot be read.

    """
    from lungct.dicom import SeriesOptions, series_choices
    from lungct.preprocess import check_preset, prepare_choice

    tried: list[Series] = []
    choices = _recorded(series_choices(location, SeriesOptions(**options), archive=archive), tried)
    triplets = prepare_choice(choices, check_preset(preset))
    scan = replace(triplets.scan, pixel_hash=triplets.pixel_hash)
    positions = np.ascontiguousarray(triplets.positions_mm, np.float64)
    pixels = np.ascontiguousarray(triplets.pixels, np.uint8)
    text = {"triplets": len(pixels), "scan": scan.as_dict(), "choice": len(tried) - 1}
    return Answer(text, (positions, pixels))


def _recorded(choices: Iterator[Series], tried: list[Series]) -> Iterator[Series]:
    """Yield the series to choose from, and add each to those that were tried."""
    for series in choices:
        tried.append(series)
        yield series


def read_prepared(text: Mapping[str, Any], arrays: bytes | bytearray) -> Prepared:
    """Return what `prepare` answered in the child."""
    triplets = int(text["triplets"])
    return Prepared(
        positions_mm=np.frombuffer(arrays, np.float64, triplets),
        pixels=np.frombuffer(arrays, np.uint8, offset=8 * triplets).reshape(triplets, 3, 224, 224),
        scan=Scan.from_dict(text["scan"]),
        choice=int(text["choice"]),
    )
