"""CSV files, supplied by people or written by lungct: UTF-8, comma-separated, with a header line.

What spreadsheets do to a CSV is accepted: a byte order mark, any line ending, blanks around values, empty rows at the
end. Values stay text: an id ``007`` is not the number 7. Anything ambiguous is an error that names the argument, the
file and the line.
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
        The argument that names the file, for errors: "labels".

    Returns
    -------
    list of (line, values)
        For each row that is not empty: its line number, and its texts in the order of ``columns``, without blanks
        around them. A field that a short row lacks is "".

    Raises
    ------
    UsageError
        If the file is missing, empty, not UTF-8 or not CSV, or lacks a column.

    """
    header, rows = read_rows(path, argument=argument)
    places = [place_of(header, column, f"{spelled(argument)} {path}") for column in columns]
    return [(line, tuple(values[place] for place in places)) for line, values in rows]


def read_rows(
    path: str | os.PathLike[str] | ObjectPath, *, argument: str
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Read a whole CSV.

    Returns
    -------
    header
        The names of the columns.
    rows
        (line, values) for each row that is not empty, with a value for each column.

    Raises
    ------
    UsageError
        If the file is missing, empty, not UTF-8 or not CSV.

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
                    f"{where}, line {reader.line_num}, has {len(values)} values for {len(header)} columns",
                    fix="put values that contain a comma in quotes",
                )
            values += [""] * (len(header) - len(values))
            rows.append((reader.line_num, values[: len(header)]))
    except csv.Error as error:
        raise UsageError(
            f"{where}, line {reader.line_num}, is not CSV ({error})", fix="save it as CSV again"
        ) from error
    return header, rows


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a CSV as bytes: floats by ``repr``, which reads back as the same number; None as an empty field."""
    lines = [header, *rows]
    return "".join(",".join(map(_field, line)) + "\n" for line in lines).encode()


def _field(value: object) -> str:
    """Return a value as a field, in quotes if it contains a separator.

    ``csv.writer`` would leave a carriage return unquoted where lines end in a newline.
    """
    if value is None:
        return ""
    text = repr(value) if isinstance(value, float) else str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _text(path: str | os.PathLike[str] | ObjectPath, argument: str, where: str) -> str:
    try:
        text = locate(path, argument=argument).read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{where} does not exist", fix="give a CSV file") from None
    except IsADirectoryError:
        raise UsageError(f"{where} is a directory", fix="give a CSV file") from None
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error.strerror})", fix="give a CSV file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text", fix="save it as CSV in UTF-8") from error
    if not text.strip():
        raise UsageError(f"{where} is empty", fix="give it a header line and a row for each patient")
    return text


def place_of(header: Sequence[str], column: str, where: str) -> int:
    """Return the index of the only column with a name.

    Raises
    ------
    UsageError
        If there is none, or several. The error begins with ``where``.

    """
    count = header.count(column)
    if count == 1:
        return header.index(column)
    if count > 1:
        raise UsageError(f"{where} has {count} columns {column!r}", fix="rename all but one of them")
    separated_otherwise = len(header) == 1 and (";" in header[0] or "\t" in header[0])
    fix = "save it with its columns separated by commas" if separated_otherwise else None
    raise UsageError(f"{where} has no column {column!r}; it has {listed(header)}", fix=fix)
