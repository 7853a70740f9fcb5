"""How to cite lungct, and how to make the same run again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from lungct.rundir import Run, checksums

# Options of `train` and their defaults; a setting that has its default is not written.
_OPTIONS: Mapping[str, Any] = {
    "id_column": "id",
    "label_column": "cancer",
    "positive": None,
    "group_column": None,
    "folds": 5,
    "pooling": "mean",
    "objective": "l2",
    "rounds": 5000,
    "early_stopping": 300,
    "inner": False,
    "seed": 42,
}
REFERENCE = "the lungct authors. lungct, version {version}. Software, Apache-2.0."
"""The reference of CITATION.cff."""


def contents(run: Run) -> dict[str, Any]:
    """Return the command line, the parameter file, checksums and the citation."""
    params = run.settings.get("overrides") or {}
    return {
        "command": command(run),
        "params": json.dumps(params, indent=1) if params else None,
        "knows_params": "overrides" in run.settings,
        "reference": REFERENCE.format(version=run.settings["lungct"]),
        "sha256": checksums(run),
        "versions": run.settings["versions"],
    }


def command(run: Run) -> str:
    """Return the command line that trains this run again, an option on each line.

    Parameters come from a file named params.json.
    """
    settings = run.settings
    options: list[tuple[str, ...]] = [("--labels", str(settings["labels"]["path"])), ("--out", str(run.place))]
    for name, default in _OPTIONS.items():
        value = settings.get(name, default)
        if value != default:
            option = f"--{name.replace('_', '-')}"
            options.append((option,) if value is True else (option, str(value)))
    matched = run.metrics.get("matched")
    if matched and 2 * matched["both"] < min(matched["labels"], matched["table"]):
        options.append(("--allow-unmatched",))
    if settings.get("overrides"):
        options.append(("--params", "params.json"))
    return " \\\n  ".join(map(shlex.join, [("lungct", "train", str(settings["table"]["path"])), *options]))
