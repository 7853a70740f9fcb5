"""How often do the intervals of lungct.metrics hold, on cohorts that are drawn anew?

usage: python bench/coverage.py [--cohorts 150] [--seed 1] [--out coverage.csv] [--processes 2] [--cells NAME …]

Each cohort is drawn, cross-validated by `lungct.cross_validate` with fast parameters, and measured by its own
``metrics``; the truth is what its boosters give on 5,000 fresh patients whose probabilities are known (each counts as a
positive with that probability), so that little is left to chance. Two truths are held against each interval: that of
these very boosters, and the mean over all cohorts of the cell. The linear reference, which takes most of the time of
such small fits, is left out.

OUT has a line for each cohort. A run that is interrupted goes on where it stopped, and one that is complete only prints
the table.
"""

from __future__ import annotations

import argparse
import csv
import functools
import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct import metrics

Floats = NDArray[np.float64]

FRESH = 5000
FEATURES = 20
FAST = {"learning_rate": 0.05, "num_leaves": 7}
ROUNDS, EARLY_STOPPING = 120, 25
BLOCK = 5  # cohorts in one piece of work
SIGNALS = {"nothing": 0.0, "weak": 0.6, "strong": 2.5}


@dataclass(frozen=True)
class Cell:
    """A kind of cohort and how it is trained on."""

    prevalence: float
    patients: int
    signal: str
    options: Mapping[str, Any] = field(default_factory=dict)
    scans: int = 1
    """Of each person. With several, persons are the groups."""


def cells() -> dict[str, Cell]:
    found = {
        f"{prevalence} % of {patients}, {signal}": Cell(prevalence / 100, patients, signal)
        for prevalence in (10, 20, 50)
        for patients in (100, 200, 500)
        for signal in ("nothing", "weak")
    }
    inner: dict[str, Any] = {"inner": True}
    second: dict[str, Any] = {"objective": "binary", "params": {"learning_rate": 0.1, "num_leaves": 15}}
    for signal in ("nothing", "weak"):
        found[f"inner, {signal}"] = Cell(0.3, 200, signal, inner)
        found[f"second learner, {signal}"] = Cell(0.3, 200, signal, second)
        found[f"two scans each, {signal}"] = Cell(0.3, 100, signal, {}, scans=2)
    found["strong"] = Cell(0.3, 200, "strong")
    return found


def draw(rng: np.random.Generator, cell: Cell, persons: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return features, each scan's log odds before the intercept, and its person."""
    person = np.repeat(np.arange(persons), cell.scans)
    base = rng.normal(size=(persons, FEATURES))[person]
    X = base if cell.scans == 1 else 0.8 * base + 0.6 * rng.normal(size=base.shape)
    # Three features matter, one of them in a curve.
    odds = base[:, 0] + 0.6 * base[:, 1] + 0.5 * (base[:, 2] ** 2 - 1)
    return X, SIGNALS[cell.signal] * odds / np.sqrt(1.86), person


@functools.cache
def fresh(name: str, seed: int) -> tuple[NDArray[np.float32], Floats, float]:
    """Return fresh patients, their probabilities, and the intercept that gives the cell's prevalence."""
    from scipy.optimize import brentq  # type: ignore[import-untyped,unused-ignore]
    from scipy.special import expit  # type: ignore[import-untyped,unused-ignore]

    cell = cells()[name]
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), 2**31])
    X, odds, _ = draw(rng, cell, FRESH // cell.scans)
    intercept = float(brentq(lambda a: float(expit(odds + a).mean()) - cell.prevalence, -20, 20))
    return X.astype(np.float32), expit(odds + intercept), intercept


def without_linear(X: Any, y: Any, jobs: Sequence[Any]) -> list[Any]:
    """Run a cross-validation's fits on one thread, and give the linear reference the constant predictor's scores."""
    from lungct.boosting.jobs import LinearJob

    return [
        np.full(len(job.part.valid), y[job.part.train].mean()) if isinstance(job, LinearJob) else job.run(X, y, 1)
        for job in jobs
    ]


def one(name: str, seed: int, cohort: int) -> dict[str, Any]:
    """Draw a cohort until it can be trained on; return its line of the CSV."""
    from lungct import cross_validate
    from lungct.errors import LungCTError

    cell, (_, _, intercept) = cells()[name], fresh(name, seed)
    refused = 0
    while True:
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), cohort, refused])
        X, odds, person = draw(rng, cell, cell.patients)
        chance = 1 / (1 + np.exp(-odds - intercept))
        y = (rng.random(cell.patients)[person] < chance).astype(np.int64)
        try:
            result = cross_validate(
                X.astype(np.float32),
                y,
                seed=int(rng.integers(2**31)),
                rounds=ROUNDS,
                early_stopping=EARLY_STOPPING,
                groups=person if cell.scans > 1 else None,
                run_jobs=without_linear,
                **{"params": FAST, **cell.options},
            )
        except LungCTError:  # too few patients of a class for the folds, or no booster that splits
            refused += 1
            continue
        line: dict[str, Any] = {"cell": name, "seed": seed, "cohort": cohort, "refused": refused}
        true = truths(name, seed, y, result)
        for what, estimate in estimates(result.metrics).items():
            line |= {f"{what} {key}": estimate[key] for key in ("value", "low", "high")}
            line[f"{what} truth"] = true.get(what)
        return line


