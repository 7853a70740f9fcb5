"""A figure -> one SVG element in the page's own colours; every text in it is lungct's own."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 300  # of a drawn curve, at most; this keeps the page of any cohort under a megabyte
FOLDS_DRAWN = 20  # curves of folds in a figure, and learning curves on the page, at most

# Placeholders for the page's own colours, which has one set for light and one for dark; matplotlib needs real ones.
COLOURS = {"ink": "#010101", "faint": "#020202", "one": "#030303", "two": "#040404"}
_STYLE = {
    "svg.fonttype": "none",  # text stays text, so it can be read aloud, searched and scaled
    "svg.hashsalt": "lungct",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.edgecolor": COLOURS["faint"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": COLOURS["faint"],
    "grid.linewidth": 0.4,
    "grid.alpha": 0.6,
    "xtick.color": COLOURS["faint"],
    "ytick.color": COLOURS["faint"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
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
    for colour, placeholder in COLOURS.items():
        text = text.replace(placeholder, f"var(--{colour})")
    return Markup(text)


def unit_square(axes: Axes, x: str, y: str) -> None:
    """Give both axes the range from 0 to 1 and the same scale."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)


def whole_numbers(axes: Axes, *which: str, nbins: int = 5) -> None:
    """Have ticks at whole numbers only on some axes ("x", "y"): they count something."""
    from matplotlib.ticker import MaxNLocator

    for name in which:
        (axes.xaxis if name == "x" else axes.yaxis).set_major_locator(MaxNLocator(nbins=nbins, integer=True))


def thinned(curve: NDArray[np.float64], points: int = POINTS) -> NDArray[np.float64]:
    """Return at most ``points`` points of a curve, including its ends."""
    if len(curve) <= points:
        return curve
    return curve[np.linspace(0, len(curve) - 1, points).round().astype(np.int64)]
