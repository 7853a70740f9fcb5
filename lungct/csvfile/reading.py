"""CSV files with a header line, supplied by people: separated by commas, semicolons or tabs.

What spreadsheets do to a CSV is accepted: Excel's first line ``sep=;``, a byte order mark, any line ending, blanks
around values, empty rows. Values stay text: an id ``007`` is not the number 7. Anything ambiguous is an error that
names the argument, the file and the line.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lungct.arguments import counted, listed, listed_texts, spelled
from lungct.csvfile.decoding import read_text
from lungct.errors import UsageError
from lungct.ids import canonical
from lungct.storage import ObjectPath

SEPARATORS = (",", ";", "\t")
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>[^"\r\n])"?[,;\t]*(?:\r\n|\r|\n)', re.IGNORECASE)
"""The line that tells Excel what separates columns."""
_NEVER_CLOSED = ("unexpected end of data", "field larger than field limit")
"""How `csv` says that a quotation mark was opened and not closed."""


def _quoted(_: int, patient_id: str) -> str:
    return repr(patient_id)


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, without the file's name, and what to do about it."""

    text: str
    fix: str


def cannot_be_used(where: str, problems: Sequence[Problem]) -> UsageError:
    """Return the error that says everything that is wrong with a file, in one line."""
    fixes = dict.fromkeys(problem.fix for problem in problems)
    return UsageError(f"{where}: {'; '.join(problem.text for problem in problems)}", fix="; ".join(fixes))


@dataclass(frozen=True)
class CsvFile:
    """A CSV that was read.

    Attributes
    ----------
    where
        How errors name it: "--labels labels.csv".
    header
        The names of the columns.
    rows
        (line, values) of each row that is not empty: the line in which it ends, and a text for each column, without
        blanks around it; "" where a short row has none.
    problems
        What is wrong with rows; `read_csv` leaves it to the caller, who may know of more.

    """

    where: str
    header: list[str]
    rows: list[tuple[int, list[str]]]
    problems: list[Problem]

    def place(self, column: str) -> int:
        """Return the index of a column that `read_csv` was asked for."""
        return _names(self.header).index(_name(column))

    def column(self, column: str) -> list[str]:
        """Return the texts of such a column, one for each row."""
        place = self.place(column)
        return [values[place] for _, values in self.rows]


def id_problems(lines: Sequence[int], ids: Sequence[str], shown: Callable[[int, str], str] = _quoted) -> list[Problem]:
    """Return what is wrong with the ids of a file: those that are missing, and those that are there again.

    Parameters
    ----------
    lines, ids
        The line and the id of each row.
    shown
        How an id is shown, from its line and itself: ids may be names.

    """
    nameless = [line for line, patient_id in zip(lines, ids, strict=True) if not patient_id]
    rows: dict[str, list[tuple[int, str]]] = {}
    for line, patient_id in zip(lines, ids, strict=True):
        if patient_id:
            rows.setdefault(canonical(patient_id), []).append((line, patient_id))
    twice = [same for same in rows.values() if len(same) > 1]
    problems = []
    if nameless:
        text = f"{counted(len(nameless), 'row has', 'rows have')} no id (line {listed(nameless)})"
        problems.append(Problem(text, "give each row an id, or remove it"))
    if twice:
        first = [f"{shown(*same[0])} again in line {listed(line for line, _ in same[1:])}" for same in twice]
        text = f"{counted(len(twice), 'id is', 'ids are')} there more than once ({listed_texts(first)})"
        problems.append(Problem(text, "keep one row of each"))
    return problems


