from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from lungct import arguments
from lungct.arguments import at_least, command_line, counted, listed, listed_texts, one_of, spelled
from lungct.errors import UsageError


def test_the_examples_hold() -> None:
    assert doctest.testmod(arguments).failed == 0


@pytest.mark.parametrize(
    ("argument", "value", "keyword", "option"),
    [
        ("SRC", None, "src", "SRC"),
        ("SRC", "scans", "src='scans'", "SRC scans"),
        ("early_stopping", None, "early_stopping", "--early-stopping"),
        ("take_over", True, "take_over=True", "--take-over"),
        ("limit", 3, "limit=3", "--limit 3"),
    ],
)
def test_an_argument_is_spelled_as_its_reader_typed_it(argument: str, value: object, keyword: str, option: str) -> None:
    assert spelled(argument, value) == keyword
    with command_line():
        assert spelled(argument, value) == option
    assert spelled(argument, value) == keyword


def test_the_spelling_returns_after_an_error() -> None:
    with pytest.raises(ValueError, match="x"), command_line():
        raise ValueError("x")
    assert spelled("limit") == "limit"


def test_a_value_must_be_one_of_those_allowed() -> None:
    one_of("lung", ["dsb2017", "lung"], "preset")
    with command_line(), pytest.raises(UsageError) as caught:
        one_of("x", ["dsb2017", "lung"], "preset")
    assert str(caught.value) == "--preset must be one of dsb2017, lung, not 'x'"


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_whole_numbers_of_at_least_one_pass(value: Any) -> None:
    at_least(value, 1, "limit")


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (-2, "-2"), (1.5, "1.5"), ("3", "'3'"), (True, "True")])
def test_anything_else_is_refused_in_one_wording(value: Any, shown: str) -> None:
    with command_line(), pytest.raises(UsageError) as caught:
        at_least(value, 1, "limit")
    assert str(caught.value) == f"--limit must be a whole number of at least 1, not {shown}"


def test_a_range_is_named() -> None:
    with pytest.raises(UsageError, match="folds must be a whole number from 2 to 10, not 11"):
        at_least(11, 2, "folds", most=10)


def test_many_values_are_counted() -> None:
    assert listed(["a", 1]) == "'a', 1"
    assert listed_texts("abcdefg") == "a, b, c, d, e and 2 more"
    assert (counted(1, "label", "labels"), counted(3, "label", "labels")) == ("1 label", "3 labels")
