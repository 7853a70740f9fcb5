"""Labels and features -> the patients to train on, and those left out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.features import BY_PATIENT_ID, Pooling, pooled, read_feature_columns, read_settings
from lungct.ids import canonical
from lungct.pseudonyms import is_pseudonym
from lungct.training import matching
from lungct.training.groups import find_groups, warn_of_shared_scans
from lungct.training.labels import Labels

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Cohort:
    """The patients who have features and a label, ordered by id, and those who were left out.

    Attributes
    ----------
    ids
        n patients, as the table has them.
    X
        float32 (n, P) pooled features.
    y
        int64 (n,) labels.
    persons
        n persons: the table's, else the text of the labels' group column; None if there is neither.
    pixel_hashes
        n hashes of the patients' triplets; None if the table has none.
    groups
        n names of groups that stay within a fold (`lungct.training.groups`); None if every patient is one.
    left_out
        ``(patient_id, why)``, ordered by id.
    matched
        Labelled ids, patients with features, and patients who are both: ``{"labels", "table", "both"}``.
    flow
        How many patients were excluded, and why (docs/formats.md).

    """

    ids: list[str]
    X: NDArray[np.float32]
    y: NDArray[np.int64]
    persons: list[str | None]
    pixel_hashes: list[str | None]
    groups: list[str] | None
    left_out: list[tuple[str, str]]
    matched: dict[str, int]
    flow: dict[str, Any]


def build_cohort(
    dir: str | os.PathLike[str],
    labels: Labels,
    *,
    pooling: Pooling,
    allow_unmatched: bool = False,
    quiet: bool = True,
) -> Cohort:
    """Join features and labels by id, and say in one line how many match.

    Parameters
    ----------
    dir
        The feature table.
    labels
        Its patients' labels.
    pooling
        See `lungct.pooled`.
    allow_unmatched
        Go on even if fewer than half of the ids match.
    quiet
        Print nothing on stderr; warnings stay.

    Raises
    ------
    UsageError
        If no patient has both, or too few have.

    Warns
    -----
    LungCTWarning
        If there are labelled ids that are not in the table and patients with features who are not in the labels; or if
        one scan has several ids.

    """
    settings = read_settings(dir)
    columns = ("patient_id", "error", "error_code", "person", "pixel_hash")
    table = read_feature_columns(dir, columns)
    ids, X = pooled(dir, pooling)
    errors, codes, persons, hashes = (_by_patient(table, name) for name in columns[1:])
    pseudonymised = settings.pseudonym_key is not None
    found = matching.match(labels, matching.TableIds(os.fspath(dir), errors, codes, ids, pseudonymised))
    matching.check(found, allow_unmatched=allow_unmatched)
    matching.say(found, quiet=quiet)
    kept = found.both
    place = {patient_id: i for i, patient_id in enumerate(ids)}
    entries = [labels.entries[canonical(patient_id)] for patient_id in kept]
    y = np.array([entry.label for entry in entries], dtype=np.int64)
    own_persons = [persons[patient_id] for patient_id in kept]
    pixel_hashes = [hashes[patient_id] for patient_id in kept]
    group_texts = [entry.group for entry in entries] if labels.grouped else None
    warn_of_shared_scans(kept, y, pixel_hashes)
    return Cohort(
        ids=kept,
        X=X[[place[patient_id] for patient_id in kept]],
        y=y,
        persons=_persons(own_persons, group_texts, hide=pseudonymised),
        pixel_hashes=pixel_hashes,
        groups=find_groups(kept, own_persons, group_texts, pixel_hashes, ids_are_paths=settings.depth != BY_PATIENT_ID),
        left_out=found.left_out,
        matched=found.counts,
        flow=found.flow,
    )


def _persons(persons: list[str | None], groups: list[str] | None, *, hide: bool) -> list[str | None]:
    """Return whose scan each patient is: the table's person, else the group.

    With ``hide``, the table's ids are pseudonyms, and a group that is none may be a name: a number stands in its place.
    """
    if groups is None:
        return persons
    numbers: dict[str, str] = {}
    for group in groups:
        if group:
            known = group if not hide or is_pseudonym(group) else f"group {len(numbers) + 1}"
            numbers.setdefault(group, known)
    return [person or numbers.get(group) for person, group in zip(persons, groups, strict=True)]


def _by_patient(table: Any, column: str) -> dict[str, str | None]:
    return dict(zip(table.column("patient_id").to_pylist(), table.column(column).to_pylist(), strict=True))
