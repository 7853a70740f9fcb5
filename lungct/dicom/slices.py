"""What headers contain: `Slice` for one image, `Header` for one file, and their parts.

Units and terms are those of ``geometry.py``. Unknown numbers are NaN or None, unknown texts None or empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from lungct.dicom.geometry import Orientation, Vector
from lungct.dicom.persons import Identity
from lungct.errors import SeriesError


class Kind(Enum):
    """What a DICOM file contains, as far as it matters to a CT reader."""

    CT = "CT images"
    LOCALIZER = "localizers"
    SECONDARY = "secondary captures or colour images"
    PARAMETRIC = "images that are not in Hounsfield units"
    OTHER = "objects of other kinds"
    DIRECTORY = "DICOMDIR files"
    DAMAGED = "damaged files"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an image cannot be used: code and sentence of the `SeriesError` that is raised if the image is needed."""

    code: str
    sentence: str

    def error(self) -> SeriesError:
        """Return the fault as an exception."""
        return SeriesError(self.sentence, code=self.code)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How and where the pixels of a file are written (DICOM keywords in lower case).

    Attributes
    ----------
    transfer_syntax
        UID; empty if neither the file meta nor the bytes show it.
    offset, length
        Where the pixel data's value begins, and its length (`elements.UNDEFINED` for encapsulated data). In a
        deflated file both refer to the inflated bytes.
    data_set
        Where the data set begins, after the file meta: a deflated file is inflated from there.
    frames
        Number of frames in the file.
    pixel_vr
        VR of the pixel data; empty in an implicit data set.

    """

    transfer_syntax: str
    offset: int
    length: int
    data_set: int
    frames: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    pixel_vr: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """The person whom a file is about; each text is empty if the file lacks it.

    Attributes
    ----------
    patient_id, issuer
        PatientID and IssuerOfPatientID, which together tell people apart (``persons.py``).
    name
        PatientName.
    removed
        Whether the file declares that it was de-identified (PatientIdentityRemoved YES).

    """

    patient_id: str
    issuer: str
    name: str = ""
    removed: bool = False

    @property
    def identity(self) -> Identity:
        """PatientID and IssuerOfPatientID."""
        return self.patient_id, self.issuer


@dataclass(frozen=True, slots=True)
class Words:
    """What a file says in words about the scan; read to choose a series by, and never written to a table or a log.

    Attributes
    ----------
    body_part, series, study, protocol
        BodyPartExamined, SeriesDescription, StudyDescription and ProtocolName; empty if the file lacks them.

    """

    body_part: str = ""
    series: str = ""
    study: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One CT image: a file, or a frame of one.

    Attributes
    ----------
    path, frame
        The file, and the image's index in it.
    position_mm
        Along the normal (``geometry.py``); NaN if unknown.
    instance_number
        InstanceNumber; in a multi-frame file, the number of the frame, from 1.
    slope, intercept
        Hounsfield units are stored x slope + intercept; 1 and 0 if the file has neither.
    pixel_spacing_mm
        Between rows, between columns; NaN if unknown.
    manufacturer, model, kernel
        Manufacturer, ManufacturerModelName and ConvolutionKernel as in the file; None if it has none.
    rescale_type
        RescaleType in capitals.
    rescaled
        Whether the file has both RescaleSlope and RescaleIntercept.
    lossy
        Whether the pixels were ever compressed with loss, by LossyImageCompression or the transfer syntax.
    study_time, acquisition_time
        Date and time of the study and of the acquisition, as digits that sort; never written out.
    temporal_position
        TemporalPositionIndex or TemporalPositionIdentifier.
    trigger_time_ms
        TriggerTime; NaN if unknown.
    kvp
        KVP, the voltage of the tube; NaN if unknown.
    contrast_agent
        ContrastBolusAgent.
    words
        What the file says in words about the scan.
    fault
        Why its pixels cannot be used, or None.

    """

    path: str
    frame: int
    position_mm: float
    instance_number: int | None
    slope: float
    intercept: float
    rows: int
    columns: int
    encoding: Encoding
    image_position: Vector | None
    orientation: Orientation | None
    pixel_spacing_mm: tuple[float, float]
    slice_thickness_mm: float = math.nan
    image_type: tuple[str, ...] = ()
    manufacturer: str | None = None
    model: str | None = None
    kernel: str | None = None
    study_uid: str = ""
    series_uid: str = ""
    sop_instance_uid: str = ""
    frame_of_reference_uid: str = ""
    rescale_type: str = ""
    rescaled: bool = True
    lossy: bool = False
    study_time: str = ""
    acquisition_number: int | None = None
    acquisition_time: str = ""
    temporal_position: int | None = None
    trigger_time_ms: float = math.nan
    kvp: float = math.nan
    contrast_agent: str = ""
    words: Words = Words()
    fault: Fault | None = None

    def rescale_fault(self) -> Fault | None:
        """Return a fault if the values cannot be Hounsfield units: unsigned, and without a rescale.

        RescaleSlope and RescaleIntercept are Type 1 in CT (PS3.3 C.8.2.1). Signed values without them are Hounsfield
        units more often than not.
        """
        if self.rescaled or self.encoding.signed:
            return None
        return Fault(
            "undecodable",
            "an image has no RescaleSlope or RescaleIntercept, and its values are unsigned, so they are not Hounsfield "
            "units",
        )

    def __repr__(self) -> str:
        number = "" if self.instance_number is None else f"InstanceNumber {self.instance_number}, "
        place = "position unknown" if math.isnan(self.position_mm) else f"at {self.position_mm:.2f} mm"
        fault = "" if self.fault is None else f", {self.fault.code}"
        return f"Slice({number}{self.rows} x {self.columns}, {place}{fault})"


@dataclass(frozen=True, slots=True)
class Header:
    """The header of one DICOM file.

    Attributes
    ----------
    kind
        What the file contains.
    person
        Whom the file is about.
    series_uid, sop_instance_uid
        SeriesInstanceUID and SOPInstanceUID; of a damaged file too, if they come before the damage; else empty.
    slices
        The images, if the file is CT.

    """

    kind: Kind
    person: Person
    series_uid: str
    slices: tuple[Slice, ...] = ()
    sop_instance_uid: str = ""
