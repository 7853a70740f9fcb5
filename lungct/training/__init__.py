"""A feature table and a CSV of labels -> a run directory: boosters, out-of-fold scores, metrics and a report.

cohort.py           labels and features -> the patients to train on, and those left out
characteristics.py  the feature table -> who these patients are, counted by label
on_ray.py           the folds as Ray tasks
pipeline.py         the whole training: checks, folds, the run directory, the summary
"""

from lungct.training.cohort import Cohort, build_cohort, read_labels, read_params
from lungct.training.pipeline import TrainSummary, train

__all__ = ["Cohort", "TrainSummary", "build_cohort", "read_labels", "read_params", "train"]
