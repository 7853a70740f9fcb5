"""A patient's files -> one ordered series of CT slices, read lazily.

    discovery.py    a directory -> its files
    elements.py     bytes -> raw data elements, and where the pixels are
    values.py       raw data elements -> text and numbers
    slices.py       `Slice` and `Header`: what is said of an image, of a file
    headers.py      a file -> its header and slices, no pixels
    frames.py       an enhanced multi-frame object -> a slice for each frame
    geometry.py     positions, orientation, spacing: the conventions, said once
    scan.py         `Scan`: what is known of a scan besides its pixels
    selection.py    all CT images -> the series that is the scan, and why
    series.py       `Series`: `read_series` and what it refuses
    decoding.py     a slice's bytes -> stored values; one decoder for each transfer syntax
    description.py  everything found in a directory, for people
    volumes.py      NIfTI, NRRD and MetaImage files as series (optional extra)

The rules in words, and every error code with what to do about it, are in ``docs/intake.md``. Nothing but `LungCTError`
leaves the functions exported here, and no sentence of an error names a file, a UID, a date or a person.
"""

from lungct.dicom.description import Description, SeriesDescription, describe
from lungct.dicom.headers import identity_of, person_of
from lungct.dicom.scan import Scan
from lungct.dicom.series import Series, read_series, read_series_files
from lungct.dicom.slices import Person, Slice

__all__ = [
    "Description",
    "Person",
    "Scan",
    "Series",
    "SeriesDescription",
    "Slice",
    "describe",
    "identity_of",
    "person_of",
    "read_series",
    "read_series_files",
]
