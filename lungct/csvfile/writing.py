"""Rows -> the bytes of a CSV: UTF-8, separated by commas, each line ended by a newline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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
