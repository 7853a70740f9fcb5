"""The first screen: the verdict, and the model beside what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lungct.reporting.verdict import judge
from lungct.reporting.words import interval, number
from lungct.rundir import Run

METRICS = {"auc": "AUC", "log_loss": "Log loss", "brier": "Brier score"}
MODELS = {
    "score": "LightGBM",
    "averaged": "Average of boosters",
    "linear": "Linear reference",
    "baseline": "Constant predictor",
}


class Cell(NamedTuple):
    """A number, and under it the interval or a word about it."""

    value: str
    below: str


def contents(run: Run) -> dict[str, Any]:
    """Return the verdict, the rows of the main table and the optimistic numbers."""
    metrics = run.metrics
    models = {key: name for key, name in MODELS.items() if key in ("score", "baseline") or metrics.get(key)}
    return {
        "verdict": judge(run),
        "models": models,
        "rows": _rows(metrics, models),
        "differences": _differences(metrics, models),
        "optimistic": [
            (name, number(metrics["optimistic"][key]["value"]), interval(metrics["optimistic"][key]))
            for key, name in METRICS.items()
        ]
        if metrics["optimistic"]
        else [],
    }


def _rows(metrics: Mapping[str, Any], models: Mapping[str, str]) -> list[tuple[str, str, list[Cell]]]:
    """Return (metric, which way is better, a cell for each model)."""
    measured = {"score": metrics, **{key: metrics[key] for key in models if key != "score"}}
    rows = []
    for key, name in METRICS.items():
        cells = [
            Cell("0.500", "by definition") if (model, key) == ("baseline", "auc") else _cell(measured[model][key])
            for model in models
        ]
        rows.append((name, "higher is better" if key == "auc" else "lower is better", cells))
    precision = metrics.get("average_precision")
    if precision:
        share = Cell(number(metrics["positives"] / metrics["patients"]), "share of positives")
        cells = [{"score": _cell(precision), "baseline": share}.get(model, Cell("–", "")) for model in models]
        rows.insert(1, ("Average precision", "higher is better", cells))
    return rows


def _differences(metrics: Mapping[str, Any], models: Mapping[str, str]) -> list[tuple[str, str, list[Cell]]]:
    """Return (metric, which sign is better, LightGBM minus each model) for the models compared patient by patient."""
    paired = {"linear": metrics.get("linear_difference"), "baseline": metrics.get("difference")}
    if not any(paired.values()):
        return []
    rows = []
    for key, name in METRICS.items():
        cells = []
        for model in models:
            estimate = (paired.get(model) or {}).get(key)
            cells.append(_cell(estimate) if estimate else Cell("–", ""))
        better = "above 0 is better" if key == "auc" else "below 0 is better"
        rows.append((name, better, cells))
    return rows


def _cell(estimate: Mapping[str, Any]) -> Cell:
    return Cell(number(estimate["value"]), interval(estimate))
