"""Print what the running Python lacks to be a node of the cluster, one line each; exit code 1 if it lacks anything.

A node needs pyproject.toml's dependencies and `ray[default]`, and all of their dependencies, in the versions of
constraints.txt. With `--other-versions`, any version is accepted that the packages themselves allow. With
`--requirements`, pyproject.toml's dependencies and `ray[default]` are printed instead, for pip. This script runs on a
Python without any packages.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# On a host this is ~/lungct-src, to which deploy/onprem.yaml copies this directory; in a checkout it is the root.
SOURCE = next(d for d in Path(__file__).resolve().parents if (d / "pyproject.toml").exists())


def main(options: list[str]) -> int:
    """Print what the options ask for, and return the exit code."""
    if "--requirements" in options:
        print("\n".join(requirements()))
        return 0
    pins = {} if "--other-versions" in options else pinned_versions()
    try:
        lines = sorted(set(lacking(pins)))
    except ImportError:
        lines = ["every package"]
    for line in lines:
        print(line)
    return bool(lines)


def requirements() -> list[str]:
    """Return what a node needs, without the dependencies of these packages."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return ["ray[default]", *project["dependencies"]]


def pinned_versions() -> dict[str, str]:
    """Return each package's version in constraints.txt, by its normalised name."""
    lines = (SOURCE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("#")[0].split(";")[0].split("==") for line in lines if "==" in line]
    return {normal(name): version.strip() for name, version in pairs}


def normal(name: str) -> str:
    """Return a package's name as PyPI normalises it."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


def lacking(pins: dict[str, str]) -> Iterator[str]:
    """Yield a line for each required package that is missing or has the wrong version."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    if not Path(sys.prefix, "bin", "ray").exists():
        yield f"{sys.prefix}/bin/ray"
    wanted = [(Requirement(line), "") for line in requirements()]
    seen = set()
    while wanted:
        requirement, extra = wanted.pop()
        if (str(requirement), extra) in seen:
            continue
        seen.add((str(requirement), extra))
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = normal(requirement.name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} (not installed)"
            continue
        pin = SpecifierSet(f"=={pins[name]}" if name in pins else "")
        for versions in (requirement.specifier, pin):
            if not versions.contains(found.version, prereleases=True):
                yield f"{name} {versions} (has {found.version})"
        for line in found.requires or ():
            wanted += [(Requirement(line), extra) for extra in ("", *requirement.extras)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
