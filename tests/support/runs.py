"""Run directories of made-up scores, and trainings that are killed while they write one."""

from __future__ import annotations

import importlib
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lungct import metrics
from lungct.boosting import choose_rounds
from lungct.rundir import Run, RunWriter, Scores, usable_run
from lungct.rundir.contents import METRICS_KEYS
from lungct.training.characteristics import describe
from support import planted, tables
from support.planted import DIM

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'\n\u202eevil"

ROUNDS = 40


@cache
def booster_text() -> str:
    """A real booster for the features of `support.planted`, in LightGBM's text format."""
    import lightgbm

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, DIM)), np.arange(60) % 2
    params = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5, "learning_rate": 0.01}
    return str(lightgbm.train(params, lightgbm.Dataset(X, y), ROUNDS).model_to_string())


def made_up_run(
    place: Path,
    *,
    n: int = 60,
    folds: int = 3,
    inner: bool = False,
    weights: str = "random:1",
    left_out: list[tuple[str, str]] | None = None,
    label_of: Callable[[int], int] = lambda i: int(i % 3 == 0),
    curve_rounds: int = ROUNDS,
    twins: bool = False,
    seed: int = 42,
    signal: float = 0.2,
    linear_signal: float = 0.2,
    repeats: int = 1,
    id_of: Callable[[int], str] = lambda i: HOSTILE if i == 0 else f"p{i:03d}",
    older: bool = False,
) -> Run:
    """Return a run of random scores, as a training would write it to ``place``.

    Parameters
    ----------
    twins
        Whether neighbouring patients have one scan.
    signal, linear_signal
        How much higher the scores of positives are, of the model and of the linear reference.
    older
        Whether the run lacks what lungct 0.1.0 did not measure.

    """
    rng = np.random.default_rng(seed)
    y = np.array([label_of(i) for i in range(n)])
    fold = np.arange(n) * folds // n
    score = 0.3 + signal * y + rng.normal(0, 0.2, n)
    optimistic = None if inner else score + 0.05 * (y - 0.5)
    linear = 0.3 + linear_signal * y + np.random.default_rng([seed, 1]).normal(0, 0.2, n)
    measured: dict[str, Any] = {} if older else {"linear_score": linear, "averaged_score": (score + 0.3 + 0.1 * y) / 2}
    numbers: dict[str, Any] = metrics.evaluate(y, fold, score, optimistic_score=optimistic, **measured)
    if older:
        numbers = {name: numbers[name] for name in METRICS_KEYS if name in numbers}
    else:
        numbers |= _who(n, y, left_out or [])
    own, pairs = _curves(folds, curve_rounds, seed)
    best = [int(curve.argmin()) + 1 for curve in own]
    sizes = [int((fold == k).sum()) for k in range(folds)]
    rounds = best if inner else choose_rounds(pairs, sizes)
    numbers["folds"] = [
        {
            "repeat": repeat,
            "fold": k,
            "patients": sizes[k],
            "positives": int(y[fold == k].sum()),
            "rounds": rounds[k],
            "best_iteration": best[k],
            **metrics.evaluate_fold(y[fold == k], score[fold == k]),
        }
        for repeat in range(repeats)
        for k in range(folds)
    ]
    numbers |= {
        "schema": 1,
        "patients": n,
        "positives": int(y.sum()),
        "left_out": [{"patient_id": name, "why": why} for name, why in left_out or []],
        "seconds": 12.5,
    }
    settings = {
        "schema": 1,
        "kind": "run",
        "lungct": "0.1.0",
        "table": {
            "path": "/data/features",
            "settings": replace(tables.SETTINGS, dim=planted.DIM, weights=weights).as_dict(),
        },
        "labels": {"path": "/data/labels.csv", "sha256": "cd" * 32},
        "id_column": "id",
        "label_column": "cancer",
        "pooling": "mean",
        "objective": "l2",
        "params": {"num_leaves": 21},
        "folds": folds,
        "repeats": repeats,
        "grouped": False,
        "rounds": 5000,
        "early_stopping": 300,
        "inner": inner,
        "seed": seed,
        "versions": {"python": "3.11.0", "lightgbm": "4.7.0"},
    }
    if not older:
        settings["overrides"] = {"learning_rate": 0.01}
    return Run(
        place=place,
        settings=settings,
        metrics=numbers,
        scores=Scores(
            patient_id=[id_of(i) for i in range(n)] * repeats,
            person=["" if i % 2 else f"person {i}" for i in range(n)] * repeats,
            label=np.tile(y, repeats),
            repeat=np.repeat(np.arange(repeats, dtype=np.int64), n),
            fold=np.tile(fold, repeats),
            score=np.concatenate([score + 0.01 * repeat for repeat in range(repeats)]),
            optimistic_score=None if optimistic is None else np.tile(optimistic, repeats),
            pixel_hash=[f"{i // 2 if twins else i:064x}" for i in range(n)] * repeats,
        ),
        curves={(repeat, k): own[k] for repeat in range(repeats) for k in range(folds)},
        pair_curves={}
        if inner or older
        else {(repeat, *pair): curve for repeat in range(repeats) for pair, curve in sorted(pairs.items())},
        models={
            (repeat, k): f"{booster_text()}\n# fold {k} of the run with seed {seed}\n"
            for repeat in range(repeats)
            for k in range(folds)
        },
    )


