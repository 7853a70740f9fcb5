"""Which files are volumes (NIfTI, NRRD, MetaImage), by the endings of their names, and which have the voxels of one."""

from __future__ import annotations

import os
import re

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mhd", ".mha")
"""The endings of volumes, in lower case."""
HEADER_ENDINGS = (".nhdr", ".mhd")
"""The endings of headers, whose voxels are in a file beside them."""
MAX_HEADER_BYTES = 1 << 20
"""Bytes of a header that is text; the longest known, with a scan's DICOM header in it, have some ten thousand."""

_TEXT_ENDINGS = (".nrrd", ".nhdr", ".mhd", ".mha")
_VOXEL_ENDINGS = (".raw", ".raw.gz", ".zraw")
_DATA_FILE = re.compile(rb"^(?:data ?file:(?!=)|ElementDataFile[ \t]*=)(.*)$", re.IGNORECASE | re.MULTILINE)


def is_volume(name: str) -> bool:
    """Return whether a file is a volume."""
    return name.lower().endswith(VOLUME_ENDINGS)


def without_ending(name: str) -> str:
    """Return a volume's name without its ending, and any other name as it is.

    >>> without_ending("scan.NII.gz"), without_ending("scan.dcm")
    ('scan', 'scan.dcm')
    """
    ending = next((ending for ending in VOLUME_ENDINGS if name.lower().endswith(ending)), "")
    return name[: len(name) - len(ending)]


def is_header(name: str) -> bool:
    """Return whether a file is the header of a volume whose voxels are in a file beside it."""
    return name.lower().endswith(HEADER_ENDINGS)


def is_voxels(name: str) -> bool:
    """Return whether a file may hold the voxels that belong to a header beside it."""
    return name.lower().endswith(_VOXEL_ENDINGS)


def has_text_header(name: str) -> bool:
    """Return whether a file is a volume that may name another file as that of its voxels."""
    return name.lower().endswith(_TEXT_ENDINGS)


def named_data_file(header: bytes) -> str | None:
    """Return the name that a text header gives the file of its voxels, if it is a plain name.

    >>> named_data_file(b"DimSize = 4 4 4\\nElementDataFile = scan.raw\\n")
    'scan.raw'
    >>> named_data_file(b"NRRD0004\\ndata file: ../other/scan.raw\\n")
    """
    found = _DATA_FILE.search(header)
    return None if found is None else plain_name(os.fsdecode(found[1]))


def plain_name(name: str) -> str | None:
    """Return the name of a file in the same directory; None for any other path, and for a pattern or list of files.

    >>> plain_name("scan.raw"), plain_name("./scan.raw")
    ('scan.raw', 'scan.raw')
    >>> [plain_name(name) for name in ("/etc/passwd", "../scan.raw", "C:\\\\scan.raw", "slice%03d.raw 1 9 1", "LIST")]
    [None, None, None, None, None]
    """
    name = name.strip().removeprefix("./")
    if name in ("", ".", "..") or name.partition(" ")[0].upper() == "LIST" or any(c in name for c in "/\\%\0"):
        return None
    return name
