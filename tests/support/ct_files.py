"""DICOM files for tests: valid CT images by default, and any others that a test needs.

``write_series(directory, slices=12)`` writes one axial series; every choice is a keyword. Nothing here is read with
lungct: tests compare with what was written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders import RLELosslessEncoder  # type: ignore[attr-defined]
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"

LOSSLESS = (
    IMPLICIT,
    EXPLICIT,
    DEFLATED,
    BIG_ENDIAN,
    RLE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_2000_LOSSLESS,
    HTJ2K_LOSSLESS,
)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)

ROOT = "1.2.826.0.1.3680043.10.1"

Pixels = NDArray[np.integer[Any]]


def pixel_type(bits_allocated: int, signed: bool) -> np.dtype[Any]:
    return np.dtype(f"{'i' if signed else 'u'}{bits_allocated // 8}")


def noise(rows: int, columns: int, *, bits_stored: int = 12, signed: bool = False, seed: int = 0) -> NDArray[np.int64]:
    """Return smooth structure with noise added, over most of the range of the stored bits."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:rows, 0:columns]
    low = -(1 << (bits_stored - 1)) if signed else 0
    span = 1 << bits_stored
    wave = 0.5 + 0.4 * np.sin((x + 3 * seed) / 9) * np.cos(y / 7)
    grains = rng.integers(-(span // 64) - 1, span // 64 + 2, (rows, columns))
    image: NDArray[np.int64] = np.clip(low + (wave * span).astype(np.int64) + grains, low, low + span - 1)
    return image


def ct_image(
    pixels: Pixels,
    *,
    instance: int | None = 1,
    position: Sequence[float] | None = (0.0, 0.0, 0.0),
    orientation: Sequence[float] | None = AXIAL,
    spacing: Sequence[float] | None = (0.7, 0.7),
    thickness: float | None = 2.5,
    bits_allocated: int = 16,
    bits_stored: int = 12,
    signed: bool = False,
    slope: float | None = 1.0,
    intercept: float | None = -1024.0,
    transfer_syntax: str = EXPLICIT,
    series: str = "1",
    study: str = "1",
    patient_id: str = "P1",
    tags: Mapping[str, Any] | None = None,
) -> FileDataset:
    """Return one CT image; ``tags`` sets elements by keyword, None deletes one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(CT_IMAGE)
    meta.MediaStorageSOPInstanceUID = UID(f"{ROOT}.{study}.{series}.{instance or 0}")
    meta.TransferSyntaxUID = UID(transfer_syntax)
    meta.ImplementationClassUID = UID(ROOT)
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.set_original_encoding(transfer_syntax == IMPLICIT, transfer_syntax != BIG_ENDIAN)
    ds.SOPClassUID = UID(CT_IMAGE)
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.Modality = "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer = "Acme"
    ds.ConvolutionKernel = "STANDARD"
    ds.PatientID = patient_id
    ds.PatientName = ""
    ds.StudyInstanceUID = f"{ROOT}.{study}"
    ds.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    if instance is not None:
        ds.InstanceNumber = instance
    if position is not None:
        ds.ImagePositionPatient = [_decimal(v) for v in position]
    if orientation is not None:
        ds.ImageOrientationPatient = [_decimal(v) for v in orientation]
    if spacing is not None:
        ds.PixelSpacing = [_decimal(v) for v in spacing]
    if thickness is not None:
        ds.SliceThickness = _decimal(thickness)
    if slope is not None:
        ds.RescaleSlope = _decimal(slope)
    if intercept is not None:
        ds.RescaleIntercept = _decimal(intercept)
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits_allocated, bits_stored, bits_stored - 1
    ds.PixelRepresentation = int(signed)
    put_pixels(ds, pixels.astype(pixel_type(bits_allocated, signed)), transfer_syntax)
    override(ds, tags or {})
    return ds


def _decimal(value: float) -> str:
    return f"{value:.10g}"


def override(ds: Dataset, tags: Mapping[str, Any]) -> None:
    for keyword, value in tags.items():
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)


def put_pixels(ds: Dataset, pixels: Pixels, transfer_syntax: str) -> None:
    """Write pixels, shape ([frames,] rows, columns), into a data set."""
    frames = pixels if pixels.ndim == 3 else pixels[None]
    if transfer_syntax in (IMPLICIT, EXPLICIT, DEFLATED):
        data = frames.astype(frames.dtype.newbyteorder("<")).tobytes()
    elif transfer_syntax == BIG_ENDIAN:
        data = frames.astype(frames.dtype.newbyteorder(">")).tobytes()
        if frames.dtype.itemsize == 1:  # 8-bit pixels in OW are swapped in pairs (PS3.5 annex A.3)
            data = np.frombuffer(data + b"\0" * (len(data) % 2), "u2").byteswap().tobytes()
    else:
        data = encapsulate([encode(frame, transfer_syntax) for frame in frames])
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB" if UID(transfer_syntax).is_compressed else "OW"
    if UID(transfer_syntax).is_compressed:
        ds["PixelData"].is_undefined_length = True


def encode(frame: Pixels, transfer_syntax: str) -> bytes:
    """Compress one frame. JPEG and JPEG-LS have no signed values: the bits are written as they are."""
    import imagecodecs

    bits = np.ascontiguousarray(frame).view(f"u{frame.dtype.itemsize}")
    if transfer_syntax == RLE:
        return bytes(
            RLELosslessEncoder.encode(
                bits.tobytes(),
                rows=bits.shape[0],
                columns=bits.shape[1],
                number_of_frames=1,
                samples_per_pixel=1,
                photometric_interpretation="MONOCHROME2",
                bits_allocated=8 * bits.dtype.itemsize,
                bits_stored=8 * bits.dtype.itemsize,
                pixel_representation=0,
                encoding_plugin="pydicom",
            )
        )
    if transfer_syntax in (JPEG_LOSSLESS, JPEG_LOSSLESS_SV1):
        return bytes(imagecodecs.jpeg8_encode(bits, lossless=True))
    if transfer_syntax == JPEG_EXTENDED:
        return bytes(imagecodecs.jpeg8_encode(bits, level=100, bitspersample=12))
    if transfer_syntax == JPEG_BASELINE:
        return bytes(imagecodecs.jpeg8_encode(bits, level=100))
    if transfer_syntax in (JPEG_LS, JPEG_LS_NEAR):
        return bytes(imagecodecs.jpegls_encode(bits, level=2 if transfer_syntax == JPEG_LS_NEAR else 0))
    if transfer_syntax == HTJ2K_LOSSLESS:
        return bytes(imagecodecs.htj2k_encode(frame, reversible=True))
    return bytes(
        imagecodecs.jpeg2k_encode(frame, level=0 if transfer_syntax == JPEG_2000_LOSSLESS else 90, codecformat="J2K")
    )


def save(ds: FileDataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def write_series(
    directory: Path,
    *,
    slices: int = 12,
    rows: int = 64,
    columns: int = 64,
    step: float = 2.5,
    first: float = 0.0,
    positions: Sequence[float | None] | None = None,
    orientation: Sequence[float] | None = AXIAL,
    instances: Sequence[int | None] | None = None,
    pixels: Callable[[int], Pixels] | None = None,
    bits_stored: int = 12,
    signed: bool = False,
    seed: int = 0,
    names: Callable[[int], str] | None = None,
    each: Callable[[int], Mapping[str, Any]] | None = None,
    series: str = "1",
    **choices: Any,
) -> list[Path]:
    """Write one series and return its files, from the first position to the last.

    Parameters
    ----------
    step, first, positions
        Distance between slices along the normal and position of the first, or all positions; a slice at None has no
        ImagePositionPatient.
    instances
        InstanceNumbers; by default from 1.
    pixels
        Stored values of slice i; by default seeded noise.
    names
        File name of slice i; by default in another order than the positions.
    each
        Elements of slice i by keyword, in addition to ``tags``, which are for all.
    choices
        Arguments for `ct_image`.

    """
    along = np.cross(orientation[:3], orientation[3:]) if orientation is not None else (0, 0, 1)
    common = dict(choices.pop("tags", None) or {})
    written = []
    for i in range(slices):
        place: float | None = positions[i] if positions is not None else first + i * step
        image = (
            pixels(i)
            if pixels is not None
            else noise(rows, columns, bits_stored=bits_stored, signed=signed, seed=seed + i)
        )
        ds = ct_image(
            image,
            instance=instances[i] if instances is not None else i + 1,
            position=None if place is None else [float(v) * place for v in along],
            orientation=orientation,
            bits_stored=bits_stored,
            signed=signed,
            series=series,
            tags=common | dict(each(i) if each is not None else {}),
            **choices,
        )
        if "SOPInstanceUID" not in common:
            ds.SOPInstanceUID = f"{ds.SeriesInstanceUID or ROOT}.{i + 1}"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        name = names(i) if names is not None else f"{(i * 7919) % 10007:05d}-{series}.dcm"
        written.append(save(ds, directory / name))
    return written


def write_enhanced(
    path: Path,
    *,
    frames: int = 6,
    rows: int = 32,
    columns: int = 32,
    step: float = 2.0,
    order: Sequence[int] | None = None,
    transfer_syntax: str = EXPLICIT,
    seed: int = 0,
) -> Path:
    """Write an enhanced multi-frame CT with geometry and rescale in functional groups, its frames in ``order``."""
    order = list(range(frames)) if order is None else list(order)
    image = np.stack([noise(rows, columns, seed=seed + k) for k in order])
    ds = ct_image(image, position=None, orientation=None, spacing=None, thickness=None, slope=None,
                  intercept=None, transfer_syntax=transfer_syntax)  # fmt: skip
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = UID(ENHANCED_CT)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    ds.NumberOfFrames = frames
    shared = Dataset()
    shared.PlaneOrientationSequence = Items([_item(ImageOrientationPatient=list(AXIAL))])
    shared.PixelMeasuresSequence = Items([_item(PixelSpacing=[0.8, 0.8], SliceThickness=step)])
    shared.PixelValueTransformationSequence = Items([_item(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="HU")])
    ds.SharedFunctionalGroupsSequence = Items([shared])
    ds.PerFrameFunctionalGroupsSequence = Items(
        [_item(PlanePositionSequence=Items([_item(ImagePositionPatient=[0, 0, k * step])])) for k in order]
    )
    return save(ds, path)


def _item(**tags: Any) -> Dataset:
    item = Dataset()
    override(item, tags)
    return item


def tilted(degrees: float) -> tuple[float, ...]:
    """Return the orientation of an axial slice with a tilted gantry."""
    angle = math.radians(degrees)
    return (1.0, 0.0, 0.0, 0.0, math.cos(angle), math.sin(angle))
