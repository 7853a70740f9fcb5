"""A volume file (NIfTI, NRRD, MetaImage) -> slices like those of a DICOM series, read one at a time.

    picking.py     which of a patient's files is the volume to read
    header.py      `VolumeHeader`: what each format's header contains
    nifti.py       NIfTI-1 and NIfTI-2, one file
    nrrd.py        NRRD, with the voxels in the file or beside it
    metaimage.py   MetaImage, with the voxels in the file or beside it
    textheader.py  what the headers of NRRD and MetaImage have in common
    placement.py   how the stored axes lie in the patient, and how they are turned
    voxels.py      the file of the voxels -> planes in Hounsfield units, in bounded memory
    volume.py      `read_volume_file`: all of the above

Public sets come in these formats (LUNA16, NSCLC-Radiomics): one file per patient, voxels in Hounsfield units, no
information about scanner or person. *Stored axes* are numbered 0, 1, 2; the voxel's index along axis 0 changes fastest
in the file. A *plane* is what axes 0 and 1 span, a *slice* is axial. Places are in mm in patient coordinates (LPS,
``lungct/dicom/geometry.py``); NIfTI and some NRRD files state them as RAS, whose first two axes run the other way.

Volumes have no InstanceNumber, which the preset dsb2017 orders slices by, so they work with the preset lung only.
"""

from lungct.dicom.volumes.picking import PickedVolume, matching_volume, set_apart, topmost_volume
from lungct.dicom.volumes.volume import Volume, read_volume_file

__all__ = ["PickedVolume", "Volume", "matching_volume", "read_volume_file", "set_apart", "topmost_volume"]
