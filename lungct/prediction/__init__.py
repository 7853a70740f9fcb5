"""A run and a feature table -> a prediction for each patient: a table, or the CSV that a challenge takes.

A patient who is not in the run gets the mean of its boosters' predictions, each at its fold's ``rounds``, clipped to
[0, 1]. No prediction comes from a booster that was fitted on that person: patients used in training are scored only by
the booster that did not see them, that of their own fold.

known.py           whom a run was trained on
compatibility.py   whether a table's features are those that a run was trained on
wanted.py          the ids that a user wants predicted, with and without features
scoring.py         the predictions
"""

from lungct.prediction.known import own_folds
from lungct.prediction.scoring import PredictSummary, predict, predict_to_csv
from lungct.prediction.wanted import Missing

__all__ = ["Missing", "PredictSummary", "own_folds", "predict", "predict_to_csv"]
