"""What the numbers of a CT image are: plain Hounsfield units, a virtual image in HU, or a map of something else.

Scanners that measure several energies compute images that nobody measured: as if the energy were another one (virtual
monoenergetic), or as if a material, such as iodine, were not there (virtual non-contrast). These are in HU. Others show
how much of a material there is, or the effective atomic number: they are no scan, whatever RescaleType says or leaves
out. All are written as CT Image Storage.

Sources: PS3.3 C.8.2.1.1.1 and C.8.15.2.1.1 (ImageType, value 4, which names maps of perfusion, too), C.11.1.1.2
(RescaleType), PS3.17 JJJJ.3 (what each is, and which are in HU); the series names of Philips ("MonoE 40keV[HU]",
"VNC[HU*]", "Calcium Suppression 75 Index[HU*]", "Z Effective", "Iodine Density[mg/ml]"), GE ("MONO 70 keV", "VUE", "MD
Iodine(Water)") and Siemens ("Mono+ 50 keV", "VNC", "Rho/Z").
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

from lungct.dicom.phrases import normalised, phrase_pattern


class Product(Enum):
    """What an image is made of the measurements."""

    PLAIN = "plain"
    MONOENERGETIC = "virtual monoenergetic"
    MATERIAL = "virtual, with materials removed or enhanced"
    MAP = "a map that is not in Hounsfield units"


# By words of ImageType, a value's words as in the standard ("MAT_REMOVED" is MAT REMOVED) or as manufacturers write it.
_MONOENERGETIC = phrase_pattern("VMI, MONO, MONOE, MONOENERGETIC*, MONOCHROMATIC, MONOPLUS")
_MATERIAL = phrase_pattern("MAT REMOVED, MAT MODIFIED, VNC, VUE, VIRTUAL NON CONTRAST, VIRTUAL UNENHANCED")
_MATERIAL_SPECIFIC = phrase_pattern("MAT SPECIFIC, IODINE*, IODINEMAP")
_MAP = phrase_pattern(
    """
    EFF ATOMIC NUM, EFFECTIVE Z, Z EFFECTIVE, Z EFF, ZEFF, EFF Z, ELECTRON DENSITY, MAT FRACTIONAL,
    MAT VALUE BASED, RHO Z, RCBF, RCBV, CBF, CBV, MTT, TTP, TMAX
    """
)

# By words of SeriesDescription: rarer words only, because "iodine" may be the contrast agent.
_DESCRIBED_MONOENERGETIC = phrase_pattern("MONOE, MONOENERGETIC*, MONOCHROMATIC, VMI, KEV, MONO KEV")
_DESCRIBED_MATERIAL = phrase_pattern(
    """
    VNC, VUE, VNCA, VIRTUAL NON CONTRAST, VIRTUAL NONCONTRAST, VIRTUAL UNENHANCED, VIRTUAL NATIV*,
    VIRTUAL NON ENHANCED, CALCIUM SUPPRESSION, CALCIUM SUPPRESSED, CASUPP, IODINE REMOVED,
    IODINE NO WATER, PBV, PERFUSED BLOOD VOLUME
    """
)
_DESCRIBED_MAP = phrase_pattern(
    """
    IODINE MAP, IODINE DENSITY, IODINE WATER, IODINE CONCENTRATION, IODINE OVERLAY, MD IODINE, IODINEMAP,
    WATER IODINE, CALCIUM WATER, MD WATER, MD CALCIUM, URIC ACID, EFFECTIVE Z, Z EFFECTIVE, Z EFF, ZEFF, EFF Z,
    EFFECTIVE ATOMIC NUMBER, ELECTRON DENSITY, RHO Z
    """
)

_UNSPECIFIED = frozenset({"", "US", "UNSPECIFIED", "UNKNOWN", "NONE", "NA"})


@lru_cache(maxsize=1024)
def product(image_type: tuple[str, ...], rescale_type: str, description: str) -> Product:
    """Return what an image is made of the measurements.

    Parameters
    ----------
    image_type
        The values of ImageType, or of FrameType.
    rescale_type
        RescaleType; empty if the file has none.
    description
        SeriesDescription.

    Notes
    -----
    A RescaleType that is not Hounsfield units makes a map of any image. One that is missing or unspecified is believed
    to be Hounsfield units, unless the words of ImageType or SeriesDescription name a map. An effective atomic number
    and the like stay maps even if the file claims Hounsfield units; an image of one material may be in HU.

    """
    unit = re.sub(r"[^A-Z]", "", rescale_type.upper())
    unspecified = unit in _UNSPECIFIED and "%" not in rescale_type
    if not unspecified and not unit.startswith(("HU", "HOUNSFIELD")):
        return Product.MAP
    words = "".join(normalised(value) for value in image_type)
    described = normalised(description)
    if _MAP.search(words) or (unspecified and (_MATERIAL_SPECIFIC.search(words) or _DESCRIBED_MAP.search(described))):
        return Product.MAP
    if _MONOENERGETIC.search(words) or _DESCRIBED_MONOENERGETIC.search(described):
        return Product.MONOENERGETIC
    modified = unit == "HUMOD" or "*" in rescale_type  # HU_MOD is the standard's, HU* is Philips'
    if modified or _MATERIAL.search(words) or _MATERIAL_SPECIFIC.search(words) or _DESCRIBED_MATERIAL.search(described):
        return Product.MATERIAL
    return Product.PLAIN
