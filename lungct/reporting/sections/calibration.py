"""Whether a score is a probability, and what acting on it would gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.reporting import numbers
from lungct.reporting.drawing import COLOURS, svg
from lungct.reporting.numbers import Bin
from lungct.rundir import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def contents(run: Run) -> dict[str, Any]:
    """Return the reliability bins, slope and intercept, and the decision curve."""
    patients = numbers.patients_of(run.scores)
    bins = numbers.reliability(patients.label, numbers.clipped(patients.score))
    decision = run.metrics.get("decision_curve") or []
    return {
        "bins": bins,
        "reliability": svg("reliability", draw_reliability, bins, size=(4.4, 4.2)),
        "measures": run.metrics.get("calibration") or {},
        "decision": svg("decision", draw_decision, decision) if decision else None,
        "decision_curve": _some(decision),
    }


def draw_reliability(axes: Axes, bins: Sequence[Bin]) -> None:
    """Draw the share of positives over the mean score, one point for each bin; both axes have one scale."""
    score, share = np.array([b.score for b in bins]), np.array([b.share for b in bins])
    below, above = share - [b.low for b in bins], [b.high for b in bins] - share
    top = min(1.0, max(float(score.max()), *(b.high for b in bins)) * 1.05)
    axes.plot([0, top], [0, top], "--", color=COLOURS["faint"], lw=1, label="perfect")
    bars = np.maximum([below, above], 0)
    axes.errorbar(score, share, bars, fmt="o-", color=COLOURS["one"], lw=1.6, elinewidth=0.8, ms=5)
    margin = 0.02 * top
    axes.set(
        xlim=(-margin, top + margin),
        ylim=(-margin, top + margin),
        xlabel="mean score of the bin",
        ylabel="share of positives",
    )
    axes.set_aspect("equal")
    axes.locator_params(nbins=6)
    axes.legend(loc="upper left")


def draw_decision(axes: Axes, curve: Sequence[Mapping[str, float]]) -> None:
    """Draw the net benefit of acting on the model, on all patients and on none, over the threshold."""
    threshold = np.array([point["threshold"] for point in curve], dtype=np.float64)
    model, treat_all = (np.array([point[name] for point in curve], dtype=np.float64) for name in ("model", "all"))
    axes.axhline(0, color=COLOURS["faint"], lw=1, label="nobody")
    axes.plot(threshold, treat_all, "--", color=COLOURS["two"], lw=1.6, label="everybody")
    axes.plot(threshold, model, color=COLOURS["one"], lw=2.0, label="by the model")
    # Acting on everybody costs without bound as the threshold rises; what matters is above or just below 0.
    top = max(float(np.nanmax(model)), float(np.nanmax(treat_all)), 0.01)
    axes.set(
        xlim=(0, float(threshold.max())),
        ylim=(max(-0.35 * top, min(0.0, float(np.nanmin(model))) - 0.05 * top), top * 1.1),
        xlabel="threshold probability",
        ylabel="net benefit",
    )
    axes.legend(loc="upper right")


def _some(curve: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return about ten points of a decision curve, for a table."""
    step = max(1, round(len(curve) / 10))
    return list(curve[::step])
