"""The form in which ids are compared."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from lungct.errors import UsageError


def canonical(patient_id: str) -> str:
    """Return an id in the form in which ids are compared: Unicode's NFC.

    macOS writes the letter é as two characters (NFD), and most other systems as one (NFC): the same name, in another
    form. Nothing else about an id is changed.

    >>> canonical("Rene\\u0301e") == "Ren\\u00e9e"
    True
    """
    return unicodedata.normalize("NFC", patient_id)


def refuse_clashing(ids: Iterable[str], table: str) -> None:
    """Raise UsageError if two patients of a table have one id in its canonical form."""
    seen: set[str] = set()
    for patient_id in ids:
        form = canonical(patient_id)
        if form in seen:
            raise UsageError(
                f"{table} has two patients called {patient_id!r} whose ids differ only in their Unicode form",
                fix="extract one of them under another name",
            )
        seen.add(form)
