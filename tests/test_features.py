import hashlib
import json
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.tables import SETTINGS, Table, bad, row, shard_bytes, write_table

import lungct
from lungct.errors import StorageError, UsageError
from lungct.features import (
    pooled,
    read_features,
    read_settings,
    remove_table,
    schema,
    shard_name,
)
from lungct.storage import own


def test_the_schema_is_the_documented_one(tmp_path: Path) -> None:
    write_table(tmp_path, [row("b"), row("a")], [bad("c")])
    shards = [pq.read_schema(path) for path in (tmp_path / "features").iterdir()]
    wanted = (
        "patient_id: string not null\nerror: string\nerror_code: string\nslices: int32\n"
        "spacing_mm: fixed_size_list<element: double>[3]\n  child 0, element: double\n"
        "manufacturer: string\nkernel: string\nseries_reason: string\npixel_hash: string\n"
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
    one, failed = row("one", triplets=5), bad("two")
    write_table(tmp_path, [one, failed])
    pattern = str(tmp_path / "features" / "*.parquet")
    assert one.features is not None
    back = {
        "pyarrow": pq.read_table(tmp_path / "features").to_pylist(),
        "polars": pl.read_parquet(pattern).to_dicts(),
        "duckdb": duckdb.sql(f"select * from '{pattern}'").arrow().read_all().to_pylist(),
        "pandas": pd.read_parquet(tmp_path / "features").to_dict("records"),
    }
    for name, rows in back.items():
        assert [r["patient_id"] for r in rows] == ["one", "two"], name
        got = np.array([list(values) for values in rows[0]["features"]], np.float32)
        assert np.array_equal(got, one.features), name
        assert list(rows[0]["positions_mm"]) == list(one.positions_mm), name  # type: ignore[arg-type]
        assert rows[1]["features"] is None or rows[1]["features"] is pd.NA, name
    assert back["pyarrow"][0]["kernel"] is None
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


def test_a_patient_who_is_there_already_is_dropped(tmp_path: Path) -> None:
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
    for pooling in ("mean", "max", "meanmax", "meanstd"):
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
    with pytest.raises(UsageError, match="median is unknown"):
        pooled(tmp_path, "median")


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    write_table(tmp_path)
    assert read_features(tmp_path).schema.equals(schema(512))
    ids, x = pooled(tmp_path, "meanmax")
    assert ids == []
    assert x.shape == (0, 1024)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a feature table"):
        read_features(tmp_path)
    with pytest.raises(UsageError, match="not a feature table"):
        read_features(tmp_path / "missing")
    for text in ("{", "[]", '{"schema": 1}', "nonsense"):
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(UsageError, match="not a feature table's settings"):
            read_features(tmp_path)
    (tmp_path / "settings.json").write_text('{"schema": 2}')
    with pytest.raises(UsageError, match="has schema 2"):
        read_features(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    write_table(tmp_path, [row("a")])
    path = next((tmp_path / "features").iterdir())
    data = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": data[:-100], "text": b"hello" * 100}[damage])
    with pytest.raises(StorageError, match=f"unreadable shard, {path.name}"):
        read_features(tmp_path)


def test_a_patient_in_two_shards_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, [row("a")])
    path = next((tmp_path / "features").iterdir())
    (path.parent / "part-0000000000000000.parquet").write_bytes(path.read_bytes())
    with pytest.raises(StorageError, match="a patient in two shards"):
        Table(tmp_path)


def test_removing_a_table_leaves_what_is_not_ours(tmp_path: Path) -> None:
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