def _curves(
    folds: int, rounds: int, seed: int
) -> tuple[list[NDArray[np.float64]], dict[tuple[int, int], NDArray[np.float64]]]:
    """Return each fold's own curve, and those of the pairs of folds, of which some ended earlier."""
    x = np.arange(1, rounds + 1) / rounds
    own = [0.2 + 1e-6 * seed + 0.05 * (x - 0.6 - 0.01 * (k % 5)) ** 2 for k in range(folds)]
    pairs = {
        (j, k): (0.21 + 1e-6 * seed + 0.05 * (x - 0.5 - 0.02 * (j % 5)) ** 2)[: rounds - (j + k) % 3]
        for j in range(folds)
        for k in range(folds)
        if j != k
    }
    return own, pairs


def _who(n: int, y: NDArray[np.int64], left_out: list[tuple[str, str]]) -> dict[str, Any]:
    """Return who the patients are, as a training does it, and how many were left out."""
    table = pa.table(
        {
            "patient_id": [str(i) for i in range(n)],
            "manufacturer": [("SIEMENS", "GE MEDICAL SYSTEMS", "TOSHIBA", None)[i % 4] for i in range(n)],
            "kernel": [f"B{30 + i // 3 % 11}f" for i in range(n)],
            "slices": [100 + 7 * (i % 40) for i in range(n)],
            "spacing_mm": [[(1.0, 1.25, 2.5, float("nan"))[i % 4], 0.7, 0.7] for i in range(n)],
            "thickness_mm": [(1.0, 1.25, None)[i // 2 % 3] for i in range(n)],
            "lung_litres": [None] * n,
            "notes": [["lossy"] if i % 5 == 0 else ["gap_mm=12.5", "lossy"] if i % 17 == 1 else [] for i in range(n)],
        }
    )
    unlabelled = sum(why == "features, but no label" for _, why in left_out)
    failed = len(left_out) - unlabelled
    return {
        "matched": {"labels": n + failed, "table": n + unlabelled, "both": n},
        "flow": {
            "table": {"patients": len(left_out) + n, "errors": {"no_ct": failed}, "features": n + unlabelled},
            "labels": {"rows": n + failed + 2, "blank": 2, "labelled": n + failed},
            "labelled_not_in_table": 0,
            "labelled_without_features": failed,
            "unlabelled": unlabelled,
            "used": n,
        },
        "characteristics": describe(table, dict(zip(map(str, range(n)), y.tolist(), strict=True))),
    }


def write_run(place: Path, **options: Any) -> Path:
    """Write a made-up run as a training does."""
    with RunWriter(usable_run(place)) as writer:
        writer.write(made_up_run(place, **options), "<!doctype html>")
    return place


STEPS = {
    "os": ("mkdir", "open", "rename", "link", "unlink", "rmdir", "fsync", "close", "chmod"),
    "fcntl": ("flock",),
    "lungct.storage.exchange": ("exchange",),
}


def kill_at(step: int) -> None:
    """Have this process killed just before its ``step``-th change of the file system."""
    taken, fsync = 0, os.fsync

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)
            # A kill loses nothing that was written, so there is no need to wait for the disk.
            return None if function is fsync else function(*arguments, **options)

        return instead

    for module_name, names in STEPS.items():
        module = importlib.import_module(module_name)
        for name in names:
            setattr(module, name, counted(getattr(module, name)))


def _write_and_exit(place: Path, run: Run, step: int) -> NoReturn:
    kill_at(step)
    code = 1
    try:
        with RunWriter(usable_run(place)) as writer:
            writer.write(run, "<!doctype html>new")
        code = 0
    finally:
        os._exit(code)


def killed_everywhere(root: Path) -> int:
    """Kill a training at each of its steps, each time in a copy of ROOT/before; return the number of steps.

    Only for a process without threads, because it forks.
    """
    run = made_up_run(root, seed=2)
    for step in itertools.count(1):
        place = shutil.copytree(root / "before", root / f"{step:03d}", symlinks=True) / "run"
        child = os.fork()
        if child == 0:
            _write_and_exit(place, run, step)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return step
    raise AssertionError


def _prepare(directory: Path, layout: str) -> None:
    directory.mkdir()
    place = directory / "run"
    if layout != "new":
        write_run(place, seed=1)
        (place / "notes.txt").write_text("mine")
        (place / "models" / "deep").mkdir(parents=True)
        (place / "models" / "deep" / "plot.png").write_bytes(b"png")


def main(root: str, layout: str) -> None:
    """Kill trainings into a new RUN ("new"), an old one ("beside"), or where no exchange is possible ("inside")."""
    if layout == "inside":
        from lungct.rundir import writing

        writing._can_lie_beside = lambda place: False
    _prepare(Path(root) / "before", layout)
    print(killed_everywhere(Path(root)))


if __name__ == "__main__":
    main(*sys.argv[1:])
