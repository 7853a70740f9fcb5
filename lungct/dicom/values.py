"""The data elements that a CT reader needs, by keyword, and their raw values as text and numbers.

Only the VRs that occur among them are read (PS3.5 6.2): CS, LO, SH, UI, DS, IS as text, US as binary numbers. A value
that is missing or invalid is None or empty text; only `Values.required` raises an exception.
"""

from __future__ import annotations

import math
import re

TAGS = {
    "SpecificCharacterSet": 0x00080005,
    "ImageType": 0x00080008,
    "SOPClassUID": 0x00080016,
    "SOPInstanceUID": 0x00080018,
    "StudyDate": 0x00080020,
    "AcquisitionDate": 0x00080022,
    "AcquisitionDateTime": 0x0008002A,
    "StudyTime": 0x00080030,
    "AcquisitionTime": 0x00080032,
    "Modality": 0x00080060,
    "Manufacturer": 0x00080070,
    "StudyDescription": 0x00081030,
    "SeriesDescription": 0x0008103E,
    "ManufacturerModelName": 0x00081090,
    "PatientName": 0x00100010,
    "PatientID": 0x00100020,
    "IssuerOfPatientID": 0x00100021,
    "PatientIdentityRemoved": 0x00120062,
    "ContrastBolusAgent": 0x00180010,
    "BodyPartExamined": 0x00180015,
    "SliceThickness": 0x00180050,
    "KVP": 0x00180060,
    "ProtocolName": 0x00181030,
    "TriggerTime": 0x00181060,
    "ConvolutionKernel": 0x00181210,
    "StudyInstanceUID": 0x0020000D,
    "SeriesInstanceUID": 0x0020000E,
    "AcquisitionNumber": 0x00200012,
    "InstanceNumber": 0x00200013,
    "ImagePositionPatient": 0x00200032,
    "ImageOrientationPatient": 0x00200037,
    "FrameOfReferenceUID": 0x00200052,
    "TemporalPositionIdentifier": 0x00200100,
    "TemporalPositionIndex": 0x00209128,
    "ConcatenationFrameOffsetNumber": 0x00209228,
    "SamplesPerPixel": 0x00280002,
    "PhotometricInterpretation": 0x00280004,
    "NumberOfFrames": 0x00280008,
    "Rows": 0x00280010,
    "Columns": 0x00280011,
    "PixelSpacing": 0x00280030,
    "BitsAllocated": 0x00280100,
    "BitsStored": 0x00280101,
    "HighBit": 0x00280102,
    "PixelRepresentation": 0x00280103,
    "RescaleIntercept": 0x00281052,
    "RescaleSlope": 0x00281053,
    "RescaleType": 0x00281054,
    "LossyImageCompression": 0x00282110,
    "SharedFunctionalGroupsSequence": 0x52009229,
    "PerFrameFunctionalGroupsSequence": 0x52009230,
}
WANTED = frozenset(TAGS.values())

_MAY_BE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


class NotANumberError(Exception):
    """A value that must be a number is not one."""


class Values:
    """The raw values of one data set, as text and numbers."""

    def __init__(self, raw: dict[int, bytes], *, big_endian: bool) -> None:
        self._raw = raw
        self._big_endian = big_endian

    def raw(self, keyword: str) -> bytes:
        """Return the bytes; empty if the element is missing."""
        return self._raw.get(TAGS[keyword], b"")

    def has(self, keyword: str) -> bool:
        """Return whether the element has a value."""
        return bool(self.raw(keyword).strip(b" \0"))

    def text(self, keyword: str) -> str:
        """Return text in ASCII."""
        raw = self.raw(keyword)
        return raw.decode("ascii", "replace").strip(" \0\t\r\n") if raw else ""

    def localised(self, keyword: str) -> str:
        """Return text that may be in another character set than ASCII."""
        raw = self.raw(keyword)
        if not raw:
            return ""
        if raw.isascii() and b"\x1b" not in raw:
            return raw.decode("ascii").strip(" \0\t\r\n")
        return _decoded(raw, self.text("SpecificCharacterSet")).strip(" \0\t\r\n")

    def texts(self, keyword: str) -> tuple[str, ...]:
        """Return the texts of an element with several values, which backslashes separate."""
        text = self.text(keyword)
        return tuple([part.strip(" \0") for part in text.split("\\")]) if text else ()

    def whole(self, keyword: str) -> int | None:
        """Return a binary unsigned integer (US)."""
        raw = self.raw(keyword)
        if not raw or len(raw) > 4:
            return None
        return int.from_bytes(raw, "big" if self._big_endian else "little")

    def integer(self, keyword: str) -> int | None:
        """Return an integer written as text (IS); None if it is missing or invalid."""
        value = number(self.text(keyword).split("\\")[0])
        return int(value) if value is not None and value == int(value) else None

    def numbers(self, keyword: str, count: int) -> tuple[float, ...] | None:
        """Return ``count`` numbers written as text (DS); None if there are fewer, or one is invalid."""
        values = [number(text) for text in self.texts(keyword)]
        if len(values) < count or None in values:
            return None
        return tuple([value for value in values[:count] if value is not None])

    def required(self, keyword: str, default: float) -> float:
        """Return a number, or the default if it is missing.

        Raises
        ------
        NotANumberError
            If there is a value that is not a number, or may be one of two: ``-1,024`` is a thousand in one country and
            little more than one in another.

        """
        if not self.has(keyword):
            return default
        text = self.text(keyword).split("\\")[0].strip()
        value = None if _MAY_BE_THOUSANDS.fullmatch(text) else number(text)
        if value is None:
            raise NotANumberError(keyword)
        return value


def number(text: str) -> float | None:
    """Return the number that a text holds; None if it is not a finite number.

    A comma is read as the decimal point that DICOM requires (PS3.5 6.2, DS).

    >>> number("0.5"), number("0,703125"), number("1,000.5")
    (0.5, 0.703125, None)
    """
    if "," in text and "." not in text:
        text = text.replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e15 else None


def positive(numbers: tuple[float, ...] | None) -> float:
    """Return the first number if it is positive, else NaN."""
    return numbers[0] if numbers and numbers[0] > 0 else math.nan


def spacing_of(numbers: tuple[float, ...] | None) -> tuple[float, float]:
    """Return the spacing between rows and between columns; NaN if it is missing or not positive."""
    if numbers is None or len(numbers) < 2 or min(numbers) <= 0:
        return math.nan, math.nan
    return numbers[0], numbers[1]


def _decoded(raw: bytes, character_sets: str) -> str:
    from pydicom.charset import convert_encodings, decode_bytes

    try:
        encodings = convert_encodings(character_sets.split("\\"))
        return decode_bytes(raw, encodings, set())
    except Exception:  # an unknown or broken character set: read each byte as a letter
        return raw.decode("latin-1")
