"""From an archive of patients to a feature table, through Ray Data.

    grouping.py    files of an archive without useful folders -> patients, by PatientID   (Ray tasks)
    options.py     what the user asked for, the table's settings, and the defaults -> Settings
    selection.py   which patients a run is asked for, and the units of work that they make
    placement.py   on which device, on which nodes, in how many actors
    pipeline.py    units of patients -> decoding tasks -> network actors -> staged files   (Ray Data)
    run.py         the whole of it: checks, ownership, commits, the summary
    status.py      how far a table is, and whether its files are what they say

Decoding and preprocessing run in tasks of one core each, in a child process of the task (`lungct.sandbox`); the
network runs in a pool of actors, one GPU each where there are GPUs. The driver alone commits (`lungct.features`).
"""

from lungct.extraction.run import ExtractSummary, extract

__all__ = ["ExtractSummary", "extract"]