def estimates(measured: Mapping[str, Any]) -> dict[str, Mapping[str, float | None]]:
    nothing = dict.fromkeys(("value", "low", "high"))
    averaged = measured["averaged"] or {}
    return {
        "auc": measured["auc"],
        "log_loss": measured["log_loss"],
        "brier": measured["brier"],
        "log_loss difference": measured["difference"]["log_loss"],
        "brier difference": measured["difference"]["brier"],
        **{f"averaged {kind}": averaged.get(kind, nothing) for kind in ("auc", "log_loss", "brier")},
        "average_precision": measured["average_precision"],
        "sensitivity at 90 %": measured["operating_points"][0]["sensitivity"],
        "slope": measured["calibration"]["slope"],
        "intercept": measured["calibration"]["intercept"],
    }


def truths(name: str, seed: int, y: NDArray[np.int64], result: Any) -> dict[str, float]:
    """Measure a result's boosters on fresh patients, each weighted as the estimate weights its fold."""
    X, p, _ = fresh(name, seed)
    scores = [np.asarray(booster.predict(X), dtype=np.float64) for booster in result.boosters]
    folds = range(len(scores))
    patients = np.array([(result.fold == k).sum() for k in folds], dtype=np.float64)
    positives = np.array([y[result.fold == k].sum() for k in folds], dtype=np.float64)
    constants = [y[result.fold != k].mean() for k in folds]
    pairs = positives * (patients - positives)

    def mean(measure: Callable[[Floats, Floats], float], weights: Floats, of: Sequence[Floats] = scores) -> float:
        return float(np.average([measure(score, p) for score in of], weights=weights))

    found = {
        "auc": mean(soft_auc, pairs),
        "average_precision": mean(soft_precision, positives),
        "sensitivity at 90 %": mean(soft_sensitivity, pairs),
    }
    flat = [np.full(len(p), constant) for constant in constants]
    average = np.mean(scores, axis=0)
    found["averaged auc"] = soft_auc(average, p)
    for kind, losses in (("log_loss", metrics.log_losses), ("brier", metrics.brier_scores)):
        loss = functools.partial(soft_loss, losses)
        found[kind] = mean(loss, patients)
        found[f"{kind} difference"] = found[kind] - mean(loss, patients, flat)
        found[f"averaged {kind}"] = loss(average, p)
    found["slope"], found["intercept"] = soft_calibration(scores, p, patients)
    return found


def soft_loss(losses: Callable[[Any, Any], Floats], score: Floats, p: Floats) -> float:
    ones = np.ones(len(p))
    return float((p * losses(ones, score) + (1 - p) * losses(1 - ones, score)).mean())


