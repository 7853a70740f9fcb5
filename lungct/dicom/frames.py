"""An enhanced multi-frame object -> a slice for each frame, from its functional groups (PS3.3 C.7.6.16).

A frame's own functional groups take precedence over the shared ones, and those over the top level of the file. The top
level's position is that of no frame in particular if there are several. Only the part of the file before the pixels is
parsed, by pydicom, and only if it is no longer than `MAX_FRAME_HEADER`.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lungct.dicom.geometry import position_along_normal, valid_orientation
from lungct.dicom.slices import Fault, Slice
from lungct.dicom.spectral import Product, product
from lungct.dicom.values import TAGS, positive, spacing_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAX_FRAMES = 10_000
"""Frames of one file: far more slices than any chest needs."""
MAX_FRAME_HEADER = 32 << 20
"""Bytes before the pixel data, which are parsed as a whole; 2,000 frames need a quarter of this."""
MAX_ITEMS = 500_000
"""Sequence items in those bytes: each costs pydicom some 10 us and a kilobyte; a frame has about 20."""

_UNDESCRIBED = Fault("undecodable", "a multi-frame image does not describe its frames")
_NOT_HU = Fault("undecodable", "the frames of a multi-frame image are not in Hounsfield units")


def frames_of(
    first: Slice, header: bytes, *, explicit: bool, big_endian: bool, frame_offset: int | None
) -> tuple[Slice, ...]:
    """Return a slice for each frame of a multi-frame object.

    Parameters
    ----------
    first
        The slice as the top level of the file describes it, with the number of frames in its encoding.
    header
        The data set up to its pixel data.
    explicit, big_endian
        How the data set is written.
    frame_offset
        ConcatenationFrameOffsetNumber: how many frames of a concatenation the files before this one hold; None if the
        file belongs to none.

    Returns
    -------
    tuple of Slice
        One for each frame, in the file's order, with a fault if it is not described.

    """
    frames = first.encoding.frames
    mark = b"\xff\xfe\xe0\x00" if big_endian else b"\xfe\xff\x00\xe0"
    if header.count(mark) > MAX_ITEMS:
        return undescribed(first, Fault("limits", f"a header has more than {MAX_ITEMS} sequence items"))
    groups = _functional_groups(header, frames, explicit=explicit, big_endian=big_endian)
    if groups is None:
        return undescribed(first, _UNDESCRIBED)
    if frames == 1 and frame_offset is None:
        return (_frame(first, groups[0]),)
    if frames > 1:
        first = replace(first, image_position=None, position_mm=math.nan)
    before = frame_offset or 0
    numbered = (replace(first, frame=index, instance_number=before + index + 1) for index in range(frames))
    return tuple(_frame(frame, groups[frame.frame]) for frame in numbered)


def undescribed(first: Slice, fault: Fault) -> tuple[Slice, ...]:
    """Return a slice with a fault for each image that a file has, or claims to have, up to `MAX_FRAMES`."""
    frames = min(max(1, first.encoding.frames), MAX_FRAMES)
    return tuple(replace(first, frame=index, fault=fault) for index in range(frames))


def _functional_groups(
    header: bytes, frames: int, *, explicit: bool, big_endian: bool
) -> list[tuple[Dataset, ...]] | None:
    """Return each frame's functional groups, its own before the shared ones; None if they cannot be read."""
    from pydicom.filereader import read_dataset
    from pydicom.tag import Tag

    keywords = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    try:
        dataset = read_dataset(
            io.BytesIO(header),
            is_implicit_VR=not explicit,
            is_little_endian=not big_endian,
            specific_tags=[Tag(TAGS[keyword]) for keyword in keywords],
        )
        shared, own = (dataset.get(keyword) or [] for keyword in keywords)
        if own and len(own) < frames:
            return None
        common = tuple(shared[:1])
        return [(own[i], *common) if own else common for i in range(frames)]
    except MemoryError:
        raise
    except Exception:  # pydicom raises many kinds: RecursionError, struct.error, KeyError, ...
        return None


