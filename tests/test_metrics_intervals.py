"""The intervals of lungct.metrics: variances against the published formulas written out, and rules that all keep."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest  # type: ignore[import-untyped,unused-ignore]
from support.cohorts import Floats, Ints, cohort

from lungct import metrics
from lungct.metrics.auc import Observed, _clustered, _edge, auc, expected_variance, influence, observed
from lungct.metrics.estimate import SHARED, Z
from lungct.metrics.means import mean_loss
from lungct.metrics.sample import Sample


def wins(y: Ints, score: Floats) -> Floats:
    """Return for each pair of a positive and a negative whether the positive is higher, 1/2 for a tie."""
    result: Floats = (np.sign(score[y == 1][:, None] - score[y == 0][None, :]) + 1) / 2
    return result


def test_variance_is_delongs() -> None:
    y, _, score = cohort(n=60, folds=1)
    pairs = wins(y, score)
    m, n = pairs.shape
    delong = pairs.mean(axis=1).var(ddof=1) / m + pairs.mean(axis=0).var(ddof=1) / n
    seen = observed(Sample.of(y, np.zeros(60)), score)
    assert seen is not None
    assert seen.variance == pytest.approx(delong, rel=1e-12)


def test_variance_of_a_difference_is_the_paired_delongs() -> None:
    y, _, score = cohort(n=60, folds=1)
    other = np.roll(score, 3)
    first, second = wins(y, score), wins(y, other)
    m, n = first.shape
    positives = np.cov(first.mean(axis=1), second.mean(axis=1))
    negatives = np.cov(first.mean(axis=0), second.mean(axis=0))
    delong = sum((c[0, 0] + c[1, 1] - 2 * c[0, 1]) / size for c, size in ((positives, m), (negatives, n)))
    sample = Sample.of(y, np.zeros(60))
    assert _clustered(sample, influence(sample, score) - influence(sample, other)) == pytest.approx(delong, rel=1e-12)


def test_variance_with_groups_is_obuchowskis() -> None:
    """Every person has a positive and a negative scan, and some have further ones."""
    rng = np.random.default_rng(1)
    group = np.concatenate([np.arange(20), np.arange(20), rng.integers(0, 20, 30)])
    y = np.concatenate([np.ones(20), np.zeros(20), rng.integers(0, 2, 30)]).astype(np.int64)
    score = rng.normal(size=70) + 0.5 * y + rng.normal(size=20)[group]
    pairs = wins(y, score)
    m, n = pairs.shape
    mean = pairs.mean()
    of_positives = np.bincount(group[y == 1], pairs.mean(axis=1) - mean, minlength=20)
    of_negatives = np.bincount(group[y == 0], pairs.mean(axis=0) - mean, minlength=20)
    s10, s01 = (20 / 19 * (v**2).sum() / size for v, size in ((of_positives, m), (of_negatives, n)))
    s11 = 20 / 19 * (of_positives * of_negatives).sum()
    seen = observed(Sample.of(y, np.zeros(70), group), score)
    assert seen is not None
    assert seen.variance == pytest.approx(s10 / m + s01 / n + 2 * s11 / (m * n), rel=1e-12)


def test_variance_over_folds_is_the_weighted_sum_of_delongs_with_pooled_degrees_of_freedom() -> None:
    y, fold, score = cohort(n=150)
    expected = 0.0
    weights = np.array([y[fold == k].sum() * (1 - y[fold == k]).sum() for k in range(3)], float)
    squares = [0.0, 0.0]
    for k, weight in enumerate(weights / weights.sum()):
        pairs = wins(y[fold == k], score[fold == k])
        for axis in (0, 1):
            placed = pairs.mean(axis=1 - axis)
            squares[axis] += weight**2 * ((placed - placed.mean()) ** 2).sum() / len(placed) ** 2
    for axis, size in enumerate((y.sum(), (1 - y).sum())):
        expected += squares[axis] * size / (size - 3)
    seen = observed(Sample.of(y, fold), score)
    assert seen is not None
    assert seen.variance == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 40), st.integers(1, 40))
def test_expected_variance_at_one_half_is_wilcoxons(m: int, n: int) -> None:
    sizes = np.array([[m, n, 1.0]])
    assert expected_variance(0.5, sizes) == pytest.approx((m + n + 1) / (12 * m * n), rel=1e-12)
    assert expected_variance(0.0, sizes) == expected_variance(1.0, sizes) == 0


@given(st.integers(1, 60), st.integers(0, 60))
def test_wilson_is_scipys(n: int, successes: int) -> None:
    successes = min(successes, n)
    interval = binomtest(successes, n).proportion_ci(method="wilson")
    assert metrics.wilson(successes / n, n) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_a_mean_losss_interval_has_its_three_parts() -> None:
    """Two score values a class: share of positives, spread within classes, floor and unseen labels, each by hand."""
    y = np.repeat([1, 1, 0, 0], [15, 5, 20, 60])
    score = np.repeat([0.4, 0.2, 0.4, 0.2], [15, 5, 20, 60])
    loss = (score - y) ** 2
    positives, negatives = loss[y == 1], loss[y == 0]
    within = Z * SHARED * math.sqrt(20 * positives.var(ddof=1) + 80 * negatives.var(ddof=1)) / 100
    share = binomtest(20, 100).proportion_ci(0.98, method="wilson")
    step = positives.mean() - negatives.mean()
    floor = 2 * (21 / 102) * (81 / 102) * Z**2 / 200
    estimate = mean_loss(Sample.of(y, np.arange(100) % 5), "brier", score)
    assert estimate.value == pytest.approx(loss.mean())
    assert estimate.low == pytest.approx(loss.mean() - math.hypot((0.2 - share.low) * step, within, floor), rel=1e-9)
    assert estimate.high == pytest.approx(loss.mean() + math.hypot((share.high - 0.2) * step, within, floor), rel=1e-9)


def test_extreme_scores_that_nobody_contradicts_raise_the_upper_end_of_a_log_loss_only() -> None:
    rng = np.random.default_rng(2)
    y = np.repeat([1, 0], [30, 70])
    score = np.where(y == 1, rng.uniform(0.3, 0.6, 100), rng.uniform(0.2, 0.5, 100))
    score[-4:] = 0.01
    mild = metrics.evaluate(y, np.arange(100) % 5, score)["log_loss"]
    score[-4:] = -0.2
    extreme = metrics.evaluate(y, np.arange(100) % 5, score)["log_loss"]
    assert extreme["value"] < mild["value"]
    assert extreme["high"] > mild["high"] + 0.02
    assert extreme["low"] == pytest.approx(mild["low"], abs=0.002)


@pytest.mark.parametrize("name", ["auc", "log_loss", "brier"])
def test_no_interval_shrinks_to_nothing(name: str) -> None:
    """Perfect separation, constant scores, equal losses, and a score that is compared with itself."""
    y = np.array([1] * 10 + [0] * 20)
    fold = np.arange(30) % 2
    balanced = np.array([1, 0] * 20)
    for labels, score in ((y, y * 1.0), (y, np.full(30, 0.3)), (balanced, np.full(40, 0.5))):
        folds = fold if labels is y else np.arange(40) // 20
        out = metrics.evaluate(labels, folds, score, linear_score=score)
        wide = {"auc": 0.05, "log_loss": 0.05, "brier": 0.01}[name]
        for estimate in (out[name], out["linear_difference"][name]):
            assert estimate["high"] - estimate["low"] > wide
        if name != "auc":
            assert out["difference"][name]["high"] - out["difference"][name]["low"] > wide
            assert out["baseline"][name]["high"] - out["baseline"][name]["low"] > wide
    separated = metrics.evaluate(y, fold, y * 1.0)["auc"]
    assert 0.7 < separated["low"] < 0.95
    assert separated["high"] == 1


def test_a_larger_perfectly_separated_cohort_is_surer() -> None:
    cohorts = [np.array([1, 1, 0, 0] * k) for k in (5, 20, 80)]
    lows = [metrics.evaluate(y, np.arange(len(y)) % 2, y)["auc"]["low"] for y in cohorts]
    assert lows == sorted(lows)
    assert 0.97 < lows[-1] < 1


def test_duplicated_patients_who_are_one_group_leave_every_interval_as_it_was() -> None:
    y, fold, score = cohort(n=120)
    other = np.roll(score, 1)
    once = metrics.evaluate(y, fold, score, linear_score=other)
    twice = metrics.evaluate(
        *(np.repeat(column, 2) for column in (y, fold, score)),
        linear_score=np.repeat(other, 2),
        groups=np.repeat([f"person {i}" for i in range(120)], 2),
    )
    ungrouped = metrics.evaluate(*(np.repeat(column, 2) for column in (y, fold, score)))
    for name in ("auc", "log_loss", "brier", "average_precision"):
        assert twice[name] == pytest.approx(once[name], abs=1e-9)
        assert ungrouped[name]["high"] - ungrouped[name]["low"] < 0.8 * (once[name]["high"] - once[name]["low"])
    for name in ("linear_difference", "difference", "baseline", "calibration"):
        for kind, estimate in once[name].items():
            assert twice[name][kind] == pytest.approx(estimate, abs=1e-6), (name, kind)
    for one, two in zip(once["operating_points"], twice["operating_points"], strict=True):
        assert two["sensitivity"] == pytest.approx(one["sensitivity"], abs=1e-9)
    assert twice["smallest_auc"] == pytest.approx(once["smallest_auc"], abs=1e-5)


def test_persons_whose_scans_resemble_each_other_have_wider_intervals_than_independent_scans() -> None:
    rng = np.random.default_rng(4)
    person = np.repeat(np.arange(60), 3)
    y, fold = (np.arange(60) % 3 == 0).astype(int)[person], (np.arange(60) // 3 % 4)[person]
    score = 0.3 + 0.1 * y + 0.15 * rng.normal(size=60)[person] + 0.05 * rng.normal(size=180)
    by_person = metrics.evaluate(y, fold, score, groups=person)
    by_scan = metrics.evaluate(y, fold, score)
    for name in ("auc", "log_loss", "brier", "average_precision"):
        assert by_person[name]["value"] == by_scan[name]["value"]
        assert width(by_person[name]) > 1.2 * width(by_scan[name])


def width(estimate: dict[str, Any]) -> float:
    return float(estimate["high"] - estimate["low"])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 30]))
def test_order_of_rows_and_names_of_folds_and_groups_do_not_matter(seed: int, persons: int) -> None:
    y, fold, score = cohort(n=60)
    group = np.arange(60) // (60 // persons // 2 + 1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(60)
    first = metrics.evaluate(y, fold, score, groups=group)
    second = metrics.evaluate(
        y[order], np.array(["c", "a", "b"])[fold[order]], score[order], groups=[f"p{g}" for g in group[order]]
    )
    for name in ("auc", "log_loss", "brier", "average_precision"):
        assert second[name] == pytest.approx(first[name], abs=1e-9)
    assert second["difference"]["brier"] == pytest.approx(first["difference"]["brier"], abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_what_only_compares_patients_of_a_fold_does_not_see_a_rising_function_of_the_scores_of_a_fold(
    seed: int,
) -> None:
    y, fold, score = cohort()
    rng = np.random.default_rng(seed)
    moved = score.copy()
    for k in range(3):
        shift, stretch = rng.normal(), rng.uniform(0.1, 3)
        moved[fold == k] = np.arctan(stretch * score[fold == k] + shift)
    first, second = metrics.evaluate(y, fold, score), metrics.evaluate(y, fold, moved)
    for name in ("auc", "average_precision", "operating_points"):
        assert second[name] == first[name]


def test_turning_scores_round_turns_the_interval_of_the_auc_round() -> None:
    y, fold, score = cohort()
    there, back = (metrics.evaluate(y, fold, s)["auc"] for s in (score, -score))
    assert back["low"] == pytest.approx(1 - there["high"], abs=1e-9)
    assert back["high"] == pytest.approx(1 - there["low"], abs=1e-9)


def test_the_same_numbers_every_time_whatever_the_seed() -> None:
    y, fold, score = cohort()
    assert metrics.evaluate(y, fold, score, seed=1) == metrics.evaluate(y, fold, score, seed=2)


def test_an_interval_is_of_the_aucs_from_which_the_observed_one_is_not_too_far() -> None:
    """With DeLong's variance as expected, low is the AUC whose own standard error leads just as far."""
    sizes = np.array([[20, 30, 0.4], [25, 35, 0.6]])
    seen = Observed(0.6, expected_variance(0.6, sizes), sizes, 1.0, 43)
    low = _edge(seen, 0.0)
    assert 0.6 - low == pytest.approx(Z * SHARED * math.sqrt(expected_variance(low, sizes)), abs=1e-9)
    assert low < 0.5 < seen.auc


