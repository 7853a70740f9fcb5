from __future__ import annotations

import pickle

import pytest

from lungct.errors import (
    ClusterError,
    LungCTError,
    NothingUsableError,
    SeriesError,
    StorageError,
    UsageError,
)
from lungct.storage.client import StoreError

ERRORS = [
    LungCTError("it broke"),
    UsageError("--limit must be a whole number of at least 1, not 0"),
    UsageError("the table is full; of what", fix="empty it: with --overwrite"),
    NothingUsableError("no patient", fix="read the column error", summary={"patients": 3}),
    SeriesError("no CT image", code="no_ct"),
    SeriesError("several persons", code="several_persons", fix="give --by-patient-id"),
    StorageError("the disk is full", fix="make room"),
    StoreError("s3://scans/x cannot be read", "access was denied", fix="check the credentials"),
    ClusterError("a node was lost"),
]


def facts(error: LungCTError) -> tuple[object, ...]:
    return type(error), str(error), error.exit_code, vars(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_keeps_everything_through_pickle(error: LungCTError) -> None:
    assert facts(pickle.loads(pickle.dumps(error))) == facts(error)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_keeps_everything_through_rays_wrapping(error: LungCTError) -> None:
    from ray.exceptions import RayTaskError

    from lungct.cluster import _from_ray

    wrapped = RayTaskError("decode", "Traceback (most recent call last): …", error)
    for outer in (wrapped, wrapped.as_instanceof_cause()):
        assert facts(_from_ray(outer)) == facts(error)


def test_any_other_error_of_ray_becomes_one_line() -> None:
    from ray.exceptions import RayTaskError

    from lungct.cluster import _from_ray

    error = _from_ray(RayTaskError("decode", "Traceback\n  ValueError: wrong", ValueError("wrong")))
    assert isinstance(error, ClusterError)
    assert str(error) == "Ray failed (RayTaskError: ValueError: wrong)"


def test_the_sentence_has_message_and_fix() -> None:
    error = UsageError("--device cuda: torch finds no GPU here", fix="check the driver with nvidia-smi")
    assert error.message == "--device cuda: torch finds no GPU here"
    assert error.fix == "check the driver with nvidia-smi"
    assert str(error) == "--device cuda: torch finds no GPU here: check the driver with nvidia-smi"
    assert str(UsageError("it broke")) == "it broke"
