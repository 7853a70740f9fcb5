"""The feature table: its schema and settings, what other tools read, commits, damage, pooling."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ct_files import write_series
from support.tables import SETTINGS, Table, bad, row, shard_bytes, write_table

import lungct
from lungct.errors import LungCTError, StorageError, UsageError
from lungct.features import (
    POOLINGS,
    Settings,
    check_table,
    pooled,
    read_feature_columns,
    read_features,
    read_settings,
    remove_table,
    schema,
    shard_name,
)
from lungct.storage import own

FEATURES = schema(SETTINGS.dim).field("features").type


def test_the_schema_is_the_documented_one(tmp_path: Path) -> None:
    write_table(tmp_path, [row("b"), row("a")], [bad("c")])
    shards = [pq.read_schema(path) for path in (tmp_path / "features").iterdir()]
    wanted = (
        "patient_id: string not null\nerror: string\nerror_code: string\nperson: string\ndays: int32\nslices: int32\n"
        "spacing_mm: fixed_size_list<element: double>[3]\n  child 0, element: double\n"
        "thickness_mm: double\nmanufacturer: string\nmodel: string\nkernel: string\nseries_reason: string\n"
        "lung_litres: double\nnotes: list<element: string> not null\n  child 0, element: string\n"
        "pixel_hash: string\n"
        "positions_mm: list<element: double>\n  child 0, element: double\n"
        "features: list<element: fixed_size_list<element: float>[512]>\n"
        "  child 0, element: fixed_size_list<element: float>[512]\n      child 0, element: float"
    )
    for shard in shards:
        assert shard.remove_metadata().to_string() == wanted
        assert json.loads(shard.metadata[b"lungct.settings"]) == json.loads((tmp_path / "settings.json").read_text())
    assert read_features(tmp_path).column("patient_id").to_pylist() == ["a", "b", "c"]


def test_settings_are_the_documented_ones(tmp_path: Path) -> None:
    write_table(tmp_path)
    have = json.loads((tmp_path / "settings.json").read_text())
    assert list(have) == [
        *("schema", "revision", "lungct", "preset", "backbone", "weights", "weights_sha256"),
        *("precision", "device", "batch_size", "depth", "pseudonym_key", "dim"),
    ]
    assert have["lungct"] == lungct.__version__
    assert read_settings(tmp_path) == SETTINGS


def test_a_row_reads_back_the_same_everywhere(tmp_path: Path) -> None:
    one, failed = replace(row("one", triplets=5), person="p"), bad("two")
    write_table(tmp_path, [one, failed])
    pattern = str(tmp_path / "features" / "*.parquet")
    assert one.features is not None
    back = {
        "pyarrow": pq.read_table(tmp_path / "features").to_pylist(),
        "polars": pl.read_parquet(pattern).to_dicts(),
        "duckdb": duckdb.read_parquet(pattern).arrow().read_all().to_pylist(),
        "pandas": pd.read_parquet(tmp_path / "features").to_dict("records"),
    }
    for name, rows in back.items():
        assert [r["patient_id"] for r in rows] == ["one", "two"], name
        got = np.array([list(values) for values in rows[0]["features"]], np.float32)
        assert np.array_equal(got, one.features), name
        assert list(rows[0]["positions_mm"]) == list(one.positions_mm), name  # type: ignore[arg-type]
        assert rows[1]["features"] is None or rows[1]["features"] is pd.NA, name
        assert list(rows[1]["notes"]) == [], name
    assert back["pyarrow"][0]["kernel"] is None
    assert back["pyarrow"][0]["person"] == "p"
    assert back["pyarrow"][1]["spacing_mm"] is None


def test_the_name_is_the_documented_hash(tmp_path: Path) -> None:
    write_table(tmp_path, [row("é"), row("a")])
    comparable = json.loads((tmp_path / "settings.json").read_text())
    del comparable["lungct"], comparable["weights"]
    text = json.dumps([comparable, ["a", "é"]], sort_keys=True, separators=(",", ":"))
    wanted = f"part-{hashlib.sha256(text.encode()).hexdigest()[:16]}.parquet"
    assert list(shard_bytes(tmp_path)) == [wanted] == [shard_name(SETTINGS, ["a", "é"])]


def test_the_same_rows_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_table(tmp_path / name, [row("a"), bad("b")], [row("c")])
    assert shard_bytes(tmp_path / "x") == shard_bytes(tmp_path / "y")


def test_a_patient_who_is_in_the_table_already_is_dropped(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.add(row("a"))
    before = shard_bytes(tmp_path)
    table.add(row("a", seed=1), row("b"))
    table.add(row("a", seed=2))
    table.add(bad("a"))
    table.owner.release()
    after = shard_bytes(tmp_path)
    assert before.items() <= after.items()
    assert len(after) == 2
    read = read_features(tmp_path)
    assert read.column("patient_id").to_pylist() == ["a", "b"]
    assert read.column("error").null_count == 2


def test_an_error_row_is_replaced_within_its_file(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.add(row("a"), bad("b"), bad("c"))
    names = set(shard_bytes(tmp_path))
    table.add(row("b"))
    table.owner.release()
    assert set(shard_bytes(tmp_path)) == names
    assert read_features(tmp_path).column("error").to_pylist() == [None, None, "no CT"]


def test_a_file_replaced_by_itself_is_not_written(tmp_path: Path) -> None:
    table = Table(tmp_path)
    table.add(row("a"), bad("b"))
    path = next((tmp_path / "features").iterdir())
    before = path.stat().st_mtime_ns, path.stat().st_ino
    table.add(bad("b"))
    table.owner.release()
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_pooling_is_in_float64_over_a_patients_rows(tmp_path: Path) -> None:
    rows = [row("b", triplets=7), row("a", triplets=1), row("d", triplets=30)]
    write_table(tmp_path, [*rows, bad("c")])
    for pooling in POOLINGS:
        ids, x = pooled(tmp_path, pooling)
        assert ids == ["a", "b", "d"]
        assert x.dtype == np.float32
        for patient_id, vector in zip(ids, x, strict=True):
            f = next(r.features for r in rows if r.patient_id == patient_id)
            assert f is not None
            wide = f.astype(np.float64)
            parts = {"mean": [wide.mean(0)], "max": [wide.max(0)]}
            parts["meanmax"] = parts["mean"] + parts["max"]
            parts["meanstd"] = [wide.mean(0), wide.std(0)]
            assert np.array_equal(vector, np.concatenate(parts[pooling]).astype(np.float32))
    assert pooled(read_features(tmp_path))[0] == ["a", "b", "d"]
    with pytest.raises(UsageError, match="pooling must be one of mean, max, meanmax, meanstd, not 'median'"):
        pooled(tmp_path, "median")  # type: ignore[arg-type]


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    write_table(tmp_path)
    assert read_features(tmp_path).schema.equals(schema(512))
    ids, x = pooled(tmp_path, "meanmax")
    assert ids == []
    assert x.shape == (0, 1024)


def test_a_directory_that_is_not_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a feature table"):
        read_features(tmp_path)
    with pytest.raises(UsageError, match="not a feature table"):
        read_features(tmp_path / "missing")
    for text in ("{", "[]", '{"schema": 2}', "nonsense"):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(UsageError, match="not a feature table's settings"):
            read_features(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "kind": "run"}',
        '{"editor.tabSize": 4}',
        "[" * 100_000,
        '{"preset": "x", "backbone": "y", "weights": "z"}',
    ],
)
def test_somebody_elses_settings_are_not_a_table_of_an_old_schema(tmp_path: Path, text: str) -> None:
    """The advice to overwrite is for tables only."""
    (tmp_path / "settings.json").write_text(text)
    with pytest.raises(UsageError, match="not a feature table's settings") as caught:
        read_features(tmp_path)
    assert "overwrite" not in str(caught.value)
    write_series(tmp_path.parent / f"{tmp_path.name}-src" / "p", slices=4, rows=32, columns=32)
    with pytest.raises(UsageError, match="does not belong to a feature table"):
        lungct.extract(tmp_path.parent / f"{tmp_path.name}-src", tmp_path, overwrite=True)
    assert (tmp_path / "settings.json").read_text() == text


_JUNK = st.none() | st.booleans() | st.integers(-5, 0) | st.floats() | st.integers(2**31) | st.lists(st.text())


@given(name=st.sampled_from(sorted(SETTINGS.as_dict())), value=_JUNK)
def test_settings_of_another_type_are_refused_in_a_sentence(name: str, value: object) -> None:
    text = json.dumps(SETTINGS.as_dict() | {name: value})
    if (name, value) == ("pseudonym_key", None):
        assert Settings.from_json(text, where="x") == SETTINGS
        return
    with pytest.raises(UsageError):
        Settings.from_json(text, where="x")


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (1, "schema 1, which an older lungct wrote, .*: extract again, with another out or with overwrite=True"),
        (3, "has schema 3, and this lungct reads schema 2: update lungct"),
    ],
)
def test_a_table_of_another_schema_is_refused_with_the_fix(tmp_path: Path, found: int, sentence: str) -> None:
    write_table(tmp_path, [row("a")])
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": found}))
    with pytest.raises(UsageError, match=sentence):
        read_features(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        pooled(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    write_table(tmp_path, [row("a")])
    path = next((tmp_path / "features").iterdir())
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[:-100], "text": b"hello" * 100}[damage])
    with pytest.raises(StorageError, match=f"unreadable shard, {path.name}"):
        read_features(tmp_path)


@pytest.fixture(scope="module")
def small_shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with one small file, and every kind of value in it."""
    directory = tmp_path_factory.mktemp("small")
    one = row("p/a", dim=8)
    scan = replace(one.scan, notes=("lossy", "gap_mm=3"), thickness_mm=2.0, model="A scanner", lung_litres=4.5)
    write_table(
        directory,
        [replace(one, person="p", scan=scan), row("q/b", dim=8), bad("r/c")],
        settings=replace(SETTINGS, dim=8),
    )
    return directory


