"""Who a cohort's patients are: what the feature table knows of their scans, counted by label.

Only sums leave this module: no id, and no value of a single number. A text (a maker, a kernel) is counted if it is one
of the few most common ones; the others are counted together. The model of a scanner stays in the table, because reports
are passed on, and a model may be rare enough to name a hospital.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.dicom.notes import code_of, in_order

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray

TEXTS_COUNTED = 8
"""Texts that are counted each by itself; the rest is ``other``."""
LABELS = {"negative": 0, "positive": 1}

_NUMBERS = ("slices", "spacing_mm", "thickness_mm", "lung_litres")
_TEXTS = ("manufacturer", "kernel")
COLUMNS = ("patient_id", *_TEXTS, *_NUMBERS, "notes")
"""The columns of a feature table that `describe` reads."""


def describe(table: pa.Table, labels: Mapping[str, int]) -> list[dict[str, Any]]:
    """Describe the patients of a cohort by label.

    Parameters
    ----------
    table
        `COLUMNS` of a feature table.
    labels
        The label, 0 or 1, of each patient of the cohort; other rows of the table are left out.

    Returns
    -------
    list of dict
        An entry for each fact, with its ``name`` and ``kind``. Counts are of patients, ``{"negative", "positive"}``.

        ``numbers`` (slices, spacing_mm between slices, thickness_mm, lung_litres): ``negative`` and ``positive``, each
        ``{"n", "q1", "median", "q3"}`` of the known values (quartiles None if n is 0), and ``unknown`` counts.
        ``texts`` (manufacturer, kernel): ``values``, a list of counts with their ``value``, the most common
        first; ``other``, counts with the number of ``texts`` that they stand for; ``unknown`` counts.
        ``codes`` (notes): ``values``, counts of the patients with each code; ``any``, of those with at least one. A
        patient may have several codes.

        A fact that is unknown for every patient (lung_litres without the preset ``lung``) has no entry.

    """
    import pyarrow as pa

    used = [patient_id in labels for patient_id in table.column("patient_id").to_pylist()]
    table = table.filter(pa.array(used, type=pa.bool_()))
    y = np.array([labels[patient_id] for patient_id in table.column("patient_id").to_pylist()], dtype=np.int64)
    entries = [_texts(name, table.column(name).to_pylist(), y) for name in _TEXTS]
    entries += [_numbers(name, table.column(name).to_pylist(), y) for name in _NUMBERS]
    known = [entry for entry in entries if sum(entry["unknown"].values()) < len(y)]
    return [*known, _notes(table.column("notes").to_pylist(), y)]


def _numbers(name: str, values: Sequence[Any], y: NDArray[np.int64]) -> dict[str, Any]:
    # Of the three spacings, the first is between slices; an unknown one is NaN.
    single = [value[0] if isinstance(value, list) else value for value in values]
    x = np.array([np.nan if value is None else value for value in single], dtype=np.float64)
    unknown = ~np.isfinite(x)
    by_label = {label: _quartiles(x[(y == code) & ~unknown]) for label, code in LABELS.items()}
    return {"name": name, "kind": "numbers", **by_label, "unknown": _counts(unknown, y)}


def _quartiles(x: NDArray[np.float64]) -> dict[str, Any]:
    if not len(x):
        return {"n": 0, "q1": None, "median": None, "q3": None}
    q1, median, q3 = np.percentile(x, (25, 50, 75)).tolist()
    return {"n": len(x), "q1": q1, "median": median, "q3": q3}


def _texts(name: str, values: Sequence[str | None], y: NDArray[np.int64]) -> dict[str, Any]:
    # The most common first; of equally common ones, in order of the alphabet.
    ordered = sorted(Counter(filter(None, values)).items(), key=lambda item: (-item[1], item[0]))
    # "Other" stands for two texts at least.
    counted = TEXTS_COUNTED if len(ordered) > TEXTS_COUNTED + 1 else len(ordered)
    shown = [text for text, _ in ordered[:counted]]
    rest = {text for text, _ in ordered[counted:]}
    return {
        "name": name,
        "kind": "texts",
        "values": [{"value": text, **_counts([value == text for value in values], y)} for text in shown],
        "other": {"texts": len(rest), **_counts([value in rest for value in values], y)},
        "unknown": _counts([not value for value in values], y),
    }


def _notes(values: Sequence[Sequence[str]], y: NDArray[np.int64]) -> dict[str, Any]:
    codes = [frozenset(map(code_of, notes)) for notes in values]
    return {
        "name": "notes",
        "kind": "codes",
        "values": [
            {"value": code, **_counts([code in mine for mine in codes], y)}
            for code in in_order(code for mine in codes for code in mine)
        ],
        "any": _counts([bool(mine) for mine in codes], y),
    }


def _counts(which: ArrayLike, y: NDArray[np.int64]) -> dict[str, int]:
    """Count the patients of each label of whom something is true."""
    true = np.asarray(which, dtype=bool)
    return {label: int(np.sum(true & (y == code))) for label, code in LABELS.items()}
