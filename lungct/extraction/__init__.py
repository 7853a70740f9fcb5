"""From an archive of patients to a feature table, through Ray Data.

    grouping.py    files of an archive without useful folders -> patients, by PatientID   (Ray tasks)
    options.py     what the user asked for, the table's settings, and the defaults -> Settings
    pipeline.py    units of patients -> decoding tasks -> network actors -> staged files   (Ray Data)
    run.py         the whole of it: checks, ownership, commits, the summary

Decoding and preprocessing run in tasks of one core each, in a child process of the task (`lungct.sandbox`); the
network runs in a pool of actors, one GPU each where there are GPUs. The driver alone commits (`lungct.features`).
"""

from lungct.extraction.run import ExtractSummary, extract

__all__ = ["ExtractSummary", "extract"]
