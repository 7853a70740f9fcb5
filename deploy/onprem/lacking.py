"""Tell what the Python that runs this lacks for being a node of the cluster, a line each; exit code 1 if anything.

Asked for are pyproject.toml's dependencies and `ray[default]`, and all that these ask for in turn, in the versions of
constraints.txt. With `--other-versions` every version will do that those who ask for it allow. With `--requirements`
the first of these lists is printed instead, as pip takes it. Runs on a Python that has no packages at all.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# On a host ~/lungct-src, into which deploy/onprem.yaml copies this directory; in a checkout one directory further up.
SOURCE = next(d for d in Path(__file__).resolve().parents if (d / "pyproject.toml").exists())


def main(options: list[str]) -> int:
    """Print what the options ask for, and give the exit code."""
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
    """Give what a node needs; what that needs in turn is not in the list."""
    project = tomllib.loads((SOURCE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return ["ray[default]", *project["dependencies"]]


def pinned_versions() -> dict[str, str]:
    """Give the version that constraints.txt has for each package, by its name in PyPI's normal form."""
    lines = (SOURCE / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("#")[0].split(";")[0].split("==") for line in lines if "==" in line]
    return {normal(name): version.strip() for name, version in pairs}


def normal(name: str) -> str:
    """Give a package's name as PyPI's rules compare it."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


def lacking(pins: dict[str, str]) -> Iterator[str]:
    """Go through everything that is needed, and say what is not there or not in the version that it must have."""
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
