"""What a careful reader should know before relying on a run's numbers: a worry each, the gravest first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lungct.arguments import counted
from lungct.dicom.notes import IN_WORDS
from lungct.metrics import events_per_fold
from lungct.reporting.learning import learning
from lungct.reporting.words import interval, joined, number, share, side
from lungct.rundir import Run

FEW_EVENTS = 100
"""Patients of the rarer class that are advised for measuring a model, its calibration above all (Vergouwe et al.,
J. Clin. Epidemiol. 58:475, 2005; Collins et al., Stat. Med. 35:214, 2016)."""
FEWEST_COMPARED = 10  # patients of each class, for comparing their quartiles
NOTES_NAMED = 3
FACTS = {
    "slices": "number of slices",
    "spacing_mm": "distance between slices",
    "thickness_mm": "slice thickness",
    "lung_litres": "air in the lungs",
    "manufacturer": "maker",
}
"""Facts about scans whose names are not words (`lungct.training.characteristics`)."""


@dataclass(frozen=True)
class Worry:
    """What a careful reader should know: in a few words, and in a sentence or two of its own."""

    short: str
    text: str


def worries_about(run: Run) -> Iterator[Worry]:
    """Yield what should worry the reader of a run.

    Raises
    ------
    KeyError, TypeError
        If its settings or metrics lack what every run has.

    """
    metrics = run.metrics
    apart, together = shared_scans(run)
    yield from _random_weights(run)
    yield from _scans_in_several_folds(apart)
    yield from _old_intervals(metrics)
    yield from _scanned_differently(metrics)
    yield from _few_events(run)
    yield from _calibration(metrics.get("calibration") or {})
    yield from _left_out(metrics)
    yield from _notes(metrics)
    yield from _unfinished(run)
    yield from _scans_with_several_ids(together)


def random_weights(run: Run) -> bool:
    """Return whether the network's weights are random."""
    return str(run.settings["table"]["settings"]["weights"]).startswith("random")


def _random_weights(run: Run) -> Iterator[Worry]:
    if random_weights(run):
        weights = run.settings["table"]["settings"]["weights"]
        yield Worry(
            "random network weights",
            f"The network's weights are random ({weights}): it has learned nothing from images, and these numbers say "
            "nothing about trained weights.",
        )


def _scans_in_several_folds(scans: int) -> Iterator[Worry]:
    if scans:
        named = counted(scans, "scan", "scans")
        yield Worry(
            f"{named} in several folds",
            f"{named} {'is' if scans == 1 else 'are'} in several folds, under different ids: a booster was trained on "
            "a scan that it is tested on, so the numbers are optimistic.",
        )


def _scans_with_several_ids(scans: int) -> Iterator[Worry]:
    if scans:
        named = counted(scans, "scan", "scans")
        yield Worry(
            f"{named} with several ids",
            f"{named} {'has' if scans == 1 else 'have'} several ids, all in one fold: each id counts as a patient.",
        )


def shared_scans(run: Run) -> tuple[int, int]:
    """Count the scans that have several ids: those in several folds (of any one repeat), and those within one fold."""
    scores = run.scores
    ids: dict[str, set[str]] = {}
    folds: dict[tuple[str, int], set[int]] = {}
    rows = zip(scores.pixel_hash, scores.patient_id, scores.repeat.tolist(), scores.fold.tolist(), strict=True)
    for pixel_hash, patient_id, repeat, fold in rows:
        if pixel_hash:
            ids.setdefault(pixel_hash, set()).add(patient_id)
            folds.setdefault((pixel_hash, repeat), set()).add(fold)
    several = {pixel_hash for pixel_hash, names in ids.items() if len(names) > 1}
    apart = {pixel_hash for (pixel_hash, _), places in folds.items() if len(places) > 1} & several
    return len(apart), len(several - apart)


def _scanned_differently(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    entries = metrics.get("characteristics") or []
    apart = [FACTS.get(entry["name"], entry["name"]) for entry in entries if goes_with_label(entry)]
    if apart:
        yield Worry(
            f"positives scanned differently ({joined(apart)})",
            f"Positives and negatives were scanned differently: {joined(apart)}. A model may tell scanners apart "
            "instead of patients, and then these numbers do not hold elsewhere.",
        )


def goes_with_label(entry: Mapping[str, Any]) -> bool:
    """Return whether a fact about scans (an entry of ``characteristics``) goes with the label, beyond chance.

    Of texts: Cramér's V of at least 0.5 (the usual mark of a strong association), and p below 0.001 in the chi-squared
    test. Of numbers: the ranges between the quartiles of negatives and of positives do not even touch.
    """
    if entry["kind"] == "numbers":
        negative, positive = entry["negative"], entry["positive"]
        if min(negative["n"], positive["n"]) < FEWEST_COMPARED:
            return False
        return bool(negative["q3"] < positive["q1"] or positive["q3"] < negative["q1"])
    if entry["kind"] != "texts":
        return False
    parts = [*entry["values"], entry["other"], entry["unknown"]]
    counts = np.array([[part["negative"], part["positive"]] for part in parts], dtype=np.int64)
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) < 2 or (counts.sum(axis=0) == 0).any():
        return False
    from scipy.stats import chi2_contingency  # type: ignore[import-untyped,unused-ignore]

    statistic, p, _, _ = chi2_contingency(counts, correction=False)
    return bool(p < 0.001 and np.sqrt(statistic / counts.sum()) >= 0.5)


