"""The driver's side of a table: which patients are in it, commits, removal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lungct.errors import StorageError
from lungct.features.settings import Settings
from lungct.features.shards import (
    Staged,
    list_shards,
    read_shard,
    read_shards,
    shard_name,
    stage_table,
)
from lungct.storage import (
    Owner,
    Place,
    discard,
    locate,
    make_directory,
    publish,
    removals,
    remove,
    stage,
    storage_faults,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass
class Known:
    """A patient's row that is in the table: which file, and whether it is an error row."""

    file: str
    failed: bool


def index(directory: Place) -> dict[str, Known]:
    """Read which patients a table has, file by file.

    Raises
    ------
    StorageError
        If a shard cannot be read, or a patient stands in two.

    """
    known: dict[str, Known] = {}
    for path, table in read_shards(directory, ["patient_id", "error_code"]):
        for patient_id, code in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if patient_id in known:
                raise StorageError(
                    f"{directory} has a patient in two shards, {known[patient_id].file} and {path.name}: "
                    "it was changed by hand; begin anew with --overwrite"
                )
            known[patient_id] = Known(path.name, code is not None)
    return known


class TableWriter:
    """The driver's hand on a table that it owns.

    Parameters
    ----------
    directory
        DIR.
    owner
        The ownership, taken before.
    settings
        The settings of every row.

    """

    def __init__(self, directory: Place, owner: Owner, settings: Settings) -> None:
        self.directory = directory
        self.owner = owner
        self.settings = settings
        self.known = index(directory)

    def begin(self) -> None:
        """Write ``settings.json`` where there is none yet."""
        make_directory(self.directory / "features", argument="out")
        path = self.directory / "settings.json"
        if not path.exists():
            staged = self.owner.staging / "settings.json"
            stage(staged, self.settings.to_json().encode())
            with self.owner.committing():
                publish(staged, path)

    def commit(self, staged: Staged) -> None:
        """Make a staged file part of the table, but for patients who are there already.

        Error rows of patients in the table are replaced within their own file.
        """
        fresh = [name for name in staged.ids if name not in self.known]
        old = {self.known[name].file for name in staged.ids if self._replaceable(name)}
        source = locate(staged.path, argument="STAGING")
        if len(fresh) == len(staged.ids):
            self._publish(staged)
        elif fresh or old:
            new = read_shard(source)
            for file in sorted(old):
                self._replace(file, new)
            if fresh:
                self._publish_table(_select(new, set(fresh)))
        discard(source)

    def _replaceable(self, patient_id: str) -> bool:
        return patient_id in self.known and self.known[patient_id].failed

    def _replace(self, file: str, new: pa.Table) -> None:
        """Put the new rows of patients who have error rows in ``file`` in their places."""
        import pyarrow as pa

        path = self.directory / "features" / file
        old = read_shard(path)
        renewed = {
            name
            for name in new.column("patient_id").to_pylist()
            if self._replaceable(name) and self.known[name].file == file
        }
        kept = set(old.column("patient_id").to_pylist()) - renewed
        merged = pa.concat_tables([_select(old, kept), _select(new, renewed)])
        merged = merged.sort_by("patient_id").combine_chunks()
        if not merged.equals(old):
            self._publish_table(merged)

    def _publish_table(self, table: pa.Table) -> None:
        self._publish(stage_table(table, self.settings, self.owner.staging))

    def _publish(self, staged: Staged) -> None:
        name = shard_name(self.settings, staged.ids)
        # The change alone, and not what was read and staged for it: an heir waits for no more.
        with self.owner.committing():
            publish(locate(staged.path, argument="STAGING"), self.directory / "features" / name)
        failed = set(staged.failed)
        for patient_id in staged.ids:
            self.known[patient_id] = Known(name, patient_id in failed)


def _select(table: pa.Table, ids: set[str]) -> pa.Table:
    import pyarrow as pa

    wanted = [name in ids for name in table.column("patient_id").to_pylist()]
    return table.filter(pa.array(wanted, type=pa.bool_()))


def remove_table(directory: Place, owner: Owner) -> None:
    """Remove a table's shards and settings, and nothing that lungct did not write.

    ``settings.json`` goes last: a kill in between leaves a smaller table, never rows without settings. Each
    batch begins as a commit does, so that a long removal neither goes stale nor goes on after a take-over.
    """
    for part in removals(list_shards(directory)):
        with owner.committing():
            remove(part)
    with owner.committing(), storage_faults(f"{directory} cannot be emptied"):
        remove([directory / "settings.json"])
        folder = directory / "features"
        if isinstance(folder, Path) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
