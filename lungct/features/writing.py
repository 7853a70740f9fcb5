"""The driver's side of a table: its entries, commits, removal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lungct.arguments import spelled
from lungct.errors import StorageError
from lungct.features.settings import Settings
from lungct.features.shards import (
    StagedShard,
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
    removal_batches,
    remove,
    stage,
    storage_faults,
)

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class TableEntry:
    """Where a patient's row is: the name of its file, and whether it is an error row."""

    file: str
    failed: bool


def read_entries(directory: Place) -> dict[str, TableEntry]:
    """Read which patients a table has, from every one of its files.

    Raises
    ------
    StorageError
        If a file cannot be read, or a patient is in two of them.

    """
    entries: dict[str, TableEntry] = {}
    for path, table in read_shards(directory, ["patient_id", "error_code"]):
        for patient_id, code in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if patient_id in entries:
                raise StorageError(
                    f"{directory} has a patient in two shards, {entries[patient_id].file} and {path.name}: "
                    "it was changed by hand",
                    fix=f"extract again with {spelled('overwrite', True)}",
                )
            entries[patient_id] = TableEntry(path.name, code is not None)
    return entries


class TableWriter:
    """A table that this process owns and may change.

    Parameters
    ----------
    directory
        DIR.
    owner
        This process's ownership of the table.
    settings
        The table's settings.

    Attributes
    ----------
    entries
        Every patient in the table, kept up to date by `commit`.

    """

    def __init__(self, directory: Place, owner: Owner, settings: Settings) -> None:
        self.directory = directory
        self.owner = owner
        self.settings = settings
        self.entries = read_entries(directory)

    def write_settings(self) -> None:
        """Write ``settings.json`` if there is none yet; before the first commit."""
        make_directory(self.directory / "features", argument="out")
        path = self.directory / "settings.json"
        if not path.exists():
            staged = self.owner.staging / "settings.json"
            stage(staged, self.settings.to_json().encode())
            with self.owner.committing():
                publish(staged, path)

    def commit(self, staged: StagedShard) -> None:
        """Make the rows of a staged file part of the table, except those of patients who have features in it.

        An error row that the table has is replaced within its own file.
        """
        fresh = [name for name in staged.ids if name not in self.entries]
        old = {self.entries[name].file for name in staged.ids if self._replaceable(name)}
        source = locate(staged.path, argument="out")
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
        return patient_id in self.entries and self.entries[patient_id].failed

    def _replace(self, file: str, new: pa.Table) -> None:
        """Replace the error rows in ``file`` for which there are new rows."""
        import pyarrow as pa

        path = self.directory / "features" / file
        old = read_shard(path)
        renewed = {
            name
            for name in new.column("patient_id").to_pylist()
            if self._replaceable(name) and self.entries[name].file == file
        }
        kept = set(old.column("patient_id").to_pylist()) - renewed
        merged = pa.concat_tables([_select(old, kept), _select(new, renewed)])
        merged = merged.sort_by("patient_id").combine_chunks()
        if not merged.equals(old):
            self._publish_table(merged)

    def _publish_table(self, table: pa.Table) -> None:
        self._publish(stage_table(table, self.settings, self.owner.staging))

    def _publish(self, staged: StagedShard) -> None:
        name = shard_name(self.settings, staged.ids)
        # Not held while files are read and staged: a new owner waits for this one step only.
        with self.owner.committing():
            publish(locate(staged.path, argument="out"), self.directory / "features" / name)
        failed = set(staged.failed)
        for patient_id in staged.ids:
            self.entries[patient_id] = TableEntry(name, patient_id in failed)


def _select(table: pa.Table, ids: set[str]) -> pa.Table:
    import pyarrow as pa

    wanted = [name in ids for name in table.column("patient_id").to_pylist()]
    return table.filter(pa.array(wanted, type=pa.bool_()))


def remove_table(directory: Place, owner: Owner) -> None:
    """Remove a table's shards and settings, and nothing that lungct did not write.

    ``settings.json`` goes last: a kill in between leaves a smaller table, never rows without settings. Each batch of
    files is removed as a commit is made, so a long removal neither lets the ownership expire nor continues after it
    was taken over.
    """
    for part in removal_batches(list_shards(directory)):
        with owner.committing():
            remove(part)
    with owner.committing(), storage_faults(f"{directory} cannot be emptied"):
        remove([directory / "settings.json"])
        folder = directory / "features"
        if isinstance(folder, Path) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
