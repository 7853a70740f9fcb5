"""A patient's files -> one ordered `Series`: `read_series`, `series_choices`.

Headers are read first (``surveying.py``), then the series is chosen and checked (``assembling.py``); a volume file is
read as it is (``volumes.py``). Images of two persons are never mixed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence

from lungct.dicom import discovery, volumes
from lungct.dicom.assembling import assemble
from lungct.dicom.discovery import FileListing
from lungct.dicom.options import NO_OPTIONS, SeriesOptions
from lungct.dicom.scan import Scan
from lungct.dicom.selection import choose
from lungct.dicom.series import Series
from lungct.dicom.surveying import check_survey, survey
from lungct.storage import fetch_copy, is_remote


def read_series(
    patient_dir: str | os.PathLike[str],
    *,
    series_include: str | None = None,
    series_exclude: str | None = None,
    body_part: str | None = None,
    volume: str | None = None,
) -> Series:
    """Read a patient's directory: choose the series that is the scan, and order its slices.

    Parameters
    ----------
    patient_dir
        A directory with one patient's files at any depth, also in an object store; or a single file, DICOM or a
        volume (``.nii.gz``, ``.nii``, ``.nrrd``, ``.nhdr``, ``.mhd``, ``.mha``).
    series_include, series_exclude
        Only series whose SeriesDescription contains this text, or does not, in any case of letters.
    body_part
        Only series whose BodyPartExamined contains this text, in any case of letters.
    volume
        A pattern, such as ``imaging.nii.gz``, that picks a volume file from several.

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
    options = SeriesOptions(
        series_include=series_include, series_exclude=series_exclude, body_part=body_part, volume=volume
    )
    location = os.fspath(patient_dir)
    if not is_remote(location):
        return next(series_choices(location, options))
    copy, remove = fetch_copy(location)
    try:
        series = next(series_choices(copy, options))
    except BaseException:
        remove()
        raise
    # Slices are read on request: the files stay for as long as anything can read them.
    weakref.finalize(series.pixels, remove)
    return series


def series_choices(location: str | Sequence[str], options: SeriesOptions = NO_OPTIONS) -> Iterator[Series]:
    """Yield the series of a patient that may be the scan, the one to choose first; at least one.

    Parameters
    ----------
    location
        The patient's directory, a single file, or a list of the patient's files, on a disk.
    options
        What a person says about which series is the scan.

    Raises
    ------
    SeriesError
        If the files contain no usable series.
    UsageError
        If the directory does not exist.
    StorageError
        If a file cannot be read.

    """
    listing = _listing(location)
    volume = volumes.only_volume(listing.files)
    if volume is not None:
        yield read_volume(volume)
        return
    found = survey(listing)
    check_survey(found)
    candidate, reason = choose(found.candidates)
    yield assemble(found, candidate, reason)


def _listing(location: str | Sequence[str]) -> FileListing:
    if isinstance(location, str):
        return discovery.find_files(location)
    return FileListing(tuple(sorted(location)), {})


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
