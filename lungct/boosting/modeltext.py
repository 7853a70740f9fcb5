"""A booster <-> LightGBM's text, which keeps every bit of a prediction; and its scores.

In the text, a booster's first r trees are always the model of r rounds. In LightGBM they are not: a round in which
nothing can be split (of a small bag of patients, say) adds no tree, though its loss is recorded, and later rounds may
split again. Here, a tree of one leaf with the value 0 stands in the place of each missing one. It changes no prediction
of all rounds.

Two kinds of boosting go wrong in LightGBM 4.7 if a round splits nothing, and are refused then. DART takes dropped trees
out of the model before the round and returns without putting them back. A random forest averages an empty tree into its
predictions, but not into its losses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from lungct.arguments import spelled
from lungct.boosting.parameters import Learner, lightgbm_errors
from lungct.errors import UsageError

_SIZES = re.compile(r"^tree_sizes=(.*)$", re.MULTILINE)
_NUMBER = re.compile(r"\ATree=\d+\n")
_ONE_LEAF = "\nnum_leaves=1\n"

# A tree that splits nothing, as LightGBM writes it, without its first line.
_EMPTY = (
    "num_leaves=1\nnum_cat=0\nsplit_feature=\nsplit_gain=\nthreshold=\ndecision_type=\nleft_child=\nright_child=\n"
    "leaf_value=0\nleaf_weight=0\nleaf_count=0\ninternal_value=\ninternal_weight=\ninternal_count=\nis_linear=0\n"
    "shrinkage=1\n\n\n"
)


def to_text(booster: lightgbm.Booster, trees: Sequence[int]) -> str:
    """Return a booster with all its rounds in LightGBM's text format, with a tree for each round.

    Parameters
    ----------
    trees
        The number of its trees after each round.

    """
    # num_iteration=-1: all rounds. By default only those up to the best one are written; `rounds` may be beyond it.
    return one_tree_a_round(str(booster.model_to_string(num_iteration=-1)), trees)


def refuse_wrong_model(booster: lightgbm.Booster, trees: Sequence[int], learner: Learner, patients: int) -> None:
    """Raise UsageError if a round split nothing under a kind of boosting that is wrong from then on.

    Parameters
    ----------
    trees
        The number of the booster's trees after each round.
    patients
        The number of patients that it was fitted on.

    """
    if learner.dart:
        wrong = trees[-1] < len(trees)
    else:
        wrong = learner.forest and _ONE_LEAF in booster.model_to_string(num_iteration=-1)
    if wrong:
        raise UsageError(
            f"under boosting {learner.params['boosting']!r} a booster of {patients} patients had a round that could "
            "split nothing, after which LightGBM's predictions are wrong",
            fix=f"give {spelled('params')} with a smaller min_data_in_leaf (it is "
            f"{learner.params['min_data_in_leaf']}), weaker penalties or another boosting",
        )


def one_tree_a_round(text: str, trees: Sequence[int]) -> str:
    """Return a booster's text with a tree of one leaf for every round that added none.

    Parameters
    ----------
    text
        All rounds of the booster, in LightGBM's text format.
    trees
        The number of its trees after each round; the first round always adds one.

    """
    if trees[-1] == len(trees):
        return text
    sizes = _SIZES.search(text)
    if sizes is None:
        raise UsageError("LightGBM's text of a booster has no line tree_sizes", fix="install the LightGBM of lungct")
    begin = end = text.index("Tree=0\n", sizes.end())
    found = []
    for size in map(int, sizes.group(1).split()):
        found.append(_NUMBER.sub("", text[end : end + size]))
        end += size
    filled = [
        found[after - 1] if after > before else _EMPTY for before, after in zip([0, *trees[:-1]], trees, strict=True)
    ]
    numbered = [f"Tree={number}\n{tree}" for number, tree in enumerate(filled)]
    all_sizes = " ".join(str(len(tree)) for tree in numbered)
    return f"{text[: sizes.start()]}tree_sizes={all_sizes}{text[sizes.end() : begin]}{''.join(numbered)}{text[end:]}"


def load_booster(model: str, rounds: int = 0) -> lightgbm.Booster:
    """Read a booster from LightGBM's text format.

    Parameters
    ----------
    rounds
        The number of rounds that its ``predict`` uses by default; 0: all.

    Raises
    ------
    UsageError
        If the text is not in that format.

    """
    with lightgbm_errors():
        # Without this first line LightGBM prints its own message and aborts.
        if not model.startswith("tree\n"):
            raise UsageError("not a booster in LightGBM's text format")
        booster = lightgbm.Booster(model_str=model)
    booster.best_iteration = rounds
    return booster


def predict_scores(booster: lightgbm.Booster, X: NDArray[Any], rounds: int) -> NDArray[np.float64]:
    """Return the predictions of a booster's first ``rounds`` rounds: float64 (n,)."""
    if len(X) == 0:
        return np.empty(0)
    return np.asarray(booster.predict(X, num_iteration=rounds), dtype=np.float64)
