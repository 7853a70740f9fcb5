"""What the run was made with."""

from __future__ import annotations

from typing import Any

from lungct.reporting.worries import random_weights
from lungct.rundir import Run


def contents(run: Run) -> dict[str, Any]:
    """Return the settings of the run and of its table."""
    return {
        "settings": run.settings,
        "table": run.settings["table"]["settings"],
        "random_weights": random_weights(run),
        "seconds": float(run.metrics["seconds"]),
    }