@pytest.mark.parametrize("columns", [None, ["patient_id", "error_code"], ["patient_id", "features"]])
def test_a_flipped_bit_is_refused_or_changes_nothing(small_shard: Path, columns: list[str] | None) -> None:
    (path,) = (small_shard / "features").iterdir()
    whole, undamaged = path.read_bytes(), read_feature_columns(small_shard, columns)
    bits = random.Random(1).sample(range(8 * len(whole)), 400)
    refused = {bit: refusal(path, with_bit_flipped(whole, bit), undamaged, columns) for bit in bits}
    path.write_bytes(whole)
    assert check_table(small_shard, read_settings(small_shard)) == []
    assert all(path.name in sentence for sentence in refused.values() if sentence is not None)
    assert sum(sentence is not None for sentence in refused.values()) > 100


def refusal(path: Path, data: bytes, undamaged: pa.Table, columns: list[str] | None) -> str | None:
    """Read a shard with other bytes: return the error's sentence, or None if the same table was read."""
    path.write_bytes(data)
    directory = path.parent.parent
    problems = check_table(directory, read_settings(directory))
    try:
        found = read_feature_columns(directory, columns)
    except StorageError as error:
        assert any(problem.startswith(f"{path.name} cannot be read") for problem in problems)
        return str(error)
    assert found.equals(undamaged)
    return None


