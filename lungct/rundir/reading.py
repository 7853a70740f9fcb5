"""RUN -> its contents, checked; and RUN as a place that a training may write to."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lungct.arguments import is_whole_number, listed, spelled
from lungct.errors import UsageError
from lungct.rundir.contents import (
    METRICS_KEYS,
    PAIR_CURVES_HEADER,
    SCHEMA,
    SETTINGS_KEYS,
    Run,
    Scores,
    curves_from_csv,
    model_name,
    scores_from_csv,
    written_by_lungct,
)
from lungct.storage import ObjectPath, Place, check_directory, locate

_DIRECTORY = re.compile(r"\.lungct/[0-9a-f]{16}")
_GIVE_A_RUN = "give a directory that a training wrote"
_TRAIN_AGAIN = "train again"


def read_run(run: str | os.PathLike[str] | ObjectPath) -> Run:
    """Read a run directory, boosters included.

    Every file is checked against its SHA-256 in metrics.json. A run that is replaced while it is read is read again.

    Raises
    ------
    UsageError
        If it is not a run, was not finished, is damaged or was written by an older lungct.

    """
    place = locate(run, argument="RUN")
    if not place.is_dir():
        what = "is not a directory" if place.exists() else "does not exist"
        raise UsageError(f"{_named(place)} {what}", fix=_GIVE_A_RUN)
    before = None
    while True:
        text = _read_metrics(place)
        try:
            return _read_contents(place, _parse_metrics(place, text))
        except UsageError:
            if text == before:
                raise
            before = text


def damaged_error(place: Place, reason: object) -> UsageError:
    """Return the error to raise about a run whose files cannot be used."""
    if isinstance(reason, KeyError):
        reason = f"{reason} is missing"
    lines = str(reason).splitlines() or [type(reason).__name__]
    return UsageError(f"{_named(place)} is damaged ({lines[0]})", fix=_TRAIN_AGAIN)


def usable_run(out: str | os.PathLike[str] | ObjectPath) -> Place:
    """Return RUN as a place to write a run to, without touching it.

    Raises
    ------
    UsageError
        If it is neither new, nor empty, nor a run, or cannot be written.

    """
    place = locate(out, argument="out")
    check_directory(place, argument="out")
    try:
        names = [path.name for path in place.iterdir()] if place.exists() else []
        foreign = [name for name in names if name != ".lungct" and not _is_unfinished(name)]
        refused = bool(foreign) and not _is_run(place)
        models = place / "models"
        if isinstance(models, Path) and (models.is_symlink() or models.is_file()):
            raise UsageError(f"{models} is not a directory", fix=f"remove it, or give another {spelled('out')}")
    except OSError as error:
        raise UsageError(
            f"{spelled('out')} {out} cannot be read ({error.strerror})", fix="give another directory"
        ) from error
    if refused:
        raise UsageError(
            f"{spelled('out')} {out} is a directory that does not hold a run ({listed(sorted(foreign))})",
            fix="give a new directory, an empty one, or an earlier run",
        )
    return place


@dataclass(frozen=True)
class EarlierRun:
    """A finished run that stands where another is to be written: when it was finished, and its AUC."""

    finished: datetime
    patients: int
    auc: Mapping[str, Any]


def earlier_run(place: Place) -> EarlierRun | None:
    """Return what there is to say of the run in a directory, before it is replaced; None if there is none to name."""
    path = place / "metrics.json"
    metrics = _json_object(path)
    auc, patients = metrics.get("auc"), metrics.get("patients")
    if not isinstance(auc, dict) or not {"value", "low", "high"} <= auc.keys() or not is_whole_number(patients):
        return None
    if isinstance(path, Path):
        finished = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    else:
        finished = path.modified().astimezone()
    return EarlierRun(finished, int(metrics["patients"]), auc)


def named_directory(place: Place) -> Place | None:
    """Return the directory below RUN that its metrics.json names; None if it names none, or does not exist."""
    directory = _json_object(place / "metrics.json").get("directory")
    return place / directory if isinstance(directory, str) and _DIRECTORY.fullmatch(directory) else None


def _named(place: Place) -> str:
    return f"{spelled('RUN')} {place}"


def _read_metrics(place: Place) -> bytes:
    try:
        return _read(place, place, "metrics.json")
    except FileNotFoundError:
        raise UsageError(
            f"{_named(place)} has no metrics.json, so no training has finished in it",
            fix=f"{_TRAIN_AGAIN}, or {_GIVE_A_RUN}",
        ) from None


def _parse_metrics(place: Place, text: bytes) -> dict[str, Any]:
    try:
        metrics = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged_error(place, f"metrics.json: {error}") from error
    if not isinstance(metrics, dict):
        raise damaged_error(place, "metrics.json does not hold an object")
    return metrics


def _read_contents(place: Place, metrics: dict[str, Any]) -> Run:
    """Read the files that metrics.json has checksums of."""
    directory, checksums = _location(place, metrics), metrics.get("sha256")
    if not isinstance(checksums, dict):
        raise UsageError(
            f"{_named(place)} was written by an older lungct, whose runs have no checksums", fix=_TRAIN_AGAIN
        )

    def checked(name: str) -> bytes:
        try:
            data = _read(place, directory, name)
        except FileNotFoundError:
            raise damaged_error(place, f"{name} is missing") from None
        if hashlib.sha256(data).hexdigest() != checksums.get(name):
            raise damaged_error(place, f"{name} does not match its checksum in metrics.json")
        return data

    try:
        settings = json.loads(checked("settings.json"))
        _require(settings, SETTINGS_KEYS, "settings.json")
        _require(metrics, METRICS_KEYS, "metrics.json")
        if (settings["kind"], settings["schema"], metrics["schema"]) != ("run", SCHEMA, SCHEMA):
            raise ValueError(f"its settings.json and metrics.json are not of a run of schema {SCHEMA}")
        scores = scores_from_csv(checked("scores.csv"))
        found = Run(
            place=place,
            settings=settings,
            metrics=metrics,
            scores=scores,
            curves=curves_from_csv(checked("curves.csv")),
            pair_curves=_pair_curves(checked, checksums),
            models={key: checked(model_name(*key)).decode() for key in _folds(metrics, settings, scores, checksums)},
        )
        first = scores.repeat == 0
        if (int(first.sum()), int(scores.label[first].sum())) != (metrics["patients"], metrics["positives"]):
            raise ValueError("scores.csv and metrics.json count different patients")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise damaged_error(place, error) from error
    return found


def _pair_curves(checked: Callable[[str], bytes], checksums: Mapping[str, Any]) -> dict[tuple[int, ...], Any]:
    """Return the pairs' curves; none of a run with ``inner``."""
    if "pair_curves.csv" not in checksums:
        return {}
    return curves_from_csv(checked("pair_curves.csv"), PAIR_CURVES_HEADER)


