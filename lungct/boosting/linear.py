"""The linear reference: logistic regression under the same folds, which boosting has to beat."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.boosting.folds import Fold

STRENGTHS = tuple(10.0**power for power in range(-6, 2))
"""The values of C (the inverse of the L2 penalty) that are tried. The least is all but the constant predictor."""
PARTS = 5
"""Of the inner cross-validation that chooses C."""


def fit_linear(
    X: NDArray[Any], y: NDArray[np.float64], part: Fold, seed: int, groups: NDArray[Any] | None = None
) -> NDArray[np.float64]:
    """Fit a logistic regression on a fold's training part and score its held-out patients.

    Features are standardised by the training part; a missing one has the training part's mean. C is that of the least
    log loss in a stratified cross-validation of the training part (by groups where there are groups).

    Parameters
    ----------
    X
        (n, P) features; NaN is a missing value.
    y
        float64 (n,) labels.
    groups
        (n,) groups that are never divided, or None.

    Returns
    -------
    numpy.ndarray
        float64 (held-out patients,): probabilities.

    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        train, valid = _prepared(X[part.train], X[part.valid])
        labels = y[part.train].astype(np.int64)
        strength = _best_strength(train, labels, seed, None if groups is None else groups[part.train])
        return _probabilities(_fitted(train, labels, [strength])[0], valid)


def _prepared(train: NDArray[Any], valid: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Impute and standardise both parts; of wide ones, keep the coordinates within the training part's row space.

    An L2-penalised solution lies in that space, so nothing else of the held-out patients matters.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    train = steps.fit_transform(train.astype(np.float64))
    valid = steps.transform(valid.astype(np.float64))
    if train.shape[1] <= train.shape[0]:
        return train, valid
    left, singular, right = np.linalg.svd(train, full_matrices=False)
    return left * singular, valid @ right.T


def _best_strength(X: NDArray[np.float64], y: NDArray[np.int64], seed: int, groups: NDArray[Any] | None) -> float:
    """Return the C of the least log loss over an inner cross-validation; the strongest penalty on a tie."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    parts = min(PARTS, int(y.sum()), int(len(y) - y.sum()), len(y) if groups is None else len(np.unique(groups)))
    if parts < 2:
        return STRENGTHS[0]
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    losses = np.zeros(len(STRENGTHS))
    for fits, chooses in kind(parts, shuffle=True, random_state=seed).split(X, y, groups):
        if len(np.unique(y[fits])) < 2 or len(chooses) == 0:
            continue
        for i, model in enumerate(_fitted(X[fits], y[fits], STRENGTHS)):
            losses[i] += log_loss(y[chooses], _probabilities(model, X[chooses]), labels=[0, 1], normalize=False)
    return STRENGTHS[int(np.argmin(losses))]


def _fitted(X: NDArray[np.float64], y: NDArray[np.int64], strengths: Any) -> list[tuple[Any, float]]:
    """Return the coefficients and intercept for each C, each fit beginning at the previous one's solution."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000, warm_start=True)
    solutions = []
    with warnings.catch_warnings():
        # A weak penalty on separable patients converges slowly; such a C is rarely chosen, and 1,000 steps are plenty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for strength in strengths:
            model.set_params(C=strength).fit(X, y)
            solutions.append((model.coef_[0].copy(), float(model.intercept_[0])))
    return solutions


def _probabilities(solution: tuple[Any, float], X: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    coefficients, intercept = solution
    return np.asarray(expit(X @ coefficients + intercept), dtype=np.float64)
