"""A run -> the last lines of ``train``, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from lungct.reporting.verdict import judge, plain
from lungct.rundir import Run

WIDTH = 80
_METRICS = {"auc": "AUC", "log_loss": "log loss", "brier": "Brier score"}


def closing_lines(run: Run) -> str:
    """Return the table of metrics, what they mean in one sentence, and where the report is."""
    metrics = run.metrics
    models: dict[str, Mapping[str, Any]] = {"LightGBM": metrics}
    if metrics.get("linear"):
        models["linear reference"] = metrics["linear"]
    models["constant predictor"] = {"auc": {"value": 0.5, "low": None, "high": None}, **metrics["baseline"]}
    lines = [f"{'':12}" + "".join(f"{name:22}" for name in models)]
    for key, name in _METRICS.items():
        lines.append(f"{name:12}" + "".join(f"{in_brackets(model[key]):22}" for model in models.values()))
    patients = f"{metrics['patients']} patients, {metrics['positives']} positive; in brackets, 95 % intervals"
    return "\n".join(
        [
            "",
            *(line.rstrip() for line in lines),
            patients,
            "",
            textwrap.fill(plain(judge(run).sentence), WIDTH, break_long_words=False, break_on_hyphens=False),
            "",
            f"report: {run.place / 'report.html'}",
        ]
    )


def in_brackets(estimate: Mapping[str, Any]) -> str:
    """Return a number with its interval.

    >>> in_brackets({"value": 0.75, "low": 0.7, "high": 0.8}), in_brackets({"value": 0.5, "low": None, "high": None})
    ('0.750 [0.700, 0.800]', '0.500')
    >>> in_brackets({"value": None, "low": None, "high": None})
    'undefined'
    """
    if estimate["value"] is None:
        return "undefined"
    if estimate["low"] is None or estimate["high"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"
