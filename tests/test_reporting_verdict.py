"""lungct.reporting.verdict: what a run's numbers mean, in sentences that follow from the intervals."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import made_up_run

from lungct.boosting.rounds import summed_curve
from lungct.reporting.learning import learning
from lungct.reporting.verdict import judge
from lungct.rundir import Run

UNDEFINED = {"value": None, "low": None, "high": None}


def estimate(low: float, high: float) -> dict[str, float | None]:
    return {"value": (low + high) / 2, "low": low, "high": high}


@cache
def usual(n: int) -> Run:
    return made_up_run(Path("run"), n=n, weights="imagenet", label_of=lambda i: (i + 1) % 2)


def sound(n: int = 400, **changes: Any) -> Run:
    """Return a run with nothing to worry about, but for changes of its metrics."""
    run = usual(n)
    metrics = dict(run.metrics)
    metrics["calibration"] = {"slope": estimate(0.8, 1.2), "intercept": estimate(-0.1, 0.1)}
    metrics["characteristics"] = []
    metrics |= {"auc": estimate(0.7, 0.8), "difference": {"log_loss": estimate(-0.2, -0.1)}, **changes}
    return replace(run, metrics=metrics)


def test_a_sound_run_has_no_worry() -> None:
    verdict = judge(sound(linear=None))
    assert verdict.worries == []
    assert verdict.sentence == (
        "Yes, the model beats guessing: it ranks patients better than chance (AUC 0.750, 95 % interval 0.700 to "
        "0.800), and its log loss is 0.150 lower than the constant predictor's (0.100 to 0.200)."
    )


@pytest.mark.parametrize(
    ("auc", "loss", "answer", "words"),
    [
        ((0.6, 0.8), (-0.2, -0.1), "yes", ["better than chance (AUC 0.700", "0.150 lower than the constant"]),
        ((0.6, 0.8), (-0.1, 0.1), "partly", ["better than chance", "but its log loss is not distinguishable"]),
        (
            (0.6, 0.8),
            (0.1, 0.3),
            "partly",
            ["better than chance", "but its log loss is 0.200 higher than the constant"],
        ),
        ((0.4, 0.7), (-0.2, -0.1), "partly", ["0.150 lower", "but it may rank patients no better than chance"]),
        ((0.4, 0.7), (-0.1, 0.1), "no", ["nothing shows", "0.400 to 0.700", "not distinguishable", "−0.100 to 0.100"]),
        ((0.2, 0.4), (-0.2, -0.1), "no", ["worse than guessing", "positives below negatives"]),
    ],
)
def test_the_answer_follows_from_both_intervals(
    auc: tuple[float, float], loss: tuple[float, float], answer: str, words: list[str]
) -> None:
    verdict = judge(sound(auc=estimate(*auc), difference={"log_loss": estimate(*loss)}))
    assert verdict.answer == answer
    for word in words:
        assert word in verdict.sentence


@settings(deadline=None)
@given(st.tuples(st.floats(0, 1), st.floats(0, 1)), st.tuples(st.floats(-1, 1), st.floats(-1, 1)))
def test_only_what_ranks_and_fits_beats_guessing(auc: tuple[float, float], loss: tuple[float, float]) -> None:
    verdict = judge(sound(40, auc=estimate(*sorted(auc)), difference={"log_loss": estimate(*sorted(loss))}))
    assert (verdict.answer == "yes") == (min(auc) > 0.5 and max(loss) < 0)
    assert verdict.sentence.count(". ") == 0
    assert verdict.sentence.endswith(".")


def test_an_auc_that_is_undefined_answers_nothing() -> None:
    verdict = judge(sound(auc=UNDEFINED, difference={"log_loss": UNDEFINED}, linear=None))
    assert verdict.answer == "unknown"
    assert "AUC is undefined" in verdict.sentence


@pytest.mark.parametrize(
    ("linear", "difference", "words"),
    [
        (
            estimate(0.9, 1.0),
            estimate(-0.3, -0.1),
            "logistic regression on the same features is better (AUC 0.950 against",
        ),
        (
            estimate(0.7, 0.9),
            estimate(-0.2, 0.1),
            "logistic regression on the same features does no worse (AUC 0.800 aga",
        ),
        (estimate(0.5, 0.7), estimate(0.1, 0.3), None),
        (UNDEFINED, UNDEFINED, None),
    ],
)
def test_a_better_linear_reference_is_in_the_first_sentence(
    linear: dict[str, Any], difference: dict[str, Any], words: str | None
) -> None:
    sentence = judge(sound(linear={"auc": linear}, linear_difference={"auc": difference})).sentence
    if words:
        assert words in sentence
    else:
        assert "logistic" not in sentence


def test_a_made_up_run_has_no_scanner_that_goes_with_the_label(tmp_path: Path) -> None:
    assert "scanned differently" not in texts(made_up_run(tmp_path, n=120))


@pytest.mark.parametrize(("low", "better"), [(0.1, True), (-0.1, False)])
def test_a_linear_reference_with_better_probabilities_is_there_too(low: float, better: bool) -> None:
    paired = {"auc": estimate(-0.1, 0.3), "log_loss": estimate(low, 0.3)}
    linear = {"auc": estimate(0.6, 0.7), "log_loss": estimate(0.3, 0.5)}
    sentence = judge(sound(linear=linear, linear_difference=paired, log_loss=estimate(0.5, 0.7))).sentence
    assert ("gives better probabilities (log loss 0.400 against 0.600)" in sentence) == better


def texts(run: Run) -> str:
    return "\n".join(worry.text for worry in judge(run).worries)


@pytest.mark.parametrize(
    ("slope", "intercept", "words"),
    [
        (
            (9, 26),
            (-0.1, 0.1),
            ["slope 17.50 (95 % interval 9.00 to 26.00; ideal: 1): the scores lie too close together"],
        ),
        ((0.2, 0.6), (-0.1, 0.1), ["slope 0.40", "too far apart"]),
        ((0.8, 1.2), (0.2, 0.4), ["in the large 0.30", "too low"]),
        ((0.8, 1.2), (-0.4, -0.2), ["in the large −0.30", "too high"]),
        ((0.8, 1.2), (-0.2, 0.2), []),
    ],
)
def test_calibration_worries_where_an_interval_leaves_the_ideal(
    slope: tuple[float, float], intercept: tuple[float, float], words: list[str]
) -> None:
    found = texts(sound(calibration={"slope": estimate(*slope), "intercept": estimate(*intercept)}))
    assert ("alibration" in found) == bool(words)
    for word in words:
        assert word in found


def fact(name: str, *counts: tuple[int, int]) -> dict[str, Any]:
    """Return an entry of texts with these counts of negatives and positives; the last is of the unknown."""
    parts = [{"negative": negative, "positive": positive} for negative, positive in counts]
    values = [{"value": f"text {i}", **part} for i, part in enumerate(parts[:-1])]
    other = {"texts": 0, "negative": 0, "positive": 0}
    return {"name": name, "kind": "texts", "values": values, "other": other, "unknown": parts[-1]}


def middle(name: str, negative: tuple[float, float], positive: tuple[float, float], n: int = 50) -> dict[str, Any]:
    """Return an entry of numbers with these quartiles."""
    parts = {
        label: {"n": n, "q1": q1, "median": (q1 + q3) / 2, "q3": q3}
        for label, (q1, q3) in (("negative", negative), ("positive", positive))
    }
    return {"name": name, "kind": "numbers", **parts, "unknown": {"negative": 0, "positive": 0}}


@pytest.mark.parametrize(
    ("entry", "apart"),
    [
        (fact("kernel", (50, 0), (0, 50), (0, 0)), "kernel"),
        (fact("manufacturer", (45, 5), (5, 45), (0, 0)), "maker"),
        (fact("manufacturer", (50, 0), (0, 50)), "maker"),
        (fact("kernel", (30, 20), (20, 30), (0, 0)), None),
        (fact("kernel", (3, 0), (0, 2), (0, 0)), None),
        (fact("kernel", (50, 50), (0, 0)), None),
        (middle("spacing_mm", (1.0, 1.25), (2.5, 5.0)), "distance between slices"),
        (middle("spacing_mm", (2.5, 5.0), (1.0, 1.25)), "distance between slices"),
        (middle("slices", (100, 200), (200, 300)), None),
        (middle("slices", (100, 200), (250, 300), n=5), None),
    ],
)
def test_a_fact_about_scans_that_goes_with_the_label_worries(entry: dict[str, Any], apart: str | None) -> None:
    found = texts(sound(characteristics=[entry]))
    assert (f"Positives and negatives were scanned differently: {apart}." in found) == (apart is not None)


def test_few_events_are_counted_with_what_the_cohort_could_have_told() -> None:
    found = texts(sound(62, smallest_auc=0.713))
    assert "Only 31 of 62 patients are positive, 10 to 11 in each fold" in found
    assert "no AUC below 0.72 could be told from 0.5 (80 % power)" in found
    assert "no AUC could be told from 0.5" in texts(sound(62, smallest_auc=None))
    older = sound(60)
    assert "power" not in texts(replace(older, metrics={k: v for k, v in older.metrics.items() if k != "smallest_auc"}))
    assert "Only" not in texts(sound(400))


def test_patients_left_out_are_counted_with_their_share() -> None:
    left_out = [{"patient_id": f"x{i}", "why": "no CT"} for i in range(100)]
    flow = {"labelled_not_in_table": 40, "labelled_without_features": 40, "unlabelled": 20}
    found = texts(sound(left_out=left_out, flow=flow))
    assert "100 of 500 patients (20 %) were left out: 80 with a label but without features (17 % of those" in found
    assert "20 with features but without a label" in found
    flow["labelled_not_in_table"] = 30
    assert "and 10 with neither." in texts(sound(left_out=left_out, flow=flow))
    assert "100 of 500 patients (20 %) were left out. The" in texts(sound(left_out=left_out, flow=None))


def test_notes_on_scans_are_counted_in_words(tmp_path: Path) -> None:
    found = texts(made_up_run(tmp_path, n=120))
    assert "30 scans of 120 (25 %) have notes on how they were read; most often: lossy compression (30); a gap" in found


def test_scans_with_several_ids_worry_more_in_several_folds(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, twins=True)
    assert "30 scans have several ids, all in one fold" in texts(run)
    apart = replace(run, scores=replace(run.scores, fold=np.arange(60) % 3))
    assert "30 scans are in several folds" in texts(apart)


def test_curves_that_ran_to_their_cap_are_counted() -> None:
    run = made_up_run(Path("run"), inner=True)
    capped = replace(run, settings={**run.settings, "rounds": 40})
    assert "In 3 of 3 folds, the loss was still falling when the rounds ended: a larger number than 40" in texts(capped)
    assert not any(one.unfinished for one in learning(run))
    # Early stopping would have ended the curves of the first two folds by the cap.
    best = [fold["best_iteration"] for fold in run.metrics["folds"]]
    ended = replace(capped, settings={**capped.settings, "early_stopping": 40 - best[1]})
    assert best[0] <= best[1] < best[2]
    assert [one.unfinished for one in learning(ended)] == [False, False, True]


def test_a_pairs_curve_that_ran_to_its_cap_counts() -> None:
    run = made_up_run(Path("run"))
    settings = {**run.settings, "rounds": 40, "early_stopping": 40}
    long = {key: len(curve) == 40 for key, curve in run.pair_curves.items()}
    without = [any(long[key] for key in long if key[2] == k) for k in range(3)]
    curves = {key: curve[:39] for key, curve in run.curves.items()}
    assert True in without
    assert [one.unfinished for one in learning(replace(run, settings=settings, curves=curves))] == without


def test_the_choosing_curve_has_its_minimum_at_the_rounds() -> None:
    run = made_up_run(Path("run"), folds=4)
    assert len({len(curve) for curve in run.pair_curves.values()}) > 1
    for one in learning(run):
        assert one.choosing is not None
        assert int(one.choosing.argmin()) + 1 == one.fold["rounds"]
        patients = [fold["patients"] for fold in run.metrics["folds"]]
        pairs = {(j, k): curve for (_, j, k), curve in run.pair_curves.items()}
        summed = summed_curve(pairs, patients, one.fold["fold"])
        others = sum(patients) - one.fold["patients"]
        np.testing.assert_allclose(one.choosing, summed / others)


def test_an_older_run_says_that_its_intervals_are_too_narrow(tmp_path: Path) -> None:
    verdict = judge(made_up_run(tmp_path, older=True))
    assert verdict.answer == "partly"
    assert "no paired comparison" in verdict.sentence
    assert "its intervals are too narrow" in "\n".join(worry.text for worry in verdict.worries)
