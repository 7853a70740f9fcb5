"""How sharp a reconstruction kernel is, by the manufacturers' own words for it.

ConvolutionKernel is free text (PS3.3 C.8.2.1). Of several values the first names the kernel; the rest is its setting
(Siemens ``Br40d\\3``: the strength of the iterative reconstruction). A manufacturer's own rules come first, then rules
for codes and words that mean the same whoever wrote Manufacturer, because archives and anonymisers empty or replace it.
"""

from __future__ import annotations

import re
from functools import lru_cache

from lungct.dicom.phrases import normalised

SOFT, MEDIUM, SHARP = 0, 1, 2
IN_WORDS = ("soft", "medium or unknown", "sharp")
"""The ranks in words, by rank."""

MAKERS: tuple[tuple[str, str], ...] = (
    ("ge", r"GE|GEMS|GENERAL ELECTRIC"),
    ("siemens", r"SIEMENS"),
    ("philips", r"PHILIPS|MARCONI|PICKER|ELSCINT"),
    ("canon", r"CANON|TOSHIBA"),
)
"""Manufacturers that have rules of their own, by words of Manufacturer: ``Agfa-Gevaert`` is not GE."""

# A kernel's words are its letters, in capitals, without digits and punctuation ("BONE+" is BONE PLUS, "B_SOFT_B" is
# B SOFT B); its code is the same text with digits and without punctuation ("FC08-H" is FC08H).
#
# Sources. Siemens: the kernel's two digits grow with its sharpness (Siemens Healthineers academy, "CT kernel concept").
# Toshiba and Canon: FC13-H is still a body kernel (synapse.koreamed.org/articles/1099806), AiCE Body Sharp is one for
# soft tissue of high resolution (PMC10997025). Philips: IMR1 Sharp+ (PMC5926271). United Imaging's B_SOFT_*, B_SHARP_C,
# B_VSHARP_*, Toshiba's FC numbers and Philips' letters: as public code that reads archives sorts them. GE writes its
# kernel Chest as CHST. Not confirmed by a source, and placed so that they do no harm: Chest between mediastinum and
# lung, the FL of Canon's FIRST with the body.
KERNELS: tuple[tuple[str, str, int], ...] = (
    ("ge", r"CHST|CHEST|DETAIL", MEDIUM),
    ("siemens", r"[A-Z]{1,3}([0-3]\d|40)[A-Z]*", SOFT),
    ("siemens", r"[A-Z]{1,3}4\d[A-Z]*", MEDIUM),
    ("siemens", r"[A-Z]{1,3}[5-9]\d[A-Z]*", SHARP),
    ("philips", r"A|B", SOFT),
    ("philips", r"C|CB|UB", MEDIUM),
    ("philips", r"[DEFL]|Y[A-Z]", SHARP),
    ("canon", r"BODY SHARP", MEDIUM),
    ("canon", r"BODY", SOFT),
    ("", r"F[CL][01]?\d[A-Z]*|FC[24]\d[A-Z]*", SOFT),
    ("", r"FC[358]\d[A-Z]*", SHARP),
    ("", r"[BDHIJQTU][A-Z]?([0-3]\d|40)[A-Z]?", SOFT),
    ("", r"[BDHIJQTU][A-Z]?4\d[A-Z]?", MEDIUM),
    ("", r"[BDHIJQTU][A-Z]?[5-9]\d[A-Z]?", SHARP),
    ("", r".*\b(LUNG|BONE|BONEPLUS|EDGE|ULTRA|V?SHARP|SHARPPLUS|YSHARP|HIGH RESOLUTION|INNER EAR)\b.*", SHARP),
    ("", r".*\bDETAIL\b.*", MEDIUM),
    ("", r".*\b(V?SOFT|SOFTTISSUE|STANDARD|STND|STD|V?SMOOTH|ROUTINE|BODY)\b.*", SOFT),
    ("", r"IMR.*", SOFT),
)
"""By manufacturer (empty: any), pattern of the kernel's words or code, and rank; the first that matches counts."""


def kernel_rank(manufacturer: str | None, kernel: str | None) -> int:
    """Return how sharp a kernel is: `SOFT`, `MEDIUM` (also if the table lacks it) or `SHARP`.

    >>> kernel_rank("SIEMENS", "B31f"), kernel_rank("GE MEDICAL SYSTEMS", "LUNG"), kernel_rank(None, None)
    (0, 2, 1)
    """
    return _rank(manufacturer or "", kernel or "")


@lru_cache(maxsize=1024)
def _rank(manufacturer: str, kernel: str) -> int:
    makers = {maker for maker, words in MAKERS if re.search(rf" ({words}) ", normalised(manufacturer))}
    name = kernel.split("\\")[0].replace("+", " PLUS ")
    spellings = (normalised(name).strip(), re.sub(r"[^A-Z0-9]", "", name.upper()))
    for maker, pattern, rank in KERNELS:
        if (not maker or maker in makers) and any(re.fullmatch(pattern, spelling) for spelling in spellings):
            return rank
    return MEDIUM