def _folds(
    metrics: Mapping[str, Any], settings: Mapping[str, Any], scores: Scores, checksums: Mapping[str, Any]
) -> list[tuple[int, int]]:
    """Return the (repeat, fold) of each booster; raise ValueError if metrics.json has others than the files."""
    folds = []
    for entry in metrics["folds"] if isinstance(metrics["folds"], list) else [None]:
        values: list[Any] = [None]
        if isinstance(entry, dict):
            values = [entry.get(key) for key in ("repeat", "fold", "rounds")]
        if not all(map(is_whole_number, values)) or not 1 <= values[-1] <= settings["rounds"]:
            raise ValueError(f"metrics.json has {entry!r} as a fold")
        folds.append((values[0], values[1]))
    scored = set(zip(scores.repeat.tolist(), scores.fold.tolist(), strict=True))
    models = [name for name in checksums if name.startswith("models/")]
    if sorted(folds) != sorted(scored) or sorted(model_name(*key) for key in folds) != sorted(models):
        raise ValueError("metrics.json has other folds than scores.csv and models/")
    return folds


def _location(place: Place, metrics: Mapping[str, Any]) -> Place:
    """Return the directory that holds a run's files: RUN, or the one below it that metrics.json names."""
    directory = metrics.get("directory")
    if directory is None:
        return place
    if not isinstance(directory, str) or not _DIRECTORY.fullmatch(directory):
        raise damaged_error(place, f"metrics.json names the directory {directory!r}")
    return place / directory


def _require(values: Mapping[str, Any], keys: Sequence[str], name: str) -> None:
    for key in keys:
        if key not in values:
            raise ValueError(f"{name} has no {key!r}")


def _read(place: Place, directory: Place, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(name) from None
    except OSError as error:
        raise UsageError(f"{_named(place)}: {name} cannot be read ({error.strerror})") from error


def _is_run(place: Place) -> bool:
    """Return whether a directory was written by a training, finished or not."""
    if _json_object(place / "settings.json").get("kind") == "run":
        return True
    metrics = _json_object(place / "metrics.json")
    return named_directory(place) is not None or isinstance(metrics.get("sha256"), dict)


def _json_object(path: Path | ObjectPath) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is none."""
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _is_unfinished(name: str) -> bool:
    """Return whether a file was left behind by a write that a kill interrupted."""
    return name.startswith(".") and written_by_lungct(name)