def _old_intervals(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    if "difference" not in metrics:
        yield Worry(
            "intervals of an older lungct",
            "An older lungct made this run: its intervals are too narrow, and it compares neither with the constant "
            "predictor patient by patient nor with a linear model. Train again.",
        )


def _few_events(run: Run) -> Iterator[Worry]:
    metrics = run.metrics
    positives, patients = int(metrics["positives"]), int(metrics["patients"])
    rarer, name = (positives, "positive") if 2 * positives <= patients else (patients - positives, "negative")
    if rarer >= FEW_EVENTS:
        return
    first = (run.scores.repeat == 0) & (run.scores.fold >= 0)
    fewest, most = events_per_fold(run.scores.label[first], run.scores.fold[first])
    each = str(fewest) if fewest == most else f"{fewest} to {most}"
    text = (
        f"Only {rarer} of {patients} patients {'is' if rarer == 1 else 'are'} {name}, {each} in each fold; at least "
        f"{FEW_EVENTS} of each class are advised for measuring a model."
    )
    if "smallest_auc" in metrics:
        smallest = metrics["smallest_auc"]
        told = "no AUC" if smallest is None else f"no AUC below {math.ceil(100 * smallest) / 100:.2f}"
        text += f" In a cohort like this, {told} could be told from 0.5 (80 % power)."
    yield Worry(f"only {rarer} {name} {'patient' if rarer == 1 else 'patients'}", text)


def _calibration(calibration: Mapping[str, Any]) -> Iterator[Worry]:
    slope, intercept = calibration.get("slope"), calibration.get("intercept")
    where = side(slope, 1.0)
    if where in ("above", "below"):
        assert slope is not None
        says = {
            "above": "the scores lie too close together: patients differ in risk more than their scores do",
            "below": "the scores lie too far apart: patients differ in risk less than their scores do",
        }[where]
        yield Worry(
            f"poorly calibrated scores (slope {number(slope['value'], 2)})",
            f"Calibration slope {number(slope['value'], 2)} (95 % interval {interval(slope, 2)}; ideal: 1): {says}.",
        )
    where = side(intercept, 0.0)
    if where in ("above", "below"):
        assert intercept is not None
        low = where == "above"
        value = number(intercept["value"], 2)
        yield Worry(
            f"scores that are too {'low' if low else 'high'} on average",
            f"Calibration in the large {value} (95 % interval {interval(intercept, 2)}; ideal: 0): on average, the "
            f"scores are too {'low' if low else 'high'}.",
        )


def _left_out(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    used, left_out = int(metrics["patients"]), len(metrics["left_out"])
    if not left_out:
        return
    percent = share(left_out, used + left_out)
    text = f"{left_out} of {used + left_out} patients ({percent}) {'was' if left_out == 1 else 'were'} left out"
    flow = metrics.get("flow")
    if flow:
        lost, unlabelled = flow["labelled_not_in_table"] + flow["labelled_without_features"], flow["unlabelled"]
        parts = []
        if lost:
            parts.append(f"{lost} with a label but without features ({share(lost, lost + used)} of those with a label)")
        if unlabelled:
            parts.append(f"{unlabelled} with features but without a label")
        if left_out > lost + unlabelled:
            parts.append(f"{left_out - lost - unlabelled} with neither")
        text += f": {joined(parts)}"
    yield Worry(
        f"{counted(left_out, 'patient', 'patients')} left out ({percent})",
        f"{text}. The numbers hold for patients like those that were used.",
    )


def _notes(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    entries = {entry["name"]: entry for entry in metrics.get("characteristics") or []}
    notes = entries.get("notes")
    if not notes:
        return
    noted = sum(notes["any"].values())
    if not noted:
        return
    patients = int(metrics["patients"])
    common = sorted(notes["values"], key=lambda value: -(value["negative"] + value["positive"]))[:NOTES_NAMED]
    named = [f"{in_words_of(value['value'])} ({value['negative'] + value['positive']})" for value in common]
    scans = "1 scan" if noted == 1 else f"{noted} scans"
    yield Worry(
        f"notes on {scans} ({share(noted, patients)})",
        f"{scans} of {patients} ({share(noted, patients)}) {'has' if noted == 1 else 'have'} notes on how "
        f"{'it was' if noted == 1 else 'they were'} read; most often: {'; '.join(named)}.",
    )


def in_words_of(code: str) -> str:
    """Return a note's code as a phrase without the number that a single scan's note may have.

    >>> in_words_of("lossy"), in_words_of("gap_mm"), in_words_of("passes")
    ('lossy compression', 'a gap between neighbouring slices', 'one of several overlapping passes')
    """
    phrase = IN_WORDS.get(code, code)
    for number_of_one in (": {}", " of {} mm", " to {} mm"):
        phrase = phrase.replace(number_of_one, "")
    return phrase.replace("{}", "several")


def _unfinished(run: Run) -> Iterator[Worry]:
    every = learning(run)
    unfinished = sum(one.unfinished for one in every)
    if unfinished:
        folds = f"{unfinished} of {len(every)} folds"
        yield Worry(
            f"learning curves cut off in {folds}",
            f"In {folds}, the loss was still falling when the rounds ended: a larger number than "
            f"{run.settings['rounds']} (--rounds) may give a better model.",
        )
