import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from lungct import metrics


def cohort(n: int = 90, folds: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, folds of unlike sizes, and scores with many ties."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(int)
    fold = rng.integers(0, folds, n)
    y[:folds], fold[:folds] = 1, np.arange(folds)
    y[folds : 2 * folds], fold[folds : 2 * folds] = 0, np.arange(folds)
    score = np.round(0.3 + 0.3 * y + 0.4 * rng.normal(size=n), 1)
    return y, fold, score


def test_auc_is_the_folds_mean_weighted_by_pairs_as_scikit_learn_computes_each():
    y, fold, score = cohort()
    aucs, weights = [], []
    for k in range(3):
        inside = fold == k
        aucs.append(roc_auc_score(y[inside], score[inside]))
        weights.append(y[inside].sum() * (1 - y[inside]).sum())
    assert metrics.within_fold_auc(y, fold, score) == pytest.approx(np.average(aucs, weights=weights), abs=1e-15)


def test_constant_predictor_has_auc_one_half_within_folds_and_less_when_pooled():
    y = np.array([1] * 7 + [0] * 23)
    fold = np.arange(30) % 5
    constant = metrics.baseline_scores(y, fold)
    assert metrics.within_fold_auc(y, fold, constant) == 0.5
    assert roc_auc_score(y, constant) < 0.5


def test_baseline_is_the_share_of_positives_in_the_training_part():
    y = np.array([1, 0, 0, 0, 1, 1])
    fold = np.array([0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(metrics.baseline_scores(y, fold), [2 / 3] * 3 + [1 / 3] * 3)


def test_losses_are_scikit_learns_on_clipped_scores():
    y, fold, score = cohort()
    assert score.min() < 0
    assert score.max() > 1
    out = metrics.evaluate(y, fold, score)
    clipped = np.clip(score, 1e-6, 1 - 1e-6)
    assert out["log_loss"]["value"] == pytest.approx(log_loss(y, clipped), rel=1e-12)
    assert out["brier"]["value"] == pytest.approx(brier_score_loss(y, clipped), rel=1e-12)
    constant = metrics.baseline_scores(y, fold)
    assert out["baseline"]["log_loss"]["value"] == pytest.approx(log_loss(y, constant), rel=1e-12)


def test_certain_and_wrong_costs_a_finite_log_loss():
    assert metrics.log_losses([1, 0], [-3.0, 7.0]) == pytest.approx([-np.log(1e-6)] * 2)


scores = st.lists(st.integers(0, 6), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(positive=scores, negative=scores, seed=st.integers(0, 2**16))
def test_resampled_auc_equals_scikit_learn_on_the_repeated_patients(positive, negative, seed):
    rng = np.random.default_rng(seed)
    times = metrics._times(rng, len(positive), 3), metrics._times(rng, len(negative), 3)
    won = metrics._auc_kernel(np.array(positive, float), np.array(negative, float))(*times)
    for row in range(3):
        repeated = [np.repeat(s, t[row].astype(int)) for s, t in zip((positive, negative), times, strict=True)]
        y = np.repeat([1, 0], [len(positive), len(negative)])
        expected = roc_auc_score(y, np.concatenate(repeated))
        assert won[row] / (len(positive) * len(negative)) == pytest.approx(expected, abs=1e-12)


@given(members=st.integers(1, 40), rows=st.integers(1, 20), seed=st.integers(0, 2**16))
def test_a_resample_draws_as_many_patients_as_there_are(members, rows, seed):
    times = metrics._times(np.random.default_rng(seed), members, rows)
    assert times.shape == (rows, members)
    assert (times.sum(axis=1) == members).all()


@given(members=st.integers(0, 10_000_000))
def test_blocks_cover_every_resample_once_within_the_bound(members):
    rows = [i for block in metrics._blocks(members) for i in range(block.start, block.stop)]
    assert rows == list(range(metrics.RESAMPLES))
    widest = max(block.stop - block.start for block in metrics._blocks(members))
    assert widest == 1 or widest * members <= metrics._BLOCK


def test_interval_agrees_with_a_plain_bootstrap_within_fold_and_class():
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


def _plain_auc(y: np.ndarray, fold: np.ndarray, score: np.ndarray) -> float:
    won = pairs = 0.0
    for k in np.unique(fold):
        positive, negative = score[(fold == k) & (y == 1)], score[(fold == k) & (y == 0)]
        difference = positive[:, None] - negative[None, :]
        won += ((np.sign(difference) + 1) / 2).sum()
        pairs += difference.size
    return won / pairs


def test_a_large_cohort_is_resampled_in_blocks(monkeypatch):
    y, fold, score = cohort()
    whole = metrics.evaluate(y, fold, score)
    monkeypatch.setattr(metrics, "_BLOCK", 1000)
    assert len(list(metrics._blocks(30))) > 1
    cut = metrics.evaluate(y, fold, score)
    for name in ("auc", "log_loss", "brier"):
        assert cut[name]["value"] == whole[name]["value"]
        assert cut[name]["low"] == pytest.approx(whole[name]["low"], abs=0.02)


def test_baseline_does_not_vary_within_fold_and_class():
    y, fold, score = cohort()
    for estimate in metrics.evaluate(y, fold, score)["baseline"].values():
        assert estimate["low"] == estimate["value"] == estimate["high"]


def test_optimistic_scores_are_measured_the_same_way():
    y, fold, score = cohort()
    out = metrics.evaluate(y, fold, score, score)
    assert out["optimistic"] == {name: out[name] for name in ("auc", "log_loss", "brier")}
    assert metrics.evaluate(y, fold, score)["optimistic"] is None


def test_a_fold_of_one_class_has_no_weight_and_no_nan():
    y = np.array([1, 0, 1, 0, 0, 0])
    fold = np.array([0, 0, 0, 0, 1, 1])
    score = np.array([0.9, 0.1, 0.4, 0.5, 0.2, 0.3])
    assert metrics.evaluate_fold(y[4:], score[4:])["auc"] is None
    out = metrics.evaluate(y, fold, score)
    assert out["auc"]["value"] == roc_auc_score(y[:4], score[:4])
    json.dumps(out, allow_nan=False)


def test_folds_of_one_class_each_leave_the_auc_untold():
    out = metrics.evaluate([1, 1, 0, 0], [0, 0, 1, 1], [0.9, 0.8, 0.1, 0.2])
    assert out["auc"] == {"value": None, "low": None, "high": None}
    assert out["log_loss"]["value"] > 0
    json.dumps(out, allow_nan=False)


def test_the_seed_settles_the_interval():
    y, fold, score = cohort()
    assert metrics.evaluate(y, fold, score, seed=1) == metrics.evaluate(y, fold, score, seed=1)
    assert metrics.evaluate(y, fold, score, seed=1) != metrics.evaluate(y, fold, score, seed=2)
