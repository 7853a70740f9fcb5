"""A run -> one HTML page that a colleague can read, mail and open from disk.

The page is a view of the run: every metric that it prints is in metrics.json, and what it draws (curves, bins) is
computed from the scores alone. It fetches nothing: no script, no font, no picture from elsewhere. The same run gives
the same bytes.

Ids, reasons and paths are other people's text, and the template escapes them all. Only the SVG that matplotlib draws
here is not escaped; its texts are lungct's own.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from lungct import metrics
from lungct.reporting import figures, numbers
from lungct.rundir import Run, damaged_error, read_run, write_report
from lungct.storage import ObjectPath, Place, check_directory, locate

IDS_LISTED = 1000  # at most; metrics.json has the ids of all patients left out
METRICS = {"auc": "AUC", "log_loss": "Log loss", "brier": "Brier score"}


def report(run: str | os.PathLike[str] | ObjectPath) -> Place:
    """Write a run's report.html again.

    Parameters
    ----------
    run
        The directory that ``train`` wrote.

    Returns
    -------
    pathlib.Path or ObjectPath
        The page.

    Raises
    ------
    UsageError
        If RUN is not a finished run, is damaged, or cannot be written to.
    StorageError
        If the page cannot be written.

    """
    place = locate(run, argument="RUN")
    page = render(read_run(place))
    check_directory(place, argument="RUN")
    return write_report(place, page)


def render(run: Run) -> str:
    """Return the page as HTML.

    Raises
    ------
    UsageError
        If settings or metrics lack something that the page shows.

    """
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
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, UndefinedError) as error:
        raise damaged_error(run.place, f"settings.json or metrics.json: {error}") from error


def _contents(run: Run) -> dict[str, Any]:
    """Compute all that the template shows."""
    scores, settings = run.scores, run.settings
    table = settings["table"]["settings"]
    baselines = _baseline_losses(run)
    folds = [{**fold, "baseline": baselines[fold["fold"]]} for fold in run.metrics["folds"]]
    clipped = numbers.clipped(scores.score)
    roc, pr = numbers.roc_curves(scores), numbers.pr_curves(scores)
    bins = numbers.reliability(scores.label, clipped)
    counts, edges = numbers.histogram(scores.label, clipped)
    drawn = folds[: figures.FOLDS_DRAWN]
    return {
        "settings": settings,
        "table": table,
        "metrics": run.metrics,
        "names": METRICS,
        "random_weights": str(table["weights"]).startswith("random"),
        "share": run.metrics["positives"] / run.metrics["patients"],
        "in_words": in_words(run.metrics),
        "inner": bool(settings["inner"]),
        "shared_scans": shared_scans(scores.pixel_hash),
        "curve_loss": figures.CURVE_LOSS.get(str(settings["objective"]), "loss"),
        "folds": folds,
        "folds_drawn": len(drawn),
        "unfinished": sum(fold["best_iteration"] >= settings["rounds"] for fold in folds),
        "several_repeats": len({fold["repeat"] for fold in folds}) > 1,
        "sensitivity": numbers.sensitivity(roc.mean) if roc else [],
        "average_precision": numbers.area(pr.mean) if pr else None,
        "bins": bins,
        "histogram": list(zip(edges[:-1], edges[1:], counts[0], counts[1], strict=True)),
        "left_out": grouped_by_reason(run.metrics["left_out"]),
        "listed": IDS_LISTED,
        "roc": figures.svg("roc", figures.draw_roc, roc) if roc else None,
        "pr": figures.svg("pr", figures.draw_pr, pr, float(scores.label.mean())) if pr else None,
        "reliability": figures.svg("reliability", figures.draw_reliability, bins),
        "scores": figures.svg("scores", figures.draw_histogram, counts, edges),
        "learning": [
            figures.svg(f"learning-{i}", partial(figures.draw_learning, run.curves, fold, drawn), size=(3.3, 2.3))
            for i, fold in enumerate(drawn)
        ],
    }


def _baseline_losses(run: Run) -> dict[int, float]:
    """Return the constant predictor's log loss in each fold."""
    scores = run.scores
    losses = metrics.log_losses(scores.label, metrics.baseline_scores(scores.label, scores.fold))
    return {fold: float(losses[scores.fold == fold].mean()) for fold in set(scores.fold.tolist())}


def in_words(measured: Mapping[str, Any]) -> list[str]:
    """Return sentences on what the intervals mean for the scores."""
    auc, loss = measured["auc"], measured["log_loss"]
    constant = measured["baseline"]["log_loss"]["value"]
    if auc["value"] is None:
        ranking = "No fold has patients of both classes, so the AUC is undefined."
    elif auc["low"] > 0.5:
        ranking = "The scores rank positives above negatives more often than chance would."
    elif auc["high"] < 0.5:
        ranking = "The scores rank positives below negatives: worse than chance."
    else:
        ranking = "The AUC's interval includes 0.5: the scores may rank patients no better than chance."
    if loss["high"] < constant:
        probability = "As probabilities they are better than the constant predictor."
    elif loss["low"] > constant:
        probability = "As probabilities they are worse than the constant predictor."
    else:
        probability = "As probabilities they are not distinguishable from the constant predictor."
    return [ranking, probability]


def shared_scans(pixel_hashes: Iterable[str]) -> int:
    """Count the scans that have more than one id."""
    return sum(count > 1 for count in Counter(filter(None, pixel_hashes)).values())


def grouped_by_reason(left_out: Iterable[Mapping[str, str]]) -> list[tuple[str, int, list[str]]]:
    """Group patients by why they were left out, the most common reason first: (why, number, ids to list)."""
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
    return "undefined" if value is None else f"{value:.3f}"


def _interval(estimate: Mapping[str, float | None]) -> str:
    if estimate["low"] is None:
        return "–"
    return f"{_number(estimate['low'])} to {_number(estimate['high'])}"
