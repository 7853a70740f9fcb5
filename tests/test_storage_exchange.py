"""lungct.storage.exchange: one directory in the place of another, in one step."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lungct.storage.exchange import exchange, replace_directory


def directory(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_two_directories_change_places(tmp_path: Path) -> None:
    new, place = directory(tmp_path / "new", "new"), directory(tmp_path / "place", "old")
    assert replace_directory(new, place)
    assert (place / "file").read_text() == "new"
    assert (new / "file").read_text() == "old"


@pytest.mark.parametrize("empty", [False, True])
def test_where_nothing_or_an_empty_directory_is_it_is_a_rename(tmp_path: Path, empty: bool) -> None:
    new, place = directory(tmp_path / "new", "new"), tmp_path / "place"
    if empty:
        place.mkdir()
    assert replace_directory(new, place)
    assert (place / "file").read_text() == "new"
    assert not new.exists()


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EINVAL, errno.ENOSYS])
def test_where_it_is_not_possible_both_stay_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    new, place = directory(tmp_path / "new", "new"), directory(tmp_path / "place", "old")

    def refuse(one: Path, other: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("lungct.storage.exchange.exchange", refuse)
    assert not replace_directory(new, place)
    assert (place / "file").read_text() == "old"
    assert (new / "file").read_text() == "new"


def test_what_is_missing_or_a_file_is_an_error(tmp_path: Path) -> None:
    new = directory(tmp_path / "new", "new")
    with pytest.raises(FileNotFoundError):
        exchange(new, tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        replace_directory(tmp_path / "missing", tmp_path / "place")
    (tmp_path / "file").write_text("a file")
    with pytest.raises(NotADirectoryError):
        replace_directory(new, tmp_path / "file")
