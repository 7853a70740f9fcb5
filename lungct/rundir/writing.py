"""A run's contents -> RUN, in one step.

A training owns one directory, its *workspace*, from the start: ``.RUN.<id>`` beside RUN, or ``RUN/.lungct/<id>`` where
RUN cannot be exchanged. Whenever a training dies, RUN holds either the old run or the new one, and the next training
removes every workspace without a living owner.

Files in RUN that lungct did not write are never removed. Before the exchange they are linked into the new run; where
that is not possible (a mount, another account's directory), nothing is exchanged. Files that appear or change while the
exchange takes place are moved there before the old run is removed.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType

from lungct.errors import StorageError, UsageError
from lungct.rundir.contents import Run, json_bytes, to_files, written_by_lungct
from lungct.rundir.reading import named_directory, usable_run
from lungct.storage import (
    Owner,
    Place,
    make_directory,
    own,
    stage,
    storage_faults,
    write_atomically,
)
from lungct.storage.exchange import has_mount, replace_directory
from lungct.storage.local import sync_directory

ATTEMPTS = 3
_ID = re.compile(r"[0-9a-f]{16}")
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_LONGEST_NAME = 255 - len("..") - 16  # of RUN, for `.RUN.<id>` to be a name


class RunWriter:
    """Writes one run to RUN; a context manager that owns the workspace.

    Parameters
    ----------
    place
        RUN, as `usable_run` returned it.

    Raises
    ------
    UsageError
        On entering, if nothing can be written there.

    """

    def __init__(self, place: Place) -> None:
        # The directory behind a link is replaced, not the link.
        self._place = Path(os.path.realpath(place)) if isinstance(place, Path) else place
        self._linked: dict[str, int] = {}  # files of others in the new run, by name relative to RUN, and their inodes

    def __enter__(self) -> RunWriter:
        self._owner = _own_beside(self._place) if _can_lie_beside(self._place) else _own_inside(self._place)
        try:
            for workspace in _workspaces(self._place):
                if workspace != self._owner.table:
                    _remove_leftover(workspace, self._place)
        except BaseException:
            _discard(self._owner, self._place)
            raise
        return self

    def write(self, run: Run, page: str) -> None:
        """Write ``run`` and its report to RUN.

        Raises
        ------
        UsageError
            If RUN is no longer new, empty or a run.
        StorageError
            If the storage fails; RUN is then as it was.

        """
        usable_run(self._place)
        files = to_files(run)
        checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
        metrics = {**run.metrics, "sha256": checksums}
        files["report.html"] = page.encode("utf-8", "replace")
        if isinstance(self._place, Path) and _lies_beside(self._owner.table, self._place):
            if _exchange(self._owner, self._place, files | {"metrics.json": json_bytes(metrics)}, self._linked):
                return
            beside, self._owner = self._owner, _own_inside(self._place)
            _discard(beside, self._place)
        _put_inside(self._owner, self._place, files, metrics)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _discard(self._owner, self._place, self._linked)


def write_report(place: Place, page: str) -> Place:
    """Replace a run's report and return where it is."""
    data = page.encode("utf-8", "replace")
    directory = named_directory(place)
    if directory is not None:
        write_atomically(directory / "report.html", data)
    write_atomically(place / "report.html", data)
    return place / "report.html"


def _can_lie_beside(place: Place) -> bool:
    """Return whether RUN can probably be exchanged with a directory beside it; only an attempt shows for certain."""
    if not isinstance(place, Path) or has_mount(place):
        return False
    if len(os.fsencode(place.name)) > _LONGEST_NAME or _is_working_directory(place):
        return False
    return not place.parent.exists() or os.access(place.parent, os.W_OK | os.X_OK)


def _is_working_directory(place: Path) -> bool:
    """Return whether RUN is the current directory of this process, or holds it: an exchange would remove it."""
    with suppress(OSError):
        return Path(os.path.realpath(os.getcwd())).is_relative_to(place)
    return False


def _own_beside(place: Place) -> Owner:
    make_directory(place.parent, argument="out")
    return _own_new(place.parent, f".{place.name}.")


def _own_inside(place: Place) -> Owner:
    make_directory(place, argument="out")
    return _own_new(place / ".lungct", "")


