"""A run directory -> one HTML page that a colleague can read, mail and open from disk.

The page is a view of RUN's settings.json, scores.csv, curves.csv and metrics.json: every metric that it prints stands
in metrics.json, and what is drawn (curves, bins) is computed from the scores alone. It fetches nothing: no script, no
font, no picture from elsewhere. The same RUN gives the same bytes.

Ids, reasons and paths are other people's text, and the template escapes them all. What it takes unescaped is the SVG
that matplotlib draws here, whose texts are ours.

Terms
-----
fold curve
    The ROC or precision-recall curve of one fold's patients. Boosters of different folds are not on one scale, so
    curves are drawn a fold at a time and averaged, never from scores pooled over the folds.
mean curve
    The average of the fold curves: weighted by positives x negatives (ROC), so that the area under it is the printed
    AUC, or by positives (precision-recall).
reliability
    Scores, clipped to [0, 1] and pooled over the folds as log loss and Brier score are, in bins of about equal counts,
    beside the share of positives in each.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lungct import metrics
from lungct.csvfile import read_columns
from lungct.errors import UsageError
from lungct.storage import ObjectPath, Place, locate, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What keeps the page under a megabyte, whatever the cohort.
POINTS = 300  # of a drawn curve, at most
FOLDS_DRAWN = 20  # learning curves, at most
IDS_LISTED = 1000  # patients left out, at most; all stand in metrics.json

BINS = 10  # of the reliability curve, at most
BIN_PATIENTS = 10  # in each, where there are so many
FPR_SHOWN = (0.05, 0.1, 0.2, 0.3, 0.5)
METRICS = {"auc": "AUC", "log_loss": "Log loss", "brier": "Brier score"}
CURVE_LOSS = {"l2": "mean squared error", "binary": "log loss"}


def write_report(
    run: str | os.PathLike[str] | ObjectPath, measured: Mapping[str, Any] | None = None
) -> Place:
    """Write RUN/report.html from what is in RUN.

    Parameters
    ----------
    run
        The ``--out`` of a train.
    measured
        What RUN/metrics.json will say, while it is not there yet; None: read it.

    Returns
    -------
    pathlib.Path or ObjectPath
        The page.

    Raises
    ------
    UsageError
        If RUN is no finished run, or its files cannot be read or do not fit together.
    StorageError
        If the page cannot be written.

    """
    path = locate(run, option="RUN")
    page = render(read_run(path, measured))
    write_atomically(path / "report.html", page.encode("utf-8", "replace"))
    return path / "report.html"


# --- reading RUN ---


@dataclass(frozen=True)
class Run:
    """What is in a run directory.

    Attributes
    ----------
    settings, measured
        settings.json and metrics.json.
    y, fold, score
        (n,) labels, folds and out-of-fold scores.
    pixel_hashes
        n hashes of the patients' triplets; "" where the table has none.
    curves
        ``(repeat, fold)`` to (rounds,): the validation loss, from round 1.

    """

    settings: Mapping[str, Any]
    measured: Mapping[str, Any]
    y: Ints
    fold: Ints
    score: Floats
    pixel_hashes: list[str]
    curves: Mapping[tuple[int, int], Floats]

    @property
    def clipped(self) -> Floats:
        """Scores as probabilities: a regression's may lie outside [0, 1]."""
        return np.clip(self.score, 0.0, 1.0)


