"""The patients whom the model was most wrong about: where a person's look at the scans tells most."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lungct.reporting.numbers import patients_of
from lungct.rundir import Run

LISTED = 5  # of each class


class Mistake(NamedTuple):
    """A patient, and the fold in each repeat."""

    patient_id: str
    label: int
    score: float
    folds: str


def contents(run: Run) -> dict[str, Any]:
    """Return the positives with the lowest scores and the negatives with the highest; of equal scores, by id."""
    patients = patients_of(run.scores)
    order = np.argsort(patients.score, kind="stable")
    positives = [i for i in order.tolist() if patients.label[i] == 1]
    negatives = [i for i in np.argsort(-patients.score, kind="stable").tolist() if patients.label[i] == 0]

    def described(places: list[int]) -> list[Mistake]:
        return [
            Mistake(
                patients.ids[i],
                int(patients.label[i]),
                float(patients.score[i]),
                ", ".join(map(str, patients.folds[i])),
            )
            for i in places[:LISTED]
        ]

    return {
        "groups": [
            ("Positives with the lowest scores", described(positives)),
            ("Negatives with the highest scores", described(negatives)),
        ],
        "several_repeats": any(len(folds) > 1 for folds in patients.folds),
    }
