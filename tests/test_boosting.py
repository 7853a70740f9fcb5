"""lungct.boosting against plain LightGBM, scikit-learn and NumPy."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightgbm.callback import CallbackEnv
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lungct
from lungct import boosting
from lungct.arguments import command_line
from lungct.boosting import linear
from lungct.boosting.fitting import fit_fold
from lungct.boosting.rounds import EarlyStopping
from lungct.errors import LungCTWarning, NothingUsableError, UsageError

PARAMETERS: dict[str, dict[str, Any]] = {  # the 2017 parameters, written out a second time
    "l2": {
        "objective": "regression",
        "metric": "l2",
        "max_depth": 50,
        "num_leaves": 21,
        "learning_rate": 0.001,
        "min_sum_hessian_in_leaf": 1,
        "min_data_in_leaf": 10,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.8,
        "max_bin": 255,
        "seed": 42,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
}
PARAMETERS["binary"] = {**PARAMETERS["l2"], "objective": "binary", "metric": "binary_logloss"}
FAST = {"learning_rate": 0.05}


Features = NDArray[Any]
Labels = NDArray[Any]


def planted(n: int = 120, columns: int = 20, seed: int = 0) -> tuple[Features, Labels]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, columns)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] + 0.8 * rng.normal(size=n) > 0.5).astype(int)
    return X, y


@dataclass
class Plain:
    """What plain LightGBM, scikit-learn and NumPy make of a cohort."""

    rounds: list[int]
    best_iteration: list[int]
    curves: list[list[float]]
    pair_curves: dict[tuple[int, int], list[float]]
    score: NDArray[np.float64]
    optimistic: NDArray[np.float64]
    averaged: NDArray[np.float64]


def cut(losses: list[float], early_stopping: int) -> list[float]:
    """Cut a curve where early stopping on it alone would have ended the fit."""
    best = 0
    for i, loss in enumerate(losses):
        if loss < losses[best]:
            best = i
        if i - best >= early_stopping:
            return losses[: i + 1]
    return losses


def undisturbed(
    X: Features, y: Labels, rows: NDArray[Any], parts: Sequence[NDArray[Any]], params: dict[str, Any], rounds: int
) -> list[list[float]]:
    """Fit all rounds and return the losses on each part."""
    history: dict[str, dict[str, list[float]]] = {}
    fitted = lightgbm.Dataset(X[rows], y[rows])
    lightgbm.train(
        params,
        fitted,
        num_boost_round=rounds,
        valid_sets=[fitted.create_valid(X[part], y[part]) for part in parts],
        valid_names=[f"part {i}" for i in range(len(parts))],
        callbacks=[lightgbm.record_evaluation(history)],
    )
    return [history[f"part {i}"][params["metric"]] for i in range(len(parts))]


def plain(
    X: Features,
    y: Labels,
    splits: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    params: dict[str, Any],
    rounds: int,
    early_stopping: int,
) -> Plain:
    """Choose rounds by pairs of folds and score, with no code of lungct."""
    valid = [part for _, part in splits]
    folds, pair_rows, pair_curves = range(len(splits)), {}, {}
    for j, k in itertools.combinations(folds, 2):
        rows = np.setdiff1d(np.arange(len(y)), np.concatenate([valid[j], valid[k]]))
        on_j, on_k = undisturbed(X, y, rows, [valid[j], valid[k]], params, rounds)
        pair_curves[j, k], pair_curves[k, j] = cut(on_j, early_stopping), cut(on_k, early_stopping)
        pair_rows[j, k] = pair_rows[k, j] = rows
    out = Plain([], [], [], pair_curves, *np.zeros((3, len(y))))

    def predicted(rows: NDArray[Any], part: NDArray[Any], r: int) -> NDArray[np.float64]:
        booster = lightgbm.train(params, lightgbm.Dataset(X[rows], y[rows]), num_boost_round=r)
        return np.asarray(booster.predict(X[part]))

    for k in folds:
        others = [j for j in folds if j != k]
        sums = [
            sum(len(valid[j]) * (pair_curves[j, k][r : r + 1] or pair_curves[j, k][-1:])[0] for j in others)
            for r in range(rounds)
        ]
        chosen = sums.index(min(sums)) + 1
        (losses,) = undisturbed(X, y, splits[k][0], [valid[k]], params, rounds)
        curve = cut(losses, early_stopping)
        best = curve.index(min(curve)) + 1
        out.rounds.append(chosen)
        out.best_iteration.append(best)
        out.curves.append(curve)
        out.score[valid[k]] = predicted(splits[k][0], valid[k], chosen)
        out.optimistic[valid[k]] = predicted(splits[k][0], valid[k], best)
        # A pair's booster ends with the longer of its two curves.
        ends = {j: max(len(pair_curves[j, k]), len(pair_curves[k, j])) for j in others}
        out.averaged[valid[k]] = np.mean(
            [predicted(pair_rows[j, k], valid[k], min(chosen, ends[j])) for j in others], axis=0
        )
    return out


@pytest.mark.parametrize("objective", ["l2", "binary"])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"lambda_l1": 0.5, "lambda_l2": 3.0},
        {"lambda_l1": 4.5, "feature_fraction": 0.2},  # with rounds that split nothing
        {"boosting": "dart", "drop_rate": 0.3},
        {"boosting": "rf"},
        {"data_sample_strategy": "goss", "bagging_freq": 0, "min_data_in_leaf": 3},
        {"linear_tree": True, "linear_lambda": 0.1, "min_gain_to_split": 1.5, "feature_fraction": 0.1},  # here, too
        {"extra_trees": True, "bagging_freq": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("grouped", [False, True])
def test_everything_equals_plain_lightgbm_and_scikit_learn(
    objective: boosting.Objective, params: dict[str, Any], grouped: bool
) -> None:
    X, y = planted(n=133)
    settled = {**PARAMETERS[objective], **FAST, **params}
    groups = np.arange(133) // 2 if grouped else None
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    splits = list(kind(4, shuffle=True, random_state=42).split(y, y, groups))
    expected = plain(X, y, splits, settled, 80, 10)
    options: dict[str, Any] = {"folds": 4, "rounds": 80, "early_stopping": 10, "params": {**FAST, **params}}
    result = boosting.cross_validate(X, y, objective=objective, groups=groups, **options)

    assert result.params == settled
    assert result.rounds == expected.rounds
    assert result.best_iteration == expected.best_iteration
    assert [curve.tolist() for curve in result.curves] == expected.curves
    assert {key: curve.tolist() for key, curve in result.pair_curves.items()} == expected.pair_curves
    assert result.optimistic_score is not None
    np.testing.assert_array_equal(result.score, expected.score)
    np.testing.assert_array_equal(result.optimistic_score, expected.optimistic)
    if params.get("boosting") == "dart":
        assert result.averaged_score is None
    else:
        assert result.averaged_score is not None
        np.testing.assert_allclose(result.averaged_score, expected.averaged, rtol=1e-12)
    for k, (_, valid) in enumerate(splits):
        assert (result.fold[valid] == k).all()
        np.testing.assert_array_equal(result.boosters[k].predict(X[valid]), expected.score[valid])


def test_threads_decide_nothing_where_nothing_changes() -> None:
    """Threads add up a loss in any order; on a flat curve its last bits would choose the rounds."""
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(60, 5)), (np.arange(60) % 3 == 0).astype(float)
    learner = boosting.make_learner(objective="l2", params=FAST, rounds=60, early_stopping=15, seed=1, columns=5)
    part = boosting.Fold(0, np.arange(18), np.arange(18, 60))  # too few patients to split
    assert {len(fit_fold(X, y, part, learner, rounds=1, threads=4).curve) for _ in range(50)} == {16}


def test_a_booster_that_was_stopped_goes_on_to_its_rounds_as_if_it_had_not_been() -> None:
    X, y = planted(n=133)
    result = boosting.cross_validate(X, y, rounds=200, early_stopping=8, params=FAST)
    gone_on = [k for k in range(5) if result.rounds[k] > len(result.curves[k])]
    assert gone_on, "the data must make the case that is tested"
    for k in gone_on:
        train = np.flatnonzero(result.fold != k)
        whole = lightgbm.train(
            {**PARAMETERS["l2"], **FAST}, lightgbm.Dataset(X[train], y[train]), num_boost_round=result.rounds[k]
        )
        np.testing.assert_array_equal(result.boosters[k].predict(X), whole.predict(X))


def test_the_defaults_are_the_2017_parameters() -> None:
    for objective in boosting.OBJECTIVES:
        learner = boosting.make_learner(
            objective=objective, params=None, rounds=5000, early_stopping=300, seed=42, columns=3
        )
        assert learner.params == PARAMETERS[objective]


def test_inner_chooses_the_round_inside_the_training_part() -> None:
    X, y = planted()
    params = {**PARAMETERS["l2"], **FAST}
    result = boosting.cross_validate(X, y, folds=3, rounds=150, early_stopping=20, params=FAST, inner=True)
    splits = StratifiedKFold(3, shuffle=True, random_state=42).split(y, y)
    for k, (train, valid) in enumerate(splits):
        fits, chooses = train_test_split(train, test_size=0.2, stratify=y[train], random_state=42)
        (losses,) = undisturbed(X, y, fits, [chooses], params, 150)
        curve = cut(losses, 20)
        best = curve.index(min(curve)) + 1
        whole = lightgbm.train(params, lightgbm.Dataset(X[train], y[train]), best)
        assert result.rounds[k] == result.best_iteration[k] == best
        assert result.curves[k].tolist() == curve
        np.testing.assert_array_equal(result.score[valid], whole.predict(X[valid]))
        assert result.boosters[k].num_trees() == result.rounds[k]
    assert result.optimistic_score is None
    assert result.metrics["optimistic"] is None


@pytest.mark.parametrize("inner", [False, True])
def test_scans_of_one_person_stay_together(inner: bool) -> None:
    _, y = planted(n=150)
    groups = np.array([f"person{i // 2:03d}" for i in range(150)])
    plan = boosting.plan_folds(y, folds=5, seed=7, groups=groups, inner=inner)
    splits = StratifiedGroupKFold(5, shuffle=True, random_state=7).split(y, y, groups)
    for part, (train, valid) in zip(plan, splits, strict=True):
        np.testing.assert_array_equal(part.train, train)
        np.testing.assert_array_equal(part.valid, valid)
        assert not set(groups[part.train]) & set(groups[part.valid])
        if inner:
            assert part.inner_train is not None
            assert part.inner_valid is not None
            within = StratifiedGroupKFold(5, shuffle=True, random_state=7)
            first, second = next(within.split(train, y[train], groups[train]))
            np.testing.assert_array_equal(part.inner_train, train[first])
            np.testing.assert_array_equal(part.inner_valid, train[second])
            assert not set(groups[part.inner_train]) & set(groups[part.inner_valid])


def test_neither_threads_nor_another_process_change_a_bit() -> None:
    X, y = planted()
    here = boosting.cross_validate(X, y, rounds=60, early_stopping=20, params=FAST)

    def elsewhere(X: Features, y: Labels, jobs: Sequence[boosting.Job]) -> list[Any]:
        X.flags.writeable = False  # as arrays in an object store are
        sent = [pickle.loads(pickle.dumps(job)) for job in jobs]
        return [pickle.loads(pickle.dumps(job.run(X, y, 1 + i % 2))) for i, job in enumerate(sent)]

    there = boosting.cross_validate(X, y, rounds=60, early_stopping=20, params=FAST, run_jobs=elsewhere)
    np.testing.assert_array_equal(there.linear_score, here.linear_score)
    np.testing.assert_array_equal(there.score, here.score)
    assert there.optimistic_score is not None
    assert here.optimistic_score is not None
    np.testing.assert_array_equal(there.optimistic_score, here.optimistic_score)
    assert there.metrics == here.metrics


@pytest.mark.parametrize(
    "params", [{}, {"linear_tree": True}, {"boosting": "rf"}, {"max_bin": 15, "extra_trees": True}]
)
def test_a_booster_is_the_same_after_its_text(params: dict[str, Any]) -> None:
    X, y = planted()
    settled = {**PARAMETERS["binary"], **FAST, **params}
    booster = lightgbm.train(settled, lightgbm.Dataset(X, y), 30)
    again = boosting.load_booster(booster.model_to_string(num_iteration=-1))
    fresh = planted(seed=5)[0]
    for rounds in (1, 17, 30):
        expected = booster.predict(fresh, num_iteration=rounds)
        np.testing.assert_array_equal(boosting.predict_scores(again, fresh, rounds), expected)


@given(data=st.data())
def test_the_rounds_of_a_fold_minimise_the_others_curves_and_never_depend_on_its_own(data: st.DataObject) -> None:
    folds = data.draw(st.integers(3, 5))
    losses = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=8)
    curves = {pair: np.array(data.draw(losses)) for pair in itertools.permutations(range(folds), 2)}
    patients = [data.draw(st.integers(1, 30)) for _ in range(folds)]
    chosen = boosting.choose_rounds(curves, patients)
    for k, rounds in enumerate(chosen):
        sums = [
            sum(patients[j] * curves[j, k][min(r, len(curves[j, k]) - 1)] for j in range(folds) if j != k)
            for r in range(max(len(curves[j, k]) for j in range(folds) if j != k))
        ]
        assert rounds == sums.index(min(sums)) + 1
        # Neither losses on fold k nor boosters that saw fold k have a say.
        changed = {(j, other): curve if other == k else curve[::-1] * 3 for (j, other), curve in curves.items()}
        assert boosting.choose_rounds(changed, patients)[k] == rounds


class Result(NamedTuple):
    """What LightGBM tells its callbacks about one curve."""

    dataset_name: str
    metric_name: str
    metric_value: float
    maximize: bool


@given(losses=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=20), patience=st.integers(1, 6))
def test_a_curve_ends_where_lightgbm_looking_at_it_alone_would_end_the_fit(losses: list[float], patience: int) -> None:
    curve, rule, fitted = EarlyStopping(patience), lightgbm.early_stopping(patience, verbose=False), len(losses)
    for i, loss in enumerate(losses):
        curve.add(loss)
        result = Result("valid", "l2", loss, False)
        try:
            rule(CallbackEnv(None, {}, i, 0, len(losses) + 1, [result]))
        except lightgbm.EarlyStopException:
            fitted = min(fitted, i + 1)
            assert curve.ended
    assert curve.losses == losses[:fitted]


@pytest.mark.parametrize("params", [{}, {"linear_tree": True}, {"boost_from_average": False}], ids=str)
def test_a_round_that_splits_nothing_has_a_tree_in_its_place(params: dict[str, Any]) -> None:
    X, y = planted(n=60, columns=5)
    learner = boosting.make_learner(
        objective="l2",
        params={**FAST, **params, "min_data_in_leaf": 15},
        rounds=80,
        early_stopping=70,
        seed=1,
        columns=5,
    )
    train, valid = np.arange(40), np.arange(40, 60)
    fit = fit_fold(X, y.astype(float), boosting.Fold(0, train, valid), learner, rounds=100)
    plain = lightgbm.train(dict(learner.params), lightgbm.Dataset(X[train], y[train]), 100)
    booster = boosting.load_booster(fit.model)
    assert 1 < plain.num_trees() < booster.num_trees() == 100, "the data must make the case that is tested"
    np.testing.assert_array_equal(booster.predict(X), plain.predict(X))
    for r in (*range(1, 12), len(fit.curve)):
        loss = np.mean((booster.predict(X[valid], num_iteration=r) - y[valid]) ** 2)
        assert fit.curve[r - 1] == pytest.approx(loss, rel=1e-12)
    assert boosting.load_booster(booster.model_to_string(num_iteration=-1)).num_trees() == 100


@pytest.mark.parametrize("kind", ["dart", "rf"])
@pytest.mark.parametrize("inner", [False, True])
def test_boosting_that_a_round_without_a_split_breaks_is_refused_then(kind: str, inner: bool) -> None:
    """LightGBM forgets dropped trees, or averages an empty tree into predictions but not into losses."""
    X, y = planted(n=60, columns=5)
    params = {**FAST, "boosting": kind, "min_data_in_leaf": 17, "drop_rate": 0.5}
    with pytest.raises(UsageError, match=f"under boosting '{kind}' .* split nothing") as caught:
        boosting.cross_validate(X, y, folds=4, rounds=60, params=params, inner=inner)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("n", "options", "words"),
    [
        (24, {}, r"needs 20 \(twice min_data_in_leaf\) and they had 16 at most, of whom each round draws about 12"),
        (24, {"inner": True}, "needs 20 .* smaller min_data_in_leaf"),
        (24, {"params": {"bagging_freq": 0}}, "they had 16 at most: train on more patients"),
        (60, {"params": {"lambda_l1": 50}}, "with 40 patients at most, no split meets min_data_in_leaf 10, .*l1 50"),
        (60, {"params": {"min_gain_to_split": 99}, "objective": "binary"}, "min_gain_to_split 99: .*smaller values"),
        (60, {"constant": True}, "every feature has one value only"),
    ],
)
def test_boosters_that_split_nothing_are_no_result(n: int, options: dict[str, Any], words: str) -> None:
    X, y = planted(n=n)
    if options.pop("constant", False):
        X = np.ones_like(X)
    with pytest.raises(NothingUsableError, match=f"no booster could split .*{words}") as caught:
        boosting.cross_validate(X, y, folds=3, rounds=20, **options)
    assert "\n" not in str(caught.value)


def test_folds_and_pairs_that_split_nothing_are_named() -> None:
    _, y = planted(n=80)
    plan = boosting.plan_folds(y, folds=4, seed=42)
    X = np.zeros((80, 1))
    for part, ones in zip(plan, (2, 4, 2, 2), strict=True):
        X[part.valid[:ones]] = 1
    params = {**FAST, "min_data_in_leaf": 7, "bagging_freq": 0}
    with pytest.warns(LungCTWarning) as caught:
        result = boosting.cross_validate(X, y, folds=4, rounds=20, params=params)
    constant = [len(set(result.score[result.fold == k])) == 1 for k in range(4)]
    assert constant == [False, True, False, False]
    first, second = (str(warning.message) for warning in caught)
    assert first.startswith("fold 1: the booster could not split its patients, so the scores are constants: with 60")
    assert second.startswith("6 of the 6 boosters that choose the numbers of rounds could not split their patients")


def test_the_linear_reference_is_logistic_regression_on_standardised_features() -> None:
    X, y = planted(n=200, columns=6)
    result = boosting.cross_validate(X, y, rounds=5, params=FAST)
    for k in range(5):
        train, held = result.fold != k, result.fold == k
        inner = StratifiedKFold(5, shuffle=True, random_state=42)
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        grid = {"logisticregression__C": [10.0**power for power in range(-6, 2)]}
        search = GridSearchCV(pipeline, grid, cv=inner, scoring="neg_log_loss").fit(X[train], y[train])
        expected = search.predict_proba(X[held])[:, 1]
        np.testing.assert_allclose(result.linear_score[held], expected, atol=2e-3)


@pytest.mark.parametrize(("n", "columns"), [(60, 8), (50, 200)])
def test_the_linear_reference_is_fitted_as_by_scikit_learn(n: int, columns: int) -> None:
    X, y = planted(n=n, columns=columns)
    part = boosting.plan_folds(y, folds=5, seed=1)[0]
    expected = {}
    for strength in linear.STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-9, max_iter=100_000))
        expected[strength] = model.fit(X[part.train], y[part.train]).predict_proba(X[part.valid])[:, 1]
    found = linear.fit_linear(X, y.astype(float), part, seed=1)
    assert min(np.abs(found - scores).max() for scores in expected.values()) < 1e-4
    train, valid = linear._prepared(X[part.train], X[part.valid])
    for solution, scores in zip(
        linear._solutions(train, y[part.train], linear.STRENGTHS), expected.values(), strict=True
    ):
        np.testing.assert_allclose(linear._probabilities(solution, valid), scores, atol=1e-3)
    # Neither very large nor very small numbers are a problem, nor constants.
    scale = np.ones(columns)
    scale[:3] = 1e200, 1e-200, 0
    with_zero = np.where(np.arange(columns) == 2, 0, X)
    np.testing.assert_allclose(
        linear.fit_linear(X * scale, y.astype(float), part, seed=1),
        linear.fit_linear(with_zero, y.astype(float), part, seed=1),
        atol=1e-4,
    )


def test_the_linear_reference_takes_wide_and_missing_features() -> None:
    rng = np.random.default_rng(1)
    y = np.arange(60) % 2
    X = rng.normal(size=(60, 300)) + 0.6 * y[:, None]
    wide = boosting.cross_validate(X, y, folds=3, rounds=5, params={**FAST, "min_data_in_leaf": 3})
    assert wide.metrics["linear"]["auc"]["value"] > 0.95
    X[:, 0] = np.nan
    X[::7, 1:5] = np.nan
    missing = boosting.cross_validate(X, y, folds=3, rounds=5, params={**FAST, "min_data_in_leaf": 3})
    assert np.isfinite(missing.linear_score).all()
    assert missing.metrics["linear"]["auc"]["value"] > 0.95


def test_the_linear_reference_falls_back_to_the_share_where_nothing_is_to_be_found() -> None:
    rng = np.random.default_rng(2)
    X, y = rng.normal(size=(150, 80)), np.arange(150) % 3 == 0
    result = boosting.cross_validate(X, y, rounds=5, params=FAST)
    linear, constant = (result.metrics[name]["log_loss"]["value"] for name in ("linear", "baseline"))
    assert linear < constant + 0.02


def test_metrics_have_every_fold_and_survive_json() -> None:
    X, y = planted()
    result = boosting.cross_validate(X, y, folds=4, rounds=40, early_stopping=10, params=FAST)
    assert [fold["fold"] for fold in result.metrics["folds"]] == [0, 1, 2, 3]
    assert sum(fold["patients"] for fold in result.metrics["folds"]) == len(y)
    assert sum(fold["positives"] for fold in result.metrics["folds"]) == y.sum()
    assert [fold["rounds"] for fold in result.metrics["folds"]] == result.rounds
    assert result.metrics["auc"]["low"] > 0.5
    json.dumps(result.metrics, allow_nan=False)


def test_a_seed_gives_one_result_and_another_seed_another() -> None:
    X, y = planted()
    options: dict[str, Any] = {"rounds": 30, "early_stopping": 10, "params": FAST}
    first = boosting.cross_validate(X, y, seed=3, **options)
    again = boosting.cross_validate(X, y, seed=3, **options)
    np.testing.assert_array_equal(first.score, again.score)
    assert first.metrics == again.metrics
    assert (boosting.cross_validate(X, y, seed=4, **options).fold != first.fold).any()
    assert first.params["seed"] == 3


def test_labels_may_be_bools_floats_or_lists() -> None:
    X, y = planted(n=120)
    options: dict[str, Any] = {"folds": 3, "rounds": 5}
    expected = lungct.cross_validate(X, y, **options).score
    for labels in (y.astype(bool), y.astype(float), y.tolist(), y.astype(np.uint8)):
        np.testing.assert_array_equal(lungct.cross_validate(X, labels, **options).score, expected)


def test_numpys_numbers_are_taken_as_pythons() -> None:
    learner = boosting.make_learner(
        objective="l2", params={"num_leaves": np.int64(7)}, rounds=1, early_stopping=1, seed=1, columns=2
    )
    assert json.loads(json.dumps(learner.params))["num_leaves"] == 7


def test_an_alias_overrides_the_2017_value_under_its_main_name() -> None:
    learner = boosting.make_learner(
        objective="l2",
        params={"min_child_samples": 3, "eta": 0.1, "colsample_bytree": 0.5, "reg_lambda": 2},
        rounds=10,
        early_stopping=5,
        seed=1,
        columns=4,
    )
    assert learner.params["min_data_in_leaf"] == 3
    assert learner.params["learning_rate"] == 0.1
    assert learner.params["feature_fraction"] == 0.5
    assert learner.params["lambda_l2"] == 2
    assert "min_child_samples" not in learner.params


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"colour": "red"}, "'colour', which LightGBM does not know"),
        ({"n_estimators": 9}, "'n_estimators': give rounds"),
        ({"num_iterations": 9}, "'num_iterations': give rounds"),
        ({"n_iter_no_change": 9}, "'n_iter_no_change': give early_stopping"),
        ({"application": "binary"}, "'application': give objective"),
        ({"metrics": "auc"}, "'metrics': give objective"),
        ({"random_state": 1}, "'random_state': give seed"),
        ({"n_jobs": 3}, "'n_jobs'"),
        ({"machines": "1.2.3.4:5"}, "'machines'"),
        ({"device": "gpu"}, "'device'"),
        ({"boosting_type": "DART"}, "the value of 'boosting_type' is 'DART'"),
        ({"boost": " dart"}, "give one of gbdt, gbrt, dart, rf"),
        ({"min_data": 3, "min_child_samples": 4}, "'min_data_in_leaf' twice"),
        ({"num_leaves": 1}, "num_leaves"),
        ({"num_leaves": "many"}, "num_leaves"),
        ({"bagging_fraction": 1.5}, "bagging_fraction"),
        ({"learning_rate": None}, "'learning_rate'"),
        ({"learning_rate": {"a": 1}}, "'learning_rate'"),
        ({"learning_rate": float("nan")}, "'learning_rate'"),
        ({"monotone_constraints": [1, 0]}, "monotone_constraints"),
        ({"force_row_wise": True, "force_col_wise": True}, "force_col_wise"),
        ({3: 4}, "3, which LightGBM does not know"),
        (["learning_rate"], "params must be an object"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_refused_by_name(
    params: dict[str, Any], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    X, y = planted(n=60)
    with pytest.raises(UsageError, match=words.replace("(", r"\(")) as caught:
        boosting.cross_validate(X, y, params=params)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "LightGBM printed something itself"


def test_the_command_line_reads_of_its_own_options() -> None:
    X, y = planted(n=60)
    with command_line(), pytest.raises(UsageError, match="--params may not set 'n_jobs', because each fold takes"):
        boosting.cross_validate(X, y, params={"n_jobs": 3})
    with command_line(), pytest.raises(UsageError, match="--folds must be"):
        boosting.cross_validate(X, y, folds=0)


def test_column_wise_histograms_may_be_asked_for_alone() -> None:
    X, y = planted(n=120)
    options: dict[str, Any] = {"folds": 3, "rounds": 10}
    by_column = boosting.cross_validate(X, y, params={"force_col_wise": True}, **options)
    assert "force_row_wise" not in by_column.params
    np.testing.assert_array_equal(by_column.score, boosting.cross_validate(X, y, **options).score)


GOOD_X, GOOD_Y = planted(n=40)


@pytest.mark.parametrize(
    ("X", "y", "options", "words"),
    [
        (GOOD_X[0], GOOD_Y, {}, "X must be a matrix"),
        (GOOD_X[:, :0], GOOD_Y, {}, "X must be a matrix"),
        (GOOD_X.astype(str), GOOD_Y, {}, "X must be a matrix"),
        (GOOD_X, GOOD_Y[:-1], {}, "y must have one label for each of the 40"),
        (GOOD_X, np.where(GOOD_Y == 1, 2, 0), {}, "0 and 1"),
        (GOOD_X, np.where(GOOD_Y == 1, np.nan, 0.0), {}, "0 and 1"),
        (GOOD_X, GOOD_Y.astype(str), {}, "0 and 1"),
        (GOOD_X, np.zeros(40), {}, "has the label 0"),
        (GOOD_X, np.ones(40), {}, "has the label 1"),
        (GOOD_X, np.arange(40) < 3, {}, "too few patients for folds=5"),
        (GOOD_X, GOOD_Y, {"folds": 1}, "folds must be a whole number of at least 2, not 1"),
        (GOOD_X, GOOD_Y, {"folds": 2.5}, "not 2.5"),
        (GOOD_X, GOOD_Y, {"folds": 2}, "at least 3 folds, or inner=True"),
        (GOOD_X, np.arange(40) < 4, {"folds": 3, "groups": [0, 0, 1, 1, *range(2, 38)]}, "inner=True"),
        (np.where(GOOD_X > 2, np.inf, GOOD_X), GOOD_Y, {}, "infinite values in"),
        (GOOD_X, GOOD_Y, {"seed": -1}, "seed must be a whole number from 0 to 2147483647, not -1"),
        (GOOD_X, GOOD_Y, {"seed": 2**31}, "seed must be"),
        (GOOD_X, GOOD_Y, {"rounds": 0}, "rounds must be a whole number of at least 1"),
        (GOOD_X, GOOD_Y, {"early_stopping": 0}, "early_stopping must be a whole number of at least 1"),
        (GOOD_X, GOOD_Y, {"objective": "l1"}, "objective must be one of l2, binary, not 'l1'"),
        (GOOD_X, GOOD_Y, {"groups": ["a"] * 40}, "at least 5 persons"),
        (GOOD_X, GOOD_Y, {"groups": ["a"] * 39}, "groups has shape"),
        (GOOD_X, np.arange(40) < 10, {"groups": ["a"] * 10 + list(range(30))}, "fewer folds"),
        (GOOD_X, np.arange(40) < 2, {"folds": 2, "inner": True}, "inner=True: the training part"),
        (GOOD_X, GOOD_Y, {"params": {"learning_rate": 1e300}}, "not a finite number"),
    ],
)
def test_bad_input_is_refused_in_a_line(X: Features, y: Labels, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        boosting.cross_validate(X, y, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "no booster", "tree\nversion=v4\n"])
def test_text_that_is_not_a_booster_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="LightGBM"):
        boosting.load_booster(text)
