"""Object stores, as emulators that these tests start: S3 by moto, GCS by fake-gcs-server, Azure Blob by Azurite.

The tests of Azure are skipped if Azurite is not installed.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from support import stores
from support.ct_files import write_series
from support.tables import Table, bad, row

from lungct.errors import StorageError, UsageError
from lungct.features import writing
from lungct.features.shards import read_shard
from lungct.storage import (
    ObjectPath,
    check_free,
    depth_below,
    list_levels,
    local_copies,
    local_copy,
    locate,
    own,
    publish,
    removal_batches,
    remove,
)

pytestmark = pytest.mark.stores

# moto lets nobody but a signed request touch an object, and does not check the signature.
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIATESTONLY/20260101/us-east-1/s3/aws4_request"}


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    with stores.moto() as environment:
        yield environment


@pytest.fixture
def bucket(store: stores.Store, tmp_path: Path) -> Iterator[ObjectPath]:
    """An empty prefix in each kind of store."""
    with stores.environment(store.environment):
        place = locate(f"{store.root}/{tmp_path.name}", argument="SRC")
        assert isinstance(place, ObjectPath)
        yield place


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat every fifth of a second, and the other waits in proportion: stale after 2 s, a grace of 0.4 s."""
    monkeypatch.setenv("LUNGCT_RENEW_SECONDS", "0.2")


def test_objects_are_used_like_files(bucket: ObjectPath) -> None:
    place = bucket / "a" / "b.bin"
    assert not place.exists()
    with pytest.raises(FileNotFoundError):
        place.read_bytes()
    place.write_bytes(b"0123456789")
    assert place.read_bytes() == b"0123456789"
    assert place.read_range(2, 5) == b"234"
    assert (place.size(), place.is_file(), place.parent.is_dir()) == (10, True, True)
    assert not (bucket / "a" / "b").is_dir()
    assert [found.name for found in (bucket / "a").glob("*.bin")] == ["b.bin"]
    file = place.open()
    file.seek(-3, io.SEEK_END)
    assert file.read() == b"789"
    publish(place, bucket / "final")
    assert (bucket / "final").read_bytes() == b"0123456789"
    place.unlink()
    assert not place.exists()
    place.unlink(missing_ok=True)
    for i in range(3):
        (bucket / f"many/{i}").write_bytes(b"")
    (bucket / "many").remove_below()
    assert not (bucket / "many").is_dir()
    assert (bucket / "final").is_file()


def test_a_conditional_write_is_refused_where_the_condition_fails(bucket: ObjectPath) -> None:
    place = bucket / "record"
    first = place.create(b"1")
    assert first
    with pytest.raises(FileExistsError):
        place.create(b"2")
    second = place.replace(b"3", first)
    assert second
    with pytest.raises(FileExistsError):
        place.replace(b"4", first)
    assert place.read_bytes() == b"3"


def test_names_of_all_kinds_come_back(bucket: ObjectPath) -> None:
    names = ["with space", "per%20cent", "hash#1", "Müller", "a+b", "q?x", "deep/er/x"]
    for name in names:
        (bucket / name).write_bytes(name.encode())
    assert sorted(place.key[len(bucket.key) + 1 :] for place, _ in bucket.walk()) == sorted(names)
    for name in names:
        assert (bucket / name).read_bytes() == name.encode()
    with local_copy(str(bucket)) as copy:
        assert isinstance(copy, str)
        for name in names:
            assert (Path(copy) / name).read_bytes() == name.encode()
    assert not Path(copy).exists()


def test_prefixes_are_listed_at_their_depth(bucket: ObjectPath) -> None:
    for name in ("b/2/x", "a/1/x", ".hidden/3/x", "c/x", "file"):
        (bucket / name).write_bytes(b"")
    assert list_levels(bucket) == (["a", "b", "c"], ["file"])
    assert list_levels(bucket, 2) == (["a/1", "b/2"], ["c/x", "file"])
    assert depth_below(bucket / "b" / "2", bucket) == 2
    assert depth_below(bucket, bucket / "b") is None


def test_one_process_owns_a_table(bucket: ObjectPath, quick: None, capsys: pytest.CaptureFixture[str]) -> None:
    first = own(bucket)
    with pytest.raises(UsageError, match=rf"process {os.getpid()} on .* since 20"):
        own(bucket)
    with pytest.raises(UsageError, match="belongs to a running extract"):
        check_free(bucket)
    (first.staging / "x").write_bytes(b"")
    time.sleep(0.7)  # a few heartbeats
    with first.committing():
        pass
    first.release()
    assert not (first.staging / "x").exists()
    second = own(bucket)
    assert capsys.readouterr().err == ""
    third = own(bucket, take_over=True)
    assert capsys.readouterr().err.startswith("lungct: waiting 0 s for the last write of the process")
    with pytest.raises(StorageError, match="was taken over by process"), second.committing():
        raise AssertionError("not reached")
    second.release()
    with third.committing():
        pass
    third.release()


