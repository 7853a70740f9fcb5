"""lungct.training.labels: a CSV of labels -> 0, 1 or nothing for each patient."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungct.arguments import command_line
from lungct.errors import UsageError
from lungct.training import read_labels

HASH = "0123456789abcdef" * 2


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("text", ["id,cancer\na,1\nb,0\n", "id,cancer\na,1.0\nb,0.00", "id;cancer\na;1,0\nb;0,0\n"])
def test_labels_are_0_or_1(tmp_path: Path, text: str) -> None:
    assert read_labels(written(tmp_path / "l.csv", text)).known == {"a": 1, "b": 0}


def test_ids_stay_text(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "id,cancer\n007,1\n7,0\n1e3,1\nnan,0\n7.0,1\n")
    assert read_labels(path).known == {"007": 1, "7": 0, "1e3": 1, "nan": 0, "7.0": 1}


def test_other_columns_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "PatientID,malignant,family\na,1,f1\nb,0,\n")
    found = read_labels(path, id_column="PatientID", label_column="malignant", group_column="family")
    assert found.known == {"a": 1, "b": 0}
    assert [entry.group for entry in found.entries.values()] == ["f1", ""]
    with pytest.raises(UsageError, match=r"no columns 'id', 'cancer', 'group'; it has 'PatientID'"):
        read_labels(path, group_column="group")


def test_a_blank_label_is_an_unlabelled_patient(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "id,cancer,age\na,1,61\nb,,70\nc,\u00a0 ,70\nd,0,\ne\n")
    found = read_labels(path)
    assert found.known == {"a": 1, "d": 0}
    assert [form for form, entry in found.entries.items() if entry.label is None] == ["b", "c", "e"]


@pytest.mark.parametrize("label", ["0_1", "\uff11", "\u0661", "1e0", "+1", "-0", "01", "1.", ".0", "0x1", "nan", "inf"])
@pytest.mark.parametrize("rest", ["True", "0.5", "2", "0.1", "1.01"])
def test_what_python_would_take_for_a_number_is_no_label(tmp_path: Path, label: str, rest: str) -> None:
    path = written(tmp_path / "l.csv", f"id,cancer\na,1\nb,{label}\nc,{rest}\n")
    with pytest.raises(UsageError, match="2 labels are neither 0 nor 1 in 'cancer': 'b' ") as caught:
        read_labels(path)
    assert repr(label) in str(caught.value)
    assert repr(rest) in str(caught.value)


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    rows = ["a,1,", "a,1", ",0", "b,maybe", "c,0,Doe", "c,1", "c,0", "d,2", *(f"x{i},?" for i in range(9))]
    with pytest.raises(UsageError) as caught:
        read_labels(written(tmp_path / "l.csv", "\n".join(["id,cancer", *rows, ""])))
    sentence = str(caught.value)
    assert "\n" not in sentence
    for words in (
        "1 row has more than 2 values (line 6)",
        "1 row has no id (line 4)",
        "2 ids are there more than once ('a' again in line 3, 'c' again in line 7, 8)",
        "11 labels are neither 0 nor 1 in 'cancer': 'b' ('maybe'), 'd' ('2'), 'x0' ('?')",
        "and 6 more",
        "put values that contain a separator in quotes",
        "keep one row of each",
        "leave the field of a patient without a label empty",
    ):
        assert words in sentence


def test_one_id_in_two_unicode_forms_is_there_twice(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "id,cancer\nRen\u00e9,1\nRene\u0301,1\n")
    with pytest.raises(UsageError, match="1 id is there more than once"):
        read_labels(path)
    assert list(read_labels(written(path, "id,cancer\nRene\u0301,1\n")).known) == ["Ren\u00e9"]


@pytest.mark.parametrize("nothing", ["NA", "N/A", "nan", "NULL", "-", "?"])
def test_texts_for_nothing_are_refused_with_the_way_out(tmp_path: Path, nothing: str) -> None:
    path = written(tmp_path / "l.csv", f"id,cancer\na,1\nb,{nothing}\nc,0\n")
    with pytest.raises(UsageError, match="leave the field empty where nothing is known, instead of") as caught:
        read_labels(path)
    assert repr(nothing) in str(caught.value)


def test_two_texts_are_labels_once_it_is_said_which_is_1(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "id,cancer\na,yes\nb,no\nc,\nd,yes\n")
    assert read_labels(path, positive="yes").known == {"a": 1, "b": 0, "d": 1}
    assert read_labels(path, positive=" no ").known == {"a": 0, "b": 1, "d": 0}
    with command_line(), pytest.raises(UsageError, match="say which of 'no' and 'yes' counts as 1 with --positive"):
        read_labels(path)
    with pytest.raises(UsageError, match=r"no label in 'cancer' is 'ja'; there are 2: 'yes' \(2\), 'no' \(1\)"):
        read_labels(path, positive="ja")
    with pytest.raises(UsageError, match="positive is empty"):
        read_labels(path, positive=" ")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ("yes no NA", r"needs two texts in 'cancer', and there are 3: 'NA' \(1\), 'no' \(1\), 'yes' \(1\).*\('NA'\)"),
        ("yes Yes no", "there are 3"),
        ("yes yes", r"there is 1: 'yes' \(2\)"),
    ],
)
def test_positive_wants_exactly_two_texts(tmp_path: Path, texts: str, words: str) -> None:
    rows = [f"p{i},{text}" for i, text in enumerate(texts.split())]
    with pytest.raises(UsageError, match=words):
        read_labels(written(tmp_path / "l.csv", "\n".join(["id,cancer", *rows])), positive="yes")


def test_positive_may_name_codes_too(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", "id,cancer\na,1\nb,2\n")
    assert read_labels(path, positive="2").known == {"a": 0, "b": 1}
    with pytest.raises(UsageError, match="say which of '1' and '2' counts as 1"):
        read_labels(path)


def test_ids_that_may_be_names_are_not_shown(tmp_path: Path) -> None:
    path = written(tmp_path / "l.csv", f"id,cancer\nDoe^Jane,x\nDoe^John,1\nDoe^John,0\n{HASH},y\n{HASH}/{HASH},z\n")
    with pytest.raises(UsageError) as caught:
        read_labels(path, hide_ids=True)
    assert "Doe" not in str(caught.value)
    for words in ("line 2 ('x')", "line 3 again in line 4", f"'{HASH}' ('y')", f"'{HASH}/{HASH}' ('z')"):
        assert words in str(caught.value)


def test_one_column_cannot_be_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="id_column and label_column are both 'cancer'"):
        read_labels(tmp_path / "l.csv", id_column="cancer")
    with command_line(), pytest.raises(UsageError, match="--label-column and --group-column are both 'cancer'"):
        read_labels(tmp_path / "l.csv", group_column="cancer")


@given(labels=st.lists(st.sampled_from(["0", "1", "", "0.0", "1,0", "x"]), min_size=1, max_size=12))
def test_every_row_is_a_label_a_blank_or_in_the_refusal(
    labels: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("labels") / "l.csv"
    written(path, "id;cancer\n" + "".join(f"p{i};{label}\n" for i, label in enumerate(labels)))
    wrong = labels.count("x")
    if wrong:
        with pytest.raises(UsageError, match=f"{wrong} labels? (is|are) neither"):
            read_labels(path)
        return
    found = read_labels(path)
    assert len(found.entries) == len(labels)
    assert found.known == {f"p{i}": int(label[0]) for i, label in enumerate(labels) if label}
