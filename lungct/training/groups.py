"""Which patients belong together, so that cross-validation keeps them in one fold.

Patients belong together if they are scans of one person (the table's ``person``, or the first component of an id such
as ``person/scan``), have the same text in the labels' group column, or have the same pixel_hash; and so do patients who
are joined through others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from lungct.arguments import listed_texts
from lungct.errors import LungCTWarning
from lungct.ids import canonical
from lungct.patients import person_in_id


def find_groups(
    ids: Sequence[str],
    persons: Sequence[str | None],
    labelled_groups: Sequence[str] | None,
    pixel_hashes: Sequence[str | None],
    *,
    ids_are_paths: bool,
) -> list[str] | None:
    """Return the group of each patient, or None if every patient is a group.

    Folds depend on the order of the groups' names, so a name is what a person would write: the text of the group
    column, else the person, else the id. Where several were joined, it is the first of them.

    Parameters
    ----------
    ids
        The patients.
    persons
        The table's ``person`` of each.
    labelled_groups
        The text of each in the group column, "" where it is blank; None if there is no such column.
    pixel_hashes
        The table's ``pixel_hash`` of each.
    ids_are_paths
        Whether a slash in an id separates a person from a scan.

    """
    named = [
        person or (person_in_id(patient_id) if ids_are_paths else None)
        for patient_id, person in zip(ids, persons, strict=True)
    ]
    given = labelled_groups or [""] * len(ids)
    owners = [person or patient_id for patient_id, person in zip(ids, named, strict=True)]
    part = _joined(
        [("person", canonical(owner)) for owner in owners],
        [("group", group) if group else None for group in given],
        [("pixels", pixel_hash) if pixel_hash else None for pixel_hash in pixel_hashes],
    )
    if labelled_groups is None and not any(named) and len(set(part)) == len(ids):
        return None
    return _names(part, owners, given)


def _joined(*keys: Sequence[tuple[str, str] | None]) -> list[int]:
    """Return a number for each patient, equal where patients share a key or are joined through others who do."""
    from scipy.sparse import coo_array  # type: ignore[import-untyped,unused-ignore]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped,unused-ignore]

    numbers: dict[tuple[str, str], int] = {}
    edges = [
        (patient, numbers.setdefault(key, len(numbers)))
        for column in keys
        for patient, key in enumerate(column)
        if key is not None
    ]
    patients, size = len(keys[0]), len(keys[0]) + len(numbers)
    rows, columns = np.array(edges, dtype=np.int64).T
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (rows, columns + patients)), shape=(size, size))
    _, part = connected_components(graph, directed=False)
    return [int(number) for number in part[:patients]]


def _names(part: Sequence[int], owners: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return a name for each part: its first group, else its first owner; no two parts have the same."""
    by_group = _first(part, groups)
    names = _first(part, owners) | by_group
    taken: dict[str, int] = {}
    for number, name in sorted(names.items()):
        while taken.setdefault(name, number) != number:
            name += "'"
        names[number] = name
    return [names[number] for number in part]


def _first(part: Sequence[int], texts: Sequence[str]) -> dict[int, str]:
    """Return the first of each part's texts, in alphabetical order; none if all are blank."""
    first: dict[int, str] = {}
    for number, text in zip(part, texts, strict=True):
        if text and (number not in first or text < first[number]):
            first[number] = text
    return first


def warn_of_shared_scans(
    ids: Sequence[str], labels: NDArray[np.int64] | Sequence[int], pixel_hashes: Sequence[str | None]
) -> None:
    """Warn once if one scan is there under several ids, and by name if these have different labels."""
    same: dict[str, list[int]] = {}
    for i, pixel_hash in enumerate(pixel_hashes):
        if pixel_hash:
            same.setdefault(pixel_hash, []).append(i)
    shared = [rows for rows in same.values() if len(rows) > 1]
    if not shared:
        return
    patients = sum(map(len, shared))
    scans = "1 scan is" if len(shared) == 1 else f"{len(shared)} scans are"
    message = f"{scans} in the table under several ids ({patients} in all), which are kept within one fold: "
    message += _equations(ids, shared)
    contradicting = [rows for rows in shared if len({int(labels[i]) for i in rows}) > 1]
    if contradicting:
        message += f"; under different labels, one of which must be wrong: {_equations(ids, contradicting)}"
    warnings.warn(message, LungCTWarning, stacklevel=3)


def _equations(ids: Sequence[str], groups: Iterable[Sequence[int]]) -> str:
    return listed_texts(" = ".join(repr(ids[i]) for i in rows[:3]) for rows in groups)