def read_run(run: Place, measured: Mapping[str, Any] | None = None) -> Run:
    """Read a run directory, or raise a UsageError that says what is wrong with it."""
    if not run.is_dir():
        raise UsageError(f"RUN {run} is no directory: give the --out of lungct train")
    if measured is None:
        measured = _read_json(run, "metrics.json")
    settings = _read_json(run, "settings.json")
    rows = read_columns(run / "scores.csv", ("label", "fold", "score", "pixel_hash"), option="RUN")
    losses = read_columns(run / "curves.csv", ("repeat", "fold", "loss"), option="RUN")
    try:
        label, fold, score, pixel_hashes = zip(*(row for _, row in rows), strict=True)
        curves: dict[tuple[int, int], list[float]] = {}
        for _, (repeat, k, loss) in losses:
            curves.setdefault((int(repeat), int(k)), []).append(float(loss))
        found = Run(
            settings,
            measured,
            y=np.array(label, dtype=np.int64),
            fold=np.array(fold, dtype=np.int64),
            score=np.array(score, dtype=np.float64),
            pixel_hashes=list(pixel_hashes),
            curves={key: np.array(curve) for key, curve in curves.items()},
        )
        if len(found.y) != measured["patients"] or found.y.sum() != measured["positives"]:
            raise ValueError("scores.csv and metrics.json count other patients")
        if not np.isfinite(found.score).all() or not np.isin(found.y, (0, 1)).all():
            raise ValueError(
                "scores.csv holds a label that is not 0 or 1, or a score that is no number"
            )
    except (ValueError, KeyError, TypeError) as error:
        raise _unfit(run, error) from error
    return found


