"""LightGBM parameters in a JSON file."""

from __future__ import annotations

import json
import os
from typing import Any

from lungct.arguments import listed, spelled
from lungct.errors import UsageError
from lungct.storage import locate


def read_params(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read LightGBM parameters from a JSON file: one object of names and values.

    Raises
    ------
    UsageError
        If the file cannot be read, does not hold a JSON object, or has a name twice.

    """
    where = f"{spelled('params')} {os.fspath(path)}"

    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise UsageError(f"{where} has {listed(double)} twice", fix="keep one of each")
        return dict(pairs)

    try:
        text = locate(path, argument="params").read_bytes()
        values = json.loads(text, object_pairs_hook=without_duplicates)
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error.strerror})", fix="give a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON ({error})", fix="correct it") from error
    if not isinstance(values, dict):
        raise UsageError(
            f"{where} must hold one object of names and values", fix='write, for example, {"num_leaves": 7}'
        )
    return values