def _own_new(parent: Place, prefix: str) -> Owner:
    """Own a new directory.

    A training that starts at the same moment may take it for a leftover before it is owned, so this tries again.
    """
    for _ in range(ATTEMPTS - 1):
        with suppress(UsageError, StorageError):
            return own(parent / f"{prefix}{secrets.token_hex(8)}", quiet=True)
    return own(parent / f"{prefix}{secrets.token_hex(8)}", quiet=True)


def _lies_beside(workspace: Place, place: Place) -> bool:
    return workspace.parent == place.parent


def _workspaces(place: Place) -> Iterator[Place]:
    """List the workspaces of all trainings into RUN, living and dead."""
    if isinstance(place, Path) and os.access(place.parent, os.R_OK):
        prefix = f".{place.name}."
        for name in os.listdir(place.parent):
            if name.startswith(prefix) and _ID.fullmatch(name.removeprefix(prefix)):
                yield place.parent / name
    inside = place / ".lungct"
    if inside.is_dir():
        with suppress(OSError):
            yield from (inside / name for name in _names(inside) if _ID.fullmatch(name))


def _has_other_workspaces(place: Path) -> bool:
    """Return whether a training builds a run below RUN, or another account has one there: an exchange would take it."""
    inside = [workspace for workspace in _workspaces(place) if not _lies_beside(workspace, place)]
    own = named_directory(place)
    return any(workspace != own or not os.access(str(workspace), os.W_OK) for workspace in inside)


def _remove_leftover(workspace: Place, place: Place) -> None:
    """Remove a workspace unless a living training owns it or RUN's metrics.json names it."""
    with suppress(UsageError, StorageError, OSError):  # UsageError: a living training owns it
        if workspace != named_directory(place):
            _discard(own(workspace, quiet=True), place)


def _discard(owner: Owner, place: Place, linked: Mapping[str, int] = MappingProxyType({})) -> None:
    """Release a workspace and remove it; if metrics.json names it, remove only the owner's record in it.

    metrics.json is read while the workspace is owned, when no other process can be about to name it there.
    """
    workspace = owner.table
    try:
        with suppress(StorageError, OSError):
            if workspace == named_directory(place):
                _remove_tree(workspace / ".lungct")
            elif not _lies_beside(workspace, place) or _move_foreign_files(workspace, place, linked):
                _remove_tree(workspace)
    finally:
        owner.release()


def _exchange(owner: Owner, place: Path, files: dict[str, bytes], linked: dict[str, int]) -> bool:
    """Build a run beside RUN and exchange it with RUN; return False if that is impossible.

    What lungct did not write is put into ``linked``: its name relative to RUN, and its inode.
    """
    assert isinstance(owner.table, Path)
    new = owner.table / "run"
    with storage_faults(f"{place} cannot be written"):
        owner.table.chmod(0o700)  # RUN may be private, and the new run is not yet
        new.mkdir()
        if place.is_dir() and not (
            _take_after(place, new) and _link_foreign_files(place, new, linked) and not _has_other_workspaces(place)
        ):
            return False
        _write_files(new, files)
        _sync_directories(new)
        sync_directory(owner.table)
        if has_mount(place) or not replace_directory(new, place):
            return False
        sync_directory(place.parent)
        sync_directory(owner.table)
    return True


def _put_inside(owner: Owner, place: Place, files: dict[str, bytes], metrics: dict[str, object]) -> None:
    """Build a run in its workspace below RUN, let metrics.json name it, and remove the previous run."""
    workspace = owner.table
    with storage_faults(f"{place} cannot be written"):
        _write_files(workspace, files)
        if isinstance(workspace, Path):
            _sync_directories(workspace)
            sync_directory(workspace.parent)
            sync_directory(workspace.parent.parent)
        before = named_directory(place)
        named = json_bytes({**metrics, "directory": f".lungct/{workspace.name}"})
        with owner.committing():
            write_atomically(place / "metrics.json", named)
        write_atomically(place / "report.html", files["report.html"])
    if before is not None:
        _remove_leftover(before, place)
    with suppress(StorageError, OSError):
        _remove_exchanged_run(place)


