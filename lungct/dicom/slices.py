"""What is said of images and files before any pixel is read: `Slice`, `Header`, and what they are made of.

Units and terms are those of ``geometry.py``. Unknown numbers are NaN or None, unknown texts None or empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lungct.dicom.geometry import Orientation, Vector
from lungct.errors import SeriesError


class Kind(Enum):
    """What a DICOM file holds, as far as a CT reader cares."""

    CT = "CT images"
    LOCALIZER = "localizers"
    SECONDARY = "secondary captures or colour images"
    PARAMETRIC = "images that are not in Hounsfield units"
    OTHER = "objects of other kinds"
    DIRECTORY = "DICOMDIR files"
    DAMAGED = "damaged files"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an image cannot be used: the code and sentence of the `SeriesError` that it becomes, if it is needed."""

    code: str
    sentence: str

    def error(self) -> SeriesError:
        """Return it as an exception."""
        return SeriesError(self.sentence, code=self.code)


@dataclass(frozen=True, slots=True)
class Encoding:
    """How and where the pixels of a file are written (DICOM keywords in lower case).

    Attributes
    ----------
    transfer_syntax
        UID; empty where the file does not say and it could not be told from the bytes.
    offset, length
        Where the pixel data's value begins, and its length (`elements.UNDEFINED` for encapsulated data). In a
        deflated file both count in the inflated bytes.
    data_set
        Where the data set begins, after the file meta: what a deflated file is inflated from.
    frames
        Number of frames in the file.

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


@dataclass(frozen=True, slots=True)
class Person:
    """Whom a file is about; empty text where it does not say.

    Attributes
    ----------
    patient_id, issuer
        PatientID and IssuerOfPatientID: these two tell people apart.
    name
        PatientName.
    removed
        Whether the file says that it was de-identified (PatientIdentityRemoved YES).

    """

    patient_id: str
    issuer: str
    name: str = ""
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Slice:
    """One CT image: a file, or a frame of one.

    Attributes
    ----------
    path, frame
        The file, and the image's index in it.
    position_mm
        Along the normal; NaN where the file does not say (``geometry.py``).
    instance_number
        InstanceNumber; of an image of a multi-frame file, its frame's number from 1.
    slope, intercept
        Hounsfield units are stored x slope + intercept; 1 and 0 where the file has neither.
    pixel_spacing_mm
        Between rows, between columns; NaN unknown.
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
    slice_thickness_mm: float
    image_type: tuple[str, ...]
    manufacturer: str | None
    model: str | None
    kernel: str | None
    study_uid: str
    series_uid: str
    sop_instance_uid: str
    acquisition_number: int | None
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Header:
    """What one DICOM file says.

    Attributes
    ----------
    kind
        What it holds.
    person
        Whom it is about.
    series_uid
        Of a damaged file too, if it was read before the damage; else empty.
    slices
        Its images, if it is CT.

    """

    kind: Kind
    person: Person
    series_uid: str
    slices: tuple[Slice, ...] = ()
