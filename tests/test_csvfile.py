"""lungct.csvfile: CSV files as people and spreadsheets write them."""

from __future__ import annotations

import io
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungct.csvfile import csv_bytes, read_csv
from lungct.errors import LungCTWarning, UsageError

ROWS = [["a", "1"], ["Müller", "0"]]
TEXT = "id,cancer\na,1\nMüller,0\n"


def read(path: Path, *columns: str) -> list[list[str]]:
    file = read_csv(path, dict.fromkeys(columns or ("id", "cancer")), argument="labels")
    assert not file.problems
    return [values for _, values in file.rows]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("told", [False, True])
def test_separators_line_ends_and_encodings(
    tmp_path: Path, separator: str, line_end: str, encoding: str, told: bool
) -> None:
    text = (f"sep={separator}\n" if told else "") + TEXT.replace(",", separator)
    if encoding == "utf-16-be":
        text = "\ufeff" + text
    path = tmp_path / "l.csv"
    path.write_bytes(text.replace("\n", line_end).encode(encoding))
    assert read(path) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        " id , cancer \n a , 1 \n Müller , 0 \n",
        "id,cancer\na,1\n\nMüller,0\n,\n,,\n",
        'id,cancer\n"a","1"\n"Müller","0"\n',
        "id,cancer\na,1,\nMüller,0,\n",
        '"id";"cancer"\n"a";"1"\nMüller;0',
        'sep=;\nid;cancer\n"a";"1"\nMüller;0',
        '"SEP=;";;\r\nid;cancer\r\na;1\r\nMüller;0\r\n',
        "\n\nid,cancer\na,1\nMüller,0\n",
    ],
)
def test_what_spreadsheets_do_to_a_csv(tmp_path: Path, text: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text(text)
    assert read(path) == ROWS


def test_columns_are_separated_by_what_finds_the_columns_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id\tcancer\tnotes, size, site, and more\na\t1\tx, y\n")
    assert read(path) == [["a", "1", "x, y"]]
    path.write_text("id;size, mm;site, side;cancer\na;3,5;left;1\n")
    assert read(path) == [["a", "3,5", "left", "1"]]
    path.write_text("id\na;b\n")
    assert read(path, "id") == [["a;b"]]


def test_a_columns_name_is_compared_in_one_unicode_form(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("identite\u0301,cancer\na,1\n")
    assert read(path, "identit\u00e9", "cancer") == [["a", "1"]]


def test_lines_are_counted_as_editors_count_them(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text('sep=,\nid,cancer\na,1\n\n"b\nb",0\nc,1\n')
    file = read_csv(path, {"id": None}, argument="labels")
    assert [line for line, _ in file.rows] == [3, 6, 7]


def test_windows_1252_is_read_and_said_once(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes("id;cancer\na;1\nMüller;0\n".encode("cp1252"))
    with pytest.warns(LungCTWarning, match=r"is not UTF-8 and was read as Windows-1252") as caught:
        assert read(path) == ROWS
    assert len(caught) == 1


def workbook(name: str = "xl/workbook.xml") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr(name, "<workbook/>")
    return data.getvalue()


def packed(text: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("labels.csv", text)
    return data.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\n \n", "is empty"),
        (b"id,cancer\n", "has a header and no rows"),
        (b"id,label\na,1\n", "no column 'cancer'; it has 'id', 'label'"),
        (b"name,label\na,1\n", "no columns 'id', 'cancer'; it has 'name', 'label'"),
        (b"id|cancer\na|1\n", "separate its columns by commas, semicolons or tabs"),
        (b"id,cancer,cancer\na,1,0\n", "2 columns 'cancer'"),
        (b'id,cancer\n"a,1\nb,0\n', "the quotation mark opened in line 2 is not closed"),
        (b'id,cancer\na,1\n"b,0\n' + b"c,1\n" * 40_000, "the quotation mark opened in line 3 is not closed"),
        (b'id,cancer\n"a"x,1\n', "line 2, is not CSV"),
        (b"id,cancer\na\0,1\n", "NUL bytes .*line 2"),
        ("id,cancer\na,1\n".encode("utf-16-le"), "NUL bytes .*UTF-16 without a byte order mark"),
        (b"\xff\xfei\0d\0,\0c", "not UTF-16 text"),
        (b"\xef\xbb\xbfid,cancer\n\xe9,1\n", r"not UTF-8 text.*\(line 2\)"),
        (b"id,cancer\n\x81,1\n", "neither UTF-8 nor Windows-1252 text"),
        (workbook(), "is an Excel file: save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is an Excel file: save it as CSV"),
        (packed("id,cancer\n"), "is a packed file: unpack it"),
        (b"PAR1" + bytes(20), "is a Parquet file: save it as CSV"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "labels.csv"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=words) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_and_an_unknown_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        read(tmp_path)
    with pytest.raises(UsageError, match="cannot open ftp://"):
        read_csv("ftp://host/labels.csv", {}, argument="labels")


def test_rows_with_too_many_values_are_left_to_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,cancer\na,1\nDoe, Jane,0\nb\nDoe, John,1\n")
    file = read_csv(path, {"id": None}, argument="labels")
    assert [problem.text for problem in file.problems] == ["2 rows have more than 2 values (line 3, 5)"]
    assert file.column("cancer") == ["1", "Jane", "", "John"]


field = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)


@given(rows=st.lists(st.tuples(field, field), max_size=6))
def test_what_is_written_as_csv_reads_back(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    path.write_bytes(csv_bytes(("first", "second"), [("a", "b"), *rows]))
    stripped = [[a.strip(), b.strip()] for a, b in rows]
    assert read(path, "first", "second") == [["a", "b"], *(row for row in stripped if any(row))]


@given(data=st.binary(max_size=60))
def test_no_bytes_crash_the_reader(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv"
    for start in (b"", b"id,cancer\n", b"\xff\xfe"):
        path.write_bytes(start + data)
        with warnings.catch_warnings(), suppress(UsageError):
            warnings.simplefilter("ignore", LungCTWarning)
            read_csv(path, {"id": None}, argument="labels")


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit_in_a_csv(value: float) -> None:
    text = csv_bytes(("x",), [(value,)]).decode().splitlines()[1]
    assert float(text) == value
