"""The run directory: whole or not at all, checked when it is read, and never another training's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support import stores
from support.planted import cohort, write_table
from support.runs import HOSTILE, made_up_run, write_run

import lungct
from lungct.errors import StorageError, UsageError
from lungct.rundir import Run, RunWriter, read_run, usable_run, writing
from lungct.storage import ObjectPath, exchange

PAGE = "<!doctype html>"
CHECKED = ("settings.json", "scores.csv", "curves.csv", "pair_curves.csv", "models/repeat-0-fold-1.txt")


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def listing(directory: Path) -> dict[str, bytes]:
    """Every file but the owner's records, with its content."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files if "owner" not in path.name}


def beside(place: Path) -> list[str]:
    """What there is beside RUN."""
    return sorted(path.name for path in place.parent.iterdir() if path != place)


def seed_of(run: Run) -> int:
    return int(run.settings["seed"])


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    for inner in (False, True):
        written, found = made_up_run(tmp_path / "run", inner=inner), read_run(write_run(tmp_path / "run", inner=inner))
        assert found.settings == written.settings
        assert found.metrics.items() >= written.metrics.items()
        assert found.models == written.models
        for name, expected in vars(written.scores).items():
            np.testing.assert_array_equal(getattr(found.scores, name), expected)
        assert found.scores.patient_id[0] == HOSTILE
        assert found.curves.keys() == written.curves.keys()
        for key, curve in written.curves.items():
            np.testing.assert_array_equal(found.curves[key], curve)
        assert found.pair_curves.keys() == written.pair_curves.keys()
        for key, curve in written.pair_curves.items():
            np.testing.assert_array_equal(found.pair_curves[key], curve)


def test_the_files_are_those_of_the_format(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", folds=2)
    models = ["models/repeat-0-fold-0.txt", "models/repeat-0-fold-1.txt"]
    assert sorted(listing(run)) == sorted(
        ["settings.json", "scores.csv", "curves.csv", "pair_curves.csv", "report.html", "metrics.json", *models]
    )
    header = (run / "scores.csv").read_text().splitlines()[0]
    assert header == "patient_id,person,label,repeat,fold,score,optimistic_score,pixel_hash"
    assert (run / "curves.csv").read_text().startswith("repeat,fold,round,loss\n0,0,1,")
    assert (run / "pair_curves.csv").read_text().startswith("repeat,fold,without,round,loss\n0,0,1,1,")
    checksums = json.loads((run / "metrics.json").read_text())["sha256"]
    assert sorted(checksums) == sorted(["settings.json", "scores.csv", "curves.csv", "pair_curves.csv", *models])
    assert beside(run) == []


@pytest.mark.parametrize("name", CHECKED)
def test_a_file_that_was_damaged_swapped_or_removed_is_named(tmp_path: Path, name: str) -> None:
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "other", seed=7)
    before = (run / name).read_bytes()
    flipped = bytearray(before)
    flipped[len(before) // 2] ^= 1
    for content in (bytes(flipped), before[:-1], b"", (other / name).read_bytes()):
        (run / name).write_bytes(content)
        with pytest.raises(UsageError, match=name) as caught:
            read_run(run)
        assert caught.value.fix == "train again"
        assert "\n" not in str(caught.value)
    (run / name).unlink()
    with pytest.raises(UsageError, match=f"{name} is missing"):
        read_run(run)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        "[" * 100_000,
        '{"sha256": {}}',
        '{"directory": "../x", "sha256": {}}',
        '{"seconds": NaN, "sha256": {}}',
    ],
)
def test_metrics_that_are_damaged_are_refused(tmp_path: Path, text: str) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.json").write_text(text)
    with pytest.raises(UsageError, match="is damaged") as caught:
        read_run(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["auc", "folds", "patients", "schema", "left_out"])
