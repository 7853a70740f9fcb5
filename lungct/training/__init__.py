"""A feature table and a CSV of labels -> a run directory: boosters, out-of-fold scores, metrics and a report.

labels.py           a CSV of labels -> each patient's label
matching.py         labels and a table, compared by id: what to say, and what to refuse
groups.py           which patients stay within one fold
cohort.py           labels and features -> the patients to train on, and those left out
characteristics.py  the feature table -> who these patients are, counted by label
params.py           a JSON file of LightGBM's parameters
on_ray.py           the fits as Ray tasks
pipeline.py         the whole training: checks, fits, the run directory, the summary
"""

from lungct.training.cohort import Cohort, build_cohort
from lungct.training.labels import Labels, read_labels
from lungct.training.params import read_params
from lungct.training.pipeline import TrainSummary, train

__all__ = ["Cohort", "Labels", "TrainSummary", "build_cohort", "read_labels", "read_params", "train"]
