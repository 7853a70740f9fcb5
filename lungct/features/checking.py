"""Every file of a table, read whole and compared with what it should be (``lungct status --check``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lungct.errors import StorageError, UsageError
from lungct.features.digests import SETTINGS_KEY
from lungct.features.settings import Settings
from lungct.features.shards import is_shard, read_described_shard, shard_name
from lungct.storage import Place, storage_faults

if TYPE_CHECKING:
    import pyarrow as pa


def check_table(directory: Place, settings: Settings) -> list[str]:
    """Read every file of a table and return a sentence for each thing that is wrong.

    Parameters
    ----------
    directory
        DIR.
    settings
        The table's settings.

    """
    problems: list[str] = []
    file_of: dict[str, str] = {}
    with storage_faults(f"{directory} cannot be listed"):
        files: list[Place] = sorted((directory / "features").glob("*"), key=lambda path: path.name)
    for path in files:
        if not is_shard(path.name):
            problems.append(f"{path.name} is not a file of the table")
            continue
        try:
            shard = read_described_shard(path)
        except StorageError as error:
            reason = str(error.__cause__ or error.message).partition("\n")[0]
            problems.append(f"{path.name} cannot be read ({reason[:100]})")
            continue
        problems += _shard_problems(path.name, shard, settings)
        for patient_id in shard.column("patient_id").to_pylist():
            if patient_id in file_of:
                problems.append(f"{path.name} and {file_of[patient_id]} have the same patient")
            file_of[patient_id] = path.name
    return problems


def _shard_problems(name: str, shard: pa.Table, settings: Settings) -> list[str]:
    """Compare a shard that could be read with its table's settings and its own name."""
    problems = []
    try:
        same = Settings.from_json(shard.schema.metadata[SETTINGS_KEY], where=name).comparable() == settings.comparable()
    except UsageError:
        same = False
    if not same:
        problems.append(f"{name} was made with other settings")
    ids = shard.column("patient_id").to_pylist()
    if ids != sorted(ids):
        problems.append(f"{name} is not ordered by patient_id")
    if name != shard_name(settings, ids):
        problems.append(f"{name} is not the name that belongs to its patients")
    error, code, features = (shard.column(n).is_valid().to_numpy() for n in ("error", "error_code", "features"))
    if bool((error != code).any()) or bool((error == features).any()):
        problems.append(f"{name} has a row with neither features nor an error, or with both")
    return problems