def read_csv(path: str | os.PathLike[str] | ObjectPath, columns: Mapping[str, str | None], *, argument: str) -> CsvFile:
    """Read a CSV that must have certain columns.

    Parameters
    ----------
    path
        The file.
    columns
        Each column that it must have, and the argument that names it ("id_column"), if there is one.
    argument
        The argument that names the file, for errors: "labels".

    Raises
    ------
    UsageError
        If the file is missing, empty, no text or not CSV, has no rows, or lacks a column or has it twice.

    Warns
    -----
    LungCTWarning
        If it had to be read as Windows-1252.

    """
    where = f"{spelled(argument)} {path}"
    records = read_records(path, argument=argument, columns=columns)
    _, header = next(records, (1, []))
    if not header:
        raise UsageError(f"{where} is empty", fix="give it a header line and a row for each patient")
    _check_columns(header, columns, where)
    rows, ragged = [], []
    for line, values in records:
        if any(values[len(header) :]):
            ragged.append(line)
        values += [""] * (len(header) - len(values))
        rows.append((line, values[: len(header)]))
    if not rows:
        raise UsageError(f"{where} has a header and no rows", fix="add a row for each patient")
    problems = []
    if ragged:
        has = "1 row has" if len(ragged) == 1 else f"{len(ragged)} rows have"
        text = f"{has} more than {counted(len(header), 'value', 'values')} (line {listed(ragged)})"
        problems.append(Problem(text, "put values that contain a separator in quotes"))
    return CsvFile(where, header, rows, problems)


def read_records(
    path: str | os.PathLike[str] | ObjectPath, *, argument: str, columns: Collection[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Yield every line of a CSV that is not empty, the header first: its number, and its texts without blanks around.

    Parameters
    ----------
    path, argument
        See `read_csv`.
    columns
        Names that the header may have: the columns are separated by what finds most of them, and then by what makes
        most columns of the first line.

    Raises
    ------
    UsageError
        If the file is missing, no text or not CSV.

    """
    where = f"{spelled(argument)} {path}"
    text = read_text(path, argument=argument)
    told = _SEPARATOR_LINE.match(text)
    start = told.end() if told else 0
    separator = told["separator"] if told else _separator(text, columns)
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=separator, strict=True)
    before = 1 if told else 0
    while True:
        line = before + reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            if str(error).startswith(_NEVER_CLOSED):
                raise UsageError(
                    f"{where}: the quotation mark opened in line {line} is not closed",
                    fix="close it, or remove it",
                ) from error
            raise UsageError(f"{where}, line {line}, is not CSV ({error})", fix="save it as CSV again") from error
        if fields is None:
            return
        values = [value.strip() for value in fields]
        if any(values):
            yield before + reader.line_num, values


def _separator(text: str, columns: Collection[str]) -> str:
    """Return what separates the columns of a text, judged by its first line."""
    wanted = {_name(column) for column in columns}

    def merit(separator: str) -> tuple[int, int]:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        try:
            header = next((fields for fields in lines if any(field.strip() for field in fields)), [])
        except csv.Error:
            return 0, 0
        return len(wanted.intersection(_names(header))), len(header)

    return max(SEPARATORS, key=merit)


def _check_columns(header: Sequence[str], columns: Mapping[str, str | None], where: str) -> None:
    """Raise UsageError if a column is missing or is there several times."""
    names = _names(header)
    missing = [column for column in columns if names.count(_name(column)) == 0]
    if missing:
        arguments = [argument for column in missing if (argument := columns[column])]
        noun = "column" if len(missing) == 1 else "columns"
        fix = f"name the {noun} with {' and '.join(map(spelled, arguments))}" if arguments else None
        if len(header) == 1:
            fix = "separate its columns by commas, semicolons or tabs"
        raise UsageError(f"{where} has no {noun} {listed(missing)}; it has {listed(header)}", fix=fix)
    for column in columns:
        if (count := names.count(_name(column))) > 1:
            raise UsageError(f"{where} has {count} columns {column!r}", fix="rename all but one of them")


def _names(header: Sequence[str]) -> list[str]:
    return list(map(_name, header))


def _name(column: str) -> str:
    """Return a column's name in one Unicode form, without blanks around it."""
    return canonical(column.strip())
