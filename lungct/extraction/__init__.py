"""From an archive of patients to a feature table, through Ray Data.

    driver.py        `extract`: the four steps below, and the summary
    request.py       1. what the caller asked for, checked as far as it can be by itself
    planning.py      2. which patients, and with which options
    preparation.py   3. the table, owned and with its settings written
    pipeline.py      4. units of patients through Ray Data: decoding tasks, then network actors
    worker.py        what those tasks and actors do
    grouping.py      an archive without useful directories -> patients, by PatientID (Ray tasks)
    naming.py        whether ids name people, asked before the work
    options.py       options, defaults and an existing table -> the table's settings
    placement.py     on which device, on which nodes, with how many actors
    status.py        how far a table is, and whether its files are undamaged

Decoding and preprocessing run in tasks of one core each, in a child process of the task (`lungct.sandbox`). The
network runs in a pool of actors, one per GPU where there are GPUs. Only the driver, the process that called `extract`,
commits to the table (`lungct.features`).
"""

from lungct.extraction.driver import ExtractSummary, extract

__all__ = ["ExtractSummary", "extract"]
