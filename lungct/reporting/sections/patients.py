"""Who the patients are, and how many were left out at each step, as TRIPOD+AI asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lungct.reporting.words import number, share
from lungct.reporting.worries import in_words_of
from lungct.rundir import Run

LABELS = ("negative", "positive")
NAMES = {
    "slices": ("Slices", 0),
    "spacing_mm": ("Distance between slices, mm", 2),
    "thickness_mm": ("Slice thickness, mm", 2),
    "lung_litres": ("Air-filled lung, litres", 1),
    "manufacturer": ("Maker", 0),
    "kernel": ("Kernel", 0),
    "notes": ("Notes on the scan", 0),
}


class Fact(NamedTuple):
    """One row: a value, and for each label what it has of it."""

    name: str
    cells: list[str]


class Step(NamedTuple):
    """A box of the flow, and what was taken away before it: (why, number); the last step has no box of its own."""

    without: list[tuple[str, int]] | None
    name: str = ""
    left: int = 0


def contents(run: Run) -> dict[str, Any]:
    """Return the table by label and the flow of exclusions."""
    metrics = run.metrics
    positives, patients = int(metrics["positives"]), int(metrics["patients"])
    totals = {"negative": patients - positives, "positive": positives}
    persons = {person for person in run.scores.person if person}
    return {
        "totals": totals,
        "groups": [_group(entry, totals) for entry in metrics.get("characteristics") or []],
        "persons": len(persons) + sum(not person for person in run.scores.person) if persons else None,
        "flow": _flow(metrics["flow"]) if metrics.get("flow") else [],
    }


def _group(entry: Mapping[str, Any], totals: Mapping[str, int]) -> tuple[str, list[Fact]]:
    """Return a fact's name and its rows."""
    name, digits = NAMES.get(entry["name"], (entry["name"], 2))
    rows = []
    if entry["kind"] == "numbers":
        rows.append(Fact("median (quartiles)", [_quartiles(entry[label], digits) for label in LABELS]))
    for value in entry.get("values", []):
        said = in_words_of(value["value"]) if entry["kind"] == "codes" else value["value"]
        rows.append(_counted(said, value, totals))
    if entry.get("other", {}).get("texts"):
        rows.append(_counted(f"{entry['other']['texts']} others", entry["other"], totals))
    if entry["kind"] == "codes":
        none = {label: totals[label] - entry["any"][label] for label in LABELS}
        rows.append(_counted("none", none, totals))
    elif sum(entry["unknown"].values()):
        rows.append(_counted("unknown", entry["unknown"], totals))
    return name, rows


def _counted(name: str, counts: Mapping[str, int], totals: Mapping[str, int]) -> Fact:
    return Fact(name, [f"{counts[label]} ({share(counts[label], totals[label])})" for label in LABELS])


def _quartiles(numbers: Mapping[str, Any], digits: int) -> str:
    if numbers["median"] is None:
        return "–"
    q1, median, q3 = (number(numbers[name], digits) for name in ("q1", "median", "q3"))
    return f"{median} ({q1} to {q3})"


def _flow(flow: Mapping[str, Any]) -> list[tuple[str, list[Step]]]:
    """Return the steps from the feature table, and those from the labels, to the patients used."""
    table, labels = flow["table"], flow["labels"]
    errors = sorted(table["errors"].items(), key=lambda item: (-item[1], item[0]))
    lost = [
        ("not in the feature table", flow["labelled_not_in_table"]),
        ("in the table, but without features", flow["labelled_without_features"]),
    ]
    columns = {
        "From the feature table": [
            Step(None, "Patients in the feature table", table["patients"]),
            Step([(f"no features ({code})", n) for code, n in errors], "with features", table["features"]),
            Step([("no label", flow["unlabelled"])]),
        ],
        "From the labels": [
            Step(None, "Rows in the labels", labels["rows"]),
            Step([("blank label", labels["blank"])], "with a label", labels["labelled"]),
            Step(lost),
        ],
    }
    return [
        (title, [step._replace(without=_more_than_none(step.without)) for step in steps])
        for title, steps in columns.items()
    ]


def _more_than_none(without: list[tuple[str, int]] | None) -> list[tuple[str, int]] | None:
    return without and [(why, n) for why, n in without if n]