def levels(score: Floats, p: Floats) -> tuple[Floats, Floats]:
    """Return the positives and the negatives at each score, from the highest."""
    _, at = np.unique(-score, return_inverse=True)
    return np.bincount(at, p).astype(np.float64), np.bincount(at, 1 - p).astype(np.float64)


def soft_auc(score: Floats, p: Floats) -> float:
    positive, negative = levels(score, p)
    above = np.cumsum(positive) - positive / 2
    return float((above * negative).sum() / (positive.sum() * negative.sum()))


def soft_precision(score: Floats, p: Floats) -> float:
    positive, negative = levels(score, p)
    true, false = np.cumsum(positive), np.cumsum(negative)
    return float((positive * true / (true + false)).sum() / positive.sum())


def soft_sensitivity(score: Floats, p: Floats) -> float:
    positive, negative = (np.concatenate([[0.0], np.cumsum(part) / part.sum()]) for part in levels(score, p))
    return float(np.interp(0.1, negative, positive))


def soft_calibration(scores: Sequence[Floats], p: Floats, weights: Floats) -> tuple[float, float]:
    """Return slope and intercept of the pooled scores; NaN where the slope does not exist."""
    from scipy.optimize import brentq
    from scipy.special import expit

    clipped = metrics.clip(np.concatenate(scores))
    logit, w = np.log(clipped / (1 - clipped)), np.repeat(weights / weights.sum(), len(p))
    target = np.tile(p, len(scores))
    intercept = brentq(lambda a: float((w * (expit(logit + a) - target)).sum()), -40, 40)
    scale = float(logit.std())
    if scale < 1e-6:
        return np.nan, float(intercept)
    design = np.column_stack([np.ones(len(logit)), (logit - logit.mean()) / scale])
    coefficients = np.zeros(2)
    for _ in range(50):
        fitted = expit(design @ coefficients)
        information = (design * (w * fitted * (1 - fitted))[:, None]).T @ design
        step = np.linalg.solve(information, design.T @ (w * (target - fitted)))
        coefficients += step
        if np.abs(step).max() < 1e-9:
            break
    return float(coefficients[1] / scale), float(intercept)


def block(name: str, seed: int, cohorts: Sequence[int]) -> list[dict[str, Any]]:
    return [one(name, seed, cohort) for cohort in cohorts]


def complete(out: Path, names: Sequence[str], seed: int, cohorts: int, processes: int) -> None:
    """Add to OUT every cohort that it lacks."""
    done = {(line["cell"], int(line["cohort"])) for line in read(out, seed)}
    work = [
        (name, [i for i in range(start, min(start + BLOCK, cohorts)) if (name, i) not in done])
        for start in range(0, cohorts, BLOCK)
        for name in names
    ]
    work = [(name, left) for name, left in work if left]
    total, ready, begun, said = sum(len(left) for _, left in work), 0, time.monotonic(), 0.0
    if not work:
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now: each has one core
    with (
        ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool,
        out.open("a", newline="", encoding="utf-8") as file,
    ):
        writer = None
        for future in as_completed([pool.submit(block, name, seed, left) for name, left in work]):
            for line in future.result():
                if writer is None:
                    writer = csv.DictWriter(file, list(line))
                    if file.tell() == 0:
                        writer.writeheader()
                writer.writerow(line)
                ready += 1
            file.flush()
            spent = time.monotonic() - begun
            if spent - said >= 30 or ready == total:
                said = spent
                left = spent / ready * (total - ready) / 60
                print(f"{ready} of {total} cohorts in {spent / 60:.1f} min, {left:.0f} min left", file=sys.stderr)


def read(out: Path, seed: int) -> list[dict[str, str]]:
    if not out.exists():
        return []
    with out.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    if any(int(line["seed"]) != seed for line in lines):
        raise SystemExit(f"{out} has cohorts of another seed than {seed}")
    return lines


@dataclass(frozen=True)
class Coverage:
    """Of one number in one cell, over its cohorts; shares in per cent."""

    cohorts: int
    undefined: int
    estimate: float
    truth: float
    holds_mean: float
    holds_these: float
    width: float
    """Mean half-width over the constant half-width that would hold the harder of the two truths in 95 %."""
    above: float
    """Intervals above 0.5 (AUC)."""
    below: float
    """Intervals below 0 (a difference)."""


