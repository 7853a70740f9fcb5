"""A series of slices -> triplets: stacks of three grey images, as an ImageNet network expects them.

    stack.py            `Triplets`: what every preset returns
    dsb2017.py          the preset dsb2017: the chain of the 2017 system, reproduced bit for bit
    lung.py             the preset lung: any scanner; Hounsfield window, 2.5 mm grid, 336 mm of the chest. Its steps:
        orientation.py  slices as stored -> rows to the back, columns to the patient's left
        grid.py         slices at any spacing -> slices every 2.5 mm
        mask.py         where the lungs are
        view.py         what part of the slices the network sees, and how it is windowed and resized
    opencv.py           OpenCV on the calling thread
    memory.py           freed memory that stays with the process

A *preset* is one fixed way from stored values to pixels; ``docs/formats.md`` has the numbered rules of each. A
*triplet* is three slices that become the three colour channels of one image, uint8, 224 x 224; channel c is slice c of
the triplet. Positions are millimetres along the normal of the slices, towards the head for axial slices.

A preset must depend on the series alone: not on the time, the number of threads or the other patients of a batch. A
change to a single pixel means a new ``REVISION`` in ``lungct.features``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Literal, cast, get_args

from lungct.arguments import one_of
from lungct.dicom.assembling import without_damaged
from lungct.errors import SeriesError
from lungct.preprocess.memory import keep_freed_memory
from lungct.preprocess.stack import TRIPLET_SIZE, Triplets

if TYPE_CHECKING:
    from lungct.dicom import Series

__all__ = [
    "PRESETS",
    "TRIPLET_SIZE",
    "Preset",
    "Triplets",
    "check_preset",
    "prepare",
    "prepare_choice",
    "triplets",
]

Preset = Literal["dsb2017", "lung"]
"""The name of a preset: a module of this package with a function ``prepare(series) -> Triplets``."""
PRESETS: tuple[Preset, ...] = get_args(Preset)


def check_preset(preset: str) -> Preset:
    """Return the name of a preset, checked.

    Raises
    ------
    UsageError
        If there is no such preset; the message lists those that exist.

    """
    one_of(preset, PRESETS, "preset")
    return cast(Preset, preset)


def prepare(series: Series, preset: Preset = "dsb2017") -> Triplets:
    """Convert a series to the triplets of a preset.

    Slices whose pixels turn out to be damaged are left out, as many as a scan may lack, and noted.

    Parameters
    ----------
    series
        The slices, in any order; each preset orders them itself.
    preset
        One of `PRESETS`.

    Raises
    ------
    SeriesError
        If the series cannot be used (``too_few_slices``, ``geometry``, ``no_lungs``, or an error while reading pixels).
    UsageError
        If there is no such preset.

    """
    module = import_module(f"lungct.preprocess.{check_preset(preset)}")  # scipy and OpenCV only where they are used
    keep_freed_memory()
    prepared: Triplets
    try:
        prepared = module.prepare(series)
    except SeriesError as error:
        if error.code != "undecodable" or not series.pixels.has_instances:
            raise
        prepared = module.prepare(without_damaged(series))
    return prepared


def prepare_choice(choices: Iterator[Series], preset: Preset) -> Triplets:
    """Prepare the first of a patient's series that a preset can use.

    Under ``lung``, where a series shows no lungs the next is tried; if none does, the first one's error is raised.

    Raises
    ------
    SeriesError
        As for `prepare`.

    """
    refused: SeriesError | None = None
    for series in choices:
        try:
            return prepare(series, preset)
        except SeriesError as error:
            refused = refused or error
            if error.code != "no_lungs":
                break
    assert refused is not None  # there is at least one series
    raise refused


def triplets(
    patient_dir: str | os.PathLike[str],
    preset: Preset = "dsb2017",
    *,
    series_include: str | None = None,
    series_exclude: str | None = None,
    body_part: str | None = None,
    volume: str | None = None,
) -> Triplets:
    """Read a patient's directory and return the triplets that `lungct.extract` feeds to the network.

    Parameters
    ----------
    patient_dir
        A directory with the DICOM files of one patient.
    preset
        ``"dsb2017"`` (the chain of the 2017 system) or ``"lung"`` (any scanner).
    series_include, series_exclude, body_part, volume
        Which series is the scan, as for `lungct.read_series`.

    Returns
    -------
    Triplets
        ``.pixels``, uint8 (T, 3, 224, 224), and ``.positions_mm``, float64 (T,).

    Raises
    ------
    SeriesError
        If the directory has no usable CT series.
    UsageError
        If there is no such preset or no such directory.

    """
    from lungct.dicom import SeriesOptions, series_choices
    from lungct.storage import local_copy

    check_preset(preset)  # before anything is read
    options = SeriesOptions(
        series_include=series_include, series_exclude=series_exclude, body_part=body_part, volume=volume
    )
    with local_copy(os.fspath(patient_dir)) as copy:
        return prepare_choice(series_choices(copy, options), preset)
