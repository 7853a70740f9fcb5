"""lungct.metrics against scikit-learn and plain resampling."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from lungct import metrics

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def cohort(n: int = 90, folds: int = 3, seed: int = 0) -> tuple[Ints, Ints, Floats]:
    """Labels, folds of different sizes, and scores with many ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(int)
    fold = rng.integers(0, folds, n)
    y[:folds], fold[:folds] = 1, np.arange(folds)
    y[folds : 2 * folds], fold[folds : 2 * folds] = 0, np.arange(folds)
    score = np.round(0.3 + 0.3 * y + 0.4 * rng.normal(size=n), 1)
    return y, fold, score


def test_auc_is_the_folds_mean_weighted_by_pairs_as_scikit_learn_computes_each() -> None:
    y, fold, score = cohort()
    aucs, weights = [], []
    for k in range(3):
        inside = fold == k
        aucs.append(roc_auc_score(y[inside], score[inside]))
        weights.append(y[inside].sum() * (1 - y[inside]).sum())
    assert metrics.within_fold_auc(y, fold, score) == pytest.approx(np.average(aucs, weights=weights), abs=1e-15)


def test_constant_predictor_has_auc_one_half_within_folds_and_less_when_pooled() -> None:
    y = np.array([1] * 7 + [0] * 23)
    fold = np.arange(30) % 5
    constant = metrics.baseline_scores(y, fold)
    assert metrics.within_fold_auc(y, fold, constant) == 0.5
    assert roc_auc_score(y, constant) < 0.5


def test_baseline_is_the_share_of_positives_in_the_training_part() -> None:
    y = np.array([1, 0, 0, 0, 1, 1])
    fold = np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(metrics.baseline_scores(y, fold), [2 / 3] * 3 + [1 / 3] * 3)


def test_losses_are_scikit_learns_on_clipped_scores() -> None:
    y, fold, score = cohort()
    assert score.min() < 0
    assert score.max() > 1
    out = metrics.evaluate(y, fold, score)
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    assert out["log_loss"]["value"] == pytest.approx(log_loss(y, clipped), rel=1e-12)
    assert out["brier"]["value"] == pytest.approx(brier_score_loss(y, clipped), rel=1e-12)
    constant = metrics.baseline_scores(y, fold)
    assert out["baseline"]["log_loss"]["value"] == pytest.approx(log_loss(y, constant), rel=1e-12)


def test_certain_and_wrong_costs_a_finite_log_loss() -> None:
    assert metrics.log_losses([1, 0], [-3.0, 7.0]) == pytest.approx([-np.log(1e-6)] * 2)


