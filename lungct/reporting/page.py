"""A run directory -> one HTML page that a colleague can read, mail and open from disk.

The page is a view of RUN's settings.json, scores.csv, curves.csv and metrics.json: every metric that it prints stands
in metrics.json, and what is drawn (curves, bins) is computed from the scores alone. It fetches nothing: no script, no
font, no picture from elsewhere. The same RUN gives the same bytes.

Ids, reasons and paths are other people's text, and the template escapes them all. What it takes unescaped is the SVG
that matplotlib draws here, whose texts are ours.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct import metrics
from lungct.errors import UsageError
from lungct.reporting import figures, numbers
from lungct.reporting.run import Run, read_run
from lungct.storage import ObjectPath, Place, locate, write_atomically

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IDS_LISTED = 1000  # patients left out, at most; all stand in metrics.json
METRICS = {"auc": "AUC", "log_loss": "Log loss", "brier": "Brier score"}


def report(run: str | os.PathLike[str] | ObjectPath, measured: Mapping[str, Any] | None = None) -> Place:
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
    path = locate(run, argument="RUN")
    page = render(read_run(path, measured))
    write_atomically(path / "report.html", page.encode("utf-8", "replace"))
    return path / "report.html"


def render(run: Run) -> str:
    """Make the page; UsageError where settings or metrics lack what it needs."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, UndefinedError

    environment = Environment(
        loader=PackageLoader("lungct.reporting", "."),
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
        raise UsageError(f"RUN's settings.json or metrics.json is damaged ({error}): train again") from error


def _contents(run: Run) -> dict[str, Any]:
    """Gather all that the template shows."""
    table = run.settings["table"]["settings"]
    baseline = metrics.baseline_scores(run.y, run.fold)
    folds = [
        {**fold, "baseline": float(metrics.log_losses(run.y[mine], baseline[mine]).mean())}
        for fold in run.measured["folds"]
        for mine in [run.fold == fold["fold"]]
    ]
    roc, pr = numbers.roc_curves(run), numbers.pr_curves(run)
    bins = numbers.reliability(run.y, run.clipped)
    counts, edges = numbers.histogram(run.y, run.clipped)
    drawn = folds[: figures.FOLDS_DRAWN]
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
        "curve_loss": figures.CURVE_LOSS.get(str(run.settings["objective"]), "loss"),
        "folds": folds,
        "folds_drawn": len(drawn),
        "unfinished": sum(fold["best_iteration"] >= run.settings["rounds"] for fold in folds),
        "several_repeats": len({fold["repeat"] for fold in folds}) > 1,
        "sensitivity": numbers.sensitivity(roc.mean) if roc else [],
        "average_precision": numbers.area(pr.mean) if pr else None,
        "bins": bins,
        "histogram": list(zip(edges[:-1], edges[1:], counts[0], counts[1], strict=True)),
        "left_out": grouped_by_reason(run.measured["left_out"]),
        "listed": IDS_LISTED,
        "roc": figures.svg("roc", figures.draw_roc, roc) if roc else None,
        "pr": figures.svg("pr", figures.draw_pr, pr, float(run.y.mean())) if pr else None,
        "reliability": figures.svg("reliability", figures.draw_reliability, bins),
        "scores": figures.svg("scores", figures.draw_histogram, counts, edges),
        "learning": [
            figures.svg(f"learning-{i}", partial(figures.draw_learning, run, fold, drawn), size=(3.3, 2.3))
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
        ranking = "The AUC's interval includes 0.5: the scores may rank patients no better than chance."
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
