"""What a patient's files are -> the series that is the scan, its slices in order.

One series is chosen (``selection.py``). Then it alone is checked: it must be axial and of one size, with every image
whole and one image at each position.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lungct.arguments import counted
from lungct.dicom.candidates import Candidate, most_common
from lungct.dicom.geometry import SAME_POSITION_MM, slice_spacing
from lungct.dicom.options import NO_OPTIONS, SeriesOptions
from lungct.dicom.scan import Scan
from lungct.dicom.selection import in_order_of_choice
from lungct.dicom.series import DicomPixels, Series, instance_order, position_order
from lungct.dicom.slices import Slice
from lungct.dicom.surveying import Survey, check_survey
from lungct.errors import SeriesError


def assemble(found: Survey, options: SeriesOptions = NO_OPTIONS) -> Series:
    """Choose the series that is the scan and put its slices in order.

    Raises
    ------
    SeriesError
        If there is none, or it cannot be used.
    StorageError
        If a file cannot be read.

    """
    check_survey(found)
    choice = in_order_of_choice(found.candidates, options)[0]
    candidate, reason = choice.candidate, choice.reason
    _refuse_damage(candidate, found.damaged)
    _refuse_unusable(candidate)
    slices = _one_image_per_position(candidate.slices)
    left_out = len(candidate.slices) - len(slices)
    if left_out:
        reason += f"; {left_out} repeated {'images' if left_out > 1 else 'image'} left out"
    return Series(
        slices=_in_order(slices),
        rows=slices[0].rows,
        columns=slices[0].columns,
        scan=Scan(
            slices=len(slices),
            spacing_mm=_spacing(slices),
            thickness_mm=_median_thickness(slices),
            manufacturer=candidate.manufacturer,
            model=most_common(image.model for image in slices),
            kernel=candidate.kernel,
            series_reason=reason,
        ),
        pixels=DicomPixels(),
    )


def _refuse_damage(candidate: Candidate, damaged: tuple[str, ...]) -> None:
    count = sum(uid in ("", candidate.series_uid) for uid in damaged)
    if count:
        files = "DICOM files are" if count > 1 else "DICOM file is"
        raise SeriesError(f"{count} {files} damaged or without pixels, so slices may be missing", code="undecodable")


def _refuse_unusable(candidate: Candidate) -> None:
    slices = candidate.slices
    if candidate.plane not in ("axial", "unknown"):
        size = counted(len(slices), "slice", "slices")
        raise SeriesError(f"the best series found is {candidate.plane}, not axial ({size})", code="geometry")
    faults = [image.fault for image in slices if image.fault is not None]
    if faults:
        first = faults[0]
        more = f" ({len(faults)} of {len(slices)} images have faults)" if len(slices) > 1 else ""
        raise SeriesError(first.sentence + more, code=first.code)
    sizes = Counter((image.rows, image.columns) for image in slices)
    if len(sizes) > 1:
        (one, _), (other, _) = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:2]
        raise SeriesError(
            f"the slices have {len(sizes)} sizes, among them {one[0]} x {one[1]} and {other[0]} x {other[1]}",
            code="sizes",
        )


def _one_image_per_position(slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
    """Return one image per position; raise SeriesError if images at one position differ in any pixel."""
    kept: list[Slice] = []
    conflicts = 0
    for group in _by_place(slices):
        first, *others = sorted(group, key=instance_order)
        kept.append(first)
        if others:
            pixels = DicomPixels()
            hu = pixels.hu(first)
            conflicts += not all(np.array_equal(hu, pixels.hu(image)) for image in others)
    if conflicts:
        raise SeriesError(
            f"different images lie at one position, at {conflicts} of {len(kept)} positions",
            code="geometry",
        )
    return tuple(kept)


def _by_place(slices: tuple[Slice, ...]) -> list[list[Slice]]:
    """Group slices by position; those without one by SOPInstanceUID, if they have that."""
    groups: list[list[Slice]] = []
    last = math.nan
    for image in sorted((image for image in slices if not math.isnan(image.position_mm)), key=position_order):
        if image.position_mm - last < SAME_POSITION_MM:
            groups[-1].append(image)
        else:
            groups.append([image])
            last = image.position_mm
    by_uid: dict[tuple[str, int], list[Slice]] = {}
    for image in slices:
        if math.isnan(image.position_mm):
            if image.sop_instance_uid:
                by_uid.setdefault((image.sop_instance_uid, image.frame), []).append(image)
            else:
                groups.append([image])
    return groups + list(by_uid.values())


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


def _spacing(slices: tuple[Slice, ...]) -> tuple[float, float, float]:
    positions = np.array([image.position_mm for image in slices], np.float64)
    plane = np.array([image.pixel_spacing_mm for image in slices], np.float64)
    # If slices disagree by more than rounding, the pixel spacing is unknown, not an average.
    if np.isnan(plane).any() or np.ptp(plane, axis=0).max() > 1e-3 * plane.min():
        return slice_spacing(positions), math.nan, math.nan
    row, column = np.median(plane, axis=0)
    return slice_spacing(positions), float(row), float(column)


def _median_thickness(slices: Sequence[Slice]) -> float | None:
    known = [image.slice_thickness_mm for image in slices if not math.isnan(image.slice_thickness_mm)]
    return float(np.median(known)) if known else None
