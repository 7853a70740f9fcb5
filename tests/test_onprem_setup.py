"""What deploy/onprem.yaml does on a host before Ray starts: its commands, unchanged, in temporary home directories.

Pythons, virtual environments and pip are real. The packages are small wheels of the same names in a directory that pip
uses as its index, so that installing takes seconds and "no index" is an empty directory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import venv
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from support import ROOT

pytestmark = pytest.mark.slow
TOOLS = ["bash", "chmod", "cut", "dirname", "flock", "grep", "hostname", "ln", "paste", "readlink"]
TOOLS += ["rm", "sh"]
PACKAGES = {"ray": "2.60.0", "numpy": "2.1.0", "aiohttp-cors": "0.8.1"}
RAY_REQUIRES = ("packaging", 'aiohttp-cors>=0.8; extra == "default"')


def write_wheel(
    directory: Path, name: str, version: str, requires: Sequence[str] = (), scripts: Sequence[str] = ()
) -> Path:
    """Write a wheel with nothing in it but its metadata; only `packaging` has its real contents."""
    stem = f"{name.replace('-', '_')}-{version}"
    about = f"{stem}.dist-info"
    text = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    text += ["Provides-Extra: default"] if any("extra" in line for line in requires) else []
    text += [f"Requires-Dist: {line}" for line in requires]
    entries = "".join(f"{script} = platform:platform\n" for script in scripts)
    directory.mkdir(exist_ok=True)
    wheel = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{about}/METADATA", "\n".join(text) + "\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/entry_points.txt", f"[console_scripts]\n{entries}")
        if name == "packaging":
            import packaging

            for path in Path(packaging.__file__).parent.rglob("*.py"):
                file.write(path, path.relative_to(Path(packaging.__file__).parent.parent))
        file.writestr(f"{about}/RECORD", "")
    return wheel


def write_wheels(directory: Path, **versions: str) -> Path:
    """Write all wheels that a host needs in these tests."""
    for name, version in {**PACKAGES, **versions}.items():
        ray = name == "ray"
        write_wheel(directory, name, version, RAY_REQUIRES if ray else (), ["ray"] if ray else ())
    write_wheel(directory, "packaging", metadata.version("packaging"))
    return directory


def program(name: str) -> str:
    """Return where a program of this machine is."""
    found = shutil.which(name)
    assert found is not None, name
    return found


class Account:
    """One account of a host: its home, its PATH, and what pip finds."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.path = [directory / "bin", directory / "tools"]
        self.index = directory / "index"
        for made in (self.home, *self.path, self.index):
            made.mkdir(parents=True)
        for tool in TOOLS:
            (self.path[-1] / tool).symlink_to(program(tool))
        self.config = yaml.safe_load((ROOT / "deploy" / "onprem.yaml").read_text())
        self.copy_files()
        self.pin()

    @property
    def venv(self) -> Path:
        return self.home / "lungct-venv"

    @property
    def source(self) -> Path:
        return self.home / "lungct-src"

    def copy_files(self) -> None:
        """Copy files as `ray up` does with rsync."""
        for remote, local in self.config["file_mounts"].items():
            target = Path(remote.replace("~", str(self.home)))
            target.parent.mkdir(parents=True, exist_ok=True)
            if local.startswith("~"):
                target.write_text("token")
            elif (ROOT / local).is_dir():
                shutil.copytree(ROOT / local, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / local, target)
        (self.source / "pyproject.toml").write_text('[project]\ndependencies = ["numpy>=2.0"]\n')

    def pin(self, **versions: str) -> None:
        pins = {**PACKAGES, **versions}
        lines = [f"{name.replace('-', '_')}=={version}\n" for name, version in pins.items()]
        (self.source / "constraints.txt").write_text("# pins\n" + "".join(lines))

    def command(self, name: str, text: str) -> None:
        """Add a command to the PATH."""
        path = self.path[0] / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def python(self, name: str) -> None:
        """Add a Python without packages to the PATH, one that can make virtual environments."""
        base = f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
        self.command(name, f'exec {base} "$@"')

    def prepared(self, directory: Path, **versions: str) -> Path:
        """Add to the PATH a virtual environment that has everything without pip having installed it."""
        venv.create(directory, with_pip=False)
        (packages,) = directory.glob("lib/python3*/site-packages")
        for wheel in write_wheels(directory / "wheels", **versions).iterdir():
            zipfile.ZipFile(wheel).extractall(packages)
        (directory / "bin" / "ray").symlink_to(program("true"))
        self.path.insert(0, directory / "bin")
        return directory

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "HOME": str(self.home),
            "PATH": ":".join(map(str, self.path)),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=120)

    def set_up(self) -> subprocess.CompletedProcess[str]:
        """Run the setup commands; return the outcome of the second, which makes the environment."""
        said = [self.run(command) for command in self.config["setup_commands"]]
        assert all(ran.returncode == 0 for i, ran in enumerate(said) if i != 1), said
        return said[1]

    def version(self, package: str) -> str:
        ask = f"from importlib.metadata import version; print(version({package!r}))"
        ran = subprocess.run([self.venv / "bin" / "python", "-c", ask], capture_output=True, text=True, check=True)
        return ran.stdout.strip()


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path)


