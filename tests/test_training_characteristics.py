"""lungct.training.characteristics: who the patients are, in sums by label that name nobody."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lungct.features import schema
from lungct.training.characteristics import COLUMNS, TEXTS_COUNTED, describe

texts = st.none() | st.sampled_from("ABC") | st.text(min_size=1, max_size=3)
numbers = st.none() | st.integers(1, 500)
mm = st.none() | st.floats(0.1, 5) | st.just(float("nan"))
notes = st.lists(st.sampled_from(["lossy", "gap_mm=3", "gap_mm=4", "derived"]), max_size=3, unique=True)
rows = st.lists(st.tuples(texts, texts, numbers, mm, mm, notes, st.sampled_from([0, 1, None])), min_size=1, max_size=40)


def table(found: list[Any]) -> tuple[pa.Table, dict[str, int]]:
    """Return a table of rows as `rows` draws them, and the labels of those that have one."""
    ids = [f"secret-{i}" for i in range(len(found))]
    makers, kernels, slices, spacing, thickness, noted, labels = zip(*found, strict=True)
    columns = {
        "patient_id": ids,
        "manufacturer": makers,
        "kernel": kernels,
        "slices": slices,
        "spacing_mm": [None if value is None else [value, 0.7, 0.7] for value in spacing],
        "thickness_mm": thickness,
        "lung_litres": [None] * len(ids),
        "notes": noted,
    }
    whole = schema(1)
    read = pa.table(columns, schema=pa.schema([whole.field(name) for name in columns]))
    return read, {name: label for name, label in zip(ids, labels, strict=True) if label is not None}


@settings(deadline=None)
@given(rows)
def test_every_patient_is_counted_once_under_the_own_label(found: list[Any]) -> None:
    read, labels = table(found)
    totals = {"negative": [*labels.values()].count(0), "positive": [*labels.values()].count(1)}
    for entry in describe(read, labels):
        for label, total in totals.items():
            if entry["kind"] == "texts":
                parts = [*entry["values"], entry["other"], entry["unknown"]]
                assert sum(part[label] for part in parts) == total
            elif entry["kind"] == "numbers":
                assert entry[label]["n"] + entry["unknown"][label] == total
            else:
                assert all(value[label] <= entry["any"][label] for value in entry["values"])
                assert entry["any"][label] <= total


@settings(deadline=None)
@given(rows)
def test_quartiles_are_those_of_the_known_values(found: list[Any]) -> None:
    read, labels = table(found)
    entries = {entry["name"]: entry for entry in describe(read, labels)}
    for label, code in (("negative", 0), ("positive", 1)):
        known = [row[3] for row in found if row[6] == code and row[3] is not None and not np.isnan(row[3])]
        if "spacing_mm" in entries and known:
            quartiles = entries["spacing_mm"][label]
            assert [quartiles["q1"], quartiles["median"], quartiles["q3"]] == np.percentile(
                known, (25, 50, 75)
            ).tolist()


@settings(deadline=None)
@given(rows)
def test_no_id_leaves_and_all_is_json(found: list[Any]) -> None:
    text = json.dumps(describe(*table(found)), allow_nan=False)
    assert "secret" not in text


def row(maker: str | None, label: int, **changes: Any) -> tuple[Any, ...]:
    values = {"kernel": None, "slices": None, "spacing": None, "thickness": None, "notes": []} | changes
    return (maker, *values.values(), label)


def test_many_texts_are_counted_as_others() -> None:
    found = [row(f"maker {i:02d}", i % 2) for i in range(20) for _ in range(20 - i)]
    maker = describe(*table(found))[0]
    assert [value["value"] for value in maker["values"]] == [f"maker {i:02d}" for i in range(TEXTS_COUNTED)]
    assert maker["values"][1] == {"value": "maker 01", "negative": 0, "positive": 19}
    assert maker["other"] == {"texts": 12, "negative": 12 + 10 + 8 + 6 + 4 + 2, "positive": 11 + 9 + 7 + 5 + 3 + 1}


def test_one_text_more_is_counted_by_itself() -> None:
    found = [row(f"maker {i}", 0) for i in range(TEXTS_COUNTED + 1)]
    maker = describe(*table(found))[0]
    assert (len(maker["values"]), maker["other"]["texts"]) == (TEXTS_COUNTED + 1, 0)


def test_what_nobody_knows_has_no_entry() -> None:
    entries = describe(*table([row("A", 0), row(None, 1, slices=90)]))
    assert [entry["name"] for entry in entries] == ["manufacturer", "slices", "notes"]
    assert entries[0]["unknown"] == {"negative": 0, "positive": 1}
    assert entries[1]["negative"] == {"n": 0, "q1": None, "median": None, "q3": None}


def test_a_note_is_counted_by_its_code_in_the_order_of_the_docs() -> None:
    found = [row("A", 1, notes=["lossy", "gap_mm=3"]), row("A", 1, notes=["gap_mm=4.5"]), row("A", 0)]
    assert describe(*table(found))[-1] == {
        "name": "notes",
        "kind": "codes",
        "values": [
            {"value": "gap_mm", "negative": 0, "positive": 2},
            {"value": "lossy", "negative": 0, "positive": 1},
        ],
        "any": {"negative": 0, "positive": 2},
    }


def test_the_columns_are_those_of_a_feature_table() -> None:
    assert set(COLUMNS) <= set(schema(1).names)
