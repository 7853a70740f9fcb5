"""A candidate -> the series that is the scan, checked and in order, with what a careful reader should know about it.

Only the candidate is checked: it must be axial, of one size and one scale, with almost every image whole
(``damage.py``) and one image at each position.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lungct.arguments import counted
from lungct.dicom import notes
from lungct.dicom.candidates import Candidate, most_common
from lungct.dicom.damage import check_missing, find_missing, may_lack
from lungct.dicom.geometry import (
    LARGEST_JUMP_MM,
    gap_mm,
    is_uneven,
    sideways_jump_mm,
    slice_spacing,
)
from lungct.dicom.notes import code_of, in_order, note
from lungct.dicom.places import by_place
from lungct.dicom.scan import Scan
from lungct.dicom.selection import choice_notes
from lungct.dicom.series import DicomPixels, Series, instance_order, position_order
from lungct.dicom.slices import Fault, Slice
from lungct.dicom.stacks import SAME_SPACING
from lungct.dicom.surveying import Survey
from lungct.errors import SeriesError


def assemble(found: Survey, candidate: Candidate, reason: str) -> Series:
    """Check a candidate and put its slices in order.

    Raises
    ------
    SeriesError
        If it cannot be used.
    StorageError
        If a file cannot be read.

    """
    _refuse_other_planes(candidate)
    images, missing = find_missing(candidate.slices, found.others)
    check_missing(missing, len(images))
    _refuse_several_sizes(images)
    slices, copies, contradictions = _one_image_per_place(images)
    missing = replace(missing, damaged=missing.damaged + contradictions)
    check_missing(missing, len(slices))
    if copies:
        reason += f"; {counted(copies, 'copy', 'copies')} left out"
    series = Series(
        slices=_in_order(slices),
        rows=slices[0].rows,
        columns=slices[0].columns,
        scan=Scan(
            manufacturer=candidate.manufacturer,
            model=most_common(image.model for image in slices),
            kernel=candidate.kernel,
            series_reason=reason,
            notes=(*candidate.notes, *choice_notes(candidate), *_studies(found, candidate)),
        ),
        pixels=DicomPixels(),
        missing=missing,
    )
    return _with_facts_of_slices(series)


def without_damaged(series: Series) -> Series:
    """Return a series without the slices whose pixels cannot be decoded; this decodes every slice.

    Raises
    ------
    SeriesError
        If it would lack more images than a scan may.
    StorageError
        If a file cannot be read.

    """
    whole, fault = [], series.missing.fault
    for image in series.slices:
        try:
            series.pixels.stored(image)
        except SeriesError as error:
            fault = fault or Fault(error.code, error.message)
        else:
            whole.append(image)
    damaged = series.missing.damaged + len(series) - len(whole)
    missing = replace(series.missing, damaged=damaged, fault=fault)
    check_missing(missing, len(whole))
    return _with_facts_of_slices(replace(series, slices=tuple(whole), missing=missing))


def _with_facts_of_slices(series: Series) -> Series:
    """Return a series with what its slices, and those that are missing, say about the scan."""
    slices = series.slices
    facts = (*series.missing.notes(), *_geometry_notes(slices), *_pixel_notes(slices))
    others = [text for text in series.scan.notes if code_of(text) not in _NOTES_OF_SLICES]
    return replace(
        series,
        scan=replace(
            series.scan,
            slices=len(slices),
            spacing_mm=_spacing(slices),
            thickness_mm=_median_thickness(slices),
            notes=in_order((*others, *facts)),
        ),
    )


_NOTES_OF_SLICES = (
    notes.UNREADABLE_FILES,
    notes.DAMAGED_SLICES,
    notes.JUMP_MM,
    notes.GAP_MM,
    notes.UNEVEN_SPACING,
    notes.LOSSY,
    notes.NO_RESCALE,
)


def _refuse_other_planes(candidate: Candidate) -> None:
    if candidate.plane not in ("axial", "unknown"):
        size = counted(len(candidate.slices), "slice", "slices")
        raise SeriesError(f"the best series found is {candidate.plane}, not axial ({size})", code="geometry")


def _refuse_several_sizes(slices: Sequence[Slice]) -> None:
    sizes = Counter((image.rows, image.columns) for image in slices)
    if len(sizes) > 1:
        (one, _), (other, _) = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:2]
        raise SeriesError(
            f"the slices have {len(sizes)} sizes, among them {one[0]} x {one[1]} and {other[0]} x {other[1]}",
            code="sizes",
        )
    scales = np.array([image.pixel_spacing_mm for image in slices], np.float64)
    known = scales[~np.isnan(scales).any(axis=1)]
    if len(known) and (np.ptp(known, axis=0) > SAME_SPACING * known.min(axis=0)).any():
        low, high = known.min(), known.max()
        raise SeriesError(
            f"the pixel spacing differs between the slices ({low:.4g} to {high:.4g} mm)",
            code="geometry",
        )


def _one_image_per_place(images: Sequence[Slice]) -> tuple[tuple[Slice, ...], int, int]:
    """Return one image for each place.

    Where images at one place differ in any pixel, nothing shows which is meant: none is kept, as if it were damaged.

    Returns
    -------
    tuple of Slice
        The images.
    int
        Number of copies that were left out.
    int
        Number of places without an image, because it would be one of several that differ.

    Raises
    ------
    SeriesError
        ``geometry``, if there are more such places than a scan may lack images.

    """
    groups = [sorted(group, key=instance_order) for group in by_place(images)]
    kept: list[Slice] = []
    copies = 0
    for group in groups:
        whole = _whole_copies(group)
        if whole:
            kept.append(whole[0])
            copies += len(group) - 1
    contradictions = len(groups) - len(kept)
    if contradictions > may_lack(len(groups)):
        raise SeriesError(
            f"at {contradictions} of {len(groups)} positions there are several images, and they differ",
            code="geometry",
        )
    return tuple(kept), copies, contradictions


def _whole_copies(group: Sequence[Slice]) -> Sequence[Slice]:
    """Return the images of one place that can be decoded, or the only one; none if they differ in any pixel."""
    if len(group) == 1:
        return group
    whole: list[Slice] = []
    first: NDArray[np.float32] | None = None
    for image in group:
        try:
            hu = DicomPixels().hu(image)
        except SeriesError:
            continue  # a broken copy costs nothing
        if first is not None and not np.array_equal(first, hu):
            return []
        first = hu
        whole.append(image)
    return whole or group[:1]


def _in_order(slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """Order slices from the feet to the head; by InstanceNumber if a position is unknown."""
    if not any(math.isnan(image.position_mm) for image in slices):
        return tuple(sorted(slices, key=position_order))
    if len(slices) > 1 and any(image.instance_number is None for image in slices):
        raise SeriesError(
            f"the order of {len(slices)} slices is unknown: not all have a position, and not all an InstanceNumber",
            code="geometry",
        )
    return tuple(sorted(slices, key=instance_order))


def _geometry_notes(slices: Sequence[Slice]) -> list[str]:
    """Return what is unusual about where the slices lie; raise SeriesError if they cannot be one scan."""
    jump = sideways_jump_mm(slices)
    if jump > LARGEST_JUMP_MM:
        raise SeriesError(f"neighbouring slices jump {jump:.0f} mm sideways, so they are not one scan", code="geometry")
    found = [note(notes.JUMP_MM, round(jump, 1))] if jump > 0 else []
    positions = np.array([image.position_mm for image in slices], np.float64)
    gap = gap_mm(positions)
    if gap > 0:
        found.append(note(notes.GAP_MM, gap))
    if is_uneven(positions):
        found.append(notes.UNEVEN_SPACING)
    return found


def _pixel_notes(slices: Sequence[Slice]) -> list[str]:
    found = [notes.LOSSY] if any(image.lossy for image in slices) else []
    return found + [notes.NO_RESCALE] * any(not image.rescaled for image in slices)


def _studies(found: Survey, candidate: Candidate) -> list[str]:
    """Return a note if there are other studies than the candidate's, with a series long enough to be a scan."""
    others = {_study(other) for other in found.candidates if other.is_long_enough} - {_study(candidate)}
    return [note(notes.STUDIES, 1 + len(others))] if others else []


def _study(candidate: Candidate) -> str:
    """Return what tells a candidate's study from others: not StudyInstanceUID if every image has one of its own."""
    uids = {image.study_uid for image in candidate.slices}
    return uids.pop() if len(uids) == 1 else candidate.study_time


def _spacing(slices: Sequence[Slice]) -> tuple[float, float, float]:
    positions = np.array([image.position_mm for image in slices], np.float64)
    plane = np.array([image.pixel_spacing_mm for image in slices], np.float64)
    known = plane[~np.isnan(plane).any(axis=1)]
    row, column = np.median(known, axis=0) if len(known) else (math.nan, math.nan)
    return slice_spacing(positions), float(row), float(column)


def _median_thickness(slices: Sequence[Slice]) -> float | None:
    known = [image.slice_thickness_mm for image in slices if not math.isnan(image.slice_thickness_mm)]
    return float(np.median(known)) if known else None
