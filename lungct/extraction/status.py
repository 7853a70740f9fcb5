"""How far a feature table is: done, failed by reason, left; and, asked to check, whether every file is what it says."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

from lungct.cluster import connect
from lungct.errors import StorageError, UsageError
from lungct.extraction.grouping import group_by_person
from lungct.extraction.options import check_key
from lungct.features import Settings, is_shard, read_settings, read_shards, schema, shard_name
from lungct.patients import Patient, list_patients
from lungct.pseudonyms import read_key
from lungct.storage import Place, locate, open_parquet

SENTENCES_SHOWN = 3


@dataclass(frozen=True)
class Status:
    """A table's state.

    Attributes
    ----------
    done
        Patients with features.
    failed
        Error rows: code, count, and up to three of their sentences.
    left
        Patients of SRC that the table lacks; None where SRC was not given.
    problems
        What a check found, a sentence each; None where none was asked for.

    """

    directory: str
    done: int
    failed: list[dict[str, Any]]
    left: int | None
    problems: list[str] | None

    def as_dict(self) -> dict[str, Any]:
        """Give the command's JSON line."""
        values: dict[str, Any] = {
            "command": "status",
            "out": self.directory,
            "done": self.done,
            "failed": self.failed,
        }
        if self.left is not None:
            values["left"] = self.left
        if self.problems is not None:
            values["problems"] = self.problems
        return values

    def text(self) -> str:
        """Give the same for a person."""
        failed = sum(reason["patients"] for reason in self.failed)
        lines = [f"{self.done} patients with features, {failed} with an error row"]
        if self.left is not None:
            lines[0] += f", {self.left} left"
        for reason in self.failed:
            lines.append(f"  {reason['patients']:>6}  {reason['error_code']}")
            lines += [f"          {sentence}" for sentence in reason["sentences"]]
        if self.problems is not None:
            lines += [f"problem: {problem}" for problem in self.problems]
            lines += [] if self.problems else ["every file was read and is what it says"]
        return "\n".join(lines)


def status(
    directory: str | os.PathLike[str],
    src: str | os.PathLike[str] | None = None,
    *,
    check: bool = False,
    pseudonyms: str | os.PathLike[str] | None = None,
) -> Status:
    """Count what a table has, and what of SRC it lacks.

    Parameters
    ----------
    directory
        The table.
    src
        The archive that it is made from.
    check
        Read every page of every file: schema, settings, names that fit their contents, each patient once.
    pseudonyms
        The table's key, to compare with SRC.

    Raises
    ------
    UsageError
        If DIR is no table, or SRC or the key do not fit.

    """
    settings = read_settings(directory)
    table = locate(directory, argument="DIR")
    problems = check_files(table, settings) if check else None
    codes, rows = _rows(table, tolerant=check)
    left = None
    if src is not None:
        key = read_key(pseudonyms) if pseudonyms is not None else None
        check_key(settings, key, str(directory))
        found = _patients(locate(src, argument="SRC"), settings, table)
        ids = {key.pseudonym(p.id) if key else p.id for p in found}
        left = len(ids - rows)
    failed = [
        {
            "error_code": code,
            "patients": sum(sentences.values()),
            "sentences": [sentence for sentence, _ in sentences.most_common(SENTENCES_SHOWN)],
        }
        for code, sentences in sorted(codes.items())
    ]
    error_rows = sum(sum(sentences.values()) for sentences in codes.values())
    return Status(str(table), len(rows) - error_rows, failed, left, problems)


def _patients(src: Place, settings: Settings, table: Place) -> list[Patient]:
    if isinstance(settings.depth, int):
        return list_patients(src, depth=settings.depth, without=table)
    with connect():
        return group_by_person(src, without=table)


def check_files(table: Place, settings: Settings) -> list[str]:
    """Read every file of a table whole and say, in a sentence each, what is not as it should be."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    problems: list[str] = []
    seen: dict[str, str] = {}
    files: list[Place] = sorted((table / "features").glob("*"), key=lambda path: path.name)
    for path in files:
        if not is_shard(path.name):
            problems.append(f"{path.name} is not a file of the table")
            continue
        try:
            shard = pq.ParquetFile(open_parquet(path)).read()
        except (pa.ArrowException, OSError, StorageError) as error:
            problems.append(f"{path.name} cannot be read ({str(error).splitlines()[0][:100]})")
            continue
        problems += _shard_problems(path.name, shard, settings)
        if "patient_id" not in shard.column_names:
            continue
        for patient_id in shard.column("patient_id").to_pylist():
            if patient_id in seen:
                problems.append(f"{path.name} and {seen[patient_id]} have the same patient")
            seen[patient_id] = path.name
    return problems


def _shard_problems(name: str, shard: Any, settings: Settings) -> list[str]:
    problems = []
    if not shard.schema.remove_metadata().equals(schema(settings.dim)):
        return [f"{name} has another schema"]
    text = (shard.schema.metadata or {}).get(b"lungct.settings", b"{}")
    try:
        same = Settings.from_json(text, where=name).comparable() == settings.comparable()
    except UsageError:
        same = False
    if not same:
        problems.append(f"{name} was made with other settings")
    ids = shard.column("patient_id").to_pylist()
    if ids != sorted(ids):
        problems.append(f"{name} is not ordered by patient_id")
    if name != shard_name(settings, ids):
        problems.append(f"{name} does not fit its contents")
    error, code, features = (shard.column(n).is_valid().to_numpy() for n in ("error", "error_code", "features"))
    if bool((error != code).any()) or bool((error == features).any()):
        problems.append(f"{name} has a row with neither features nor an error, or with both")
    return problems


def _rows(table: Place, *, tolerant: bool) -> tuple[dict[str, Counter[str]], set[str]]:
    """Read ids and errors of every shard, or of every readable one."""
    codes: dict[str, Counter[str]] = {}
    ids: set[str] = set()
    for shard in read_shards(table, ["patient_id", "error", "error_code"], tolerant=tolerant):
        columns = (column.to_pylist() for column in shard[1].columns)
        for patient_id, sentence, code in zip(*columns, strict=True):
            ids.add(patient_id)
            if code is not None:
                codes.setdefault(code, Counter())[sentence] += 1
    return codes, ids
