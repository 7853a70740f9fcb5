"""The linear reference: logistic regression under the same folds, which boosting has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.boosting.folds import Fold
from lungct.metrics import log_losses

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
        return _probabilities(_solutions(train, labels, [strength])[0], valid)


def _prepared(train: NDArray[Any], valid: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Impute and standardise both parts; of wide ones, keep the coordinates within the training part's row space.

    An L2-penalised solution lies in that space, so nothing else of the held-out patients matters.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, valid = train.astype(np.float64), valid.astype(np.float64)
    # Squares of very large or very small values would not be finite numbers.
    largest = np.fmax.reduce(np.abs(train), axis=0, initial=0.0)
    largest[largest == 0] = 1
    steps = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    train, valid = steps.fit_transform(train / largest), steps.transform(valid / largest)
    if train.shape[1] <= train.shape[0]:
        return train, valid
    left, singular, right = np.linalg.svd(train, full_matrices=False)
    return left * singular, valid @ right.T


def _best_strength(X: NDArray[np.float64], y: NDArray[np.int64], seed: int, groups: NDArray[Any] | None) -> float:
    """Return the C of the least log loss over an inner cross-validation; the strongest penalty on a tie."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    parts = min(PARTS, int(y.sum()), int(len(y) - y.sum()), len(y) if groups is None else len(np.unique(groups)))
    if parts < 2:
        return STRENGTHS[0]
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    losses = np.zeros(len(STRENGTHS))
    for fits, chooses in kind(parts, shuffle=True, random_state=seed).split(X, y, groups):
        if len(np.unique(y[fits])) < 2 or len(chooses) == 0:
            continue
        solutions = _solutions(X[fits], y[fits], STRENGTHS)
        losses += [log_losses(y[chooses], _probabilities(one, X[chooses])).sum() for one in solutions]
    return STRENGTHS[int(np.argmin(losses))]


def _solutions(X: NDArray[np.float64], y: NDArray[np.int64], strengths: Sequence[float]) -> list[NDArray[np.float64]]:
    """Return, for each C, the coefficients and the intercept: float64 (P + 1,).

    They minimise the sum of the log losses times C plus half the sum of the squared coefficients, which is the loss of
    scikit-learn's LogisticRegression. Its checks take several times as long as a small fit, and there are 205 fits in
    a cross-validation of five folds. Each fit begins at the solution for the previous C.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    sign = 2.0 * y - 1

    def loss_and_gradient(solution: NDArray[np.float64], penalty: float) -> tuple[float, NDArray[np.float64]]:
        coefficients = solution[:-1]
        logit = X @ coefficients + solution[-1]
        residual = (expit(logit) - y) / len(y)
        gradient = np.append(X.T @ residual + penalty * coefficients, residual.sum())
        return np.logaddexp(0, -sign * logit).mean() + penalty / 2 * coefficients @ coefficients, gradient

    solution, solutions = np.zeros(X.shape[1] + 1), []
    for strength in strengths:
        found = minimize(
            loss_and_gradient,
            solution,
            args=(1 / (strength * len(y)),),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1000, "gtol": 1e-6, "ftol": 1e-14},
        )
        solution = found.x
        solutions.append(solution)
    return solutions


def _probabilities(solution: NDArray[np.float64], X: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(X @ solution[:-1] + solution[-1]), dtype=np.float64)
