"""How far a feature table is (done, failed by reason, left), and whether its files are undamaged."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

from lungct.cluster import connect
from lungct.extraction.grouping import group_by_person
from lungct.extraction.options import check_key
from lungct.features import Settings, check_table, read_settings, read_shards
from lungct.patients import Patient, list_patients
from lungct.pseudonyms import read_key
from lungct.storage import Place, locate

SENTENCES_SHOWN = 3


@dataclass(frozen=True)
class Status:
    """The state of a table.

    Attributes
    ----------
    done
        Patients with features.
    failed
        Error rows, by code: the code, the count, and the three most frequent sentences.
    left
        Patients of SRC whom the table lacks; None if SRC was not given.
    problems
        A sentence for each problem that the check found; None if there was no check.

    """

    directory: str
    done: int
    failed: list[dict[str, Any]]
    left: int | None
    problems: list[str] | None

    def as_dict(self) -> dict[str, Any]:
        """Return what the command prints as JSON."""
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
        """Return what the command prints for people."""
        failed = sum(reason["patients"] for reason in self.failed)
        lines = [f"{self.done} patients with features, {failed} with an error row"]
        if self.left is not None:
            lines[0] += f", {self.left} left"
        for reason in self.failed:
            lines.append(f"  {reason['patients']:>6}  {reason['error_code']}")
            lines += [f"          {sentence}" for sentence in reason["sentences"]]
        if self.problems is not None:
            lines += [f"problem: {problem}" for problem in self.problems]
            lines += [] if self.problems else ["all files read; names, settings and contents agree"]
        return "\n".join(lines)


def status(
    directory: str | os.PathLike[str],
    src: str | os.PathLike[str] | None = None,
    *,
    check: bool = False,
    pseudonyms: str | os.PathLike[str] | None = None,
) -> Status:
    """Count the patients of a table, and those of SRC whom it lacks.

    Parameters
    ----------
    directory
        The table.
    src
        The archive that it is made from.
    check
        Read every file whole and compare names, settings, schema and contents.
    pseudonyms
        The file with the table's key, to compare ids with SRC.

    Raises
    ------
    UsageError
        If DIR is not a table, SRC cannot be read, or the key is not the table's.
    StorageError
        If a file of the table cannot be read; with ``check`` that is a problem instead.

    """
    settings = read_settings(directory)
    table = locate(directory, argument="DIR")
    problems = check_table(table, settings) if check else None
    ids, codes = _ids_and_errors(table, tolerant=check)
    left = None
    if src is not None:
        key = read_key(pseudonyms) if pseudonyms is not None else None
        check_key(settings, key, str(directory))
        found = _patients(locate(src, argument="SRC"), settings, table)
        left = len({key.pseudonym(p.id) if key else p.id for p in found} - ids)
    error_rows = sum(sum(sentences.values()) for sentences in codes.values())
    return Status(str(table), len(ids) - error_rows, _failed(codes), left, problems)


def _failed(codes: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    """Return `Status.failed`, given how often each code has each sentence."""
    return [
        {
            "error_code": code,
            "patients": sum(sentences.values()),
            "sentences": sorted(sentences, key=lambda text: (-sentences[text], text))[:SENTENCES_SHOWN],
        }
        for code, sentences in sorted(codes.items())
    ]


def _patients(src: Place, settings: Settings, table: Place) -> list[Patient]:
    if isinstance(settings.depth, int):
        return list_patients(src, depth=settings.depth, without=table)
    with connect():
        return group_by_person(src, without=table)


def _ids_and_errors(table: Place, *, tolerant: bool) -> tuple[set[str], dict[str, Counter[str]]]:
    """Read all ids, and how often each error code has each sentence; ``tolerant``: from the files that can be read."""
    codes: dict[str, Counter[str]] = {}
    ids: set[str] = set()
    for _, shard in read_shards(table, ["patient_id", "error", "error_code"], tolerant=tolerant):
        columns = (column.to_pylist() for column in shard.columns)
        for patient_id, sentence, code in zip(*columns, strict=True):
            ids.add(patient_id)
            if code is not None:
                codes.setdefault(code, Counter())[sentence] += 1
    return ids, codes
