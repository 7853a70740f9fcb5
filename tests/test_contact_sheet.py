"""The contact sheet draws every patient of an archive, those that cannot be used too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support import ROOT
from support.ct_files import write_series

SCRIPT = ROOT / "scripts" / "contact_sheet.py"


def chest(i: int) -> NDArray[Any]:
    stored = np.full((64, 64), 1064)
    stored[16:48, 8:28] = stored[16:48, 36:56] = 174
    return stored


def draw(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_every_patient_of_an_archive_is_drawn(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    write_series(archive / "ann", slices=12, pixels=chest, spacing=(6.0, 6.0))
    write_series(archive / "bob", slices=12)  # no lungs
    (archive / "cat").mkdir()
    done = draw(archive, "--out", tmp_path / "sheet.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1 ann", "2 bob", "3 cat"]
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert draw(archive, "--out", tmp_path / "one.png", "--limit", 1).stdout == "1 ann\n"


def test_an_archive_without_patients_is_named(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    done = draw(tmp_path / "archive", "--out", tmp_path / "sheet.png")
    assert done.returncode == 1
    assert "holds no patients" in done.stderr
    assert not (tmp_path / "sheet.png").exists()
