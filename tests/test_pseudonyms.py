"""Keys, pseudonyms, and labels under them."""

from __future__ import annotations

import csv
import hashlib
import hmac
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.commands import lungct as run
from support.commands import refused

from lungct.errors import LungCTWarning, UsageError
from lungct.pseudonyms import Key, is_pseudonym, pseudonymise_csv, read_key

KEY = Key(b"a secret of enough bytes")


def test_a_pseudonym_is_the_documented_hash() -> None:
    pseudonym = KEY.pseudonym("DOE^JANE")
    assert pseudonym == hmac.new(KEY.secret, b"id\0DOE^JANE", hashlib.sha256).hexdigest()[:32]
    assert pseudonym != Key(b"another secret, long enough").pseudonym("DOE^JANE")
    assert "secret" not in repr(KEY)
    assert len(KEY.fingerprint) == 16


def test_each_component_of_a_path_has_its_own_hash() -> None:
    person, scan, part = (KEY.pseudonym(name).rpartition("/")[2] for name in ("DOE", "DOE/2020", "DOE/2020/1"))
    assert KEY.pseudonym("DOE/2020/1") == f"{person}/{scan}/{part}"
    assert scan == hmac.new(KEY.secret, b"id\0DOE/2020", hashlib.sha256).hexdigest()[:32]
    assert KEY.pseudonym("ROE/2020").split("/")[1] != scan
    assert is_pseudonym(KEY.pseudonym("DOE/2020"))
    assert not is_pseudonym("DOE/" + scan)


@given(
    first=st.text(st.characters(codec="utf-8"), max_size=6), second=st.text(st.characters(codec="utf-8"), max_size=6)
)
def test_pseudonyms_are_equal_where_ids_are(first: str, second: str) -> None:
    same = unicodedata.normalize("NFC", first) == unicodedata.normalize("NFC", second)
    assert (KEY.pseudonym(first) == KEY.pseudonym(second)) == same
    nested = KEY.pseudonym(f"{first}/{second}")
    assert nested.startswith(KEY.pseudonym(first) + "/")
    assert nested.count("/") == f"{first}/{second}".count("/")


def test_a_table_of_whole_hashes_is_another_keys() -> None:
    before = hmac.new(KEY.secret, b"lungct key fingerprint", hashlib.sha256).hexdigest()[:16]
    assert KEY.fingerprint != before


def test_a_pixel_hash_is_keyed() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2)
    assert KEY.pixel_hash(pixels) == hmac.new(KEY.secret, pixels.tobytes(), hashlib.sha256).hexdigest()


def test_a_key_is_a_file_of_at_least_16_bytes(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"0123456789abcdef")
    assert read_key(path).secret == b"0123456789abcdef"
    path.write_bytes(b"short")
    with pytest.raises(UsageError, match="has 5 bytes"):
        read_key(path)
    with pytest.raises(UsageError, match="head -c 32"):
        read_key(tmp_path / "missing")


def test_labels_are_written_with_pseudonyms(tmp_path: Path) -> None:
    key, labels, out = tmp_path / "key", tmp_path / "labels.csv", tmp_path / "out.csv"
    key.write_bytes(KEY.secret)
    labels.write_text('\ufeffid,cancer,note\r\n007,1,"a, b"\r\nx,0,\r\n')
    ran = run("pseudonyms", labels, "--key", key, "--out", out)
    assert ran.code == 0, ran
    assert ran.line["patients"] == 2
    with out.open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["id", "cancer", "note"],
        [KEY.pseudonym("007"), "1", "a, b"],
        [KEY.pseudonym("x"), "0", ""],
    ]
    assert "has no column 'person'" in refused(
        "pseudonyms", labels, "--key", key, "--out", out, "--id-column", "person"
    )
    labels.write_text("id,cancer\nx,1\nx,0\n")
    assert "1 id is there more than once (line 2 again in line 3)" in refused(
        "pseudonyms", labels, "--key", key, "--out", out
    )
    assert "does not exist" in refused("pseudonyms", labels, "--key", key, "--out", tmp_path / "a" / "b")


def test_a_column_of_persons_gets_pseudonyms_too(tmp_path: Path) -> None:
    key, labels, out = tmp_path / "key", tmp_path / "labels.csv", tmp_path / "out.csv"
    key.write_bytes(KEY.secret)
    labels.write_bytes("sep=;\nscan;who;cancer\nDOE/1;DOE;1\nx;Ren\u00e9;0\ny;;0\n".encode("utf-16"))
    options = ("--id-column", "scan", "--group-column", "who")
    assert run("pseudonyms", labels, "--key", key, "--out", out, *options).line["patients"] == 3
    person = KEY.pseudonym("DOE")
    assert out.read_text().splitlines() == [
        "scan,who,cancer",
        f"{KEY.pseudonym('DOE/1')},{person},1",
        f"{KEY.pseudonym('x')},{KEY.pseudonym('Rene' + chr(0x301))},0",
        f"{KEY.pseudonym('y')},,0",
    ]
    assert KEY.pseudonym("DOE/1").startswith(f"{person}/")
    sentence = refused("pseudonyms", labels, "--key", key, "--out", out, "--id-column", "id", "--group-column", "who2")
    assert "has no columns 'id', 'who2'" in sentence


def test_a_column_that_still_names_people_is_warned_of(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    names = ("Doe", "Roe", "Poe", "1")
    labels.write_text("id,who,cancer,age\n" + "".join(f"{n}/ct,{n},{i % 2},6{i}\n" for i, n in enumerate(names)))
    with pytest.warns(LungCTWarning, match="ids or persons in 'who' are copied as they are"):
        pseudonymise_csv(labels, KEY, tmp_path / "out.csv")
    pseudonymise_csv(labels, KEY, tmp_path / "out.csv", group_column="who")
    assert "oe" not in (tmp_path / "out.csv").read_text()


def test_what_is_wrong_with_labels_names_lines_and_no_ids(tmp_path: Path) -> None:
    key, labels = tmp_path / "key", tmp_path / "labels.csv"
    key.write_bytes(KEY.secret)
    labels.write_text("id,cancer\nDoe,1\n,0\nDoe,0\nRoe, Jane,1\n")
    sentence = refused("pseudonyms", labels, "--key", key, "--out", tmp_path / "out.csv")
    assert "oe" not in sentence.replace("does", "")
    for words in ("1 row has no id (line 3)", "line 2 again in line 4", "1 row has more than 2 values (line 5)"):
        assert words in sentence
