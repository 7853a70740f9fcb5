"""Prepare a release: set the version, date the changelog and the citation, and print the commands that tag it.

usage: python scripts/release.py VERSION     (such as 0.2.0)

Changed are lungct/_version.py, CHANGELOG.md, CITATION.cff, and the image's tag in the cluster files and their
documentation. Nothing is committed and nothing is pushed.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGE_FILES = ("cluster.yaml", "deploy/Dockerfile", "deploy/azure.yaml", "docs/cluster.md")


def prepare(root: Path, version: str, date: str) -> None:
    """Write the version and the date into the files of a checkout.

    Raises
    ------
    SystemExit
        If the version is not three numbers or is already in the changelog, or nothing is unreleased.

    """
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise SystemExit(f"{version} is not a version: give three numbers, such as 0.2.0")
    log = (root / "CHANGELOG.md").read_text()
    if re.search(rf"^## {re.escape(version)}\b", log, re.MULTILINE):
        raise SystemExit(f"CHANGELOG.md already has a section {version}: give a later version")
    if not re.search(r"^## Unreleased\n\n- ", log, re.MULTILINE):
        raise SystemExit("CHANGELOG.md has nothing under Unreleased: list what users will notice")
    changed = {
        path: _replaced(root / path, pattern, line)
        for path, pattern, line in (
            ("CHANGELOG.md", r"^## Unreleased$", f"## {version} ({date})"),
            ("CITATION.cff", r"^version: .*(\ndate-released: .*)?$", f"version: {version}\ndate-released: {date}"),
            ("lungct/_version.py", r"^__version__ = .*$", f'__version__ = "{version}"'),
        )
    }
    for path in IMAGE_FILES:
        text, count = re.subn(r"/lungct:\d[\w.]*", f"/lungct:{version}", (root / path).read_text())
        if count == 0:
            raise SystemExit(f"{root / path} names no image /lungct:VERSION: mend it first")
        changed[path] = text
    for path, text in changed.items():
        (root / path).write_text(text)


def _replaced(path: Path, pattern: str, line: str) -> str:
    """Return the text of a file with the one match of a pattern replaced."""
    text, count = re.subn(pattern, line, path.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise SystemExit(f"{path} should have exactly one line {pattern}, and has {count}: mend it first")
    return text


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python scripts/release.py VERSION")
    version = sys.argv[1]
    prepare(ROOT, version, datetime.now(UTC).date().isoformat())
    print(f"git commit --all --message 'Release {version}'")
    print(f"git tag -a v{version} -m 'lungct {version}'")


if __name__ == "__main__":
    main()
