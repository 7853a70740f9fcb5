"""A run's numbers -> what they mean, in sentences: for the report's first screen and for the end of ``train``.

The first sentence answers whether the model beats guessing. It takes both: that the model ranks (the interval of the
AUC against 0.5), and that its scores are better probabilities than the constant predictor's (the interval of the
paired difference of their log losses against 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lungct.reporting.words import MINUS, interval, is_measured, joined, number, side
from lungct.reporting.worries import Worry, worries_about
from lungct.rundir import Run

Answer = Literal["yes", "partly", "no", "unknown"]
WORRIES_NAMED = 3  # in the first sentence, at most


@dataclass(frozen=True)
class Verdict:
    """The answer to whether a model beats guessing.

    Attributes
    ----------
    answer
        ``yes``; ``partly`` (it ranks, or its probabilities are better, but not both); ``no``; ``unknown`` (undefined).
    lead, rest
        One sentence in two parts: the answer, then its intervals and the first worries.
    worries
        All of them, the gravest first.

    """

    answer: Answer
    lead: str
    rest: str
    worries: list[Worry]

    @property
    def sentence(self) -> str:
        """The whole sentence."""
        return f"{self.lead}{self.rest}"


def judge(run: Run) -> Verdict:
    """Return what a run's numbers mean.

    Raises
    ------
    KeyError, TypeError
        If its settings or metrics lack what every run has.

    """
    worries = list(worries_about(run))
    answer, lead, rest = _answer(run.metrics)
    linear = _linear_is_better(run.metrics)
    if linear:
        rest += f"; {linear}"
    if worries:
        named = [worry.short for worry in worries[:WORRIES_NAMED]]
        more = len(worries) - len(named)
        if more:
            named.append(f"{more} more {'point' if more == 1 else 'points'}")
        rest += f"; what should worry you: {joined(named)}"
    return Verdict(answer, lead, f"{rest}.", worries)


def _answer(metrics: Mapping[str, Any]) -> tuple[Answer, str, str]:
    """Return the answer, in a few words, and with its intervals."""
    auc, loss = metrics["auc"], _loss_difference(metrics)
    ranks, fits = side(auc, 0.5), side(loss, 0.0)
    ranking = f"AUC {number(auc['value'])}, 95 % interval {interval(auc)}"
    probabilities = _probabilities(loss)
    if ranks is None:
        return "unknown", "Whether the model ranks patients cannot be said", f": its AUC is undefined; {probabilities}"
    if ranks == "below":
        return "no", "No, the model does worse than guessing", f": it ranks positives below negatives ({ranking})"
    if ranks == "above" and fits == "below":
        return (
            "yes",
            "Yes, the model beats guessing",
            f": it ranks patients better than chance ({ranking}), and {probabilities}",
        )
    if ranks == "above":
        return (
            "partly",
            "In part, the model beats guessing",
            f": it ranks patients better than chance ({ranking}), but {probabilities}",
        )
    if fits == "below":
        return (
            "partly",
            "In part, the model beats guessing",
            f": {probabilities}, but it may rank patients no better than chance ({ranking})",
        )
    return (
        "no",
        "No, nothing shows that the model beats guessing",
        f": it may rank patients no better than chance ({ranking}), and {probabilities}",
    )


def _probabilities(loss: Mapping[str, Any] | None) -> str:
    """Say how the log loss compares with the constant predictor's, given their paired difference."""
    if loss is None:
        return "this run has no paired comparison with the constant predictor"
    if not is_measured(loss):
        return "its log loss cannot be compared with the constant predictor's"
    if side(loss, 0.0) == "below":
        low, high = number(-loss["high"]), number(-loss["low"])
        return f"its log loss is {number(-loss['value'])} lower than the constant predictor's ({low} to {high})"
    if side(loss, 0.0) == "above":
        return f"its log loss is {number(loss['value'])} higher than the constant predictor's ({interval(loss)})"
    return (
        f"its log loss is not distinguishable from the constant predictor's (difference {number(loss['value'])}, "
        f"{interval(loss)})"
    )


def _loss_difference(metrics: Mapping[str, Any]) -> Mapping[str, Any] | None:
    difference = metrics.get("difference")
    return difference["log_loss"] if difference else None


def _linear_is_better(metrics: Mapping[str, Any]) -> str | None:
    """Say so where the linear reference has the higher AUC, or clearly the lower log loss."""
    linear, paired = metrics.get("linear"), metrics.get("linear_difference") or {}
    if not linear:
        return None
    regression = "a plain logistic regression on the same features"
    auc, other = metrics["auc"]["value"], linear["auc"]["value"]
    if auc is not None and other is not None and other > auc:
        better = "is better" if side(paired.get("auc"), 0.0) == "below" else "does no worse"
        return f"{regression} {better} (AUC {number(other)} against {number(auc)})"
    if side(paired.get("log_loss"), 0.0) == "above":
        losses = f"log loss {number(linear['log_loss']['value'])} against {number(metrics['log_loss']['value'])}"
        return f"{regression} gives better probabilities ({losses})"
    return None


def plain(sentence: str) -> str:
    """Return a sentence for a terminal that may not have a real minus sign."""
    return sentence.replace(MINUS, "-")
