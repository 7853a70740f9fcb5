"""Options and ``--params`` -> the parameters that LightGBM is called with.

2017's parameters, single ones overridden by the user's. A parameter that LightGBM does not know, that another option
decides, or whose value LightGBM refuses, is refused by name before any work: LightGBM itself warns of unknown ones
at most, and goes on.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightgbm
import numpy as np

from lungct.boosting.folds import is_count
from lungct.errors import UsageError

OBJECTIVES = ("l2", "binary")

_LOSSES = {"l2": ("regression", "l2"), "binary": ("binary", "binary_logloss")}

# The 2017 system's parameters, with the defaults of that year's scikit-learn wrapper spelt out.
PARAMETERS_2017: Mapping[str, Any] = {
    "max_depth": 50,
    "num_leaves": 21,
    "learning_rate": 0.001,
    "min_sum_hessian_in_leaf": 1,
    "min_data_in_leaf": 10,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.8,
    "max_bin": 255,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}

# Parameters that are not a matter of the learner here, and where each is decided instead.
_DECIDED: Mapping[str, str] = {
    "objective": "--objective decides it",
    "metric": "--objective decides it",
    "num_class": "labels are 0 or 1",
    "num_iterations": "--rounds decides it",
    "early_stopping_round": "--early-stopping decides it",
    "early_stopping_min_delta": "a round that is better at all counts",
    "first_metric_only": "there is one metric",
    "seed": "--seed decides it",
    "num_threads": "each fold takes its share of the cores",
    **dict.fromkeys(
        ("num_machines", "machines", "machine_list_filename", "local_listen_port", "time_out",
         "tree_learner", "pre_partition"),
        "a fold is fitted in one process",
    ),
    **dict.fromkeys(
        ("task", "config", "data", "valid", "input_model", "output_model", "output_result",
         "convert_model", "convert_model_language", "save_binary", "snapshot_freq", "header",
         "label_column", "weight_column", "group_column", "ignore_column", "parser_config_file",
         "two_round", "precise_float_parser"),
        "it belongs to LightGBM's own command line",
    ),
    **dict.fromkeys(
        ("forcedsplits_filename", "forcedbins_filename"),
        "a run does not depend on a further file",
    ),
    **dict.fromkeys(
        ("device_type", "gpu_platform_id", "gpu_device_id", "gpu_device_id_list", "gpu_use_dp", "num_gpu"),
        "boosters are fitted on the CPU, where the same seed gives the same trees",
    ),
    **dict.fromkeys(
        ("num_iteration_predict", "start_iteration_predict", "predict_raw_score",
         "predict_leaf_index", "predict_contrib", "predict_disable_shape_check",
         "pred_early_stop", "pred_early_stop_freq", "pred_early_stop_margin"),
        "how scores are predicted is fixed",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Learner:
    """How each fold is fitted.

    Attributes
    ----------
    params
        LightGBM's parameters, all of them settled but ``num_threads``.
    rounds
        The most rounds.
    early_stopping
        Rounds without a better loss after which a fit ends.

    """

    params: Mapping[str, Any]
    rounds: int
    early_stopping: int

    @property
    def metric(self) -> str:
        """LightGBM's name of the validation loss."""
        return str(self.params["metric"])


def make_learner(
    *,
    objective: str,
    params: Mapping[str, Any] | None,
    rounds: int,
    early_stopping: int,
    seed: int,
    columns: int,
) -> Learner:
    """Settle the parameters: 2017's, overridden by ``params``, under LightGBM's main names.

    Parameters
    ----------
    columns
        P, which some parameters must fit (one constraint for each feature).

    Raises
    ------
    UsageError
        If a parameter is unknown to LightGBM, decided elsewhere, given twice, or refused by LightGBM for its value.

    """
    if objective not in OBJECTIVES:
        raise UsageError(f"--objective {objective} is unknown: take one of {', '.join(OBJECTIVES)}")
    for option, value in (("--rounds", rounds), ("--early-stopping", early_stopping)):
        if not is_count(value) or value < 1:
            raise UsageError(f"{option} {value} cannot be used: give a whole number of 1 or more")
    loss, metric = _LOSSES[objective]
    settled = {"objective": loss, "metric": metric, **PARAMETERS_2017, "seed": seed}
    overridden = _overrides(params or {})
    settled.update(overridden)
    if overridden.get("force_col_wise") and "force_row_wise" not in overridden:
        settled.pop("force_row_wise")
    if overridden:
        _try_out(settled, columns, overridden)
    return Learner(settled, int(rounds), int(early_stopping))


