"""Labels, folds and scores -> AUC, log loss, Brier score and what else a reader asks of them, with intervals.

Terms
-----
label
    0 or 1 for each patient.
score
    The prediction of a booster that was not fitted on the patient's fold: any finite number.
AUC
    The mean of the folds' AUCs, weighted by positives x negatives. It compares only patients of one fold, because the
    boosters of different folds are not on one scale. (Pooled over folds, even a constant predictor's AUC falls below
    0.5, because the folds' constants differ.)
log loss, Brier score
    Means over all patients, on scores clipped to [1e-6, 1 - 1e-6].
baseline
    The constant predictor: each patient's score is the share of positives among the patients of the *other* folds.
interval
    95 %, for what these boosters give on fresh patients and for what boosters trained on another such cohort give.
    ``docs/evaluation.md`` says how each is made and how often each holds.

An undefined number (the AUC where every fold has one class) is None, never NaN. Nothing here depends on boosters or
files.

    sample.py        labels, folds and groups
    estimate.py      a number and its interval
    losses.py        log loss and Brier score of each patient, the constant predictor
    means.py         intervals of mean losses and of their differences
    auc.py           the AUC within folds, and differences between AUCs
    curves.py        ROC curves averaged over folds
    operating.py     sensitivity, average precision, decision curve
    calibration.py   slope and intercept
    power.py         what a cohort could show, before any training
    evaluation.py    all of them
"""

from lungct.metrics.auc import fold_auc, within_fold_auc
from lungct.metrics.estimate import Estimate, wilson
from lungct.metrics.evaluation import evaluate, evaluate_fold
from lungct.metrics.losses import CLIP, baseline_scores, brier_scores, clip, log_losses
from lungct.metrics.power import events_per_fold, smallest_auc, too_few

__all__ = [
    "CLIP",
    "Estimate",
    "baseline_scores",
    "brier_scores",
    "clip",
    "evaluate",
    "evaluate_fold",
    "events_per_fold",
    "fold_auc",
    "log_losses",
    "smallest_auc",
    "too_few",
    "wilson",
    "within_fold_auc",
]
