"""CSV files that people hand in, and the ones we write: UTF-8, comma-separated, a header line.

What a person's spreadsheet makes of a CSV is taken as meant: a byte order mark, any line ends, blanks around values,
empty rows at the end. Values stay text: an id ``007`` is not the number 7. What cannot be meant is refused with the
option, the file and the line.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence

from lungct.arguments import listed, spelled
from lungct.errors import UsageError
from lungct.storage import ObjectPath, locate


def read_columns(
    path: str | os.PathLike[str] | ObjectPath, columns: Sequence[str], *, argument: str
) -> list[tuple[int, tuple[str, ...]]]:
    """Read some columns of a CSV.

    Parameters
    ----------
    path
        The file.
    columns
        Names in its header line.
    argument
        What the file was given as, for errors: "labels".

    Returns
    -------
    list of (line, values)
        Each row that holds anything: its line number, and its texts in the order of ``columns``, without blanks around
        them. A field that a short row lacks is "".

    Raises
    ------
    UsageError
        If the file is missing, no UTF-8, no CSV, empty, or lacks a column.

    """
    header, rows = read_rows(path, argument=argument)
    places = [place_of(header, column, f"{spelled(argument)} {path}") for column in columns]
    return [(line, tuple(values[place] for place in places)) for line, values in rows]


def read_rows(
    path: str | os.PathLike[str] | ObjectPath, *, argument: str
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a whole CSV: its header, and (line, values) for each row that holds anything, a value for each column.

    Raises
    ------
    UsageError
        If the file is missing, no UTF-8, no CSV, or empty.

    """
    where = f"{spelled(argument)} {path}"
    reader = csv.reader(io.StringIO(_text(path, argument, where), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = []
        for fields in reader:
            values = [value.strip() for value in fields]
            if not any(values):
                continue
            if any(values[len(header) :]):
                raise UsageError(
                    f"{where}, line {reader.line_num}, has {len(values)} values for {len(header)} columns: "
                    "quote values that hold a comma"
                )
            values += [""] * (len(header) - len(values))
            rows.append((reader.line_num, values[: len(header)]))
    except csv.Error as error:
        raise UsageError(f"{where}, line {reader.line_num}, is no CSV: {error}") from error
    return header, rows


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Give a CSV's bytes: floats as ``repr`` has them, so that they read back the same; None as nothing."""
    lines = [header, *rows]
    return "".join(",".join(map(_field, line)) + "\n" for line in lines).encode()


def _field(value: object) -> str:
    """Write a value, in quotes where it holds what separates values.

    Not by ``csv.writer``, which leaves a carriage return unquoted where lines end in a newline.
    """
    if value is None:
        return ""
    text = repr(value) if isinstance(value, float) else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _text(path: str | os.PathLike[str] | ObjectPath, argument: str, where: str) -> str:
    try:
        text = locate(path, argument=argument).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{where} is not there") from None
    except IsADirectoryError:
        raise UsageError(f"{where} is a directory: give a CSV file") from None
    except OSError as error:
        raise UsageError(f"{where} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text: save it as CSV in UTF-8") from error
    if not text.strip():
        raise UsageError(f"{where} is empty: it needs a header line and a row for each patient")
    return text


def place_of(header: Sequence[str], column: str, where: str) -> int:
    """Find the one column of that name, or refuse the CSV that ``where`` names."""
    count = header.count(column)
    if count == 1:
        return header.index(column)
    if count > 1:
        raise UsageError(f"{where} has {count} columns {column!r}: which one is meant?")
    hint = ""
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        hint = "; its columns must be separated by commas"
    raise UsageError(f"{where} has no column {column!r}; it has {listed(header)}{hint}")
