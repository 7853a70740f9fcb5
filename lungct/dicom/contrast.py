"""Whether an image was made with a contrast agent in the blood, by what its file says."""

from __future__ import annotations

import re
from functools import lru_cache

from lungct.dicom.phrases import normalised, phrase_pattern, plain_letters
from lungct.dicom.spectral import Product

# Words of SeriesDescription. "C+", "C-", "+C", "-C" and "W/" are read before punctuation is removed.
_NEGATIONS = ["WITHOUT", "W O", "WO", "NO", "NON", "PRE", "SANS", "OHNE", "SIN", "SEM", "SENZA", "UDEN", "UTAN"]
_AFFIRMATIONS = ["WITH", "W", "POST", "MIT", "AVEC", "CON", "COM"]
_AGENTS = ["CONTRAST*", "CONTR", "CON", "C", "IV CONTRAST*", "IV", "KM", "KONTRAST*", "MDC", "PDC", "INJ*"]
_WITHOUT = phrase_pattern(
    *(f"{word} {agent}" for word in _NEGATIONS for agent in _AGENTS),
    """
    WITHOUT, W O, WO, SANS, OHNE, SENZA, UNENHANCED, NON ENHANCED, NONCON, NONCONTRAST, PRECONTRAST, NATIV, NATIVE,
    NATIVO, PLAIN, NCCT, NECT, 平扫, 単純, 조영전
    """,
)
_WITH = phrase_pattern(
    *(f"{word} {agent}" for word in _AFFIRMATIONS for agent in _AGENTS),
    """
    WITH, AVEC, CONTRAST, POSTCONTRAST, ENHANCED, CE, CECT, ARTERIAL, ARTERIEL, ART, VENOUS, VEN, PORTAL,
    PORTALVENOUS, DELAYED, ANGIO*, CTA, CTPA, KM, INJECTE, MDC, 增强, 造影, 조영후
    """,
)
_SIGN_WITHOUT = re.compile(r"(?<![A-Z0-9])C ?-(?![A-Z0-9])|(?<![A-Z0-9])-C(?![A-Z0-9])")
_SIGN_WITH = re.compile(r"(?<![A-Z0-9])C ?\+|\+ ?C(?![A-Z])|(?<![A-Z])W ?[/&+](?! ?O)")

# ContrastBolusAgent that says there was none, or none in the blood.
_NO_AGENT = re.compile(
    r" (N|NO|NON|NONE|NIL|NA|N A|NOT .*|NEGATIVE|WITHOUT.*|W O.*|WO|NO CONTRAST.*|NON ?CONTRAST.*|UNENHANCED|NATIVE?"
    r"|OHNE.*|KEIN.*|SANS.*|SIN .*|SENZA.*|NESSUNO|NINGUNO|AUCUN|ORAL|ORAL ONLY|FALSE|UNKNOWN) "
)


@lru_cache(maxsize=1024)
def with_contrast(agent: str, description: str, made: Product) -> bool:
    """Return whether there was a contrast agent.

    The series' own description decides if it says so, because ContrastBolusAgent is often copied to the whole study. An
    image from which the agent was removed by calculation was made with it.

    Parameters
    ----------
    agent
        ContrastBolusAgent.
    description
        SeriesDescription.
    made
        What the image is made of.

    """
    if made is Product.MATERIAL:
        return True
    without, given = _said(description)
    if without != given:
        return given
    words = normalised(agent)
    return bool(words) and not _NO_AGENT.fullmatch(words)


def _said(description: str) -> tuple[bool, bool]:
    """Return whether a description says that there was no contrast, and whether it says that there was."""
    signs, words = plain_letters(description).upper(), normalised(description)
    without, rest = bool(_SIGN_WITHOUT.search(signs)), _WITHOUT.sub(" ", words)
    return without or rest != words, bool(_SIGN_WITH.search(signs) or _WITH.search(rest))
