"""Slices in Hounsfield units -> CT Image Storage objects (PS3.3 A.3), the same bytes every time.

Explicit VR little endian, int16, slope 1 and intercept -1024; outside the circular field of view the stored value is
-2000, which PixelPaddingValue declares. The objects contain no date, no time and no person's name. UIDs are derived
from the settings of the cohort under the 2.25 root (PS3.5 B.2).
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from lungct.phantom.fields import SLICE_SIZE, Field, Mask

PADDING = -2000
INTERCEPT = -1024


@dataclass(frozen=True)
class CommonElements:
    """What the objects of a patient have in common.

    Attributes
    ----------
    name
        The patient's id.
    key
        What UIDs are derived from: the settings of the cohort and the patient.
    spacing, thickness
        Distance between pixels and between slices, in mm.
    origin
        ImagePositionPatient x and y of the first pixel, and z where the chest's z is 0.
    head_first
        Whether instance numbers run from the head to the feet.
    kvp, current
        KVP and XRayTubeCurrent (mA).
    prone
        Whether the person lay on the belly: the image is then stored as it lay in the scanner, turned by 180 degrees.

    """

    name: str
    key: str
    spacing: float
    thickness: float
    origin: tuple[float, float, float]
    head_first: bool
    kvp: int
    current: int
    prone: bool = False


def write_objects(
    folder: Path, common: CommonElements, count: int, slices: Iterable[tuple[float, Field]], padding: Mask
) -> None:
    """Write the slices of a patient to a folder, under file names that do not reveal their order.

    Parameters
    ----------
    folder
        An existing directory.
    common
        What the objects have in common.
    count
        Number of slices.
    slices
        The slices from the feet to the head: z in mm, and HU, (512, 512), which is overwritten.
    padding
        Where nothing was reconstructed, bool, (512, 512).

    """
    fixed = {element.tag: _encoded(element) for element in _dataset(common)}
    stored = np.empty((SLICE_SIZE, SLICE_SIZE), "<i2")
    # PixelData's header: tag, VR, two reserved bytes, length (PS3.5 7.1.2).
    pixel_data = struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, stored.nbytes)
    for k, (z, hu) in enumerate(slices):
        number = count - k if common.head_first else k + 1
        np.rint(hu, out=hu)
        np.clip(hu, -1024.0, 3071.0, out=hu)
        hu -= INTERCEPT
        np.copyto(stored, hu[::-1, ::-1] if common.prone else hu, casting="unsafe")
        np.copyto(stored, PADDING, where=padding)
        position = round(common.origin[2] + z, 3)
        own = Dataset()
        own.SOPInstanceUID = derived_uid(common.key, f"instance {number}")
        own.InstanceNumber = number
        own.ImagePositionPatient = [*_corner(common), position]
        own.SliceLocation = position
        elements = fixed | {element.tag: _encoded(element) for element in own}
        name = hashlib.sha256(own.SOPInstanceUID.encode()).hexdigest()[:32]
        with (folder / f"{name}.dcm").open("wb") as file:
            file.write(b"\0" * 128 + b"DICM" + _file_meta(own.SOPInstanceUID))
            file.writelines(elements[tag] for tag in sorted(elements))
            file.write(pixel_data)
            file.write(stored.data)


def _corner(common: CommonElements) -> tuple[float, float]:
    """Return x and y of the first pixel that is stored."""
    x, y, _ = common.origin
    if not common.prone:
        return x, y
    across = common.spacing * (SLICE_SIZE - 1)
    return round(x + across, 3), round(y + across, 3)


def _encoded(element: DataElement) -> bytes:
    """Return the bytes of an element; most are the same in all files of a patient, and are encoded once."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_data_element(buffer, element)
    return buffer.getvalue()


def derived_uid(key: str, what: str) -> UID:
    """Return a UID under 2.25 that depends on the arguments alone (a UUID of version 5)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'lungct phantom {key} {what}').int}")


def _file_meta(instance: UID) -> bytes:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = derived_uid("", "implementation")
    meta.ImplementationVersionName = "LUNGCT"
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    return buffer.getvalue()


def _dataset(common: CommonElements) -> Dataset:
    """Return the elements that all objects of a patient share."""
    ds = Dataset()
    _identity(ds, common)
    _acquisition(ds, common)
    _pixels(ds, common)
    return ds


def _identity(ds: Dataset, common: CommonElements) -> None:
    """Set the modules Patient, General Study, General Series, Frame of Reference, Equipment and SOP Common."""
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = CTImageStorage
    ds.PatientName = common.name
    ds.PatientID = common.name
    ds.PatientBirthDate = ""
    ds.PatientSex = "O"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "Synthetic phantom: there is no such person"
    ds.StudyInstanceUID = derived_uid(common.key, "study")
    ds.StudyDate = ""
    ds.StudyTime = ""
    ds.StudyID = "1"
    ds.AccessionNumber = ""
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "Synthetic chest phantom"
    ds.Modality = "CT"
    ds.SeriesInstanceUID = derived_uid(common.key, "series")
    ds.SeriesNumber = 1
    ds.SeriesDescription = "Synthetic chest phantom"
    ds.BodyPartExamined = "CHEST"
    ds.PatientPosition = "HFP" if common.prone else "HFS"
    ds.FrameOfReferenceUID = derived_uid(common.key, "frame of reference")
    ds.PositionReferenceIndicator = ""
    ds.Manufacturer = "lungct"
    ds.ManufacturerModelName = "chest phantom"


def _acquisition(ds: Dataset, common: CommonElements) -> None:
    """Set the modules General Image, General Acquisition, Image Plane and CT Image."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.AcquisitionNumber = 1
    ds.ContentDate = ""
    ds.ContentTime = ""
    ds.PatientOrientation = ""
    ds.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0] if common.prone else [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [common.spacing, common.spacing]
    ds.SliceThickness = common.thickness
    ds.SpacingBetweenSlices = common.thickness
    ds.KVP = common.kvp
    ds.XRayTubeCurrent = common.current
    ds.ConvolutionKernel = "PHANTOM"
    ds.GantryDetectorTilt = 0
    ds.DataCollectionDiameter = 500
    ds.ReconstructionDiameter = round(common.spacing * SLICE_SIZE, 3)


def _pixels(ds: Dataset, common: CommonElements) -> None:
    """Set the modules Image Pixel and VOI LUT, and the rest of CT Image."""
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows = SLICE_SIZE
    ds.Columns = SLICE_SIZE
    ds.BitsAllocated = 16
    ds.BitsStored = 16
    ds.HighBit = 15
    ds.PixelRepresentation = 1
    ds.add_new("PixelPaddingValue", "SS", PADDING)
    ds.RescaleIntercept = INTERCEPT
    ds.RescaleSlope = 1
    ds.RescaleType = "HU"
    ds.WindowCenter = [-500, 40]
    ds.WindowWidth = [1500, 400]