def test_a_record_without_a_heartbeat_goes_stale(bucket: ObjectPath, quick: None) -> None:
    dead = own(bucket)
    dead._ended.set()  # type: ignore[attr-defined]  # as if its process were gone
    with pytest.raises(UsageError, match="belongs to"):
        own(bucket)
    time.sleep(3.2)
    new = own(bucket)
    with pytest.raises(StorageError, match="taken over"):
        dead.check()
    new.release()


def test_a_process_that_reads_long_in_a_commit_does_not_publish_after_the_new_owner(
    bucket: ObjectPath, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replacing an error row reads two files before it changes one, and ownership is confirmed in between."""
    table = Table(bucket)
    table.add(bad("a"), row("b"))
    (shard,) = (bucket / "features").glob("*.parquet")
    new_owners = []

    def read_for_long(place: ObjectPath) -> Any:
        contents = read_shard(place)
        if "staging" in place.key:  # read first, long before the change
            new_owners.append(own(bucket, take_over=True))
        return contents

    monkeypatch.setattr(writing, "read_shard", read_for_long)
    with pytest.raises(StorageError, match="was taken over by process"):
        table.add(row("a"))
    monkeypatch.undo()
    assert read_shard(shard).column("error_code").to_pylist() == ["no_ct", None]
    for owner in (table.owner, *new_owners):
        owner.release()


def test_removals_take_one_round_of_requests_each(bucket: ObjectPath) -> None:
    places = [bucket / f"{i:04d}" for i in range(25)]
    places[3].write_bytes(b"x")
    places[24].write_bytes(b"x")
    parts = list(removal_batches(places))
    assert [len(part) for part in parts] == ([25] if bucket.root.startswith("s3") else [10, 10, 5])
    for part in parts:
        remove(part)
    assert list(bucket.iterdir()) == []


def test_a_commit_is_one_request(s3: dict[str, str]) -> None:
    faults = stores.Faults()
    port = int(s3["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    with stores.proxy(port, faults) as through, stores.environment(stores.s3_environment(through)):
        table = ObjectPath("s3://scans", "requests")
        owner = own(table)
        for i in range(9):
            (table / f"staged-{i}").write_bytes(b"x")
        faults.seen.clear()
        for i in range(9):
            with owner.committing():
                publish(table / f"staged-{i}", table / f"final-{i}")
        # One more where five seconds have passed meanwhile.
        assert len(faults.seen) in (9, 10), faults.seen
        owner.release()


def test_of_many_processes_that_want_a_table_one_gets_it(bucket: ObjectPath, quick: None) -> None:
    owners, refused = [], []
    barrier = threading.Barrier(8)

    def want() -> None:
        barrier.wait()
        try:
            owners.append(own(bucket))
        except UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(owners), len(refused)) == (1, 7)
    owners[0].release()


def test_a_new_owner_does_not_confuse_a_process_that_reads_the_stores_clock(s3: dict[str, str]) -> None:
    """A new owner removes all clocks, even that of a process which has just written it and wants to read it."""
    endpoint = s3["AWS_ENDPOINT_URL"]

    def remove_clock(method: str, path: str) -> bool:
        if method == "HEAD" and "/clock-" in path:
            urlopen(Request(f"{endpoint}{path}", headers=SIGNED, method="DELETE"))
        return False

    faults = stores.Faults(refuse=remove_clock)
    port = int(endpoint.rsplit(":", 1)[1])
    with stores.proxy(port, faults) as through, stores.environment(stores.s3_environment(through)):
        table = ObjectPath("s3://scans", "clocks")
        owner = own(table)
        with pytest.raises(UsageError, match=rf"process {os.getpid()} on .* since 20"):
            own(table)
        owner.release()


def test_a_patient_is_fetched_through_503s_cuts_and_delays(s3: dict[str, str], tmp_path: Path) -> None:
    write_series(tmp_path / "p", slices=30, rows=64, columns=64, seed=1)
    with stores.environment(s3):
        stores.upload(tmp_path / "p", ObjectPath("s3://scans", "faults/p"))
    draw = random.Random(1)
    faults = stores.Faults(
        delay_s=0.02,
        refuse=lambda method, path: draw.random() < 0.2,
        cut=lambda method, path: method == "GET" and "list-type" not in path and draw.random() < 0.2,
    )
    port = int(s3["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    with stores.proxy(port, faults) as faulty, stores.environment(stores.s3_environment(faulty)):
        with local_copy("s3://scans/faults/p") as copy:
            assert isinstance(copy, str)
            have = {path.name: path.read_bytes() for path in Path(copy).iterdir()}
        copies = list(local_copies(["s3://scans/faults/p", "s3://scans/faults/none"]))
    assert have == {path.name: path.read_bytes() for path in (tmp_path / "p").iterdir()}
    assert isinstance(copies[0], str)
    assert isinstance(copies[1], StorageError)


def test_copies_are_removed_one_by_one_and_when_the_caller_stops_early(
    s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with stores.environment(s3):
        locations = [f"s3://scans/early/{i}" for i in range(3)]
        for location in locations:
            ObjectPath.from_url(f"{location}/a.dcm").write_bytes(b"x")
        copies = local_copies(locations)
        first = next(copies)
        assert isinstance(first, str)
        assert [path.name for path in Path(first).iterdir()] == ["a.dcm"]
        second = next(copies)
        assert isinstance(second, str)
        assert not Path(first).exists()
        assert Path(second).exists()
        copies.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_a_store_names_no_credential(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGCT_STORAGE_RETRY_SECONDS", "1")
    port = int(s3["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    faults = stores.Faults(refuse=lambda method, path: True)
    with (
        stores.proxy(port, faults) as faulty,
        stores.environment(stores.s3_environment(faulty)),
        pytest.raises(StorageError, match=r"cannot be read \(the store answered 503") as caught,
    ):
        ObjectPath("s3://scans", "x").read_bytes()
    assert "AKIATESTONLY" not in str(caught.value)
    gone = stores.s3_environment(stores.free_port())
    with stores.environment(gone), pytest.raises(StorageError, match="nothing answers"):
        ObjectPath("s3://scans", "x").read_bytes()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("ftp://host/scans", "cannot open ftp://"), ("s3:///scans", "names no bucket")],
)
def test_an_unknown_kind_of_storage_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        locate(url, argument="SRC")


def test_directory_markers_are_not_files(s3: dict[str, str]) -> None:
    """Zero bytes under a key that ends in a slash: what S3's console makes of "Create folder"."""
    with stores.environment(s3):
        root = ObjectPath("s3://scans", "marked")
        (root / "p" / "a.dcm").write_bytes(b"data")
        for key in ("marked/", "marked/p/", "marked/p/sub/", "marked/empty/"):
            stores.put_key(s3, "scans", key)
        assert list_levels(root) == (["empty", "p"], [])
        with local_copy("s3://scans/marked/p") as copy:
            assert isinstance(copy, str)
            assert [path.name for path in Path(copy).rglob("*")] == ["a.dcm"]
        with local_copy("s3://scans/marked/empty") as copy:
            assert isinstance(copy, str)
            assert list(Path(copy).iterdir()) == []


def test_a_volume_comes_with_the_file_that_its_header_names_and_no_other(bucket: ObjectPath) -> None:
    for name in ("1.3.6.1.raw", "1.3.6.1.txt", "1.3.6.12.raw", "other.raw", "1.3.7.nii.gz", "x/outside.raw"):
        (bucket / name).write_bytes(b"ElementDataFile = other.raw\n")
    headers = {
        "1.3.6.1.mhd": (b"NDims = 3\nElementDataFile = 1.3.6.1.raw\n", ["1.3.6.1.raw"]),
        "2.mhd": (b"NDims = 3\r\nElementDataFile = other.raw\r\n", ["other.raw"]),
        "3.nhdr": (b"NRRD0004\ndata file: ./other.raw\n", ["other.raw"]),
        "4.mhd": (b"ElementDataFile = x/outside.raw\n", []),
        "5.mhd": (b"ElementDataFile = missing.raw\n", []),
        "6.mha": (b"ElementDataFile = LOCAL\n", []),
        "7.nrrd": (b"NRRD0004\ndata file:=other.raw\n\n", []),
        "8.mhd": (b"", []),
        "1.3.7.nii.gz": (b"ElementDataFile = other.raw\n", []),
    }
    for name, (content, beside) in headers.items():
        (bucket / name).write_bytes(content)
        with local_copy(f"{bucket}/{name}") as copy:
            assert isinstance(copy, str)
            assert sorted(path.name for path in Path(copy).parent.iterdir()) == sorted([name, *beside])


def test_a_bucket_may_be_a_patient() -> None:
    with stores.moto("one") as environment, stores.environment(environment):
        for i in range(3):
            ObjectPath("s3://one", f"{i}.dcm").write_bytes(b"x")
        with local_copy("s3://one") as copy:
            assert isinstance(copy, str)
            assert sorted(path.name for path in Path(copy).iterdir()) == ["0.dcm", "1.dcm", "2.dcm"]


def test_an_error_of_a_patients_files_names_no_object(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGCT_STORAGE_RETRY_SECONDS", "0.5")
    with stores.environment(s3):
        ObjectPath("s3://scans", "named/Doe John/1.dcm").write_bytes(b"x")
    faults = stores.Faults(refuse=lambda method, path: "list-type" not in path)
    port = int(s3["AWS_ENDPOINT_URL"].rsplit(":", 1)[1])
    with stores.proxy(port, faults) as faulty, stores.environment(stores.s3_environment(faulty)):
        for location in ("s3://scans/named/Doe John", ["s3://scans/named/Doe John/1.dcm"]):
            with pytest.raises(StorageError, match="answered 503") as caught, local_copy(location):
                raise AssertionError("not reached")
            assert "Doe" not in str(caught.value)


def test_a_missing_bucket_is_reported(s3: dict[str, str]) -> None:
    with stores.environment(s3), pytest.raises(StorageError, match="no such bucket"):
        own(ObjectPath("s3://missing-bucket", "table"))
    with stores.environment(s3), pytest.raises(StorageError, match="no such bucket"):
        ObjectPath("s3://missing-bucket", "scans").is_dir()