def _frame(frame: Slice, groups: tuple[Dataset, ...]) -> Slice:
    try:
        return _described(frame, groups)
    except MemoryError:
        raise
    except Exception:  # a value that is not a number: pydicom converts it only now
        return replace(frame, fault=_UNDESCRIBED)


def _described(frame: Slice, groups: tuple[Dataset, ...]) -> Slice:
    """Return a frame with the values of its functional groups.

    Raises
    ------
    Exception
        Of any kind, if a value cannot be read.

    """
    where = _numbers(groups, "PlanePositionSequence", "ImagePositionPatient", 3)
    direction = _numbers(groups, "PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = _numbers(groups, "PixelMeasuresSequence", "PixelSpacing", 2)
    thickness = _numbers(groups, "PixelMeasuresSequence", "SliceThickness", 1)
    slope = _numbers(groups, "PixelValueTransformationSequence", "RescaleSlope", 1)
    intercept = _numbers(groups, "PixelValueTransformationSequence", "RescaleIntercept", 1)
    acquisition = _numbers(groups, "FrameContentSequence", "FrameAcquisitionNumber", 1)
    acquired = "".join(_texts(groups, "FrameContentSequence", "FrameAcquisitionDateTime"))
    phase = _numbers(groups, "FrameContentSequence", "TemporalPositionIndex", 1)
    rescale_type = "".join(_texts(groups, "PixelValueTransformationSequence", "RescaleType")).upper()
    frame_type = tuple(value.upper() for value in _texts(groups, "CTImageFrameTypeSequence", "FrameType"))
    image_type, rescale_type = frame_type or frame.image_type, rescale_type or frame.rescale_type
    if product(image_type, rescale_type, frame.words.series) is Product.MAP:
        return replace(frame, fault=_NOT_HU)
    kernel = "\\".join(_texts(groups, "CTReconstructionSequence", "ConvolutionKernel"))
    if slope == (0.0,):
        raise ValueError("RescaleSlope is 0")
    position = (where[0], where[1], where[2]) if where else frame.image_position
    orientation = valid_orientation(direction) if direction else frame.orientation
    return replace(
        frame,
        image_position=position,
        orientation=orientation,
        position_mm=position_along_normal(position, orientation),
        pixel_spacing_mm=spacing_of(spacing) if spacing else frame.pixel_spacing_mm,
        slice_thickness_mm=positive(thickness) if thickness else frame.slice_thickness_mm,
        slope=slope[0] if slope else frame.slope,
        intercept=intercept[0] if intercept else frame.intercept,
        rescaled=frame.rescaled or (slope is not None and intercept is not None),
        rescale_type=rescale_type,
        acquisition_number=int(acquisition[0]) if acquisition else frame.acquisition_number,
        acquisition_time=acquired or frame.acquisition_time,
        temporal_position=int(phase[0]) if phase else frame.temporal_position,
        image_type=image_type,
        kernel=kernel or frame.kernel,
    )


def _value(groups: tuple[Dataset, ...], sequence: str, keyword: str) -> Any:
    for group in groups:
        items = group.get(sequence)
        if items and (held := items[0].get(keyword)) not in (None, ""):
            return held
    return None


def _numbers(groups: tuple[Dataset, ...], sequence: str, keyword: str, count: int) -> tuple[float, ...] | None:
    held = _value(groups, sequence, keyword)
    if held is None:
        return None
    values = tuple(float(value) for value in held) if count > 1 else (float(held),)
    if len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(keyword)
    return values


def _texts(groups: tuple[Dataset, ...], sequence: str, keyword: str) -> tuple[str, ...]:
    held = _value(groups, sequence, keyword)
    if held is None:
        return ()
    return tuple(held.split("\\")) if isinstance(held, str) else tuple(str(part) for part in held)
