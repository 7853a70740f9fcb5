"""Keys, pseudonyms, and labels under them."""

from __future__ import annotations

import csv
import hashlib
import hmac
from pathlib import Path

import numpy as np
import pytest
from support.commands import lungct as run
from support.commands import refused

from lungct.errors import UsageError
from lungct.pseudonyms import Key, read_key

KEY = Key(b"a secret of enough bytes")


def test_a_pseudonym_is_the_documented_hash() -> None:
    pseudonym = KEY.pseudonym("DOE^JANE")
    assert pseudonym == hmac.new(KEY.secret, b"id\0DOE^JANE", hashlib.sha256).hexdigest()[:32]
    assert pseudonym != Key(b"another secret, long enough").pseudonym("DOE^JANE")
    assert "secret" not in repr(KEY)
    assert len(KEY.fingerprint) == 16


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
    assert "line 3, repeats an id" in refused("pseudonyms", labels, "--key", key, "--out", out)
    assert "does not exist" in refused("pseudonyms", labels, "--key", key, "--out", tmp_path / "a" / "b")
