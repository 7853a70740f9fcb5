"""The figures, as SVG drawn by matplotlib; every text in them is lungct's own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

from lungct.reporting.numbers import Bin, Curves, thinned

FOLDS_DRAWN = 20  # learning curves, at most
CURVE_LOSS = {"l2": "mean squared error", "binary": "log loss"}

# Placeholders for the page's own colours, which has one set for light and one for dark; matplotlib needs real ones.
_COLOURS = {"ink": "#010101", "faint": "#020202", "one": "#030303", "two": "#040404"}
_STYLE = {
    "svg.fonttype": "none",  # text stays text, so it can be read aloud, searched and scaled
    "svg.hashsalt": "lungct",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _COLOURS["ink"],
    "axes.labelcolor": _COLOURS["ink"],
    "axes.edgecolor": _COLOURS["faint"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _COLOURS["faint"],
    "grid.linewidth": 0.4,
    "grid.alpha": 0.6,
    "xtick.color": _COLOURS["faint"],
    "ytick.color": _COLOURS["faint"],
    "xtick.labelcolor": _COLOURS["ink"],
    "ytick.labelcolor": _COLOURS["ink"],
    "legend.frameon": False,
    "legend.fontsize": 10,
}


def svg(name: str, draw: Callable[..., None], *values: Any, size: tuple[float, float] = (4.4, 3.5)) -> str:
    """Draw a figure and return its SVG element, for a page with several.

    Parameters
    ----------
    name
        Prefix of each id in the SVG, so that no two figures of a page share an id.
    draw
        Called with the axes and ``values``.
    size
        Width and height in inches of 72 pixels.

    """
    from markupsafe import Markup
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure: Figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0.0)
        draw(figure.subplots(), *values)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        r'<svg viewBox="\1" aria-hidden="true">',
        text,
        count=1,
    )
    text = re.sub(r'( id="|"#|url\(#)', rf"\1{name}-", text)
    # The page's own font instead of matplotlib's list.
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 system-ui, sans-serif", text)
    for colour, placeholder in _COLOURS.items():
        text = text.replace(placeholder, f"var(--{colour})")
    return Markup(text)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)


def draw_roc(axes: Axes, curves: Curves) -> None:
    """Draw each fold's ROC curve (thin), their mean (thick) and chance (dashed)."""
    axes.plot([0, 1], [0, 1], "--", color=_COLOURS["faint"], lw=1, label="chance")
    _draw_folds(axes, curves)
    _unit_square(axes, "1 − specificity", "sensitivity")
    axes.legend(loc="lower right")


def draw_pr(axes: Axes, curves: Curves, share: float) -> None:
    """Draw each fold's precision-recall curve (thin), their mean (thick) and the share of positives (dashed)."""
    axes.axhline(share, ls="--", color=_COLOURS["faint"], lw=1, label="share of positives")
    _draw_folds(axes, curves)
    _unit_square(axes, "recall (sensitivity)", "precision")
    axes.legend(loc="best")


def _draw_folds(axes: Axes, curves: Curves) -> None:
    for i, curve in enumerate(curves.folds):
        axes.plot(
            *thinned(curve).T,
            color=_COLOURS["one"],
            lw=0.7,
            alpha=0.5,
            label=None if i else "one fold",
        )
    axes.plot(*thinned(curves.mean).T, color=_COLOURS["one"], lw=2.4, label="mean of folds")


def draw_reliability(axes: Axes, bins: Sequence[Bin]) -> None:
    """Draw the share of positives over the mean score, one point for each bin."""
    score, share = np.array([b.score for b in bins]), np.array([b.share for b in bins])
    below, above = share - [b.low for b in bins], [b.high for b in bins] - share
    right = min(1.0, max(score.max() * 1.1, 0.05))
    axes.plot([0, 1], [0, 1], "--", color=_COLOURS["faint"], lw=1, label="perfect")
    bars = np.maximum([below, above], 0)
    axes.errorbar(score, share, bars, fmt="o-", color=_COLOURS["one"], lw=1.6, elinewidth=0.8, ms=5)
    axes.set(
        xlim=(0, right),
        ylim=(-0.02, 1.02),
        xlabel="mean score of the bin",
        ylabel="share of positives",
    )
    axes.legend(loc="upper left")


def draw_histogram(axes: Axes, counts: tuple[NDArray[np.int64], NDArray[np.int64]], edges: NDArray[np.float64]) -> None:
    """Draw the histograms of the scores of negatives and of positives."""
    style = {"negatives": ("one", 0.35, "-"), "positives": ("two", 0.35, "--")}
    for (label, (colour, alpha, line)), count in zip(style.items(), counts, strict=True):
        axes.stairs(count, edges, fill=True, color=_COLOURS[colour], alpha=alpha)
        axes.stairs(count, edges, color=_COLOURS[colour], lw=1.6, ls=line, label=label)
    axes.set(xlabel="score", ylabel="patients")
    axes.set_ylim(0, max(1, *(count.max() for count in counts)) * 1.25)
    axes.legend(loc="upper center", ncols=2)


def draw_learning(
    curves: Mapping[tuple[int, int], NDArray[np.float64]],
    fold: Mapping[str, Any],
    all_folds: Sequence[Mapping[str, Any]],
    axes: Axes,
) -> None:
    """Draw a fold's validation loss over the rounds, with the chosen round and the best one."""
    curve = curves[fold["repeat"], fold["fold"]]
    rounds = np.arange(1, len(curve) + 1)
    axes.plot(*thinned(np.column_stack([rounds, curve])).T, color=_COLOURS["one"], lw=1.4)
    # A booster fitted again on more patients (``inner``) may have more rounds than the curve: the mark stays on it.
    for key, mark, colour, filled in (
        ("best_iteration", "D", "two", False),
        ("rounds", "o", "ink", True),
    ):
        at = min(int(fold[key]), len(curve))
        face = _COLOURS[colour] if filled else "none"
        axes.plot(at, curve[at - 1], mark, ms=6 if filled else 10, mfc=face, mec=_COLOURS[colour], mew=1.5)
    losses = [curves[other["repeat"], other["fold"]] for other in all_folds]
    low, high = min(c.min() for c in losses), max(c.max() for c in losses)
    margin = 0.08 * (high - low or 1.0)
    axes.set(xlim=(0, max(map(len, losses)) * 1.02), ylim=(low - margin, high + margin), xlabel="round")
    axes.locator_params(nbins=4)