scores = st.lists(st.integers(0, 6), min_size=1, max_size=12)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")  # one fold has no baseline
@settings(max_examples=100, deadline=None)
@given(positive=scores, negative=scores, seed=st.integers(0, 2**16), block=st.sampled_from([1, 30, 10**6]))
def test_intervals_are_percentiles_of_scikit_learns_numbers_on_the_resampled_patients(
    positive: list[int], negative: list[int], seed: int, block: int
) -> None:
    """The same draws, with each patient repeated as often as drawn; in blocks of any size."""
    resamples = 7
    parts = [np.array(positive, float) / 6, np.array(negative, float) / 6]
    y, score = np.repeat([1, 0], [len(positive), len(negative)]), np.concatenate(parts)
    out = metrics.evaluate(y, np.zeros(len(y)), score, seed=seed, resamples=resamples, block=block)

    rng = np.random.default_rng(seed)
    rows = max(1, min(resamples, block // len(y)))
    plain: dict[str, list[float]] = {"auc": [], "log_loss": [], "brier": []}
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = [rng.integers(0, len(part), size=(count, len(part))) for part in parts]
        for row in range(count):
            again = np.concatenate([part[d[row]] for part, d in zip(parts, drawn, strict=True)])
            plain["auc"].append(roc_auc_score(y, again))
            plain["log_loss"].append(metrics.log_losses(y, again).mean())
            plain["brier"].append(metrics.brier_scores(y, again).mean())
    for name, values in plain.items():
        assert (out[name]["low"], out[name]["high"]) == pytest.approx(tuple(np.percentile(values, (2.5, 97.5))))


def test_interval_agrees_with_a_plain_bootstrap_within_fold_and_class() -> None:
    y, fold, score = cohort(n=120)
    rng = np.random.default_rng(99)
    strata = [np.flatnonzero((fold == k) & (y == c)) for k in range(3) for c in (0, 1)]
    plain: dict[str, list[float]] = {"auc": [], "log_loss": [], "brier": []}
    for _ in range(1000):
        drawn = np.concatenate([rng.choice(members, len(members)) for members in strata])
        plain["auc"].append(_plain_auc(y[drawn], fold[drawn], score[drawn]))
        plain["log_loss"].append(metrics.log_losses(y[drawn], score[drawn]).mean())
        plain["brier"].append(metrics.brier_scores(y[drawn], score[drawn]).mean())
    out = metrics.evaluate(y, fold, score)
    for name, values in plain.items():
        low, high = np.percentile(values, (2.5, 97.5))
        tolerance = 0.1 * (high - low)
        assert out[name]["low"] == pytest.approx(low, abs=tolerance)
        assert out[name]["high"] == pytest.approx(high, abs=tolerance)
        assert out[name]["low"] < out[name]["value"] < out[name]["high"]


def _plain_auc(y: NDArray[Any], fold: NDArray[Any], score: NDArray[Any]) -> float:
    won = pairs = 0.0
    for k in np.unique(fold):
        positive, negative = score[(fold == k) & (y == 1)], score[(fold == k) & (y == 0)]
        difference = positive[:, None] - negative[None, :]
        won += ((np.sign(difference) + 1) / 2).sum()
        pairs += difference.size
    return float(won / pairs)


def test_a_large_cohort_is_resampled_in_blocks() -> None:
    y, fold, score = cohort()
    whole = metrics.evaluate(y, fold, score)
    cut = metrics.evaluate(y, fold, score, block=1000)
    for name in ("auc", "log_loss", "brier"):
        assert cut[name]["value"] == whole[name]["value"]
        assert cut[name]["low"] == pytest.approx(whole[name]["low"], abs=0.02)


def test_baseline_does_not_vary_within_fold_and_class() -> None:
    y, fold, score = cohort()
    for estimate in metrics.evaluate(y, fold, score)["baseline"].values():
        assert estimate["low"] == estimate["value"] == estimate["high"]


def test_optimistic_scores_are_measured_the_same_way() -> None:
    y, fold, score = cohort()
    out = metrics.evaluate(y, fold, score, optimistic_score=score)
    assert out["optimistic"] == {name: out[name] for name in ("auc", "log_loss", "brier")}
    assert metrics.evaluate(y, fold, score)["optimistic"] is None


def test_a_fold_of_one_class_has_no_weight_and_no_nan() -> None:
    y = np.array([1, 0, 1, 0, 0, 0])
    fold = np.array([0, 0, 0, 0, 1, 1])
    score = np.array([0.9, 0.1, 0.4, 0.5, 0.2, 0.3])
    assert metrics.evaluate_fold(y[4:], score[4:])["auc"] is None
    out = metrics.evaluate(y, fold, score)
    assert out["auc"]["value"] == roc_auc_score(y[:4], score[:4])
    json.dumps(out, allow_nan=False)


def test_if_every_fold_has_one_class_the_auc_is_undefined() -> None:
    out = metrics.evaluate([1, 1, 0, 0], [0, 0, 1, 1], [0.9, 0.8, 0.1, 0.2])
    assert out["auc"] == {"value": None, "low": None, "high": None}
    assert out["log_loss"]["value"] > 0
    json.dumps(out, allow_nan=False)


def test_the_seed_decides_the_interval() -> None:
    y, fold, score = cohort()
    assert metrics.evaluate(y, fold, score, seed=1) == metrics.evaluate(y, fold, score, seed=1)
    assert metrics.evaluate(y, fold, score, seed=1) != metrics.evaluate(y, fold, score, seed=2)
