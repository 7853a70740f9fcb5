"""A run -> one HTML page that a colleague can read, mail and open from disk.

The page is a view of the run: every metric that it prints is in metrics.json, and what it draws (curves, bins) is
computed from the scores alone. It fetches nothing: no script, no font, no picture from elsewhere. The same run gives
the same bytes.

Ids, reasons and paths are other people's text, and the templates escape them all. Only the SVG that matplotlib draws
here, and the style sheet, are not escaped; their texts are lungct's own.
"""

from __future__ import annotations

import os
from functools import partial

from lungct.reporting import words
from lungct.reporting.sections import (
    calibration,
    discrimination,
    folds,
    left_out,
    making,
    mistakes,
    patients,
    repeating,
    result,
)
from lungct.rundir import Run, damaged_error, read_run, write_report
from lungct.storage import ObjectPath, Place, check_directory, locate

SECTIONS = {
    "result": result.contents,
    "patients": patients.contents,
    "discrimination": discrimination.contents,
    "calibration": calibration.contents,
    "folds": folds.contents,
    "mistakes": mistakes.contents,
    "left_out": left_out.contents,
    "making": making.contents,
    "repeating": repeating.contents,
}
"""The sections in the order of the page; each has a template of its name, in which its contents have that name, too."""


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
        loader=PackageLoader("lungct.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = words.number
    environment.filters["interval"] = words.interval
    environment.filters["round2"] = partial(words.number, digits=2)
    environment.filters["interval2"] = partial(words.interval, digits=2)
    try:
        shown = {name: contents(run) for name, contents in SECTIONS.items()}
        template = environment.get_template("report.html")
        return template.render(sections=list(SECTIONS), metrics=run.metrics, settings=run.settings, **shown)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, UndefinedError) as error:
        raise damaged_error(run.place, f"settings.json or metrics.json: {error}") from error
