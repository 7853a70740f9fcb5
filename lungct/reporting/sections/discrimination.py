"""How well the scores rank positives above negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lungct.reporting import numbers
from lungct.reporting.drawing import COLOURS, FOLDS_DRAWN, POINTS, svg, thinned, unit_square, whole_numbers
from lungct.reporting.numbers import Curves
from lungct.rundir import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def contents(run: Run) -> dict[str, Any]:
    """Return the curves, the operating points and the scores by class."""
    roc, pr = numbers.roc_curves(run.scores), numbers.pr_curves(run.scores)
    patients = numbers.patients_of(run.scores)
    counts, edges = numbers.histogram(patients.label, numbers.clipped(patients.score))
    share = float(patients.label.mean())
    precision = run.metrics.get("average_precision") or {"value": numbers.area(pr.mean) if pr else None}
    return {
        "roc": svg("roc", draw_roc, roc) if roc else None,
        "pr": svg("pr", draw_pr, pr, share) if pr else None,
        "curves": len(roc.folds) if roc else 0,
        "curves_drawn": FOLDS_DRAWN,
        "sensitivity": numbers.sensitivity(roc.mean) if roc else [],
        "operating_points": run.metrics.get("operating_points") or [],
        "average_precision": precision["value"],
        "share": share,
        "scores": svg("scores", draw_histogram, counts, edges),
        "histogram": list(zip(edges[:-1], edges[1:], counts[0], counts[1], strict=True)),
    }


def draw_roc(axes: Axes, curves: Curves) -> None:
    """Draw each fold's ROC curve (thin), their mean (thick) and chance (dashed)."""
    axes.plot([0, 1], [0, 1], "--", color=COLOURS["faint"], lw=1, label="chance")
    _draw_folds(axes, curves)
    unit_square(axes, "1 − specificity", "sensitivity")
    axes.legend(loc="lower right")


def draw_pr(axes: Axes, curves: Curves, share: float) -> None:
    """Draw each fold's precision-recall curve (thin), their mean (thick) and the share of positives (dashed)."""
    axes.axhline(share, ls="--", color=COLOURS["faint"], lw=1, label="share of positives")
    _draw_folds(axes, curves)
    unit_square(axes, "recall (sensitivity)", "precision")
    axes.legend(loc="best")


def _draw_folds(axes: Axes, curves: Curves) -> None:
    drawn = curves.folds[:FOLDS_DRAWN]
    for i, curve in enumerate(drawn):
        axes.plot(
            *thinned(curve, POINTS // 2).T,
            color=COLOURS["one"],
            lw=0.7,
            alpha=0.5,
            label=None if i else "one fold",
        )
    axes.plot(*thinned(curves.mean).T, color=COLOURS["one"], lw=2.4, label="mean of folds")


def draw_histogram(axes: Axes, counts: tuple[NDArray[np.int64], NDArray[np.int64]], edges: NDArray[np.float64]) -> None:
    """Draw the histograms of the scores of negatives and of positives."""
    style = {"negatives": ("one", 0.35, "-"), "positives": ("two", 0.35, "--")}
    for (label, (colour, alpha, line)), count in zip(style.items(), counts, strict=True):
        axes.stairs(count, edges, fill=True, color=COLOURS[colour], alpha=alpha)
        axes.stairs(count, edges, color=COLOURS[colour], lw=1.6, ls=line, label=label)
    axes.set(xlabel="score", ylabel="patients")
    axes.set_ylim(0, max(1, *(count.max() for count in counts)) * 1.25)
    whole_numbers(axes, "y")
    axes.locator_params(axis="x", nbins=6)
    axes.legend(loc="upper center", ncols=2)
