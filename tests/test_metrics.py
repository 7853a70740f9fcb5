"""lungct.metrics: the values, against scikit-learn and against the formulas written out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score, roc_curve
from support.cohorts import cohort

from lungct import metrics
from lungct.metrics.auc import placements
from lungct.metrics.curves import mean_roc
from lungct.metrics.operating import thresholds
from lungct.metrics.sample import Sample


def test_auc_is_the_folds_mean_weighted_by_pairs_as_scikit_learn_computes_each() -> None:
    y, fold, score = cohort()
    aucs, weights = [], []
    for k in range(3):
        inside = fold == k
        aucs.append(roc_auc_score(y[inside], score[inside]))
        weights.append(y[inside].sum() * (1 - y[inside]).sum())
    expected = np.average(aucs, weights=weights)
    assert metrics.within_fold_auc(y, fold, score) == pytest.approx(expected, abs=1e-15)
    assert metrics.evaluate(y, fold, score)["auc"]["value"] == metrics.within_fold_auc(y, fold, score)


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


def test_losses_are_scikit_learns_on_clipped_scores_and_differences_are_theirs() -> None:
    y, fold, score = cohort()
    assert score.min() < 0
    assert score.max() > 1
    other = np.roll(score, 1)
    out = metrics.evaluate(y, fold, score, linear_score=other)
    clipped, constant = np.clip(score, 1e-6, 1 - 1e-6), metrics.baseline_scores(y, fold)
    for kind, loss in (("log_loss", log_loss), ("brier", brier_score_loss)):
        assert out[kind]["value"] == pytest.approx(loss(y, clipped), rel=1e-12)
        assert out["baseline"][kind]["value"] == pytest.approx(loss(y, constant), rel=1e-12)
        assert out["difference"][kind]["value"] == pytest.approx(loss(y, clipped) - loss(y, constant), abs=1e-12)
        linear = out["linear"][kind]["value"]
        assert out["linear_difference"][kind]["value"] == pytest.approx(out[kind]["value"] - linear, abs=1e-12)
    aucs = out["auc"]["value"] - out["linear"]["auc"]["value"]
    assert out["linear_difference"]["auc"]["value"] == pytest.approx(aucs, abs=1e-15)


def test_certain_and_wrong_costs_a_finite_log_loss() -> None:
    assert metrics.log_losses([1, 0], [-3.0, 7.0]) == pytest.approx([-np.log(1e-6)] * 2)


def test_average_precision_is_the_folds_mean_weighted_by_positives() -> None:
    y, fold, score = cohort()
    parts = [fold == k for k in range(3)]
    each = [average_precision_score(y[part], score[part]) for part in parts]
    expected = np.average(each, weights=[y[part].sum() for part in parts])
    assert metrics.evaluate(y, fold, score)["average_precision"]["value"] == pytest.approx(expected, abs=1e-15)


def test_scores_of_every_kind_are_measured_in_the_same_way() -> None:
    y, fold, score = cohort()
    out = metrics.evaluate(y, fold, score, optimistic_score=score, linear_score=score, averaged_score=score)
    three = {name: out[name] for name in ("auc", "log_loss", "brier")}
    assert out["optimistic"] == out["linear"] == out["averaged"] == three
    without = metrics.evaluate(y, fold, score)
    assert without["optimistic"] is without["linear"] is without["averaged"] is without["linear_difference"] is None


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.lists(st.integers(0, 4), min_size=1, max_size=9))
def test_placements_count_pairs(positive: list[int], negative: list[int]) -> None:
    p, n = np.array(positive, float), np.array(negative, float)
    wins = (np.sign(p[:, None] - n[None, :]) + 1) / 2
    of_positives, of_negatives = placements(p, n)
    np.testing.assert_allclose(of_positives, wins.mean(axis=1), atol=1e-15)
    np.testing.assert_allclose(of_negatives, wins.mean(axis=0), atol=1e-15)


def test_sensitivity_is_read_from_the_mean_roc_curve() -> None:
    y, fold, score = cohort(n=400, folds=4)
    out = metrics.evaluate(y, fold, score)["operating_points"]
    assert [point["specificity"] for point in out] == [0.9, 0.95]
    for point in out:
        folds, weights = [], []
        for k in range(4):
            part = fold == k
            fpr, tpr, _ = roc_curve(y[part], score[part], drop_intermediate=False)
            folds.append(np.interp(1 - point["specificity"], fpr, tpr))
            weights.append(y[part].sum() * (1 - y[part]).sum())
        assert point["sensitivity"]["value"] == pytest.approx(np.average(folds, weights=weights), abs=1e-12)


def test_sensitivity_at_a_jump_is_the_top_of_the_jump() -> None:
    """Nine of ten negatives lie below every positive: at specificity 0.9 all positives are found."""
    y = np.array([0] * 10 + [1] * 4)
    score = np.array([0.0] * 9 + [0.9] + [0.5] * 4)
    out = metrics.evaluate(y, np.zeros(14), score)["operating_points"]
    assert out[0]["sensitivity"]["value"] == 1
    assert out[1]["sensitivity"]["value"] == 0


def test_the_area_under_the_mean_roc_curve_is_the_auc() -> None:
    y, fold, score = cohort()
    roc = mean_roc(Sample.of(y, fold), score)
    assert roc is not None
    assert np.trapezoid(roc[:, 1], roc[:, 0]) == pytest.approx(metrics.within_fold_auc(y, fold, score), abs=1e-12)


def test_calibration_is_a_logistic_regression_on_the_logits_pooled() -> None:
    y, fold, score = cohort(n=300)
    p = np.clip(score, 1e-6, 1 - 1e-6)
    logit = np.log(p / (1 - p))
    fitted = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(logit[:, None], y)
    out = metrics.evaluate(y, fold, score)["calibration"]
    assert out["slope"]["value"] == pytest.approx(fitted.coef_[0, 0], rel=1e-5)
    moved = 1 / (1 + np.exp(-(logit + out["intercept"]["value"])))
    assert moved.mean() == pytest.approx(y.mean(), abs=1e-9)


def test_well_calibrated_scores_have_slope_one_and_intercept_zero_and_wrong_ones_do_not() -> None:
    rng = np.random.default_rng(5)
    logit = rng.normal(-0.5, 1.2, 20_000)
    p = 1 / (1 + np.exp(-logit))
    y, fold = (rng.random(20_000) < p).astype(int), np.arange(20_000) % 5
    right = metrics.evaluate(y, fold, p)["calibration"]
    timid = metrics.evaluate(y, fold, 1 / (1 + np.exp(-logit / 4)))["calibration"]
    high = metrics.evaluate(y, fold, 1 / (1 + np.exp(-logit - 1)))["calibration"]
    assert right["slope"]["low"] < 1 < right["slope"]["high"]
    assert right["intercept"]["low"] < 0 < right["intercept"]["high"]
    assert timid["slope"]["value"] == pytest.approx(4 * right["slope"]["value"], rel=1e-6)
    assert high["intercept"]["value"] == pytest.approx(right["intercept"]["value"] - 1, abs=1e-8)


def test_scores_that_separate_the_classes_or_are_constant_have_no_slope() -> None:
    y = np.array([0] * 20 + [1] * 20)
    fold = np.tile([0, 1], 20)
    for score in (y * 1.0, y * 0.2 + 0.4, 1.0 - y, np.full(40, 0.3), np.where(fold == 0, 0.45, 0.55)):
        slope = metrics.evaluate(y, fold, score)["calibration"]["slope"]
        assert slope == {"value": None, "low": None, "high": None}
    certain = metrics.evaluate(y, fold, y * 1.0)["calibration"]["intercept"]
    assert certain == {"value": None, "low": None, "high": None}
    constant = metrics.evaluate(y, fold, np.full(40, 0.3))["calibration"]["intercept"]
    assert constant["value"] == pytest.approx(np.log(0.7 / 0.3), abs=1e-8)


def test_net_benefit_is_that_of_vickers_and_elkin() -> None:
    y = np.array([1, 1, 0, 0, 0])
    score = np.array([0.9, 0.2, 0.6, 0.1, 0.04])
    curve = {point["threshold"]: point for point in metrics.evaluate(y, np.arange(5) % 2, score)["decision_curve"]}
    assert curve[0.5]["model"] == pytest.approx(1 / 5 - 1 / 5)
    assert curve[0.2]["model"] == pytest.approx(2 / 5 - 1 / 5 * 0.25)
    assert curve[0.2]["all"] == pytest.approx(2 / 5 - 3 / 5 * 0.25)


@given(st.floats(0, 1))
def test_thresholds_are_round_rise_and_surround_the_prevalence(prevalence: float) -> None:
    found = thresholds(prevalence)
    assert 15 <= len(found) <= 20
    assert all(round(t, 2) == t for t in found)
    assert list(found) == sorted(set(found))
    assert 0 < found[0] <= 0.05
    assert min(0.95, 2 * prevalence) <= found[-1] <= 0.95


def test_a_fold_of_one_class_has_no_weight_and_no_nan() -> None:
    y = np.array([1, 0, 1, 0, 0, 0])
    fold = np.array([0, 0, 0, 0, 1, 1])
    score = np.array([0.9, 0.1, 0.4, 0.5, 0.2, 0.3])
    assert metrics.evaluate_fold(y[4:], score[4:])["auc"] is None
    out = metrics.evaluate(y, fold, score)
    assert out["auc"]["value"] == roc_auc_score(y[:4], score[:4])
    json.dumps(out, allow_nan=False)


NOTHING = {"value": None, "low": None, "high": None}


def test_if_every_fold_has_one_class_what_compares_patients_of_a_fold_is_undefined() -> None:
    out = metrics.evaluate([1, 1, 0, 0], [0, 0, 1, 1], [0.9, 0.8, 0.1, 0.2], linear_score=[0.1, 0.2, 0.3, 0.4])
    assert out["auc"] == out["average_precision"] == out["linear_difference"]["auc"] == NOTHING
    assert [point["sensitivity"] for point in out["operating_points"]] == [NOTHING] * 2
    assert out["smallest_auc"] is None
    assert out["log_loss"]["value"] > 0
    json.dumps(out, allow_nan=False)


@pytest.mark.parametrize("label", [0, 1])
def test_patients_of_one_class_have_losses_and_nothing_else(label: int) -> None:
    out = metrics.evaluate([label] * 6, [0, 0, 1, 1, 2, 2], np.linspace(0.1, 0.9, 6))
    assert out["calibration"] == {"slope": NOTHING, "intercept": NOTHING}
    assert out["brier"]["low"] < out["brier"]["value"] < out["brier"]["high"]
    json.dumps(out, allow_nan=False)


def test_a_single_fold_has_no_constant_predictor() -> None:
    y, _, score = cohort()
    out = metrics.evaluate(y, np.zeros(len(y)), score)
    assert out["baseline"] == out["difference"] == {"log_loss": NOTHING, "brier": NOTHING}
    json.dumps(out, allow_nan=False)


def test_no_patients_are_an_error_and_not_a_number() -> None:
    with pytest.raises(ValueError, match="no patient"):
        metrics.evaluate([], [], [])


cohorts = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(-1, 5), st.integers(0, 9)), min_size=1, max_size=30
)


@settings(max_examples=80, deadline=None)
@given(cohorts)
def test_whatever_the_cohort_every_number_is_finite_and_lies_in_its_interval(
    rows: list[tuple[int, int, int, int]],
) -> None:
    y, fold, score, group = (np.array(column) for column in zip(*rows, strict=True))
    out = metrics.evaluate(y, fold, score / 4, linear_score=1 - score / 5, groups=group)
    json.dumps(out, allow_nan=False)
    for name, estimate in _estimates(out):
        value, low, high = (estimate[key] for key in ("value", "low", "high"))
        assert (value is None) == (low is None) == (high is None)
        if value is not None:
            assert low <= value <= high, name
            assert low < high, name
    for name in ("auc", "brier", "average_precision"):
        if out[name]["value"] is not None:
            assert out[name]["low"] >= 0
            assert out[name]["high"] <= 1
    assert out["log_loss"]["low"] >= 0


def _estimates(out: Any, name: str = "") -> list[tuple[str, dict[str, Any]]]:
    if isinstance(out, list):
        return [found for i, item in enumerate(out) for found in _estimates(item, f"{name}[{i}]")]
    if not isinstance(out, dict):
        return []
    if set(out) == {"value", "low", "high"}:
        return [(name, out)]
    return [found for key, item in out.items() for found in _estimates(item, f"{name}.{key}")]
