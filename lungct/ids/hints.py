"""Why ids of two lists do not match although they may mean the same patients, and the nearest of each.

Nothing is matched by these rules: a guess may be another patient. They tell a person what to correct.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from heapq import nlargest

_ENDING = re.compile(r"\.(?:nii\.gz|nii|dcm|dicom|nrrd|nhdr|mhd|mha|zip|tar|tgz|gz)$", re.IGNORECASE)
"""Endings of files that people leave on an id."""
_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_POINT_ZERO = re.compile(r"[.,]0+$")
_LOOKS_LIKE = str.maketrans("OoIl", "0011")
_NOT_COMPARED = frozenset({"Cf", "Cc", "Pd", "Pc", "Zs", "Zl", "Zp"})
"""Unicode's categories of invisible characters, dashes, underscores and blanks."""

CANDIDATES = 50
"""Ids that share most pairs of letters with one that does not match: only these are compared letter by letter."""
LETTERS_PER_EDIT = 2
"""The nearest id differs in at most one of so many letters."""


@dataclass(frozen=True)
class Hint:
    """Why some ids do not match.

    Attributes
    ----------
    count
        How many ids of the first list would match one of the second but for this.
    reason
        "leading zeros".
    example
        Two such ids, one of each list.

    """

    count: int
    reason: str
    example: tuple[str, str]

    def text(self, *, second: str) -> str:
        """Return the hint in words; ``second`` names the second list."""
        mine, theirs = self.example
        return f"{self.count} would match but for {self.reason} ({mine!r}, in {second} {theirs!r})"


def find_hints(first: Sequence[str], second: Sequence[str]) -> list[Hint]:
    """Return why ids of one list do not match ids of another.

    Each id counts once, for the first reason that makes it match exactly one id of the other list.

    Parameters
    ----------
    first, second
        Ids that have no equal in the other list, in their canonical form.

    """
    hints = []
    left, right = list(first), list(second)
    for reason, form in _REASONS:
        if not left or not right:
            break
        mine, theirs = _by_form(left, form), _by_form(right, form)
        pairs = {mine[key]: theirs[key] for key in mine if key in theirs}
        if pairs:
            hints.append(Hint(len(pairs), reason, next(iter(pairs.items()))))
            matched = set(pairs.values())
            left = [patient_id for patient_id in left if patient_id not in pairs]
            right = [patient_id for patient_id in right if patient_id not in matched]
    persons = {patient_id.partition("/")[0]: patient_id for patient_id in reversed(right) if "/" in patient_id}
    named = [patient_id for patient_id in left if patient_id in persons]
    if named:
        reason = "the scan, because they name persons"
        hints.append(Hint(len(named), reason, (named[0], persons[named[0]])))
    return hints


def nearest(patient_id: str, others: Iterable[str]) -> str | None:
    """Return the id that differs from another one in the fewest letters; None if every one differs in many."""
    pairs = {patient_id[i : i + 2] for i in range(len(patient_id) - 1)} or {patient_id}

    def shared(other: str) -> tuple[int, int]:
        return sum(pair in other for pair in pairs), -abs(len(other) - len(patient_id))

    likely = nlargest(CANDIDATES, others, key=shared)
    most = len(patient_id) // LETTERS_PER_EDIT
    found = [(edits, other) for other in likely if (edits := _edits(patient_id, other)) <= most]
    return min(found)[1] if found else None


def _edits(first: str, second: str) -> int:
    """Return how many letters must be put in, left out, replaced or swapped with the next to make one text the other.

    The optimal string alignment distance (Damerau 1964, Levenshtein 1966).
    """
    above: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first):
        two_above, above, row = above, row, [i + 1]
        for j, other in enumerate(second):
            row.append(min(above[j + 1] + 1, row[j] + 1, above[j] + (letter != other)))
            if i and j and letter == second[j - 1] and other == first[i - 1]:
                row[-1] = min(row[-1], two_above[j - 1] + 1)
    return row[-1]


def _by_form(ids: Sequence[str], form: Callable[[str], str]) -> dict[str, str]:
    """Return ids by their form, without those that share it with another."""
    forms = list(map(form, ids))
    found = dict(zip(forms, ids, strict=True))
    if len(found) < len(ids):
        for key, count in Counter(forms).items():
            if count > 1:
                del found[key]
    return found


def _without_zeros(text: str) -> str:
    """Return a text without the zeros that begin its numbers.

    >>> _without_zeros("007"), _without_zeros("P-0042/10")
    ('7', 'P-42/10')
    """
    return _ZEROS.sub("", text)


def _without_point_zero(text: str) -> str:
    return _POINT_ZERO.sub("", text) if text.endswith("0") else text


def _without_separators(text: str) -> str:
    if text.isascii() and text.isalnum():
        return text
    return "".join(c for c in text if unicodedata.category(c) not in _NOT_COMPARED)


def _with_digits(text: str) -> str:
    return text.translate(_LOOKS_LIKE)


def _own_name(text: str) -> str:
    r"""Return the last component of a path, without a file's ending.

    >>> _own_name("scans/0042"), _own_name("C:\\CT\\0042.dcm")
    ('0042', '0042')
    """
    name = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _ENDING.sub("", name) if "." in name else name


_FORMS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("leading zeros", _without_zeros),
    ("'.0' at the end", _without_point_zero),
    ("leading zeros and '.0' at the end", lambda text: _without_zeros(_without_point_zero(text))),
    ("upper and lower case", str.casefold),
    ("letters for digits (O for 0, l for 1)", _with_digits),
    ("blanks, dashes or invisible characters", _without_separators),
    ("a path or a file's ending", _own_name),
)


def _plain(text: str) -> str:
    """Return a text in all of these forms at once."""
    order = (_own_name, _without_point_zero, _without_separators, _with_digits, _without_zeros, str.casefold)
    return reduce(lambda value, form: form(value), order, text)


_REASONS = (*_FORMS, ("several reasons at once (zeros, '.0', case, blanks, paths)", _plain))
