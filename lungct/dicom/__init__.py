"""A patient's files -> one ordered series of CT slices, read lazily.

What it does, in order:

    discovery.py    a directory -> its files; opening one
    headers.py      a file -> its header and slices, no pixels
    surveying.py    all of a patient's files -> the CT series, damaged files and persons in them
    grouping.py     all CT images -> candidates: one reconstruction each
    selection.py    candidates -> the series that is the scan, and why
    assembling.py   the chosen candidate -> a series, checked and in order
    decoding.py     a slice's bytes -> stored values
    reading.py      `read_series`: all of the above
    volumes/        NIfTI, NRRD and MetaImage files as slices, where there is no DICOM

What passes from one step to the next:

    slices.py       `Slice` and `Header`: what is known of an image and of a file
    candidates.py   `Candidate`: what may be the scan
    series.py       `Series`: ordered slices, and their pixels on request
    scan.py         `Scan`: what is known of a scan besides its pixels
    options.py      what the user says about which series is the scan
    notes.py        what a careful reader should know about a scan, a code each

What ``headers.py`` and ``surveying.py`` use:

    layout.py       the first bytes of a file -> where its data set begins, and how it is written
    elements.py     bytes -> raw data elements, and where the pixels are
    deflated.py     a deflated data set -> its bytes, from any place on
    values.py       raw data elements -> text and numbers
    frames.py       an enhanced multi-frame object -> a slice for each frame
    geometry.py     positions, orientation, spacing: the conventions
    persons.py      who is the same person, and which texts name one

What ``grouping.py`` uses:

    joining.py      several series that are one scan -> one
    stacks.py       a series -> stacks of one orientation and one size
    acquisitions.py a stack -> its passes apart, its stations together
    separators.py   what tells the images of a stack apart
    places.py       which images lie at one place, and what images cover along the body

What ``selection.py`` uses:

    phrases.py      free text -> its words
    anatomy.py      what the texts of a file say about the part of the body
    kernels.py      how sharp a reconstruction kernel is
    contrast.py     with or without a contrast agent
    spectral.py     plain Hounsfield units, a virtual image, or a map of something else

What ``assembling.py`` and ``decoding.py`` use:

    damage.py       which images of the chosen series are missing, and how many may be
    codecs.py       compressed transfer syntaxes and their decoders

The rules in words, and every error code with what to do about it, are in ``docs/intake.md``. The functions exported
here raise only `LungCTError`. The sentence of a `SeriesError` or `StorageError` contains no name of a file, no UID, no
date and no person.
"""

from lungct.dicom.headers import read_identity, read_person
from lungct.dicom.options import SeriesOptions
from lungct.dicom.reading import read_series, series_choices
from lungct.dicom.scan import Scan
from lungct.dicom.series import Series
from lungct.dicom.slices import Person, Slice

__all__ = [
    "Person",
    "Scan",
    "Series",
    "SeriesOptions",
    "Slice",
    "read_identity",
    "read_person",
    "read_series",
    "series_choices",
]
