"""A feature table and a CSV of labels -> a run directory: boosters, out-of-fold scores and metrics.

cohort.py      labels and features -> who is trained on, and who is left out
on_ray.py      the folds as Ray tasks
directory.py   the run directory: its files, and the order in which they are written
run.py         the whole of it: checks, folds, files, the summary
"""

from lungct.training.cohort import Cohort, gather, read_labels, read_params
from lungct.training.directory import is_run
from lungct.training.run import TrainSummary, train

__all__ = ["Cohort", "TrainSummary", "gather", "is_run", "read_labels", "read_params", "train"]