def test_intervals_hold_the_truth_where_it_is_known() -> None:
    """Scores from two normal distributions: with independent folds the intervals are wide enough and not absurd."""
    from scipy.stats import norm  # type: ignore[import-untyped,unused-ignore]

    rng = np.random.default_rng(6)
    truth, held, widths = norm.cdf(0.8 / math.sqrt(2)), 0, []
    for _ in range(200):
        y = (rng.random(100) < 0.25).astype(int)
        estimate = auc(Sample.of(y, rng.permutation(100) % 5), rng.normal(size=100) + 0.8 * y).as_dict()
        held += estimate["low"] <= truth <= estimate["high"]
        widths.append(width(estimate))
    assert held >= 194
    assert np.mean(widths) < 0.4


@pytest.mark.parametrize("seed", [0, 1])
def test_groups_intervals_hold_the_share_of_positives_of_persons(seed: int) -> None:
    """Constant scores, four scans a person: by persons a Brier score's interval holds, by scans it does not."""
    rng = np.random.default_rng(seed)
    truth, held = 0.3 * 0.7, {"person": 0, "scan": 0}
    person = np.repeat(np.arange(40), 4)
    for _ in range(150):
        y = (rng.random(40) < 0.3).astype(int)[person]
        for name, groups in (("person", person), ("scan", None)):
            estimate = mean_loss(Sample.of(y, person % 5, groups), "brier", np.full(160, 0.3))
            assert estimate.low is not None
            assert estimate.high is not None
            held[name] += estimate.low <= truth <= estimate.high
    assert held["person"] >= 140
    assert held["scan"] < 125


def test_what_folds_share_widens_the_spread_of_a_cross_validated_auc_by_less_than_is_allowed_for() -> None:
    """The difference of two classes' means as a score, with nothing to find: 1.41 by calculation."""
    rng = np.random.default_rng(7)
    y = np.arange(120) % 2
    squares, variances = [], []
    for _ in range(200):
        X, fold, score = rng.normal(size=(120, 15)), np.repeat(rng.permutation(60) % 5, 2), np.empty(120)
        for k in range(5):
            train = fold != k
            direction = X[train & (y == 1)].mean(axis=0) - X[train & (y == 0)].mean(axis=0)
            score[~train] = X[~train] @ direction
        seen = observed(Sample.of(y, fold), score)
        assert seen is not None
        squares.append((seen.auc - 0.5) ** 2)
        variances.append(seen.variance)
    assert 1.15 < math.sqrt(np.mean(squares) / np.mean(variances)) < SHARED
