"""The bytes of a CSV -> text, in the encodings that spreadsheets write.

UTF-8 with and without a byte order mark, UTF-16 with one (Excel's "Unicode Text"), and Windows-1252, in which Excel
writes "CSV" in Western Europe. Windows-1252 is a guess (nothing in the file says so), so it is warned of.
"""

from __future__ import annotations

import codecs
import os
import warnings

from lungct.arguments import spelled
from lungct.errors import LungCTWarning, UsageError
from lungct.storage import ObjectPath, locate

_SAVE_AS_CSV = "save it as CSV"
_NO_TEXT = (
    (b"\xd0\xcf\x11\xe0", "an Excel file", _SAVE_AS_CSV),
    (b"PK\x03\x04", "a packed file", "unpack it"),
    (b"\x1f\x8b", "a packed file", "unpack it"),
    (b"PAR1", "a Parquet file", _SAVE_AS_CSV),
    (b"%PDF", "a PDF file", _SAVE_AS_CSV),
)
"""How files that are no text begin, what they are, and what to do about it."""
_SPREADSHEETS = (
    (b"[Content_Types].xml", "an Excel file"),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet"),
)
"""What packed files contain that are spreadsheets."""


def read_text(path: str | os.PathLike[str] | ObjectPath, *, argument: str) -> str:
    """Read a text file.

    Parameters
    ----------
    path
        The file.
    argument
        The argument that names it, for errors: "labels".

    Raises
    ------
    UsageError
        If the file is missing, or no text.

    Warns
    -----
    LungCTWarning
        If it had to be read as Windows-1252.

    """
    where = f"{spelled(argument)} {path}"
    try:
        data = locate(path, argument=argument).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{where} does not exist", fix="give a CSV file") from None
    except IsADirectoryError:
        raise UsageError(f"{where} is a directory", fix="give a CSV file") from None
    except OSError as error:
        raise UsageError(f"{where} cannot be read ({error.strerror})", fix="give a CSV file") from error
    _refuse_no_text(data, where)
    text = _decoded(data, where)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        why = "UTF-16 without a byte order mark?" if text.count("\0") > len(text) // 3 else f"first in line {line}"
        raise UsageError(f"{where} contains NUL bytes ({why})", fix="save it as CSV in UTF-8")
    return text


def _refuse_no_text(data: bytes, where: str) -> None:
    """Raise UsageError if a file is a workbook, is packed, or is something else that is no text."""
    for start, what, fix in _NO_TEXT:
        if not data.startswith(start):
            continue
        for mark, spreadsheet in _SPREADSHEETS:
            if what == "a packed file" and mark in data:
                what, fix = spreadsheet, _SAVE_AS_CSV
        raise UsageError(f"{where} is {what}", fix=fix)


def _decoded(data: bytes, where: str) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding, otherwise = "utf-16", "not UTF-16 text, although it begins like it"
    elif data.startswith(codecs.BOM_UTF8) or _is_utf8(data):
        encoding, otherwise = "utf-8-sig", "not UTF-8 text, although it begins with its byte order mark"
    else:
        encoding, otherwise = "cp1252", "neither UTF-8 nor Windows-1252 text"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{where} is {otherwise} (line {line})", fix="save it as CSV in UTF-8") from error
    if encoding == "cp1252":
        warnings.warn(
            f"{where} is not UTF-8 and was read as Windows-1252 (cp1252); if letters with accents come out wrong, save "
            "it as CSV in UTF-8",
            LungCTWarning,
            stacklevel=2,
        )
    return text


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
