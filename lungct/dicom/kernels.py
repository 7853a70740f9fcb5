"""How sharp a reconstruction kernel is, by the manufacturers' own words for it."""

from __future__ import annotations

import re

SOFT, BETWEEN, SHARP = 0, 1, 2

# By a part of Manufacturer (lower case; empty: any) and by ConvolutionKernel (PS3.3 C.8.2.1: the manufacturers' own
# words). Sources: the manufacturers' published kernel lists and the headers of the TCIA collections.
KERNELS: tuple[tuple[str, str, int], ...] = (
    ("ge", r"SOFT|STANDARD|STND", SOFT),
    ("ge", r"LUNG|BONE|BONEPLUS|EDGE|ULTRA|HD LUNG|HD BONE|CHST", SHARP),
    ("ge", r"DETAIL|CHEST", BETWEEN),
    ("philips", r"A|B|SMOOTH|STANDARD|SOFT|IMR1.*|IMRSOFT.*", SOFT),
    ("philips", r"C|CB|UB", BETWEEN),
    ("philips", r"D|E|F|L|LUNG|Y[A-Z]|SHARP|DETAIL|BONE", SHARP),
    ("siemens", r"[A-Z][a-z]?[0-3]\d[a-z]?.*", SOFT),
    ("siemens", r"[A-Z][a-z]?4\d[a-z]?.*", BETWEEN),
    ("siemens", r"[A-Z][a-z]?[5-9]\d[a-z]?.*", SHARP),
    ("toshiba", r"FC(0\d|1\d)", SOFT),
    ("toshiba", r"FC(3\d|5\d|8\d)", SHARP),
    ("canon", r"FC(0\d|1\d)", SOFT),
    ("canon", r"FC(3\d|5\d|8\d)", SHARP),
    ("", r"SOFT|STANDARD|[BI][r]?[123]\d[fs]", SOFT),
    ("", r"LUNG|BONE|BONEPLUS|SHARP|EDGE|[BI][rl]?[5-9]\d[fs]|FC5\d", SHARP),
)


def kernel_rank(manufacturer: str | None, kernel: str | None) -> int:
    """Return how sharp a kernel is: `SOFT`, `BETWEEN` (also if the table lacks it) or `SHARP`.

    >>> kernel_rank("SIEMENS", "B31f"), kernel_rank("GE MEDICAL SYSTEMS", "LUNG"), kernel_rank(None, None)
    (0, 2, 1)
    """
    maker, name = (manufacturer or "").lower(), (kernel or "").split("\\")[0].strip()
    for part, pattern, rank in KERNELS:
        if part in maker and re.fullmatch(pattern, name, 0 if part == "siemens" else re.IGNORECASE):
            return rank
    return BETWEEN