def test_metrics_that_lack_something_are_refused(tmp_path: Path, key: str) -> None:
    run = write_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({name: value for name, value in metrics.items() if name != key}))
    with pytest.raises(UsageError, match=f"metrics.json has no '{key}'"):
        read_run(run)


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 0},
        {"rounds": -1},
        {"rounds": 10**9},
        {"rounds": 1.5},
        {"rounds": float("inf")},
        {"rounds": "20"},
        {"fold": 2},
        {"fold": 7},
        {"fold": "0"},
        {"fold": None},
        {"repeat": 1},
        None,
    ],
)
def test_folds_that_are_not_those_of_the_files_are_refused(tmp_path: Path, change: dict[str, object] | None) -> None:
    """Else a changed metrics.json would change predictions, or give patients no booster and the score 0."""
    run = write_run(tmp_path / "run", folds=3)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["folds"][0:1] = [] if change is None else [metrics["folds"][0] | change]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UsageError, match=r"metrics\.json has"):
        read_run(run)


def test_metrics_of_other_patients_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | {"positives": 1}))
    with pytest.raises(UsageError, match="count different patients"):
        read_run(run)


def test_a_run_of_version_0_1_0_is_refused_with_the_way_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    metrics = json.loads((run / "metrics.json").read_text())
    del metrics["sha256"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(UsageError, match="older lungct, whose runs have no checksums: train again"):
        read_run(run)


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="does not exist"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not a directory"):
        read_run(tmp_path / "file")
    with pytest.raises(UsageError, match=r"no metrics\.json, so no training has finished"):
        read_run(tmp_path)


def test_a_run_that_is_replaced_while_it_is_read_is_read_whole(tmp_path: Path) -> None:
    place = write_run(tmp_path / "run", seed=0)
    stop = threading.Event()

    def replace() -> None:
        for seed in range(1, 1000):
            if stop.is_set():
                return
            write_run(place, seed=seed)

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        seen = set()
        for _ in range(100):
            run = read_run(place)
            seen.add(seed_of(run))
            assert all(text.endswith(f"with seed {seed_of(run)}\n") for text in run.models.values())
    finally:
        stop.set()
        writer.join()
    assert len(seen) > 1


def test_a_new_an_empty_and_an_earlier_run_are_usable_and_nothing_is_touched(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "settings.json").write_text('{"kind": "run"}')
    run = write_run(tmp_path / "run")
    (run / "notes.txt").write_text("mine")
    before = listing(tmp_path)
    for name in ("new/deep", "empty", "unfinished", "run"):
        assert usable_run(tmp_path / name) == tmp_path / name
    assert listing(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_anything_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    table = write_table(tmp_path / "table", cohort(2)[0])
    for out in (tmp_path, table):
        before = listing(out)
        with pytest.raises(UsageError, match="does not hold a run") as caught:
            usable_run(out)
        assert caught.value.fix
        assert listing(out) == before
    for out in (tmp_path / "thesis.tex", tmp_path / "thesis.tex" / "run"):
        with pytest.raises(UsageError, match="file is in the way"):
            usable_run(out)


def test_a_directory_that_became_something_else_meanwhile_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with RunWriter(usable_run(place)) as writer:
        place.mkdir()
        (place / "thesis.tex").write_text("years of work")
        with pytest.raises(UsageError, match=r"'thesis\.tex'"):
            writer.write(made_up_run(place), PAGE)
    assert listing(tmp_path) == {"run/thesis.tex": b"years of work"}


def test_what_others_put_into_a_run_is_kept(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", folds=5, seed=1)
    (run / "notes.txt").write_text("mine")
    (run / "models" / "deep").mkdir()
    (run / "models" / "deep" / "plot.png").write_bytes(b"png")
    (run / "link").symlink_to("notes.txt")
    (run / "slides").symlink_to(tmp_path)
    (run / ".scores.csv.0badcafe.tmp").write_text("left by a kill")
    run.chmod(0o2775)
    write_run(run, folds=3, seed=2)
    assert seed_of(read_run(run)) == 2
    assert (run / "notes.txt").read_text() == "mine"
    assert (run / "models" / "deep" / "plot.png").read_bytes() == b"png"
    assert os.readlink(run / "link") == "notes.txt"
    assert os.readlink(run / "slides") == str(tmp_path)
    assert run.stat().st_mode & 0o7777 == 0o2775
    assert not (run / "models" / "repeat-0-fold-4.txt").exists()
    assert not list(run.glob("*.tmp"))
    assert beside(run) == []


def test_directories_in_a_run_keep_their_owner_group_and_mode(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", seed=1)
    for name, mode in (("private", 0o700), ("empty", 0o750)):
        (run / name).mkdir(mode=mode)
    (run / "private" / "ids.txt").write_text("mine")
    if os.geteuid() == 0:
        for path in (run, run / "private"):
            os.chown(path, 12345, 54321)
    write_run(run, seed=2)
    assert seed_of(read_run(run)) == 2
    assert (run / "private" / "ids.txt").read_text() == "mine"
    assert [(run / name).stat().st_mode & 0o777 for name in ("private", "empty")] == [0o700, 0o750]
    if os.geteuid() == 0:
        assert {(path.stat().st_uid, path.stat().st_gid) for path in (run, run / "private")} == {(12345, 54321)}


def test_a_private_run_is_private_while_it_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", seed=1)
    run.chmod(0o700)
    modes: list[int] = []

    def look(fd: int) -> None:
        modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.glob(".run.*") if list(path.glob("run/*.csv")))

    monkeypatch.setattr(os, "fsync", look)
    write_run(run, seed=2)
    assert modes
    assert set(modes) == {0o700}
    assert run.stat().st_mode & 0o777 == 0o700


def test_a_file_that_is_saved_during_the_exchange_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", seed=1)
    (run / "notes.txt").write_text("old")

    def save(new: Path, place: Path) -> bool:
        for name in ("notes.txt", "later.txt"):  # as editors save
            (place / ".draft").write_text("new")
            os.replace(place / ".draft", place / name)
        return exchange.replace_directory(new, place)

    monkeypatch.setattr(writing, "replace_directory", save)
    write_run(run, seed=2)
    assert seed_of(read_run(run)) == 2
    assert [(run / name).read_text() for name in ("notes.txt", "later.txt")] == ["new", "new"]
    assert beside(run) == []


def test_a_run_that_is_the_current_directory_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    for seed in (1, 2):
        write_run(Path("."), seed=seed)
        assert seed_of(read_run(".")) == seed
        assert seed_of(read_run(tmp_path / "run")) == seed
    (tmp_path / "run" / "notes").mkdir()
    monkeypatch.chdir(tmp_path / "run" / "notes")
    write_run(Path(".."), seed=3)
    assert seed_of(read_run("..")) == 3
    assert beside(tmp_path / "run") == []


def test_models_that_lead_elsewhere_are_refused_before_any_work(tmp_path: Path) -> None:
    other, run = write_run(tmp_path / "other", seed=1), write_run(tmp_path / "run", seed=1)
    shutil.rmtree(run / "models")
    (run / "models").symlink_to(other / "models")
    with pytest.raises(UsageError, match="models is not a directory"):
        usable_run(run)
    assert seed_of(read_run(other)) == 1


def test_a_name_too_long_to_build_beside_is_built_inside(tmp_path: Path) -> None:
    run = tmp_path / ("r" * 250)
    for seed in (1, 2):
        write_run(run, seed=seed)
        assert seed_of(read_run(run)) == seed
    assert beside(run) == []


def test_a_damaged_run_can_be_trained_again(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", seed=1)
    (run / "settings.json").write_text("[")
    with pytest.raises(UsageError, match="train again"):
        read_run(run)
    write_run(run, seed=2)
    assert seed_of(read_run(run)) == 2


def test_what_cannot_be_linked_is_left_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", seed=1)
    (run / "deep").mkdir()
    (run / "deep" / "notes.txt").write_text("mine")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    write_run(run, seed=2)
    assert seed_of(read_run(run)) == 2
    assert (run / "deep" / "notes.txt").read_text() == "mine"
    assert beside(run) == []


def test_a_link_to_a_run_stays_a_link(tmp_path: Path) -> None:
    run = write_run(tmp_path / "disk" / "run", seed=1)
    link = tmp_path / "run"
    link.symlink_to(run)
    write_run(link, seed=2)
    assert link.is_symlink()
    assert seed_of(read_run(run)) == 2
    assert beside(run) == []


def test_a_training_that_fails_leaves_the_old_run_and_nothing_else(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", seed=1)
    before = listing(tmp_path)
    with pytest.raises(KeyboardInterrupt), RunWriter(usable_run(run)):
        raise KeyboardInterrupt
    assert listing(tmp_path) == before
    with pytest.raises(KeyboardInterrupt), RunWriter(usable_run(tmp_path / "new")):
        raise KeyboardInterrupt
    assert listing(tmp_path) == before


def test_a_full_disk_leaves_the_old_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "run", seed=1)
    before = listing(tmp_path)
    left = iter(range(8))

    def full(fd: int) -> None:
        if next(left, None) is None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write_run(run, seed=2)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_of_two_trainings_into_one_run_the_last_to_end_wins(tmp_path: Path, first_to_end: int) -> None:
    place = write_run(tmp_path / "run", seed=9)
    (place / "notes.txt").write_text("mine")
    writers = [RunWriter(usable_run(place)) for _ in range(2)]
    for writer in writers:
        writer.__enter__()
    assert len(beside(place)) == 2, "the second training removed what the first one is building"
    for i in (first_to_end, 1 - first_to_end):
        writers[i].write(made_up_run(place, seed=i), PAGE)
        writers[i].__exit__(None, None, None)
        assert seed_of(read_run(place)) == i
    assert beside(place) == []
    assert (place / "notes.txt").read_text() == "mine"


def test_directories_that_only_look_like_a_trainings_are_not_touched(tmp_path: Path) -> None:
    names = [".run.backup", ".run.0123", ".running.0123456789abcdef", "run.0123456789abcdef"]
    for name in names:
        (tmp_path / name).mkdir()
    write_run(tmp_path / "run")
    assert beside(tmp_path / "run") == sorted(names)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("table") / "features", cohort(6, prefix="new")[0])


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["beside", "inside", "new"])
def test_wherever_a_training_is_killed_run_is_whole_and_the_next_training_tidies_up(
    tmp_path: Path, table: Path, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-m", "support.runs", str(tmp_path), layout]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path}, timeout=300)
    directories = sorted(path for path in tmp_path.iterdir() if path.name != "before")
    assert len(directories) > 50
    if layout == "inside":
        monkeypatch.setattr("lungct.rundir.writing._can_lie_beside", lambda place: False)
    old = listing(tmp_path / "before")
    seeds = []
    for directory in directories:
        run = directory / "run"
        if layout == "new" and not run.exists():
            seeds.append(1)
        else:
            seeds.append(seed_of(read_run(run)))
            if seeds[-1] == 1:
                assert listing(directory).items() >= old.items(), "the old run was changed before the new one was there"
        if layout != "new":
            assert (run / "notes.txt").read_text() == "mine"
    assert seeds == sorted(seeds)
    assert set(seeds) == {1, 2}
    for last in (seeds.index(2) - 1, seeds.index(2)):
        if layout != "new" or seeds[last] == 2:
            assert lungct.predict(directories[last] / "run", table).num_rows == 6
            lungct.report(directories[last] / "run")
    next_run = made_up_run(tmp_path, seed=3)
    for directory in directories:
        run = directory / "run"
        with RunWriter(usable_run(run)) as writer:
            writer.write(next_run, PAGE)
        assert seed_of(read_run(run)) == 3
        assert beside(run) == []
        if layout == "inside":
            (only,) = (run / ".lungct").iterdir()
            assert not (only / ".lungct").exists()
        if layout != "new":
            assert (run / "notes.txt").read_text() == "mine"
            assert (run / "models" / "deep" / "plot.png").read_bytes() == b"png"


def test_where_no_exchange_is_possible_metrics_json_names_the_runs_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", seed=1)
    (run / "notes.txt").write_text("mine")
    # Seen only by trying: a bind mount of the same file system looks like any directory.
    monkeypatch.setattr("lungct.rundir.writing.replace_directory", lambda new, place: False)
    for seed in (2, 3):
        write_run(run, seed=seed)
        found = read_run(run)
        assert seed_of(found) == seed
        named = found.metrics["directory"]
        assert sorted(path.name for path in run.iterdir()) == [".lungct", "metrics.json", "notes.txt", "report.html"]
        assert [str(path.relative_to(run)) for path in (run / ".lungct").iterdir()] == [named]
        assert (run / named / "report.html").read_bytes() == (run / "report.html").read_bytes()
        assert beside(run) == []
    assert lungct.report(run) == run / "report.html"
    assert (run / named / "report.html").read_bytes() == (run / "report.html").read_bytes()
    monkeypatch.undo()
    write_run(run, seed=4)
    assert seed_of(read_run(run)) == 4
    assert not (run / ".lungct").exists()
    assert (run / "notes.txt").read_text() == "mine"


def write_with_mount(volume: Path, point: Path, run: Path, seeds: tuple[int, ...]) -> list[str]:
    """Write a run once per seed while a volume is mounted, and return what is at the mount point then."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    program = f"from support.runs import *\nfor seed in {seeds}: write_run(Path(sys.argv[1]), seed=seed)"
    script = f"mount --bind {volume} {point} && {sys.executable} -c '{program}' {run} && ls {point}"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        check=True,
        env=os.environ | {"PYTHONPATH": path},
        timeout=300,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_a_mount_point_is_written_to(tmp_path: Path) -> None:
    run, volume = tmp_path / "run", tmp_path / "volume"
    run.mkdir()
    volume.mkdir()
    write_with_mount(volume, run, run, (1, 2))
    assert seed_of(read_run(volume)) == 2
    assert list(run.iterdir()) == []
    assert len(list((volume / ".lungct").iterdir())) == 1


def test_a_volume_that_is_mounted_in_a_run_is_left_alone(tmp_path: Path) -> None:
    run, volume = write_run(tmp_path / "run", seed=1), tmp_path / "volume"
    (run / "data").mkdir()
    volume.mkdir()
    (volume / "precious").write_text("mine")
    assert write_with_mount(volume, run / "data", run, (2, 3)) == ["precious"]
    assert (volume / "precious").read_text() == "mine"
    assert seed_of(read_run(run)) == 3


@pytest.mark.stores
def test_a_run_in_a_bucket_is_replaced_as_a_whole(store: stores.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with stores.environment(store.environment):
        place = ObjectPath(store.root, "runs/run")
        with pytest.raises(UsageError):
            read_run(place)
        for seed in (1, 2):
            with RunWriter(usable_run(place)) as first, RunWriter(usable_run(place)) as second:
                second.write(made_up_run(Path("unused"), seed=seed + 10), PAGE)
                first.write(made_up_run(Path("unused"), seed=seed), PAGE)
            assert seed_of(read_run(place)) == seed
        with pytest.raises(KeyboardInterrupt), RunWriter(usable_run(place)):
            raise KeyboardInterrupt
        write = RunWriter(usable_run(place))
        with write:
            write.write(made_up_run(Path("unused"), seed=3), PAGE)
        found = read_run(place)
        assert seed_of(found) == 3
        names = sorted(name.relative_to(place) for name, _ in place.walk())
        named = found.metrics["directory"]
        assert names == sorted(
            ["metrics.json", "report.html", *(f"{named}/{name}" for name in (*found.metrics["sha256"], "report.html"))]
        )
