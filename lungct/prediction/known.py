"""Whom a run was trained on, and which boosters have therefore not seen a patient.

A patient is recognised by, in this order,

1. the id, unless the pixels are those of another patient of the run;
2. the person: the table's ``person``, or the first component of an id such as ``person/scan``;
3. the pixel_hash: the same scan under another id.

All scans of a person and all ids of a scan are in one fold (`lungct.training.groups`), so one booster has seen none of
them. Ids and persons are compared in their canonical form (`lungct.ids`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from lungct.arguments import listed
from lungct.errors import LungCTWarning
from lungct.features import BY_PATIENT_ID, Settings
from lungct.ids import canonical
from lungct.patients import person_in_id
from lungct.rundir import Run


def own_folds(
    run: Run, trained_on: Settings, patients: Sequence[Mapping[str, str | None]], settings: Settings
) -> list[frozenset[int] | None]:
    """Find the folds whose boosters may score each patient; None if all of them may.

    Parameters
    ----------
    run
        The run.
    trained_on
        The settings of the table that it was trained on.
    patients
        ``patient_id``, ``person`` and ``pixel_hash`` of each.
    settings
        The settings of their table.

    Warns
    -----
    LungCTWarning
        Of ids that the run knows with another pixel_hash; of patients who are in several of its folds, so that every
        booster was fitted on them; and if the two tables' pseudonyms cannot be compared.

    """
    by_id: dict[str, tuple[int, str]] = {}
    by_hash: dict[str, set[int]] = {}
    by_person: dict[str, set[int]] = {}
    scores = run.scores
    for name, person, fold, pixel_hash in zip(
        scores.patient_id, scores.person, scores.fold.tolist(), scores.pixel_hash, strict=True
    ):
        by_id[canonical(name)] = (fold, pixel_hash)
        if pixel_hash:
            by_hash.setdefault(pixel_hash, set()).add(fold)
        by_person.setdefault(_owner(name, person, trained_on), set()).add(fold)

    folds: list[frozenset[int] | None] = []
    rescanned, everywhere = [], []
    for patient in patients:
        name, pixel_hash = patient["patient_id"] or "", patient["pixel_hash"] or ""
        same_scan = by_hash.get(pixel_hash, set())
        if canonical(name) in by_id:
            fold, known_hash = by_id[canonical(name)]
            if known_hash and pixel_hash and known_hash != pixel_hash:
                rescanned.append(name)
            # The pixels of another patient of the run are better evidence than the id of what a booster has seen.
            folds.append(frozenset(same_scan if same_scan and fold not in same_scan else [fold]))
            continue
        same_person = by_person.get(_owner(name, patient["person"], settings), set())
        seen = same_person | same_scan
        if len(seen) > 1:
            everywhere.append(name)
        folds.append(frozenset(same_scan or same_person) if seen else None)
    if rescanned:
        _warn(
            f"{listed(rescanned)}: the run was trained on other pixels under "
            f"{'this id' if len(rescanned) == 1 else 'these ids'} (a rescan, or another person with that id)"
        )
    if everywhere:
        _warn(
            f"{listed(everywhere)}: the run was trained on the same person or the same scan in several folds, so every "
            "booster has seen it, and the prediction is overconfident"
        )
    if patients and trained_on.pseudonym_key != settings.pseudonym_key:
        _warn(
            f"the table's ids are {_under(settings.pseudonym_key)}, and those that the run was trained on were "
            f"{_under(trained_on.pseudonym_key)}, so nothing shows who was used in training: predictions of such "
            "patients come from boosters that were fitted on them, and are overconfident"
        )
    return folds


def _owner(patient_id: str, person: str | None, settings: Settings) -> str:
    """Return whose scan a patient of a table is, in its canonical form."""
    in_id = None if settings.depth == BY_PATIENT_ID else person_in_id(patient_id)
    return canonical(person or in_id or patient_id)


def _under(pseudonym_key: str | None) -> str:
    return "no pseudonyms" if pseudonym_key is None else f"pseudonyms under the key {pseudonym_key}"


def _warn(message: str) -> None:
    warnings.warn(message, LungCTWarning, stacklevel=5)
