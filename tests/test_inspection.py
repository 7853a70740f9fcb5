"""What ``lungct inspect`` shows of a directory, an archive and a series."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from support.commands import lungct as run
from support.commands import refused
from support.ct_files import write_series

from lungct.dicom import read_series
from lungct.errors import UsageError
from lungct.inspection import inspect, inspect_all
from lungct.inspection.montage import sampled, spread, views


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    src = tmp_path_factory.mktemp("archive")
    write_series(src / "scan", slices=12, rows=64, columns=64)
    (src / "scan" / "report.txt").write_text("text")
    (src / "text").mkdir()
    (src / "text" / "readme").write_text("no scan")
    (src / "empty").mkdir()
    return src


def test_the_page_describes_the_series(archive: Path) -> None:
    page = inspect(archive / "scan")
    text = page.text()
    assert page.usable
    assert "12 of 64 x 64" in text
    assert "why      the only CT series" in text
    assert "13 opened; passed over: files that are not DICOM (1)" in text
    assert max(len(line) for line in text.splitlines()) <= 80
    values = json.loads(json.dumps(page.as_dict(), allow_nan=False))
    assert values["slices"] == 12
    assert values["error"] is None


def test_the_page_of_an_unusable_directory_has_the_reason(archive: Path) -> None:
    for name, code in (("text", "no_images"), ("empty", "empty")):
        page = inspect(archive / name)
        assert not page.usable
        assert page.error_code == code
        assert page.text().splitlines()[-1].startswith("unusable")


def test_an_archive_is_counted(archive: Path) -> None:
    found = inspect_all(archive)
    assert found.reasons == {"empty": 1, "no_images": 1}
    assert "1 of 3 patients usable" in found.text()
    assert found.text().splitlines()[-1] == "headers only; give --preset to prepare each patient as extract does"
    assert found.error is None
    assert max(len(line) for line in found.text(width=80).splitlines()) <= 80


def test_the_command_prints_text_json_and_a_picture(archive: Path, tmp_path: Path) -> None:
    png = tmp_path / "scan.png"
    ran = run("inspect", archive / "scan", "--png", png, "--json")
    assert ran.code == 0
    assert ran.stderr == ""
    assert ran.line["slices"] == 12
    import cv2

    picture = cv2.imread(str(png))
    assert picture is not None
    assert picture.shape[1] == 1500
    assert picture.std() > 20
    assert run("inspect", archive / "text").code == 1
    assert "--png draws one patient" in refused("inspect", archive, "--all", "--png", png)
    assert "does not exist" in refused("inspect", archive / "missing")


def test_a_picture_depends_on_the_series_only(archive: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        inspect(archive / "scan", png=tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_views_are_planes_through_the_middle_with_the_feet_below() -> None:
    volume = np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8)
    axial, coronal, sagittal = views(volume, (5.0, 0.5, 1.0))
    assert np.array_equal(axial.pixels, volume[2])
    assert np.array_equal(coronal.pixels[-1], volume[0, 3])
    assert np.array_equal(sagittal.pixels[-1], volume[0, :, 4])
    assert (axial.aspect, coronal.aspect, sagittal.aspect) == (0.5, 5.0, 10.0)


@pytest.mark.parametrize(("rows", "columns", "step"), [(64, 48, 2), (512, 512, 2), (100, 1025, 5)])
def test_a_large_image_is_sampled_for_the_picture(rows: int, columns: int, step: int, tmp_path: Path) -> None:
    write_series(tmp_path, slices=3, rows=rows, columns=columns)
    series = read_series(tmp_path)
    volume, used = sampled(series)
    assert used == step
    assert max(volume.shape[1:]) <= 256
    assert np.array_equal(volume[1], np.clip(series.hu(1)[::step, ::step], -2100, 1500))


def test_shown_triplets_are_spread_evenly() -> None:
    assert spread(3) == [0, 1, 2]
    assert spread(100) == [0, 20, 40, 59, 79, 99]


def test_a_picture_that_cannot_be_written_is_refused(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^png "):
        inspect(archive / "scan", png=tmp_path / "missing" / "scan.png")


def test_a_name_of_any_bytes_is_printed_on_one_line(tmp_path: Path) -> None:
    name = os.fsdecode(b"M\xfcl\nler\x1b[31m")
    write_series(tmp_path / name, slices=6, rows=64, columns=64, seed=1)
    for arguments in ((tmp_path / name,), (tmp_path, "--all")):
        ran = run("inspect", *arguments)
        assert ran.code == 0, ran
        assert "M\\xfcl\\nler\\x1b[31m" in ran.stdout
        assert json.loads(run("inspect", *arguments, "--json").stdout)["command"] == "inspect"
