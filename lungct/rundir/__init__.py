"""The run directory (RUN): what a training leaves, written whole or not at all, and read in one way.

    RUN/settings.json               what the run was made with
    RUN/scores.csv                  every patient's label, fold and out-of-fold scores
    RUN/curves.csv                  the validation losses, round by round
    RUN/pair_curves.csv             the same of the boosters that choose the numbers of rounds; none with ``inner``
    RUN/models/repeat-R-fold-K.txt  the boosters, in LightGBM's text format
    RUN/report.html                 a page for people
    RUN/metrics.json                the numbers, and the SHA-256 of every file above but the report

A directory without metrics.json is not a run. A new run is built in ``.RUN.<id>/run``, beside RUN, and exchanged with
RUN in one step; the old run is whole until then. Where that cannot be done (RUN is a mount point, or in an object
store) a run is built in ``RUN/.lungct/<id>``, and RUN/metrics.json, replaced in one step, names that directory. Either
directory is owned like a feature table (`lungct.storage.own`), so the next training can tell what a killed training
left from what a living one is building. ``docs/formats.md`` has every rule with its reason.

    contents.py   what a run holds, as plain columns, and the same as files
    reading.py    RUN -> its contents, checked; RUN as a place to write to
    writing.py    contents -> RUN
"""

from lungct.rundir.contents import SCHEMA, Run, Scores, checksums
from lungct.rundir.reading import EarlierRun, damaged_error, earlier_run, read_run, usable_run
from lungct.rundir.writing import RunWriter, write_report

__all__ = [
    "SCHEMA",
    "EarlierRun",
    "Run",
    "RunWriter",
    "Scores",
    "checksums",
    "damaged_error",
    "earlier_run",
    "read_run",
    "usable_run",
    "write_report",
]