def test_pip_fills_an_environment_once_and_again_after_the_pins_change(account: Account) -> None:
    account.python("python3.12")
    write_wheels(account.index)
    said = account.set_up()
    assert said.returncode == 0, said.stderr
    assert not account.venv.is_symlink()
    assert account.version("ray") == "2.60.0"
    assert (account.venv / "bin" / "ray").exists()
    assert account.version("aiohttp-cors") == "0.8.1"  # of ray[default]

    shutil.rmtree(account.index)
    again = account.set_up()
    assert (again.returncode, again.stderr) == (0, "")

    write_wheels(account.index, numpy="2.2.0")
    account.pin(numpy="2.2.0")
    assert account.set_up().returncode == 0
    assert account.version("numpy") == "2.2.0"


def test_a_prepared_python_needs_no_index_and_is_left_as_it_is(account: Account, tmp_path: Path) -> None:
    account.python("python3.12")
    first = account.prepared(tmp_path / "first")
    assert account.set_up().returncode == 0
    assert account.venv.is_symlink()
    assert account.venv.resolve() == first
    assert account.version("numpy") == "2.1.0"

    # An environment that was removed, or that lacks a new pin, is replaced by one that lacks nothing.
    second = account.prepared(tmp_path / "second", numpy="2.2.0")
    account.pin(numpy="2.2.0")
    assert account.set_up().returncode == 0
    assert account.venv.resolve() == second
    assert (first / "bin" / "python").exists()
    shutil.rmtree(second)
    account.pin()
    assert account.set_up().returncode == 0
    assert account.venv.resolve() == first


def test_a_name_without_a_working_python_is_skipped(account: Account, tmp_path: Path) -> None:
    venv.create(tmp_path / "without")
    without = f'{tmp_path}/without/bin/python "$@"'
    account.command("python3.12", "echo not installed here >&2; exit 127")
    account.command("python3.11", f"case $2 in venv) exit 1;; *) exec {without};; esac")
    account.python("python3")
    write_wheels(account.index)
    said = account.set_up()
    assert said.returncode == 0, said.stderr
    assert account.version("numpy") == "2.1.0"


def test_without_an_index_other_versions_do_and_are_named(account: Account, tmp_path: Path) -> None:
    account.prepared(tmp_path / "other", numpy="2.0.1")
    said = account.set_up()
    assert said.returncode == 0, said.stderr
    assert account.venv.resolve() == tmp_path / "other"
    assert f"nothing could be installed on {socket.gethostname()}" in said.stderr
    assert said.stderr.splitlines()[-1] == "numpy ==2.1.0 (has 2.0.1)"


def test_versions_that_lungct_does_not_allow_are_refused(account: Account, tmp_path: Path) -> None:
    account.prepared(tmp_path / "old", numpy="1.26.0")
    said = account.set_up()
    assert said.returncode == 1
    lines = said.stderr.splitlines()
    assert lines[-2].endswith(" lacks numpy ==2.1.0 (has 1.26.0),numpy >=2.0 (has 1.26.0)")
    assert lines[-1].startswith("lungct: error: ")
    assert "PIP_INDEX_URL" in lines[-1]


def test_a_host_without_any_python_is_told_what_to_do(account: Account) -> None:
    said = account.set_up()
    assert said.returncode == 1
    (line,) = said.stderr.splitlines()
    assert "has no Python 3.11 or 3.12" in line
    assert "docs/cluster.md" in line
    assert "Your own machines" in (ROOT / "docs" / "cluster.md").read_text()


def test_the_account_keeps_its_token_to_itself_and_finds_the_commands(account: Account, tmp_path: Path) -> None:
    account.prepared(tmp_path / "python")
    account.set_up()
    account.set_up()
    assert (account.home / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    assert (account.home / ".bashrc").read_text().count("RAY_AUTH_MODE=token") == 1
    found = account.run("source ~/.bashrc; echo $RAY_AUTH_MODE; command -v ray lungct")
    assert found.stdout.split() == [
        "token",
        str(account.venv / "bin" / "ray"),
        str(account.source / "bin" / "lungct"),
    ]


def test_the_command_on_a_host_runs_the_copied_code(account: Account) -> None:
    account.venv.symlink_to(sys.prefix)
    (account.source / "lungct" / "__init__.py").write_text("print('the copy')\n")
    said = account.run("~/lungct-src/bin/lungct --version")
    assert said.stdout.startswith("the copy\n")


def test_the_real_files_list_what_the_running_python_lacks() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "deploy" / "onprem" / "lacking.py", "--requirements"],
        capture_output=True,
        text=True,
        check=True,
    )
    first, *others = ran.stdout.splitlines()
    assert first == "ray[default]"
    assert any(line.startswith("pydicom>=") for line in others)
    ran = subprocess.run(
        [sys.executable, ROOT / "deploy" / "onprem" / "lacking.py"],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert ran.stderr == ""
    assert ran.returncode == bool(ran.stdout)
    assert "pydicom (not installed)" not in ran.stdout
