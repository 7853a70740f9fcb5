"""A patient's files -> one ordered `Series`: `read_series`, `series_choices`.

Headers are read first (``surveying.py``), then the series is chosen and checked (``assembling.py``). A patient without
DICOM may have a volume file instead (``volumes``). Images of two persons are never mixed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence

from lungct.dicom import discovery, notes
from lungct.dicom.assembling import assemble
from lungct.dicom.candidates import Candidate
from lungct.dicom.discovery import FileListing
from lungct.dicom.options import NO_OPTIONS, SeriesOptions
from lungct.dicom.scan import Scan
from lungct.dicom.selection import in_order_of_choice
from lungct.dicom.series import Series
from lungct.dicom.surveying import Survey, check_survey, survey
from lungct.dicom.volumes import PickedVolume, matching_volume, read_volume_file, set_apart, topmost_volume
from lungct.errors import SeriesError
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
        Only series whose SeriesDescription contains this text, or does not, in upper or lower case.
    body_part
        Only series whose BodyPartExamined contains this text, in upper or lower case.
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


def series_choices(
    location: str | Sequence[str], options: SeriesOptions = NO_OPTIONS, *, archive: str | None = None
) -> Iterator[Series]:
    """Yield the series of a patient that may be the scan, the one to choose first; at least one.

    Parameters
    ----------
    location
        The patient's directory, a single file, or a list of the patient's files, on a disk.
    options
        What the user says about which series is the scan.
    archive
        The directory in which other patients are, as for `lungct.dicom.discovery.find_files`.

    Raises
    ------
    SeriesError
        If the files contain no usable series.
    UsageError
        If the directory does not exist, or an option is an empty text.
    StorageError
        If a file cannot be read.

    """
    options.check()
    found = survey_or_volume(location, discovery.files_at(location, archive), options)
    if isinstance(found, PickedVolume):
        yield read_volume(found)
        return
    for _, series in surveyed_choices(found, options):
        yield series


def surveyed_choices(found: Survey, options: SeriesOptions) -> Iterator[tuple[Candidate, Series]]:
    """Yield the series of a patient's DICOM files as `series_choices` does, each after what it was made from.

    Raises
    ------
    SeriesError
        If the files contain no usable series.

    """
    check_survey(found)
    first, *others = in_order_of_choice(found.candidates, options)
    yield first.candidate, assemble(found, first.candidate, first.reason)
    for choice in others:
        try:
            series = assemble(found, choice.candidate, choice.reason)
        except SeriesError:  # the first choice's error is the one to report
            continue
        yield choice.candidate, series


def survey_or_volume(
    location: str | Sequence[str], listing: FileListing, options: SeriesOptions = NO_OPTIONS
) -> Survey | PickedVolume:
    """Find out whether a patient's scan is a volume file, and otherwise what the other files are.

    A volume is the scan if the user picks it, or if there is no DICOM file.

    Parameters
    ----------
    location, options
        As for `series_choices`.
    listing
        The files there.

    Raises
    ------
    SeriesError
        ``volumes``, if the scan is one of several volume files, or `options.volume` does not pick one; and what
        `lungct.dicom.surveying.survey` raises.
    StorageError
        If a file cannot be read.

    """
    volumes, others = set_apart(listing)
    if not volumes or not isinstance(location, str):
        return survey(listing)
    if listing.files == (location,):
        return PickedVolume(location)
    picked = matching_volume(volumes, location, options.volume)
    if picked is not None:
        return picked
    found = survey(others)
    return found if found.dicom else topmost_volume(volumes, options.volume)


def read_volume(picked: PickedVolume) -> Series:
    """Read a volume file as a series, from the feet to the head.

    Raises
    ------
    SeriesError
        ``undecodable``, ``geometry`` or ``limits``, as for `lungct.dicom.volumes.read_volume_file`.
    StorageError
        If the file cannot be read.

    """
    volume = read_volume_file(picked.path)
    slices, rows, columns = volume.placement.sizes
    return Series(
        slices=volume.slices,
        rows=rows,
        columns=columns,
        scan=Scan(
            slices=slices,
            spacing_mm=volume.placement.spacing_mm,
            series_reason=picked.reason,
            notes=(notes.note(notes.SHEARED),) if volume.placement.sheared else (),
        ),
        pixels=volume,
    )
