"""One file -> its `Header`, with a `Slice` for each image in it, without reading a pixel.

A file counts as CT if its SOP Class is CT, enhanced CT or legacy converted enhanced CT and its Modality is CT or
missing; if its Modality is CT and it has no SOP Class; or if it has neither, but is a grey image with a rescale and a
position, as CT has. Localizers and everything else are recognised here and never become slices.

An image that cannot be used (cut off, absurd size) still becomes a slice, with a `Fault`, which matters only if the
image belongs to the chosen series. Sentences of faults contain numbers of the file, but no text.
"""

from __future__ import annotations

import math
import os
import stat
import zlib
from dataclasses import replace

from lungct.dicom import elements
from lungct.dicom.deflated import inflate
from lungct.dicom.discovery import open_file
from lungct.dicom.elements import Elements, Source
from lungct.dicom.frames import MAX_FRAME_HEADER, MAX_FRAMES, frames_of, undescribed
from lungct.dicom.geometry import position_along_normal, valid_orientation
from lungct.dicom.layout import Layout, find_layout
from lungct.dicom.persons import Identity
from lungct.dicom.slices import Encoding, Fault, Header, Kind, Person, Slice, Words
from lungct.dicom.spectral import Product, product
from lungct.dicom.values import TAGS, WANTED, NotANumberError, Values, positive, spacing_of

