"""Options and the user's ``params`` -> the parameters that LightGBM is called with.

They are 2017's parameters, some overridden by the user's. A parameter that LightGBM does not know, that another option
decides, or whose value LightGBM rejects is refused by name before any work: LightGBM itself only warns of unknown
parameters and goes on.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import lightgbm
import numpy as np

from lungct.arguments import at_least, one_of, spelled
from lungct.errors import UsageError

Objective = Literal["l2", "binary"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)

_LOSSES = {"l2": ("regression", "l2"), "binary": ("binary", "binary_logloss")}

# The 2017 system's parameters; the defaults of that year's scikit-learn wrapper are written out.
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

# Parameters that one of lungct's own arguments decides.
_DECIDED_BY: Mapping[str, str] = {
    "objective": "objective",
    "metric": "objective",
    "num_iterations": "rounds",
    "early_stopping_round": "early_stopping",
    "seed": "seed",
}

# Parameters that nobody may set, and why.
_FIXED: Mapping[str, str] = {
    "num_class": "labels are 0 or 1",
    "early_stopping_min_delta": "every improvement counts",
    "first_metric_only": "there is only one metric",
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
        "it is a setting of LightGBM's own command line",
    ),
    **dict.fromkeys(
        ("forcedsplits_filename", "forcedbins_filename"),
        "a training depends on no other file",
    ),
    **dict.fromkeys(
        ("device_type", "gpu_platform_id", "gpu_device_id", "gpu_device_id_list", "gpu_use_dp", "num_gpu"),
        "boosters are fitted on the CPU, where the same seed gives the same trees",
    ),
    **dict.fromkeys(
        ("num_iteration_predict", "start_iteration_predict", "predict_raw_score",
         "predict_leaf_index", "predict_contrib", "predict_disable_shape_check",
         "pred_early_stop", "pred_early_stop_freq", "pred_early_stop_margin"),
        "the way scores are predicted is fixed",
    ),
}  # fmt: skip


_BOOSTING = ("gbdt", "gbrt", "dart", "rf", "random_forest", "goss")


@dataclass(frozen=True)
class Learner:
    """How each fold is fitted.

    Attributes
    ----------
    params
        LightGBM's parameters, complete except for ``num_threads``.
    rounds
        The maximum number of rounds.
    early_stopping
        The number of rounds without a better loss after which a fit ends.

    """

    params: Mapping[str, Any]
    rounds: int
    early_stopping: int

    @property
    def metric(self) -> str:
        """LightGBM's name for the validation loss."""
        return str(self.params["metric"])

    @property
    def dart(self) -> bool:
        """Whether later rounds change earlier trees (dropout): the first r trees are not the model of round r."""
        return self.params.get("boosting") == "dart"

    @property
    def forest(self) -> bool:
        """Whether a prediction is the mean of the trees' and not their sum."""
        return self.params.get("boosting") in ("rf", "random_forest")


def make_learner(
    *,
    objective: Objective,
    params: Mapping[str, Any] | None,
    rounds: int,
    early_stopping: int,
    seed: int,
    columns: int,
) -> Learner:
    """Return the complete parameters: 2017's, overridden by ``params``, under LightGBM's main names.

    Parameters
    ----------
    columns
        P, the number of features, which some parameters must match (one constraint for each feature).

    Raises
    ------
    UsageError
        If LightGBM does not know a parameter or rejects its value, or a parameter is decided elsewhere or given twice.

    """
    one_of(objective, OBJECTIVES, "objective")
    at_least(rounds, 1, "rounds")
    at_least(early_stopping, 1, "early_stopping")
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
    """Return the user's parameters under LightGBM's main names.

    LightGBM would ignore an alias beside its main name (``min_child_samples`` beside 2017's ``min_data_in_leaf``), so
    names are resolved first.
    """
    given = spelled("params")
    if not isinstance(params, Mapping):
        raise UsageError(f"{given} must be an object of names and values", fix='give, for example, {"num_leaves": 7}')
    known = _main_names()
    settled: dict[str, Any] = {}
    for name, value in params.items():
        main = known.get(name)
        if main is None:
            raise UsageError(f"{given} has {name!r}, which LightGBM does not know{_alike(name)}")
        if main in _DECIDED_BY:
            raise UsageError(f"{given} may not set {name!r}", fix=f"give {spelled(_DECIDED_BY[main])} instead")
        if main in _FIXED:
            raise UsageError(f"{given} may not set {name!r}, because {_FIXED[main]}", fix="leave it out")
        if main in settled:
            raise UsageError(f"{given} sets {main!r} twice, under two names ({name!r} is one)", fix="leave one out")
        _refuse_value(name, value)
        if main == "boosting" and value not in _BOOSTING:
            # LightGBM takes 'DART' for dart and ' dart' for gbdt.
            raise UsageError(
                f"{given}: the value of {name!r} is {value!r}", fix=f"give one of {', '.join(_BOOSTING)}, spelled so"
            )
        settled[main] = value.item() if isinstance(value, np.generic) else value
    return settled


def _refuse_value(name: str, value: Any) -> None:
    """Raise UsageError for a null or an object, which LightGBM would turn into meaningless text."""
    single = bool | int | float | str | np.integer | np.floating | np.bool_
    nested = value if isinstance(value, list | tuple) else [value]
    flat = [v for item in nested for v in (item if isinstance(item, list | tuple) else [item])]
    if not all(isinstance(v, single) for v in flat):
        raise UsageError(
            f"{spelled('params')}: the value of {name!r} is {value!r}", fix="give a number, a text or a list"
        )
    if any(isinstance(v, float) and not math.isfinite(v) for v in flat):
        raise UsageError(f"{spelled('params')}: the value of {name!r} is {value!r}", fix="give a finite number")


def _try_out(params: Mapping[str, Any], columns: int, overridden: Mapping[str, Any]) -> None:
    """Fit one round on a few random rows, so that LightGBM rejects a bad value here, before any work."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(64, columns)).astype(np.float32)
    y = np.arange(64) % 2
    try:
        with _silent():
            train = lightgbm.Dataset(X, y)
            lightgbm.train({**params, "verbosity": -1, "num_threads": 1}, train, num_boost_round=1)
    except (lightgbm.basic.LightGBMError, TypeError, ValueError, IndexError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in overridden.items())
        raise UsageError(
            f"LightGBM rejects {spelled('params')} {given} ({_first_line(error)})", fix="give other values"
        ) from error


@cache
def _main_names() -> dict[str, str]:
    """Map every name that LightGBM knows, aliases included, to its main name.

    LightGBM writes this table itself (``LGBM_DumpParamAliases``), so it is that of the installed version.
    """
    table = lightgbm.basic._ConfigAliases._get_all_param_aliases()
    return {name: main for main, names in table.items() for name in {main, *names}}


def _alike(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(str(name), list(_main_names()), n=1, cutoff=0.7)
    return f"; did you mean {close[0]!r}?" if close else ""


@contextmanager
def lightgbm_errors() -> Iterator[None]:
    """Raise LightGBM's errors as UsageErrors."""
    try:
        yield
    except lightgbm.basic.LightGBMError as error:
        raise UsageError(f"LightGBM failed ({_first_line(error)})") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keep LightGBM's C code from printing on stderr what it also raises, which it does at every verbosity."""
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
    """Return LightGBM's message without the position in its source."""
    lines = str(error).strip().splitlines()
    return lines[0].split(" at /")[0].strip(" .") if lines else type(error).__name__