def _write_files(directory: Place, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = directory / name
        if isinstance(path, Path):
            path.parent.mkdir(parents=True, exist_ok=True)
        stage(path, data)


def _sync_directories(top: Path) -> None:
    for directory, _, _ in os.walk(top):
        sync_directory(Path(directory))


def _remove_exchanged_run(place: Place) -> None:
    """Remove the files of a run that lay in RUN itself, where metrics.json now names another directory."""
    models: list[str] = []
    if not isinstance(place, Path) or not (has_mount(place / "models") or (place / "models").is_symlink()):
        with suppress(StorageError, OSError):
            models = [f"models/{name}" for name in _names(place / "models")]
    for name in (*_names(place), *models):
        if written_by_lungct(name) and name not in ("metrics.json", "report.html"):
            with suppress(StorageError, OSError):
                (place / name).unlink(missing_ok=True)
    if models and isinstance(place, Path):
        with suppress(OSError):
            (place / "models").rmdir()


def _take_after(old: Path, new: Path) -> bool:
    """Copy the owner, group, mode and ACL of a directory to a new one; return whether that succeeded."""
    status = old.stat()
    try:
        if (status.st_uid, status.st_gid) != (new.stat().st_uid, new.stat().st_gid):
            os.chown(new, status.st_uid, status.st_gid)
        for name in set(os.listxattr(new)) & set(_ACLS) - set(os.listxattr(old)):
            os.removexattr(new, name)  # inherited from the directory that it is built in
        shutil.copystat(old, new)
    except OSError:
        return False
    return True


def _link_foreign_files(old: Path, new: Path, linked: dict[str, int], top: str = "") -> bool:
    """Link what lungct did not write into the new run, directory by directory; return whether that succeeded."""
    try:
        for entry in os.scandir(old):
            name = f"{top}{entry.name}"
            if name == ".lungct" or written_by_lungct(name):
                continue
            if not entry.is_dir(follow_symlinks=False):
                os.link(entry.path, new / entry.name, follow_symlinks=False)
                linked[name] = (new / entry.name).lstat().st_ino
                continue
            (new / entry.name).mkdir()
            if not _take_after(old / entry.name, new / entry.name) or not _link_foreign_files(
                old / entry.name, new / entry.name, linked, f"{name}/"
            ):
                return False
    except OSError:
        return False
    return True


def _move_foreign_files(workspace: Place, place: Place, linked: Mapping[str, int]) -> bool:
    """Move what lungct did not write from an old run into RUN; return whether RUN has all of it.

    Of a file that both have, the one that was saved last stays.
    """
    assert isinstance(workspace, Path)
    assert isinstance(place, Path)
    old = workspace / "run"
    if not old.is_dir():
        return True
    if has_mount(old):
        return False
    try:
        if not place.is_dir():
            return not _foreign_files(old)
        for name in _foreign_files(old):
            if _is_newer(old / name, place / name, linked.get(name)):
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(old / name, place / name)
    except OSError:
        return False
    return True


def _foreign_files(run: Path) -> list[str]:
    """List the files and links in a run directory that lungct did not write, relative to it (OSError)."""
    found: list[str] = []
    waiting = [""]
    while waiting:
        top = waiting.pop()
        for entry in os.scandir(run / top):
            name = f"{top}{entry.name}"
            if not entry.is_dir(follow_symlinks=False):
                found += [] if written_by_lungct(name) else [name]
            elif name != ".lungct":
                waiting.append(f"{name}/")
    return found


def _is_newer(old: Path, new: Path, linked: int | None) -> bool:
    """Return whether a file of the old run was saved later than RUN's, or RUN has none.

    If RUN's is still the ``linked`` inode, the old run's took its name before the exchange and after the linking.
    """
    try:
        found = new.lstat()
    except FileNotFoundError:
        return True
    if found.st_ino == old.lstat().st_ino:
        return False
    return found.st_ino == linked if linked is not None else old.lstat().st_mtime_ns > found.st_mtime_ns


def _names(directory: Place) -> list[str]:
    return [path.name for path in directory.iterdir()]


def _remove_tree(place: Place) -> None:
    if isinstance(place, Path):
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.remove_below()
