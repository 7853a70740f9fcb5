import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lungct.errors import StorageError, UsageError
from lungct.storage import (
    local_path,
    make_directory,
    output_file,
    own,
    publish,
    subdirectories,
    write_atomically,
)
from lungct.storage.local import write_synced

HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from lungct.storage import own
    owner = own(Path(sys.argv[1]))
    print(owner.run, flush=True)
    time.sleep(600)
    """
)


def hold(table: Path) -> tuple[subprocess.Popen[str], str]:
    """Another process that owns the table until it is killed."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(table)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_living_owner_is_named_and_a_dead_one_is_not_in_the_way(tmp_path: Path) -> None:
    process, run = hold(tmp_path)
    with pytest.raises(UsageError, match=rf"process {process.pid} on .* since 20"):
        own(tmp_path)
    (tmp_path / ".lungct/staging" / run / "part.parquet").write_bytes(b"unfinished")
    process.send_signal(signal.SIGKILL)
    process.wait()
    owner = own(tmp_path)
    assert os.listdir(tmp_path / ".lungct/staging") == [owner.run]
    owner.release()


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    control = tmp_path / ".lungct"
    (control / "staging" / "dead").mkdir(parents=True)
    (control / "staging" / "dead" / "x.parquet").write_bytes(b"x")
    (control / "lock-dead").touch()
    (control / ".owner.json.0a1b2c3d.tmp").write_bytes(b"{")
    own(tmp_path).release()
    assert sorted(path.name for path in control.rglob("*")) == ["mutex", "staging"]


def test_the_owner_is_free_again_after_release(tmp_path: Path) -> None:
    own(tmp_path).release()
    own(tmp_path).release()


def test_taking_over_stops_the_old_owner_at_its_next_commit(tmp_path: Path) -> None:
    old = own(tmp_path)
    new = own(tmp_path, take_over=True)
    with pytest.raises(StorageError, match="taken over by another run"), old.committing():
        raise AssertionError("not reached")
    with new.committing():
        pass
    old.release()
    with new.committing():
        pass
    new.release()


def test_a_child_started_meanwhile_does_not_keep_the_table(tmp_path: Path) -> None:
    script = HOLDER.replace("time.sleep(600)", "import subprocess; subprocess.run(['sleep', '3'])")
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    own(tmp_path).release()


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_the_storages_fault(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left"):
        write_synced_full()
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomically(tmp_path / "missing" / "a.json", b"data")
    assert not (tmp_path / "missing").exists()


def write_synced_full() -> None:
    from lungct.storage import storage_faults

    with storage_faults("the table cannot be written"), open("/dev/full", "wb") as file:
        file.write(b"x" * 100_000)


def test_publishing_replaces_in_one_step(tmp_path: Path) -> None:
    write_synced(tmp_path / "staged", b"2")
    (tmp_path / "final").write_bytes(b"1")
    publish(tmp_path / "staged", tmp_path / "final")
    assert (tmp_path / "final").read_bytes() == b"2"
    assert not (tmp_path / "staged").exists()


def test_directories_are_listed_at_their_depth(tmp_path: Path) -> None:
    for name in ("b/2/x", "a/1", ".hidden/3", "c"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    assert subdirectories(tmp_path) == ["a", "b", "c", "loop"]
    (tmp_path / "loop").unlink()
    assert subdirectories(tmp_path, 2) == ["a/1", "b/2"]


@pytest.mark.parametrize("location", ["s3://bucket/scans", "gs://bucket", ""])
def test_what_cannot_be_opened_is_refused(location: str) -> None:
    with pytest.raises(UsageError, match="SRC"):
        local_path(location, argument="SRC")


def test_output_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="a file is in the way"):
        make_directory(tmp_path / "file", argument="out")
    with pytest.raises(UsageError, match="--out"):
        make_directory(tmp_path / "file" / "below", argument="out")
    with pytest.raises(UsageError, match="cannot be written"):
        make_directory(Path("/proc/lungct"), argument="out")


def test_an_output_never_replaces_a_pipe_and_goes_through_a_link(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="device or a pipe"):
        output_file(tmp_path / "pipe", argument="out")
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    write_atomically(output_file(tmp_path / "link.csv", argument="out"), b"new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_bytes() == b"new"