MAX_SLICE_PIXELS = 1 << 24
"""Rows x columns of one slice (4096 x 4096); CT images have 512 x 512 to 2048 x 2048."""

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"})
_FUNCTIONAL_GROUPS = frozenset(TAGS[k] for k in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"))


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """Read one file's header.

    Returns
    -------
    Header or None
        None if the file is not DICOM.

    Raises
    ------
    StorageError
        If the file cannot be read.

    """
    with open_file(path) as fd:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return _read(elements.FileSource(fd), os.fspath(path))


def read_identity(path: str | os.PathLike[str]) -> Identity | None:
    """Return a file's (PatientID, IssuerOfPatientID), each empty if missing; None if the file is not DICOM.

    Raises
    ------
    StorageError
        If the file cannot be read.

    """
    person = read_person(path)
    return None if person is None else person.identity


def read_person(path: str | os.PathLike[str]) -> Person | None:
    """Return the person whom a file is about; None if the file is not DICOM.

    Raises
    ------
    StorageError
        If the file cannot be read.

    """
    header = read_header(path)
    return None if header is None or header.kind is Kind.DIRECTORY else header.person


def _read(source: Source, path: str) -> Header | None:
    try:
        layout = find_layout(source)
    except elements.HeaderTooLargeError:
        return _damaged({}, False)
    if layout is None:
        return None
    if layout.media_class == MEDIA_DIRECTORY:
        return Header(Kind.DIRECTORY, Person("", ""), "")
    body, start = source, layout.start
    if layout.transfer_syntax == elements.DEFLATED:
        try:
            body = elements.BytesSource(inflate(source, start, elements.MAX_INFLATED_HEADER))
        except zlib.error:
            return _damaged({}, False)
        start = 0
    try:
        found = elements.walk(body, start, WANTED, explicit=layout.explicit, big_endian=layout.big_endian)
    except elements.HeaderTooLargeError:
        return _damaged({}, False)
    if not layout.marked and not any(
        TAGS[k] in found.values for k in ("SOPClassUID", "Modality", "SeriesInstanceUID", "Rows")
    ):
        return None  # its first bytes look like a data set, but it is not one
    return _interpret(body, path, layout, start, found)


def _damaged(raw: dict[int, bytes], big_endian: bool) -> Header:
    values = Values(raw, big_endian=big_endian)
    return Header(Kind.DAMAGED, _person(values), values.text("SeriesInstanceUID"))


def _person(values: Values) -> Person:
    return Person(
        patient_id=values.localised("PatientID"),
        issuer=values.localised("IssuerOfPatientID"),
        name=values.localised("PatientName"),
        removed=values.text("PatientIdentityRemoved").upper() == "YES",
    )


def _interpret(body: Source, path: str, layout: Layout, start: int, found: Elements) -> Header:
    values = Values(found.values, big_endian=layout.big_endian)
    kind = _kind(values, layout, found)
    person, series_uid = _person(values), values.text("SeriesInstanceUID")
    if kind is not Kind.CT:
        return Header(kind, person, series_uid, sop_instance_uid=values.text("SOPInstanceUID"))
    images = _images(body, path, layout, start, found, values)
    if images[0].fault is None and _is_localizer(images[0].image_type):
        return Header(Kind.LOCALIZER, person, series_uid)
    available = body.size - found.pixel_offset if layout.transfer_syntax in elements.UNCOMPRESSED else None
    images = tuple(_checked(image, available) for image in images)
    return Header(kind, person, series_uid, images)


def _checked(image: Slice, available: int | None) -> Slice:
    """Return an image with what else is wrong with it; ``available``: bytes of its file from its pixel data on."""
    fault = image.fault
    if fault is None and available is not None:
        fault = length_fault(image, available)
    fault = fault or image.rescale_fault()
    return image if fault is image.fault else replace(image, fault=fault)


def _images(body: Source, path: str, layout: Layout, start: int, found: Elements, values: Values) -> tuple[Slice, ...]:
    """Return a slice for each image of a file."""
    first = _first_slice(path, layout, found, values)
    if first.fault is not None:
        return undescribed(first, first.fault)
    sequences = found.sequences | found.values.keys()
    if first.encoding.frames == 1 and not _FUNCTIONAL_GROUPS & sequences:
        return (first,)
    if found.end - start > MAX_FRAME_HEADER:
        return undescribed(first, Fault("limits", f"a header is longer than {MAX_FRAME_HEADER >> 20} MiB"))
    return frames_of(
        first,
        body.read(start, found.end - start),
        explicit=layout.explicit,
        big_endian=layout.big_endian,
        frame_offset=values.whole("ConcatenationFrameOffsetNumber"),
    )


def _kind(values: Values, layout: Layout, found: Elements) -> Kind:
    modality = values.text("Modality").upper()
    sop_class = values.text("SOPClassUID") or layout.media_class
    if sop_class == MEDIA_DIRECTORY:
        return Kind.DIRECTORY
    ct_class = sop_class == CT_IMAGE or sop_class in ENHANCED_CT
    if (modality and modality != "CT") or (sop_class and not ct_class):
        secondary = sop_class.startswith("1.2.840.10008.5.1.4.1.1.7") and modality in ("CT", "")
        return Kind.SECONDARY if secondary else Kind.OTHER
    image_type = _image_type(values)
    if _is_localizer(image_type):  # a damaged one, too, is no slice of a scan
        return Kind.LOCALIZER
    if found.broken:
        return Kind.DAMAGED
    if not found.pixel_tag:
        # A CT image without pixel data was cut off between two elements, and a file with nothing but the mark DICM
        # before the first; another file without class and modality is not an image.
        return Kind.DAMAGED if ct_class or modality or (layout.marked and not found.values) else Kind.OTHER
    if not ct_class and not modality:
        like_ct = values.has("RescaleIntercept") and values.has("ImagePositionPatient")
        if not like_ct:
            return Kind.OTHER
    photometric = values.text("PhotometricInterpretation").upper()
    if values.whole("SamplesPerPixel") not in (None, 1) or (photometric and not photometric.startswith("MONOCHROME")):
        return Kind.SECONDARY
    made = product(image_type, values.text("RescaleType").upper(), values.localised("SeriesDescription"))
    return Kind.PARAMETRIC if made is Product.MAP else Kind.CT


def _image_type(values: Values) -> tuple[str, ...]:
    return tuple(value.upper() for value in values.texts("ImageType"))


def _is_localizer(image_type: tuple[str, ...]) -> bool:
    return any(value in _LOCALIZERS for value in image_type[2:])


def _first_slice(path: str, layout: Layout, found: Elements, values: Values) -> Slice:
    frames = values.integer("NumberOfFrames") if values.has("NumberOfFrames") else 1
    allocated = values.whole("BitsAllocated") or 0
    stored = values.whole("BitsStored") or allocated
    high_bit = values.whole("HighBit")
    encoding = Encoding(
        transfer_syntax=layout.transfer_syntax,
        offset=found.pixel_offset,
        length=found.pixel_length,
        data_set=layout.start,
        frames=frames if frames is not None else 0,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else high_bit,
        signed=values.whole("PixelRepresentation") == 1,
        pixel_vr=found.pixel_vr.decode("ascii"),
    )
    rows, columns = values.whole("Rows") or 0, values.whole("Columns") or 0
    fault = _fault(rows, columns, encoding, found)
    slope, intercept = 1.0, 0.0
    try:
        slope = values.required("RescaleSlope", 1.0)
        intercept = values.required("RescaleIntercept", 0.0)
    except NotANumberError as error:
        fault = fault or Fault("undecodable", f"{error} of an image is not a number")
    if slope == 0:
        fault = fault or Fault("undecodable", "RescaleSlope of an image is 0")
    position = values.numbers("ImagePositionPatient", 3)
    image_position = (position[0], position[1], position[2]) if position else None
    orientation = valid_orientation(values.numbers("ImageOrientationPatient", 6))
    kernel = "\\".join(values.texts("ConvolutionKernel"))
    return Slice(
        path=path,
        frame=0,
        position_mm=position_along_normal(image_position, orientation),
        instance_number=values.integer("InstanceNumber"),
        slope=slope,
        intercept=intercept,
        rows=rows,
        columns=columns,
        encoding=encoding,
        image_position=image_position,
        orientation=orientation,
        pixel_spacing_mm=spacing_of(values.numbers("PixelSpacing", 2)),
        slice_thickness_mm=positive(values.numbers("SliceThickness", 1)),
        image_type=_image_type(values),
        manufacturer=values.localised("Manufacturer") or None,
        model=values.localised("ManufacturerModelName") or None,
        kernel=kernel or None,
        study_uid=values.text("StudyInstanceUID"),
        series_uid=values.text("SeriesInstanceUID"),
        sop_instance_uid=values.text("SOPInstanceUID"),
        frame_of_reference_uid=values.text("FrameOfReferenceUID"),
        rescale_type=values.text("RescaleType").upper(),
        rescaled=values.has("RescaleSlope") and values.has("RescaleIntercept"),
        lossy=_is_lossy(values, layout.transfer_syntax),
        study_time=values.text("StudyDate") + values.text("StudyTime"),
        acquisition_number=values.integer("AcquisitionNumber"),
        acquisition_time=values.text("AcquisitionDateTime")
        or values.text("AcquisitionDate") + values.text("AcquisitionTime"),
        temporal_position=values.integer("TemporalPositionIdentifier"),
        trigger_time_ms=(values.numbers("TriggerTime", 1) or (math.nan,))[0],
        kvp=(values.numbers("KVP", 1) or (math.nan,))[0],
        contrast_agent=values.localised("ContrastBolusAgent"),
        words=Words(
            body_part=values.localised("BodyPartExamined"),
            series=values.localised("SeriesDescription"),
            study=values.localised("StudyDescription"),
            protocol=values.localised("ProtocolName"),
        ),
        fault=fault,
    )


def _is_lossy(values: Values, transfer_syntax: str) -> bool:
    said = values.text("LossyImageCompression")
    return said == "01" or (said != "00" and transfer_syntax in elements.MAY_BE_LOSSY)


def _fault(rows: int, columns: int, encoding: Encoding, found: Elements) -> Fault | None:
    """Return what is wrong with the claims about the pixels, before any memory is allocated for them."""
    if rows < 1 or columns < 1:
        return Fault("undecodable", "an image has no Rows or Columns")
    if rows * columns > MAX_SLICE_PIXELS:
        return Fault(
            "limits",
            f"an image claims {rows} x {columns} pixels; the limit is {MAX_SLICE_PIXELS}",
        )
    if encoding.frames < 1 or encoding.frames > MAX_FRAMES:
        code = "limits" if encoding.frames > MAX_FRAMES else "undecodable"
        return Fault(code, f"a file claims {encoding.frames} frames; 1 to {MAX_FRAMES} can be read")
    allocated, stored = encoding.bits_allocated, encoding.bits_stored
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        return Fault(
            "undecodable",
            f"an image claims {stored} bits stored in {allocated}; 8, 16 and 32 can be read",
        )
    if found.pixel_tag != elements.PIXEL_DATA:
        return Fault("undecodable", "an image has floating point pixels instead of stored values")
    return None


def length_fault(image: Slice, available: int) -> Fault | None:
    """Return a fault if uncompressed pixel data end before the image does.

    Parameters
    ----------
    image
        An image with uncompressed pixel data.
    available
        Bytes from the start of the pixel data to the end of the file.

    """
    encoding = image.encoding
    if encoding.length == elements.UNDEFINED:
        return Fault(
            "undecodable", "the pixels are compressed, although the file declares an uncompressed transfer syntax"
        )
    needed = image.rows * image.columns * (encoding.bits_allocated // 8)
    have = min(available, encoding.length) - image.frame * needed
    if have >= needed:
        return None
    return Fault(
        "undecodable",
        f"the pixel data of an image end after {max(have, 0)} of {needed} bytes",
    )