def coverage(lines: Sequence[Mapping[str, str]], what: str) -> Coverage | None:
    keys = [f"{what} {key}" for key in ("value", "low", "high", "truth")]
    table = np.array([[float(line[key] or "nan") for key in keys] for line in lines])
    kept = table[np.isfinite(table).all(axis=1)]
    if len(kept) == 0:
        return None
    value, low, high, truth = kept.T
    mean = truth.mean()
    needed = max(np.quantile(np.abs(value - target), 0.95) for target in (mean, truth))
    return Coverage(
        cohorts=len(kept),
        undefined=len(table) - len(kept),
        estimate=float(value.mean()),
        truth=float(mean),
        holds_mean=100 * float(((low <= mean) & (mean <= high)).mean()),
        holds_these=100 * float(((low <= truth) & (truth <= high)).mean()),
        width=float((high - low).mean() / 2 / needed),
        above=100 * float((low > 0.5).mean()),
        below=100 * float((high < 0).mean()),
    )


MAIN = {
    "auc": "AUC",
    "log_loss": "log loss",
    "brier": "Brier",
    "log_loss difference": "difference, log loss",
    "brier difference": "difference, Brier",
}
FURTHER = {
    "averaged auc": "averaged, AUC",
    "averaged log_loss": "averaged, log loss",
    "averaged brier": "averaged, Brier",
    "average_precision": "average precision",
    "sensitivity at 90 %": "sensitivity at 90 %",
    "slope": "slope",
    "intercept": "intercept",
}


def tables(lines: Sequence[Mapping[str, str]], names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of two tables, in Markdown."""
    for title, columns in (("intervals of the score", MAIN), ("further intervals", FURTHER)):
        yield f"### {title}: mean truth / these boosters' truth (width over needed)"
        yield ""
        yield "| cell | " + " | ".join(columns.values()) + " |"
        yield "|---" * (len(columns) + 1) + "|"
        for name in names:
            mine = [line for line in lines if line["cell"] == name]
            found = [coverage(mine, what) for what in columns]
            yield f"| {name} | " + " | ".join(_shown(c) for c in found) + " |"
        yield ""
    yield "### means, and what is called something: AUC's interval above 0.5, a difference's below 0"
    yield ""
    yield "| cell | AUC (truth) | averaged AUC (truth) | AUC above 0.5 | log loss below 0 | Brier below 0 | refused |"
    yield "|---|---|---|---|---|---|---|"
    for name in names:
        mine = [line for line in lines if line["cell"] == name]
        of = {what: coverage(mine, what) for what in (*MAIN, "averaged auc")}
        auc, averaged = (f"{c.estimate:.3f} ({c.truth:.3f})" if c else "" for c in (of["auc"], of["averaged auc"]))
        called = [
            f"{getattr(of[what], side):.1f} %" if of[what] else ""
            for what, side in (("auc", "above"), ("log_loss difference", "below"), ("brier difference", "below"))
        ]
        refused = sum(int(line["refused"]) for line in mine)
        yield f"| {name} | {auc} | {averaged} | {' | '.join(called)} | {refused} |"


def _shown(c: Coverage | None) -> str:
    if c is None:
        return ""
    undefined = f", {c.undefined} undefined" if c.undefined else ""
    return f"{c.holds_mean:.0f} / {c.holds_these:.0f} ({c.width:.2f}){undefined}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=150, help="of each cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("coverage.csv"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--cells", nargs="+", choices=list(cells()), default=list(cells()), metavar="NAME")
    given = parser.parse_args()
    complete(given.out, given.cells, given.seed, given.cohorts, given.processes)
    lines = [line for line in read(given.out, given.seed) if int(line["cohort"]) < given.cohorts]
    print(f"{given.cohorts} cohorts of each cell, seed {given.seed}\n")
    print("\n".join(tables(lines, given.cells)))


if __name__ == "__main__":
    main()
