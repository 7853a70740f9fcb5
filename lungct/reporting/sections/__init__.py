"""What each section of the page shows, computed from a run; ``templates/sections/`` has the same names.

result.py          the verdict and the main table
patients.py        who the patients are, and how many were left out at each step
discrimination.py  ROC and precision-recall curves, sensitivity, scores by class
calibration.py     reliability, slope and intercept, decision curve
folds.py           folds and learning curves
mistakes.py        the patients whom the model was most wrong about
left_out.py        ids that were left out, by reason
making.py          settings
repeating.py       how to cite and repeat

Each module has ``contents(run)``, which returns what its template needs.
"""
