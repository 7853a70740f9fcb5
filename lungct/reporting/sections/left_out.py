"""The patients who were left out, by reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lungct.rundir import Run

IDS_LISTED = 1000  # at most; metrics.json has the ids of all patients left out


def contents(run: Run) -> dict[str, Any]:
    """Return the groups of patients left out."""
    return {"groups": grouped_by_reason(run.metrics["left_out"]), "listed": IDS_LISTED}


def grouped_by_reason(left_out: Iterable[Mapping[str, str]]) -> list[tuple[str, int, list[str]]]:
    """Group patients by why they were left out, the most common reason first: (why, number, ids to list)."""
    by_reason: dict[str, list[str]] = {}
    for patient in left_out:
        by_reason.setdefault(patient["why"], []).append(patient["patient_id"])
    room = IDS_LISTED
    groups = []
    for why, ids in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        groups.append((why, len(ids), ids[:room]))
        room -= len(groups[-1][2])
    return groups
