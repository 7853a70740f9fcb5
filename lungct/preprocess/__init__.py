"""A series of slices -> triplets: stacks of three grey images as an ImageNet network wants them.

    stack.py     Triplets: what every preset gives
    dsb2017.py   the 2017 system's chain, equal bit for bit wherever it runs
    lung.py      any scanner: Hounsfield window, 2.5 mm grid, the lungs' box

A *preset* is one fixed way from stored values to pixels. A *triplet* is three slices that become
the three colour channels of one image, uint8, 224 x 224, channel c being the triplet's slice c.
Positions are millimetres along the slices' normal, towards the head for axial slices.

Presets must never depend on anything but the series: no time, no thread count, no neighbour in a
batch. A change of a single pixel raises ``lungct.features``' revision.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from lungct.errors import UsageError
from lungct.preprocess.stack import SIZE, Triplets

if TYPE_CHECKING:
    from lungct.dicom import Series

__all__ = [
    "PRESETS",
    "SIZE",
    "Triplets",
    "check_preset",
    "prepare",
    "triplets",
]

PRESETS: tuple[str, ...] = ("dsb2017", "lung")
"""Each is a module here, with a function ``prepare(series) -> Triplets``, imported when it is used."""


def check_preset(preset: str) -> str:
    """Return `preset` where there is one of that name.

    Raises
    ------
    UsageError
        No such preset; the sentence lists those there are.

    """
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    return preset


def prepare(series: Series, preset: str = "dsb2017") -> Triplets:
    """Turn a series into the triplets of a preset.

    Parameters
    ----------
    series
        The slices, in any order: a preset puts them into its own.
    preset
        One of `PRESETS`.

    Raises
    ------
    SeriesError
        The series cannot be used (``too_few_slices``, ``geometry``, ``no_lungs``, or what reading
        pixels raises).
    UsageError
        No such preset.

    """
    module = import_module(f"lungct.preprocess.{check_preset(preset)}")
    prepared: Triplets = module.prepare(series)
    return prepared


def triplets(patient_dir: str | os.PathLike[str], preset: str = "dsb2017") -> Triplets:
    """Read a patient's directory and give the triplets that extraction feeds to the network.

    Parameters
    ----------
    patient_dir
        A directory with one patient's DICOM files.
    preset
        ``"dsb2017"`` (the 2017 chain) or ``"lung"`` (any scanner).

    Returns
    -------
    Triplets
        ``.pixels`` uint8 (T, 3, 224, 224) and ``.positions_mm`` float64 (T,).

    Raises
    ------
    SeriesError
        The directory holds no usable CT series.
    UsageError
        No such preset, or no such directory.

    """
    from lungct.dicom import read_series

    check_preset(preset)  # before anything is read
    return prepare(read_series(patient_dir), preset)
