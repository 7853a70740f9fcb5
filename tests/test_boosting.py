"""lungct.boosting against plain LightGBM, scikit-learn and NumPy."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

import lungct
from lungct import boosting
from lungct.arguments import command_line
from lungct.errors import UsageError

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


def plain(
    X: Features,
    y: Labels,
    splits: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    params: dict[str, Any],
    rounds: int,
    early_stopping: int,
) -> tuple[list[lightgbm.Booster], list[list[float]], list[int]]:
    """Compute boosters, curves and chosen rounds with plain LightGBM and NumPy."""
    boosters, curves = [], []
    for train, valid in splits:
        history: dict[str, dict[str, list[float]]] = {}
        fitted = lightgbm.Dataset(X[train], y[train])
        boosters.append(
            lightgbm.train(
                params,
                fitted,
                num_boost_round=rounds,
                valid_sets=[fitted.create_valid(X[valid], y[valid])],
                callbacks=[
                    lightgbm.early_stopping(early_stopping, verbose=False),
                    lightgbm.record_evaluation(history),
                ],
                keep_training_booster=True,  # every round, not only those up to the best
            )
        )
        curves.append(history["valid_0"][params["metric"]])
    shortest = min(map(len, curves))
    chosen = []
    for k in range(len(splits)):
        others = [j for j in range(len(splits)) if j != k]
        sizes = [len(splits[j][1]) for j in others]
        mean = np.average([curves[j][:shortest] for j in others], axis=0, weights=sizes)
        chosen.append(int(np.argmin(mean)) + 1)
    return boosters, curves, chosen


@pytest.mark.parametrize("objective", ["l2", "binary"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_folds_boosters_and_scores_equal_plain_lightgbm_and_scikit_learn(
    objective: boosting.Objective, dtype: type[np.floating[Any]]
) -> None:
    X, y = planted(n=133)
    X = X.astype(dtype)
    params = {**PARAMETERS[objective], **FAST}
    splits = list(StratifiedKFold(5, shuffle=True, random_state=42).split(y, y))
    boosters, curves, chosen = plain(X, y, splits, params, 200, 25)

    result = boosting.cross_validate(X, y, objective=objective, rounds=200, early_stopping=25, params=FAST)
    assert result.params == params
    assert result.rounds == chosen
    assert result.best_iteration == [booster.best_iteration for booster in boosters]
    assert [curve.tolist() for curve in result.curves] == curves
    assert len(set(map(len, curves))) > 1, "the shortest curve bounds nothing here"
    for k, (_, valid) in enumerate(splits):
        assert (result.fold[valid] == k).all()
        every_round = boosters[k].model_to_string(num_iteration=-1)
        assert result.boosters[k].model_to_string(num_iteration=-1) == every_round
        score = boosters[k].predict(X[valid], num_iteration=chosen[k])
        optimistic = boosters[k].predict(X[valid], num_iteration=boosters[k].best_iteration)
        np.testing.assert_array_equal(result.score[valid], score)
        assert result.optimistic_score is not None
        np.testing.assert_array_equal(result.optimistic_score[valid], optimistic)
        np.testing.assert_array_equal(result.boosters[k].predict(X), boosters[k].predict(X))


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
        stopped, curves, _ = plain(X, y, [(fits, chooses)] * 2, params, 150, 20)
        whole = lightgbm.train(params, lightgbm.Dataset(X[train], y[train]), stopped[0].best_iteration)
        assert result.rounds[k] == result.best_iteration[k] == stopped[0].best_iteration
        assert result.curves[k].tolist() == curves[0]
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

    def elsewhere(
        X: Features, y: Labels, plan: Sequence[boosting.Fold], learner: boosting.Learner
    ) -> Iterator[boosting.FoldFit]:
        X.flags.writeable = False  # as arrays in an object store are
        for k, part in enumerate(plan):
            fit = boosting.fit_fold(X, y, part, learner, threads=1 + k % 2)
            yield pickle.loads(pickle.dumps(fit))

    there = boosting.cross_validate(X, y, rounds=60, early_stopping=20, params=FAST, fit_folds=elsewhere)
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


losses = st.lists(st.lists(st.integers(0, 5).map(float), min_size=1, max_size=8), min_size=2, max_size=5)


@given(curves=losses, data=st.data())
def test_a_rounds_choice_never_looks_at_its_own_curve_and_takes_the_first_minimum(
    curves: list[list[float]], data: st.DataObject
) -> None:
    patients = [data.draw(st.integers(1, 30)) for _ in curves]
    chosen = boosting.choose_rounds([np.array(curve) for curve in curves], patients)
    shortest = min(map(len, curves))
    for k, rounds in enumerate(chosen):
        others = [j for j in range(len(curves)) if j != k]
        mean = [
            np.average([curves[j][r] for j in others], weights=[patients[j] for j in others]) for r in range(shortest)
        ]
        assert rounds == mean.index(min(mean)) + 1
        changed = [np.array(c) if j != k else np.array(c)[::-1] * 3 for j, c in enumerate(curves)]
        assert boosting.choose_rounds(changed, patients)[k] == rounds


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
    X, y = planted(n=60)
    options: dict[str, Any] = {"folds": 2, "rounds": 5}
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
        ({"boosting_type": "dart"}, "dart"),
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
    X, y = planted(n=60)
    options: dict[str, Any] = {"folds": 2, "rounds": 10}
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


def test_a_score_may_use_rounds_beyond_its_own_folds_best() -> None:
    X, y = planted()
    result = boosting.cross_validate(X, y, rounds=200, early_stopping=40, params=FAST)
    beyond = [k for k in range(5) if result.rounds[k] > result.best_iteration[k]]
    assert beyond, "the data must make the case that is tested"
    assert result.optimistic_score is not None
    for k, booster in enumerate(result.boosters):
        assert booster.num_trees() == len(result.curves[k])
        held = result.fold == k
        score = booster.predict(X[held], num_iteration=result.rounds[k])
        np.testing.assert_array_equal(result.score[held], score)
        if k in beyond:
            assert not np.array_equal(score, result.optimistic_score[held])
