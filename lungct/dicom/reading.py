"""A patient's files -> one ordered `Series`: `read_series`, `read_series_files`.

Headers are read first (``surveying.py``), then the series is chosen and checked (``assembling.py``); a volume file is
read as it is (``volumes.py``). Images of two persons are never mixed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence

from lungct.dicom import discovery, volumes
from lungct.dicom.assembling import assemble
from lungct.dicom.discovery import FileListing
from lungct.dicom.scan import Scan
from lungct.dicom.series import Series
from lungct.dicom.surveying import survey
from lungct.storage import fetch_copy, is_remote


def read_series(patient_dir: str | os.PathLike[str]) -> Series:
    """Read a patient's directory: choose the series that is the scan, and order its slices.

    Parameters
    ----------
    patient_dir
        A directory with one patient's files at any depth, also in an object store; or a single file, DICOM or a
        volume (``.nii.gz``, ``.nii``, ``.nrrd``, ``.nhdr``, ``.mhd``, ``.mha``).

    Returns
    -------
    Series
        From the feet to the head; by InstanceNumber if positions are unknown.

    Raises
    ------
    SeriesError
        If the files contain no usable series; ``docs/intake.md`` lists the codes.
    UsageError
        If the directory does not exist.
    StorageError
        If the files cannot be read.

    """
    location = os.fspath(patient_dir)
    if not is_remote(location):
        return _read(discovery.find_files(location))
    copy, remove = fetch_copy(location)
    assert isinstance(copy, str)
    try:
        series = _read(discovery.find_files(copy))
    except BaseException:
        remove()
        raise
    # Slices are read on request: the files stay for as long as anything can read them.
    weakref.finalize(series.pixels, remove)
    return series


def read_series_files(files: Sequence[str | os.PathLike[str]]) -> Series:
    """Read the series of one patient from a list of that patient's files.

    Raises
    ------
    SeriesError
        If the files contain no usable series.
    StorageError
        If a file cannot be read.

    """
    return _read(FileListing(tuple(sorted(os.fspath(file) for file in files)), {}))


def read_volume(path: str) -> Series:
    """Read a volume file as a series, from the feet to the head.

    Raises
    ------
    SeriesError
        ``undecodable``, ``geometry`` or ``limits``, as for `lungct.dicom.volumes.read`.
    UsageError
        If the optional extra ``lungct[volumes]`` is not installed.
    StorageError
        If the file cannot be read.

    """
    volume = volumes.read(path)
    slices, rows, columns = volume.shape
    return Series(
        slices=volume.slices,
        rows=rows,
        columns=columns,
        scan=Scan(slices=slices, spacing_mm=volume.spacing_mm, series_reason="a volume file"),
        pixels=volume,
    )


def _read(listing: FileListing) -> Series:
    volume = volumes.only_volume(listing.files)
    return assemble(survey(listing)) if volume is None else read_volume(volume)