def _overrides(params: Mapping[str, Any]) -> dict[str, Any]:
    """Put given parameters under LightGBM's main names, and refuse those that are not for giving.

    An alias beside its main name would be ignored by LightGBM (``min_child_samples`` beside 2017's
    ``min_data_in_leaf``), so names are resolved first.
    """
    if not isinstance(params, Mapping):
        raise UsageError('--params must be an object of names and values: {"num_leaves": 7}')
    known = _main_names()
    settled: dict[str, Any] = {}
    for name, value in params.items():
        main = known.get(name)
        if main is None:
            raise UsageError(f"--params has {name!r}, which LightGBM does not know{_alike(name)}")
        if main in _DECIDED:
            raise UsageError(f"--params may not set {name!r}: {_DECIDED[main]}")
        if main == "boosting" and value == "dart":
            raise UsageError(
                f"--params may not set {name!r} to 'dart': it changes earlier trees afterwards, "
                "so no round can be chosen"
            )
        if main in settled:
            raise UsageError(f"--params gives {main!r} twice, under two names ({name!r} is one)")
        _refuse_value(name, value)
        settled[main] = value
    return settled


def _refuse_value(name: str, value: Any) -> None:
    """LightGBM turns values into text, and a null or an object into nonsense."""
    single = bool | int | float | str | np.integer | np.floating | np.bool_
    nested = value if isinstance(value, list | tuple) else [value]
    flat = [v for item in nested for v in (item if isinstance(item, list | tuple) else [item])]
    if not all(isinstance(v, single) for v in flat):
        raise UsageError(f"--params gives {name!r} a value that is no number, text or list: {value!r}")
    if any(isinstance(v, float) and not math.isfinite(v) for v in flat):
        raise UsageError(f"--params gives {name!r} a value that is not finite: {value!r}")


def _try_out(params: Mapping[str, Any], columns: int, overridden: Mapping[str, Any]) -> None:
    """Fit one round on a few drawn rows: what LightGBM refuses, it refuses here, before any work."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, columns)).astype(np.float32)
    y = np.arange(64) % 2
    try:
        with _silent():
            train = lightgbm.Dataset(X, y)
            lightgbm.train({**params, "verbosity": -1, "num_threads": 1}, train, num_boost_round=1)
    except (lightgbm.basic.LightGBMError, TypeError, ValueError, IndexError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in overridden.items())
        raise UsageError(f"LightGBM refuses --params {given}: {_first_line(error)}") from error


@cache
def _main_names() -> dict[str, str]:
    """Map every name that LightGBM knows, aliases included, to its main name.

    LightGBM dumps this table itself (``LGBM_DumpParamAliases``), so it fits the version that is installed.
    """
    table = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    return {name: main for main, names in table.items() for name in {main, *names}}


def _alike(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(str(name), list(_main_names()), n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


@contextmanager
def refusals() -> Iterator[None]:
    """Say what LightGBM refuses as a UsageError."""
    try:
        yield
    except lightgbm.basic.LightGBMError as error:
        raise UsageError(f"LightGBM refuses: {_first_line(error)}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep LightGBM's C code off stderr, where it prints what it raises, whatever its verbosity is."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _first_line(error: BaseException) -> str:
    """Give LightGBM's sentence without the place in its source."""
    lines = str(error).strip().splitlines()
    return lines[0].split(" at /")[0].strip(" .") if lines else type(error).__name__
