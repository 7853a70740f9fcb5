"""What lungct.metrics says about a cohort before any training."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lungct import metrics
from lungct.metrics.auc import expected_variance
from lungct.metrics.estimate import SHARED


def labels(positives: int, negatives: int) -> tuple[list[int], list[int]]:
    y = [1] * positives + [0] * negatives
    return y, [i % 5 for i in range(positives)] + [i % 5 for i in range(negatives)]


def test_smallest_auc_solves_the_formula_for_power() -> None:
    y, fold = labels(50, 150)
    found = metrics.smallest_auc(y, fold)
    assert found is not None
    sizes = np.array([[10, 30, 0.2]] * 5)
    errors = 1.959964 * math.sqrt(expected_variance(0.5, sizes)) + 0.841621 * math.sqrt(expected_variance(found, sizes))
    assert found - 0.5 == pytest.approx(SHARED * errors, abs=1e-5)
    assert metrics.evaluate(y, fold, np.linspace(0, 1, 200))["smallest_auc"] == found


def test_in_four_of_five_cohorts_the_interval_of_the_smallest_auc_lies_above_one_half() -> None:
    """Scores whose spread is inflated by SHARED, as a cross-validation's are with a weak signal."""
    y, fold = (np.array(column) for column in labels(60, 140))
    sizes = np.array([[12, 28, 0.2]] * 5)
    found = metrics.smallest_auc(y, fold)
    assert found is not None
    drawn = np.random.default_rng(0).normal(found, SHARED * math.sqrt(expected_variance(found, sizes)), 20_000)
    needed = 0.5 + SHARED * 1.959964 * math.sqrt(expected_variance(0.5, sizes))
    assert (drawn > needed).mean() == pytest.approx(0.8, abs=0.01)


def test_more_patients_can_show_less_and_few_can_show_nothing() -> None:
    found = [metrics.smallest_auc(*labels(k, 2 * k)) for k in (20, 50, 200, 2000)]
    assert all(value is not None for value in found)
    assert found == sorted(found, key=lambda value: -(value or 0))
    assert metrics.smallest_auc(*labels(5, 5)) is None
    assert metrics.smallest_auc([1, 0], [0, 1]) is None


def test_scans_of_one_person_are_one_event() -> None:
    y, fold = labels(40, 60)
    twice = metrics.smallest_auc(y * 2, fold * 2, list(range(100)) * 2)
    assert twice == pytest.approx(metrics.smallest_auc(y, fold), abs=1e-5)


def test_events_are_of_the_rarer_class() -> None:
    assert metrics.events_per_fold(*labels(7, 30)) == (1, 2)
    assert metrics.events_per_fold(*labels(30, 10)) == (2, 2)


def test_enough_patients_need_no_sentence() -> None:
    assert metrics.too_few(*labels(100, 200), min_data_in_leaf=10, bagging_fraction=0.8) is None


def test_rows_that_no_tree_can_split_are_named() -> None:
    """40 patients in 5 folds: 24 rows outside a pair of folds, 19 drawn, and two leaves of 10 need 20."""
    y, fold = labels(20, 20)
    said = metrics.too_few(y, fold, min_data_in_leaf=10, bagging_fraction=0.8)
    assert said is not None
    assert "19 rows" in said
    assert "min_data_in_leaf 10" in said
    with_inner = metrics.too_few(y, fold, min_data_in_leaf=10, bagging_fraction=0.8, inner=True)
    assert with_inner is not None
    assert "rows" not in with_inner


def test_few_events_are_counted_with_the_smallest_auc() -> None:
    said = metrics.too_few(*labels(22, 35), min_data_in_leaf=5)
    assert said is not None
    assert "22 of 57 patients are positive, 4 to 5 in a fold" in said
    smallest = metrics.smallest_auc(*labels(22, 35))
    assert smallest is not None
    assert f"{math.ceil(100 * smallest) / 100:.2f}" in said
    none = metrics.too_few(*labels(6, 5), min_data_in_leaf=1)
    assert none is not None
    assert "5 of 11 patients are negative, 1 in a fold, so that no AUC could be told from 0.5" in none
