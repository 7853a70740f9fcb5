"""Free text of a file -> its words, so that a phrase is found as words and never inside another word."""

from __future__ import annotations

import re
import unicodedata

# Where a capital begins a word after a small letter ("WholeBody", "ThorAbd"), but not in units ("keV").
_INNER_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z][A-Za-z])")
_NO_LETTER = re.compile(r"[\W\d_]+")


def normalised(text: str) -> str:
    """Return the words of a text in capitals, without accents, digits and punctuation, a space around each.

    >>> normalised("Thorax-Abd_2.5mm"), normalised("WholeBody"), normalised("TÓRAX s/c"), normalised("40")
    (' THORAX ABD MM ', ' WHOLE BODY ', ' TORAX S C ', '')
    """
    letters = _NO_LETTER.sub(" ", _INNER_CAPITAL.sub(" ", plain_letters(text))).strip().upper()
    return f" {letters} " if letters else ""


def plain_letters(text: str) -> str:
    """Return a text without accents, and full-width letters as ordinary ones."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if not unicodedata.combining(c)))


def phrase_pattern(*phrases: str) -> re.Pattern[str]:
    """Return a pattern that finds any of some phrases in a `normalised` text.

    A phrase matches whole words only; one that ends in ``*`` matches the beginning of a word too. Phrases in scripts
    that do not write spaces match anywhere.

    Parameters
    ----------
    phrases
        Texts of phrases, which commas separate.

    >>> pattern = phrase_pattern("HEAD, THORA*", "胸")
    >>> [bool(pattern.search(normalised(text))) for text in ("head", "AHEAD", "header", "thoracic", "胸部平扫")]
    [True, False, False, True, True]
    """
    every = {phrase.strip() for text in phrases for phrase in text.split(",")}
    return re.compile("|".join(_pattern(phrase) for phrase in sorted(every, key=lambda p: (-len(p), p))))


def _pattern(phrase: str) -> str:
    if not phrase.isascii() and not _spaced(phrase):
        return plain_letters(phrase)
    stem = plain_letters(phrase).rstrip("*").upper()
    return rf"(?<= ){re.escape(stem)}" + (r"\w*(?= )" if phrase.endswith("*") else r"(?= )")


def _spaced(phrase: str) -> bool:
    """Return whether a phrase is in a script that separates words by spaces."""
    return not any(ord(letter) >= 0x2E80 for letter in phrase)
