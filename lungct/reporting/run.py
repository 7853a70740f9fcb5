"""A run directory, as far as the report needs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungct.csvfile import read_columns
from lungct.errors import UsageError
from lungct.storage import Place

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Run:
    """What is in a run directory.

    Attributes
    ----------
    settings, measured
        settings.json and metrics.json.
    y, fold, score
        (n,) labels, folds and out-of-fold scores.
    pixel_hashes
        n hashes of the patients' triplets; "" where the table has none.
    curves
        ``(repeat, fold)`` to (rounds,): the validation loss, from round 1.

    """

    settings: Mapping[str, Any]
    measured: Mapping[str, Any]
    y: Ints
    fold: Ints
    score: Floats
    pixel_hashes: list[str]
    curves: Mapping[tuple[int, int], Floats]

    @property
    def clipped(self) -> Floats:
        """Scores as probabilities: a regression's may lie outside [0, 1]."""
        return np.clip(self.score, 0.0, 1.0)


def read_run(run: Place, measured: Mapping[str, Any] | None = None) -> Run:
    """Read a run directory, or raise a UsageError that says what is wrong with it."""
    if not run.is_dir():
        raise UsageError(f"RUN {run} is no directory: give the --out of lungct train")
    if measured is None:
        measured = _read_json(run, "metrics.json")
    settings = _read_json(run, "settings.json")
    rows = read_columns(run / "scores.csv", ("label", "fold", "score", "pixel_hash"), argument="RUN")
    losses = read_columns(run / "curves.csv", ("repeat", "fold", "loss"), argument="RUN")
    try:
        label, fold, score, pixel_hashes = zip(*(row for _, row in rows), strict=True)
        curves: dict[tuple[int, int], list[float]] = {}
        for _, (repeat, k, loss) in losses:
            curves.setdefault((int(repeat), int(k)), []).append(float(loss))
        found = Run(
            settings,
            measured,
            y=np.array(label, dtype=np.int64),
            fold=np.array(fold, dtype=np.int64),
            score=np.array(score, dtype=np.float64),
            pixel_hashes=list(pixel_hashes),
            curves={key: np.array(curve) for key, curve in curves.items()},
        )
        if len(found.y) != measured["patients"] or found.y.sum() != measured["positives"]:
            raise ValueError("scores.csv and metrics.json count other patients")
        if not np.isfinite(found.score).all() or not np.isin(found.y, (0, 1)).all():
            raise ValueError("scores.csv holds a label that is not 0 or 1, or a score that is no number")
    except (ValueError, KeyError, TypeError) as error:
        raise _unfit(run, error) from error
    return found


def _read_json(run: Place, name: str) -> Mapping[str, Any]:
    try:
        values = json.loads((run / name).read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"RUN {run} has no {name}, so it is no finished run: give the --out of a lungct train that ended"
        ) from None
    except OSError as error:
        raise UsageError(f"RUN {run}: {name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise _unfit(run, error) from error
    if not isinstance(values, dict):
        raise _unfit(run, ValueError(f"{name} holds no object"))
    return values


def _unfit(run: Place, error: Exception) -> UsageError:
    reason = f"no {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
    return UsageError(f"RUN {run} has files that are damaged or not of one run ({reason}): train again")
