"""The folds, and how their losses fell round by round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lungct import metrics
from lungct.reporting.drawing import COLOURS, FOLDS_DRAWN, svg, thinned, whole_numbers
from lungct.reporting.learning import Learning, learning
from lungct.reporting.numbers import folds_of
from lungct.rundir import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE_LOSS = {"l2": "mean squared error", "binary": "log loss"}


def contents(run: Run) -> dict[str, Any]:
    """Return the table of folds and a figure for each of the first ones."""
    settings = run.settings
    every = learning(run)
    baselines = _baseline_losses(run)
    folds = [
        {**fold, "baseline": baselines.get((fold["repeat"], fold["fold"])), "unfinished": one.unfinished}
        for fold, one in zip(run.metrics["folds"], every, strict=True)
    ]
    drawn = every[:FOLDS_DRAWN]
    return {
        "folds": folds,
        "drawn": len(drawn),
        "several_repeats": len({fold["repeat"] for fold in folds}) > 1,
        "unfinished": sum(one.unfinished for one in every),
        "rounds": settings["rounds"],
        "inner": bool(settings["inner"]),
        "by_pairs": any(one.choosing is not None for one in every),
        "loss": CURVE_LOSS.get(str(settings["objective"]), "loss"),
        "figures": [svg(f"learning-{i}", draw_learning, one, drawn, size=(3.3, 2.3)) for i, one in enumerate(drawn)],
    }


def _baseline_losses(run: Run) -> dict[tuple[int, int], float]:
    """Return the constant predictor's log loss in each (repeat, fold)."""
    losses = {}
    scores = run.scores
    for (repeat, fold), mine in folds_of(scores).items():
        inside = (scores.repeat == repeat) & (scores.fold >= 0)
        constant = metrics.baseline_scores(scores.label[inside], scores.fold[inside])[scores.fold[inside] == fold]
        losses[repeat, fold] = float(metrics.log_losses(scores.label[mine], constant).mean())
    return losses


def draw_learning(axes: Axes, one: Learning, every: Sequence[Learning]) -> None:
    """Draw the curve that chose a fold's rounds, with that round; and the fold's own, with its best iteration."""
    chosen = one.own if one.choosing is None else one.choosing
    if one.choosing is not None:
        _draw_curve(axes, one.own, "two", 0.9, "--")
    _draw_curve(axes, chosen, "one", 1.6, "-")
    _mark(axes, one.own, one.fold, "best_iteration", "D", "two", filled=False)
    _mark(axes, chosen, one.fold, "rounds", "o", "ink", filled=True)
    losses = [curve for other in every for curve in (other.own, other.choosing) if curve is not None]
    low, high = min(float(c.min()) for c in losses), max(float(c.max()) for c in losses)
    margin = 0.08 * (high - low or 1.0)
    axes.set(xlim=(0, max(map(len, losses)) * 1.02), ylim=(low - margin, high + margin), xlabel="round")
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(axis="y", nbins=4)
    whole_numbers(axes, "x", nbins=4)


def _draw_curve(axes: Axes, curve: NDArray[np.float64], colour: str, width: float, line: str) -> None:
    points = np.column_stack([np.arange(1, len(curve) + 1), curve])
    axes.plot(*thinned(points).T, line, color=COLOURS[colour], lw=width)


def _mark(
    axes: Axes,
    curve: NDArray[np.float64],
    fold: Mapping[str, Any],
    key: str,
    mark: str,
    colour: str,
    *,
    filled: bool,
) -> None:
    # A booster fitted again on more patients (``inner``) may have more rounds than the curve: the mark stays on it.
    at = min(int(fold[key]), len(curve))
    face = COLOURS[colour] if filled else "none"
    axes.plot(at, curve[at - 1], mark, ms=6 if filled else 10, mfc=face, mec=COLOURS[colour], mew=1.5)
