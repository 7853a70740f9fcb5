import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lungct.arguments import command_line
from lungct.errors import StorageError, UsageError
from lungct.storage import (
    list_levels,
    local_path,
    make_directory,
    output_file,
    own,
    publish,
    stage,
    storage_faults,
    write_atomically,
)

HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from lungct.storage import own
    owner = own(Path(sys.argv[1]))
    print(owner.name, flush=True)
    time.sleep(600)
    """
)


def hold(table: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a process that owns the table until it is killed; return it with the name it owns the table under."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(table)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_a_living_owner_is_named_and_a_dead_one_is_replaced(tmp_path: Path) -> None:
    process, name = hold(tmp_path)
    with pytest.raises(UsageError, match=rf"process {process.pid} on .* since 20"):
        own(tmp_path)
    (tmp_path / ".lungct/staging" / name / "part.parquet").write_bytes(b"unfinished")
    process.send_signal(signal.SIGKILL)
    process.wait()
    owner = own(tmp_path)
    assert os.listdir(tmp_path / ".lungct/staging") == [owner.name]
    owner.release()


def test_the_leftovers_of_a_killed_process_are_removed_by_the_next_owner(tmp_path: Path) -> None:
    control = tmp_path / ".lungct"
    (control / "staging" / "dead").mkdir(parents=True)
    (control / "staging" / "dead" / "x.parquet").write_bytes(b"x")
    (control / "lock-dead").touch()
    (control / ".owner.json.0a1b2c3d.tmp").write_bytes(b"{")
    own(tmp_path).release()
    assert sorted(path.name for path in control.rglob("*")) == ["mutex", "staging"]


def test_a_table_is_free_again_after_release(tmp_path: Path) -> None:
    own(tmp_path).release()
    own(tmp_path).release()


def test_taking_over_stops_the_old_owner_at_its_next_commit(tmp_path: Path) -> None:
    old = own(tmp_path)
    new = own(tmp_path, take_over=True)
    with pytest.raises(StorageError, match="was taken over by process"), old.committing():
        raise AssertionError("not reached")
    with new.committing():
        pass
    old.release()
    with new.committing():
        pass
    new.release()


def test_a_child_process_does_not_inherit_the_table(tmp_path: Path) -> None:
    # The child's own line shows that it has replaced its parent's program, and so closed the lock.
    child = "import subprocess; subprocess.run(['sh', '-c', 'echo child; sleep 3'])"
    script = HOLDER.replace("time.sleep(600)", child)
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)][1] == "child\n"
    process.kill()
    process.wait()
    own(tmp_path).release()


def test_a_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"the table cannot be written \(No space left"),
        storage_faults("the table cannot be written"),
        open("/dev/full", "wb") as file,
    ):
        file.write(b"x" * 100_000)
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomically(tmp_path / "missing" / "a.json", b"data")
    assert not (tmp_path / "missing").exists()


def test_publishing_replaces_in_one_step(tmp_path: Path) -> None:
    stage(tmp_path / "staged", b"2")
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
    (tmp_path / "b" / "image").symlink_to("../file")
    assert list_levels(tmp_path) == (["a", "b", "c", "loop"], ["file"])
    (tmp_path / "loop").unlink()
    assert list_levels(tmp_path, 2) == (["a/1", "b/2"], ["b/image", "file"])


@pytest.mark.parametrize("location", ["s3://bucket/scans", "gs://bucket", ""])
def test_a_location_that_is_not_on_this_machine_is_refused(location: str) -> None:
    with pytest.raises(UsageError, match=r"^src") as caught:
        local_path(location, argument="SRC")
    assert caught.value.fix
    with command_line(), pytest.raises(UsageError, match=r"^SRC"):
        local_path(location, argument="SRC")


def test_an_impossible_output_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="a file is in the way"):
        make_directory(tmp_path / "file", argument="out")
    with command_line(), pytest.raises(UsageError, match=r"^--out"):
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