def _read_json(run: Place, name: str) -> Mapping[str, Any]:
    try:
        values = json.loads((run / name).read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"RUN {run} has no {name}, so it is no finished run: give the --out of a lungct train that ended"
        ) from None
    except OSError as error:
        raise UsageError(f"RUN {run}: {name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _unfit(run, error) from error
    if not isinstance(values, dict):
        raise _unfit(run, ValueError(f"{name} holds no object"))
    return values


def _unfit(run: Place, error: Exception) -> UsageError:
    reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
    return UsageError(
        f"RUN {run} has files that are damaged or not of one run ({reason}): train again"
    )


# --- what the page says ---


def render(run: Run) -> str:
    """Make the page; UsageError where settings or metrics lack what it needs."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

    environment = Environment(
        loader=PackageLoader("lungct", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _number
    environment.filters["interval"] = _interval
    try:
        return environment.get_template("report.html").render(_contents(run))
    except (KeyError, TypeError, ValueError, AttributeError, UndefinedError) as error:
        raise UsageError(
            f"RUN's settings.json or metrics.json is damaged ({error}): train again"
        ) from error


def _contents(run: Run) -> dict[str, Any]:
    """Gather all that the template shows."""
    table = run.settings["table"]["settings"]
    baseline = metrics.baseline_scores(run.y, run.fold)
    folds = [
        {**fold, "baseline": float(metrics.log_losses(run.y[mine], baseline[mine]).mean())}
        for fold in run.measured["folds"]
        for mine in [run.fold == fold["fold"]]
    ]
    roc, pr = roc_curves(run), pr_curves(run)
    bins = reliability(run.y, run.clipped)
    counts, edges = histogram(run.y, run.clipped)
    drawn = folds[:FOLDS_DRAWN]
    return {
        "settings": run.settings,
        "table": table,
        "measured": run.measured,
        "names": METRICS,
        "random_weights": str(table["weights"]).startswith("random"),
        "share": run.measured["positives"] / run.measured["patients"],
        "in_words": in_words(run.measured),
        "inner": bool(run.settings["inner"]),
        "shared_scans": shared_scans(run.pixel_hashes),
        "curve_loss": CURVE_LOSS.get(str(run.settings["objective"]), "loss"),
        "folds": folds,
        "folds_drawn": len(drawn),
        "unfinished": sum(fold["best_iteration"] >= run.settings["rounds"] for fold in folds),
        "several_repeats": len({fold["repeat"] for fold in folds}) > 1,
        "sensitivity": sensitivity(roc.mean) if roc else [],
        "average_precision": _area(pr.mean) if pr else None,
        "bins": bins,
        "histogram": list(zip(edges[:-1], edges[1:], counts[0], counts[1], strict=True)),
        "left_out": grouped_by_reason(run.measured["left_out"]),
        "listed": IDS_LISTED,
        "roc": svg("roc", draw_roc, roc) if roc else None,
        "pr": svg("pr", draw_pr, pr, float(run.y.mean())) if pr else None,
        "reliability": svg("reliability", draw_reliability, bins),
        "scores": svg("scores", draw_histogram, counts, edges),
        "learning": [
            svg(f"learning-{i}", partial(draw_learning, run, fold, drawn), size=(3.3, 2.3))
            for i, fold in enumerate(drawn)
        ],
    }


def in_words(measured: Mapping[str, Any]) -> list[str]:
    """Say what the intervals tell about the scores, in sentences."""
    auc, loss = measured["auc"], measured["log_loss"]
    constant = measured["baseline"]["log_loss"]["value"]
    if auc["value"] is None:
        ranking = "No fold has patients of both classes, so an AUC cannot be told."
    elif auc["low"] > 0.5:
        ranking = "The scores rank positives above negatives more often than chance would."
    elif auc["high"] < 0.5:
        ranking = "The scores rank positives below negatives: worse than chance."
    else:
        ranking = (
            "The AUC's interval includes 0.5: the scores may rank patients no better than chance."
        )
    if loss["high"] < constant:
        probability = "As probabilities they do better than the constant predictor."
    elif loss["low"] > constant:
        probability = "As probabilities they do worse than the constant predictor."
    else:
        probability = "As probabilities they cannot be told apart from the constant predictor."
    return [ranking, probability]


def shared_scans(pixel_hashes: Iterable[str]) -> int:
    """Count the scans that stand under more than one id."""
    return sum(count > 1 for count in Counter(filter(None, pixel_hashes)).values())


def grouped_by_reason(left_out: Iterable[Mapping[str, str]]) -> list[tuple[str, int, list[str]]]:
    """Group patients by why they were left out, the commonest reason first: (why, how many, ids to list)."""
    by_reason: dict[str, list[str]] = {}
    for patient in left_out:
        by_reason.setdefault(patient["why"], []).append(patient["patient_id"])
    room = IDS_LISTED
    groups = []
    for why, ids in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        groups.append((why, len(ids), ids[:room]))
        room -= len(groups[-1][2])
    return groups


def _number(value: float | None) -> str:
    return "cannot be told" if value is None else f"{value:.3f}"


def _interval(estimate: Mapping[str, float | None]) -> str:
    if estimate["low"] is None:
        return "–"
    return f"{_number(estimate['low'])} to {_number(estimate['high'])}"


# --- what is drawn: numbers ---


@dataclass(frozen=True)
class Curves:
    """Curves in the unit square, each (points, 2): one a fold, and their mean."""

    folds: list[Floats]
    mean: Floats


@dataclass(frozen=True)
class Bin:
    """Patients of neighbouring scores: their mean score, and the share of positives with its 95 % Wilson interval."""

    patients: int
    positives: int
    score: float
    share: float
    low: float
    high: float


def roc_curves(run: Run) -> Curves | None:
    """Each fold's ROC curve and their mean; None where no fold has both classes."""
    from sklearn.metrics import roc_curve

    curves, weights = [], []
    for y, score in _folds_of_both_classes(run):
        fpr, tpr, _ = roc_curve(y, score)
        curves.append(np.column_stack([fpr, tpr]))
        weights.append(y.sum() * (len(y) - y.sum()))
    return Curves(curves, mean_curve(curves, weights)) if curves else None


def pr_curves(run: Run) -> Curves | None:
    """Each fold's precision over recall, as steps, and their mean; None where no fold has both classes.

    At a recall r a fold has the precision of the first threshold that reaches r, so the area under the steps is
    scikit-learn's average precision.
    """
    from sklearn.metrics import precision_recall_curve

    curves, weights = [], []
    for y, score in _folds_of_both_classes(run):
        precision, recall, _ = precision_recall_curve(y, score)
        # Recall from 0 upwards, and no further than the threshold that reaches every positive.
        end = int(np.argmax(recall[::-1] == 1.0)) + 1
        precision, recall = precision[::-1][:end], recall[::-1][:end]
        steps = np.column_stack([np.repeat(recall, 2)[1:-1], np.repeat(precision[1:], 2)])
        curves.append(steps)
        weights.append(y.sum())
    return Curves(curves, mean_curve(curves, weights)) if curves else None


def _folds_of_both_classes(run: Run) -> Iterable[tuple[Ints, Floats]]:
    for fold in np.unique(run.fold):
        y, score = run.y[run.fold == fold], run.score[run.fold == fold]
        if 0 < y.sum() < len(y):
            yield y, score


def mean_curve(curves: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Average curves vertically, exactly: jumps stay jumps, and the area is the mean of the areas.

    Parameters
    ----------
    curves
        (points, 2) each, x never falling; several points of one x are a jump.
    weights
        One a curve.

    Returns
    -------
    numpy.ndarray
        (points, 2): at each x of any curve, the means of the limits from the left and from the right.

    """
    grid = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    left, right = (
        np.average([_limits(curve, grid, side) for curve in curves], axis=0, weights=weights)
        for side in ("left", "right")
    )
    return np.column_stack([np.repeat(grid, 2), np.column_stack([left, right]).ravel()])


def _limits(curve: Floats, grid: Floats, side: str) -> Floats:
    """Values of a curve at the grid's places, as they are approached from one side."""
    x, y = curve.T
    places, first = np.unique(x, return_index=True)
    last = np.append(first[1:], len(x)) - 1
    # Between two places the curve goes from the last point of one to the first of the next.
    at = np.minimum(np.searchsorted(places, grid), len(places) - 1)
    exact = places[at] == grid
    before = np.clip(np.searchsorted(places, grid, side="right") - 1, 0, max(len(places) - 2, 0))
    after = np.minimum(before + 1, len(places) - 1)
    span = np.where(places[after] > places[before], places[after] - places[before], 1.0)
    part = (grid - places[before]) / span
    between = y[last[before]] + part * (y[first[after]] - y[last[before]])
    return np.where(exact, y[(first if side == "left" else last)[at]], between)


def _area(curve: Floats) -> float:
    return float(np.trapezoid(curve[:, 1], curve[:, 0]))


def sensitivity(roc: Floats) -> list[tuple[float, float]]:
    """The mean ROC curve's sensitivity at some false positive rates."""
    return [(at, float(_limits(roc, np.array([at]), "right")[0])) for at in FPR_SHOWN]


def thinned(curve: Floats) -> Floats:
    """Keep at most `POINTS` points of a curve, its ends among them."""
    if len(curve) <= POINTS:
        return curve
    return curve[np.linspace(0, len(curve) - 1, POINTS).round().astype(np.int64)]


def reliability(y: Ints, score: Floats) -> list[Bin]:
    """Bin scores by their quantiles; equal scores share a bin, so there may be fewer bins than asked."""
    bins = max(1, min(BINS, len(y) // BIN_PATIENTS))
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)))
    which = np.searchsorted(edges[1:-1], score, side="right")
    found = []
    for i in np.unique(which):
        mine = which == i
        n, positives = int(mine.sum()), int(y[mine].sum())
        low, high = wilson(positives, n)
        found.append(Bin(n, positives, float(score[mine].mean()), positives / n, low, high))
    return found


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    z, share = 1.959963984540054, successes / n
    centre = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float((centre - half) / (1 + z * z / n)), float((centre + half) / (1 + z * z / n))


def histogram(y: Ints, score: Floats) -> tuple[tuple[Ints, Ints], Floats]:
    """Counts of negatives and of positives in equal bins over the scores' range, and the bins' edges."""
    low, high = float(score.min()), float(score.max())
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    edges = np.linspace(low, high, min(20, max(5, len(y) // 5)) + 1)
    negatives, positives = (np.histogram(score[y == label], edges)[0] for label in (0, 1))
    return (negatives, positives), edges


# --- what is drawn: figures ---

# Colours that become the page's own, which has one set for light and one for dark; matplotlib wants real ones.
_COLOURS = {"ink": "#010101", "faint": "#020202", "one": "#030303", "two": "#040404"}
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read, searched and scaled
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


def svg(
    name: str, draw: Callable[..., None], *values: Any, size: tuple[float, float] = (4.4, 3.5)
) -> str:
    """Draw a figure and give its SVG element, safe to put into the page beside others.

    Parameters
    ----------
    name
        Before each id in it, so that no two figures of a page share one.
    draw
        Called with the axes and ``values``.
    size
        Inches, of 72 pixels each.

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
    # The page's own font, not a list of matplotlib's.
    text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 system-ui, sans-serif", text)
    for colour, stand_in in _COLOURS.items():
        text = text.replace(stand_in, f"var(--{colour})")
    return Markup(text)


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=x, ylabel=y)


def draw_roc(axes: Axes, curves: Curves) -> None:
    """Draw each fold's ROC curve thin, their mean thick, and chance."""
    axes.plot([0, 1], [0, 1], "--", color=_COLOURS["faint"], lw=1, label="chance")
    _draw_folds(axes, curves)
    _unit_square(axes, "1 − specificity", "sensitivity")
    axes.legend(loc="lower right")


def draw_pr(axes: Axes, curves: Curves, share: float) -> None:
    """Draw each fold's precision-recall curve thin, their mean thick, and the share of positives."""
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
            label=None if i else "a fold",
        )
    axes.plot(*thinned(curves.mean).T, color=_COLOURS["one"], lw=2.4, label="mean of folds")


def draw_reliability(axes: Axes, bins: Sequence[Bin]) -> None:
    """Draw the share of positives over the mean score, a point for each bin, its count beside it."""
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


def draw_histogram(axes: Axes, counts: tuple[Ints, Ints], edges: Floats) -> None:
    """Draw how many negatives and positives have which score."""
    style = {"negatives": ("one", 0.35, "-"), "positives": ("two", 0.35, "--")}
    for (label, (colour, alpha, line)), count in zip(style.items(), counts, strict=True):
        axes.stairs(count, edges, fill=True, color=_COLOURS[colour], alpha=alpha)
        axes.stairs(count, edges, color=_COLOURS[colour], lw=1.6, ls=line, label=label)
    axes.set(xlabel="score", ylabel="patients")
    axes.set_ylim(0, max(1, *(count.max() for count in counts)) * 1.25)
    axes.legend(loc="upper center", ncols=2)


def draw_learning(
    run: Run, fold: Mapping[str, Any], all_folds: Sequence[Mapping[str, Any]], axes: Axes
) -> None:
    """Draw a fold's validation loss over the rounds, with the round that was chosen and the best one."""
    curve = run.curves[fold["repeat"], fold["fold"]]
    rounds = np.arange(1, len(curve) + 1)
    axes.plot(*thinned(np.column_stack([rounds, curve])).T, color=_COLOURS["one"], lw=1.4)
    # A booster fitted again on more patients (--inner) may run past a curve's end: the mark stays on it.
    for key, mark, colour, filled in (
        ("best_iteration", "D", "two", False),
        ("rounds", "o", "ink", True),
    ):
        at = min(int(fold[key]), len(curve))
        face = _COLOURS[colour] if filled else "none"
        axes.plot(
            at, curve[at - 1], mark, ms=6 if filled else 10, mfc=face, mec=_COLOURS[colour], mew=1.5
        )
    losses = [run.curves[other["repeat"], other["fold"]] for other in all_folds]
    low, high = min(c.min() for c in losses), max(c.max() for c in losses)
    margin = 0.08 * (high - low or 1.0)
    axes.set(
        xlim=(0, max(map(len, losses)) * 1.02), ylim=(low - margin, high + margin), xlabel="round"
    )
    axes.locator_params(nbins=4)
