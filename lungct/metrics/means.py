"""The interval of a mean loss, or of the mean difference between two losses of the same patients.

Three things make a mean loss differ from that of fresh patients, and their squares add up on either side (Zou and
Donner, Stat. Med. 27, 2008):

- How many positives there happen to be: the share's interval is Wilson's of 98 %, times the difference between the two
  classes' mean losses. Folds are stratified, so that they share nothing here; but where this part is nearly all of an
  interval, 95 % would leave no room for what boosters add, and two truths must be held at once, that of these boosters
  and that of such boosters.
- Which patients of each class there are: the variance within classes, SHARED times as wide. With groups both variances
  are sums over groups.
- What a cohort does not show. Where rounds are few, its losses hardly vary, while those of other such cohorts do. So
  there is a floor, in units of what fitting one parameter costs by chance (Wilks, Ann. Math. Stat. 9, 1938: 2 n times a
  difference of log losses is chi-squared): one; of a log loss, which has no upper bound, more where patients are few;
  and 2.5 at the lower end of a difference, because boosters of few rounds hide what those of more rounds would gain.
  And since a cohort in which nobody contradicts the most extreme scores says little about the next, `unseen` adds to
  the upper end of a log loss what half a patient among those would. (These numbers were chosen by simulation.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungct.metrics.estimate import SHARE_Z, SHARED, Estimate, Z, bounded, wilson
from lungct.metrics.losses import brier_scores, clip, log_losses
from lungct.metrics.sample import Sample

Losses = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Kind:
    """A loss.

    Attributes
    ----------
    losses
        (labels, scores) -> each patient's loss.
    most
        The largest possible loss of a patient; infinite for the log loss, whose clip is no bound worth the name.

    """

    losses: Losses
    most: float

    def floor(self, sample: Sample) -> float:
        """Return the part of the half-width that is there whatever the losses are."""
        parameters = min(1 + SMALL / sample.groups, HIDDEN) if self.most == math.inf else 1.0
        return parameters * self.cost(sample)

    def hidden(self, sample: Sample) -> float:
        """Return how much better than another score this one may be although few rounds do not show it."""
        return HIDDEN * self.cost(sample)

    def cost(self, sample: Sample) -> float:
        """Return what fitting one parameter costs by chance, at the 95 percentile."""
        log_loss = Z**2 / (2 * sample.groups)
        if self.most == math.inf:
            return log_loss
        # Near a share p, a log loss that is larger by d is a Brier score that is larger by 2 p (1 - p) d. The share of
        # positives is drawn towards a half by one patient of each class.
        share = (sample.y.mean() * sample.groups + 1) / (sample.groups + 2)
        return float(2 * share * (1 - share) * log_loss)

    def unseen(self, sample: Sample, score: NDArray[np.float64]) -> float:
        """Return `unseen` for a loss without an upper bound, else 0."""
        return unseen(sample, score) if self.most == math.inf else 0.0


SMALL = 150
"""A cohort of so many groups doubles the floor of a log loss."""
HIDDEN = 2.5
"""Parameters: the most that the floor of a log loss counts, and what the lower end of a difference counts."""

KINDS = {"log_loss": Kind(log_losses, math.inf), "brier": Kind(brier_scores, 1.0)}


def mean_loss(sample: Sample, kind: str, score: NDArray[np.float64]) -> Estimate:
    """Return the mean ``log_loss`` or ``brier`` of a score, with its interval."""
    loss = KINDS[kind]
    values = loss.losses(sample.y, score)
    mean, (low, high) = float(values.mean()), _reach(sample, values)
    low, high = math.hypot(low, loss.floor(sample)), math.hypot(high, loss.floor(sample))
    return bounded(mean, mean - low, mean + math.hypot(high, Z * loss.unseen(sample, score)), 0.0, loss.most)


def mean_difference(sample: Sample, kind: str, score: NDArray[np.float64], other: NDArray[np.float64]) -> Estimate:
    """Return the mean ``log_loss`` or ``brier`` of a score less that of another, paired, with its interval.

    Below 0 the first is the better one.
    """
    loss = KINDS[kind]
    values = loss.losses(sample.y, score) - loss.losses(sample.y, other)
    mean, (low, high) = float(values.mean()), _reach(sample, values)
    low = math.hypot(low, loss.hidden(sample), Z * loss.unseen(sample, other))
    high = math.hypot(high, loss.floor(sample), Z * loss.unseen(sample, score))
    return bounded(mean, mean - low, mean + high, -loss.most, loss.most)


def unseen(sample: Sample, score: NDArray[np.float64]) -> float:
    """Return the standard error that labels which no patient showed would add to a mean log loss.

    Among the k groups scored below every positive, the next may be positive, with the probability that half of a
    patient in k + 1 has (Jeffreys); likewise among those scored above every negative.
    """
    if not sample.mixed:
        return 0.0
    p = clip(score)
    logit = np.log(p / (1 - p))  # a positive costs this much less than a negative with the same score
    low, high = p < p[sample.y == 1].min(), p > p[sample.y == 0].max()
    total = 0.0
    for members, excess in ((low, -logit), (high, logit)):
        groups = sample.groups_in(members)
        chance = 0.5 / (groups + 1)
        paid = sample.by_group(np.where(members, np.maximum(excess, 0.0), 0.0))
        total += chance * (1 - chance) * float((paid**2).sum())
    return math.sqrt(total) / len(sample)


def _reach(sample: Sample, values: NDArray[np.float64]) -> tuple[float, float]:
    """Return how far the interval of a mean reaches down and up for what the cohort does show."""
    within = Z * SHARED * math.sqrt(_within_classes(sample, values))
    if not sample.mixed:
        return within, within
    share = float(sample.y.mean())
    low, high = wilson(share, _independent(sample), SHARE_Z)
    step = float(values[sample.y == 1].mean() - values[sample.y == 0].mean())
    down, up = (share - low, high - share) if step > 0 else (high - share, share - low)
    return math.hypot(down * step, within), math.hypot(up * step, within)


def _within_classes(sample: Sample, values: NDArray[np.float64]) -> float:
    """Return the variance of a mean for a given number of patients of each class."""
    residual = np.zeros(len(sample))
    for label in (0, 1):
        members = sample.y == label
        if members.any():
            groups = sample.groups_in(members)
            correction = math.sqrt(groups / max(groups - 1, 1))
            residual[members] = correction * (values[members] - values[members].mean())
    return float((sample.by_group(residual) ** 2).sum()) / len(sample) ** 2


def _independent(sample: Sample) -> float:
    """Return the number of independent patients that would give the share of positives as surely as the groups do."""
    n, share = len(sample), float(sample.y.mean())
    variance = float((sample.by_group((sample.y - share).astype(np.float64)) ** 2).sum()) / n**2
    return n / max(variance / (share * (1 - share) / n), 1.0)
