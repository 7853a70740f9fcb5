"""Labels, folds and scores as arrays, for tests of the numbers that are computed from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def cohort(n: int = 90, folds: int = 3, seed: int = 0) -> tuple[Ints, Ints, Floats]:
    """Return labels, folds of different sizes that all have both, and scores with many ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(np.int64)
    fold = rng.integers(0, folds, n)
    y[:folds], fold[:folds] = 1, np.arange(folds)
    y[folds : 2 * folds], fold[folds : 2 * folds] = 0, np.arange(folds)
    score = np.round(0.3 + 0.3 * y + 0.4 * rng.normal(size=n), 1)
    return y, fold, score
