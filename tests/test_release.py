"""scripts/release.py, on a copy of the files that it changes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

IMAGE_FILES = ("cluster.yaml", "deploy/Dockerfile", "deploy/azure.yaml", "docs/cluster.md")
FILES = ("CHANGELOG.md", "CITATION.cff", "lungct/_version.py", "scripts/release.py", *IMAGE_FILES)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n- A change.\n\n## 0.1.0\n\n- The package.\n"
    )
    return tmp_path


def release(checkout: Path, version: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, checkout / "scripts" / "release.py", version]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_version_is_set_and_dated_in_every_file(checkout: Path) -> None:
    for version in ("9.8.7", "9.8.8"):
        done = release(checkout, version)
        assert done.returncode == 0, done
        assert f"git tag -a v{version}" in done.stdout
        changelog = (checkout / "CHANGELOG.md").read_text()
        assert changelog.startswith(f"# Changelog\n\n## {version} (20")
        citation = (checkout / "CITATION.cff").read_text()
        assert citation.count(f"version: {version}\ndate-released: 20") == 1
        assert citation.count("date-released:") == 1
        assert f'__version__ = "{version}"\n' in (checkout / "lungct" / "_version.py").read_text()
        for name in IMAGE_FILES:
            assert set(re.findall(r"/lungct:(\S+)", (checkout / name).read_text())) == {version}
        (checkout / "CHANGELOG.md").write_text(
            changelog.replace("# Changelog\n", "# Changelog\n\n## Unreleased\n\n- More.\n")
        )


@pytest.mark.parametrize(
    ("version", "changelog", "reason"),
    [
        ("1.0", "## Unreleased\n\n- A change.\n", "three numbers"),
        ("0.1.0", "## Unreleased\n\n- A change.\n\n## 0.1.0\n", "already has"),
        ("0.2.0", "## Unreleased\n\n## 0.1.0\n", "nothing under Unreleased"),
        ("0.2.0", "## 0.1.0\n", "nothing under Unreleased"),
    ],
)
def test_what_cannot_be_released_changes_nothing(checkout: Path, version: str, changelog: str, reason: str) -> None:
    (checkout / "CHANGELOG.md").write_text(changelog)
    before = {name: (checkout / name).read_bytes() for name in FILES}
    done = release(checkout, version)
    assert done.returncode == 1
    assert reason in done.stderr
    assert {name: (checkout / name).read_bytes() for name in FILES} == before
