"""Losses -> curves that end by early stopping; curves -> the number of rounds that each fold's scores use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

PairCurves = Mapping[tuple[int, int], NDArray[np.float64]]
"""(j, k) to the loss on fold j, round by round, of the booster that was fitted outside folds j and k."""


class EarlyStopping:
    """A curve that grows until LightGBM's early stopping, looking at it alone, would end the fit.

    It ends with the round at which no loss has been smaller than the smallest one for ``patience`` rounds.

    Attributes
    ----------
    losses
        The losses from round 1; none is added after the end.

    """

    def __init__(self, patience: int) -> None:
        self.losses: list[float] = []
        self._patience = patience
        self._best = 0

    @property
    def ended(self) -> bool:
        """Whether the curve has ended."""
        return len(self.losses) - 1 - self._best >= self._patience

    def add(self, loss: float) -> None:
        """Add the next round's loss, unless the curve has ended."""
        if self.ended:
            return
        self.losses.append(loss)
        if loss < self.losses[self._best]:
            self._best = len(self.losses) - 1


def choose_rounds(curves: PairCurves, patients: Sequence[int]) -> list[int]:
    """Choose each fold's number of rounds without that fold.

    For fold k it is the round at which the sum over the other folds j of ``patients[j] * curves[j, k]`` is least; the
    first such round on a tie. No booster behind these curves saw fold k, neither to learn from nor to stop at.

    Parameters
    ----------
    curves
        For each ordered pair of folds, (rounds until early stopping,). Beyond its end a curve keeps its last value.
    patients
        For each fold, the number of its patients.

    Returns
    -------
    list of int
        For each fold, from 1.

    """
    return [int(np.argmin(summed_curve(curves, patients, k))) + 1 for k in range(len(patients))]


def summed_curve(curves: PairCurves, patients: Sequence[int], without: int) -> NDArray[np.float64]:
    """Return the sum over all folds j but ``without`` of patients x loss: float64 (rounds of the longest curve,)."""
    others = [j for j in range(len(patients)) if j != without]
    total = np.zeros(max(len(curves[j, without]) for j in others))
    for j in others:
        curve = curves[j, without]
        total[: len(curve)] += patients[j] * curve
        total[len(curve) :] += patients[j] * curve[-1]
    return total
