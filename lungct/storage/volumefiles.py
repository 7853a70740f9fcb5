"""Which files are volumes (NIfTI, NRRD, MetaImage), by the endings of their names."""

from __future__ import annotations

VOLUME_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mhd", ".mha")
"""The endings of volumes, in lower case."""
HEADER_ENDINGS = (".nhdr", ".mhd")
"""The endings of headers, whose voxels are in a file beside them."""
_VOXEL_ENDINGS = (".raw", ".raw.gz", ".zraw")


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