def with_bit_flipped(data: bytes, bit: int) -> bytes:
    """Return a copy of the data with one bit changed."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def test_pages_have_checksums_that_other_readers_verify(tmp_path: Path) -> None:
    write_table(tmp_path, [row("a", triplets=20)])
    (path,) = (tmp_path / "features").iterdir()
    data = path.read_bytes()
    group = pq.read_metadata(path).row_group(0)
    column = group.column(group.num_columns - 1)
    assert column.path_in_schema.startswith("features")
    middle = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size // 2
    path.write_bytes(with_bit_flipped(data, 8 * middle))
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    damaged = row("a")
    assert damaged.features is not None
    damaged.features[1, 3] = value
    with pytest.raises(LungCTError, match="features of a are not finite"):
        write_table(tmp_path, [damaged])
    table = pa.table({"patient_id": ["a"], "features": pa.array([damaged.features.tolist()], FEATURES)})
    with pytest.raises(LungCTError, match="features of a are not finite"):
        pooled(table)


def test_features_that_are_not_finite_are_refused_in_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = row("a")
    assert damaged.features is not None
    damaged.features[1, 3] = np.nan
    with monkeypatch.context() as unchecked:
        unchecked.setattr("lungct.features.rows.check_finite", lambda *_: None)
        write_table(tmp_path, [damaged])
    for read in (read_features, pooled):
        with pytest.raises(StorageError, match="features that are not finite"):
            read(tmp_path)
    assert "not finite" in check_table(tmp_path, SETTINGS)[0]


@pytest.mark.parametrize("width", [SETTINGS.dim, -1])
def test_a_shard_that_another_program_wrote_is_read(tmp_path: Path, width: int) -> None:
    """It follows the format, without digests and with other declarations: nulls, names of elements, a fixed size."""
    write_table(tmp_path, [row("a")], [bad("b")])
    expected = read_features(tmp_path)
    for path in (tmp_path / "features").iterdir():
        table = pq.read_table(path)
        types = {
            "notes": pa.list_(pa.string()),
            "features": pa.list_(pa.list_(pa.field("item", pa.float32()), width)),
        }
        fields = [pa.field(field.name, types.get(field.name, field.type)) for field in table.schema]
        settings = {"lungct.settings": table.schema.metadata[b"lungct.settings"]}
        pq.write_table(pa.Table.from_pylist(table.to_pylist(), pa.schema(fields, metadata=settings)), path)
    assert read_features(tmp_path).equals(expected)
    assert np.array_equal(pooled(tmp_path)[1], pooled(expected)[1])


def test_columns_of_other_types_are_refused(tmp_path: Path) -> None:
    write_table(tmp_path, [row("a")])
    (path,) = (tmp_path / "features").iterdir()
    table = pq.read_table(path)
    place = table.column_names.index("features")
    short = pa.array([[[1.0, 2.0]]], pa.list_(pa.list_(pa.float32())))
    pq.write_table(table.set_column(place, "features", short).replace_schema_metadata(None), path)
    for read in (read_features, pooled):
        with pytest.raises(StorageError, match="columns of other types"):
            read(tmp_path)


def test_a_patient_in_two_shards_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, [row("a")])
    path = next((tmp_path / "features").iterdir())
    (path.parent / "part-0000000000000000.parquet").write_bytes(path.read_bytes())
    with pytest.raises(StorageError, match="a patient in two shards"):
        Table(tmp_path)


def test_removing_a_table_leaves_files_that_lungct_did_not_write(tmp_path: Path) -> None:
    write_table(tmp_path, [row("a")])
    (tmp_path / "features" / "notes.txt").write_text("mine")
    (tmp_path / "features" / "part-mine.parquet").write_text("mine")
    (tmp_path / "paper.md").write_text("mine")
    owner = own(tmp_path)
    remove_table(tmp_path, owner)
    owner.release()
    (tmp_path / "features" / "part-mine.parquet").unlink()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left - {".lungct/mutex"} == {"features/notes.txt", "paper.md"}


def test_the_arrow_types_of_the_features_have_their_length() -> None:
    assert schema(2048).field("features").type == pa.list_(pa.list_(pa.float32(), 2048))
