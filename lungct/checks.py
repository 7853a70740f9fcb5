"""What a job needs before it starts: packages, decoders, device, weights, room, nodes; a line each, with the fix.

`examine` asks the very code that extraction and training run on (device, weights, decoders, cluster), so what passes
here does not fail an hour later. It changes nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from lungct._version import __version__
from lungct.backbone import (
    DEVICES,
    check_backbone,
    device_name,
    load_weights,
    parse_weights,
    resolve_device,
)
from lungct.cluster import connect, on_each_node
from lungct.errors import LungCTError, UsageError
from lungct.features import REVISION
from lungct.storage import Owner, Place, locate, stage

PACKAGES = (
    *("ray", "torch", "torchvision", "lightgbm", "scikit-learn", "pyarrow", "numpy"),
    *("opencv-python-headless", "pydicom", "imagecodecs"),
)
LEAST_TEMPORARY_BYTES = 5 << 30
LEAST_SHARED_BYTES = 1 << 30


@dataclass(frozen=True)
class Check:
    """One fact: ``pass``, ``warning`` or ``failure``, what was found, and the fix where there is one to make."""

    name: str
    state: str
    found: str
    fix: str = ""

    def line(self) -> str:
        """Give the check as a line for a person."""
        return f"{self.state:<8} {self.name}: {self.found}" + (f"; {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class Examination:
    """All checks of one ``lungct doctor``."""

    checks: list[Check]

    @property
    def ready(self) -> bool:
        """Whether nothing failed."""
        return all(check.state != "failure" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Give the checks for machines."""
        return {
            "command": "doctor",
            "ready": self.ready,
            "checks": [asdict(c) for c in self.checks],
        }

    def text(self) -> str:
        """Give the checks for a person, a line each."""
        return "\n".join(check.line() for check in self.checks)


def examine(
    *,
    device: str = "auto",
    backbone: str = "resnet152",
    weights: str | None = None,
    address: str | None = None,
) -> Examination:
    """Check what extraction and training will need.

    Parameters
    ----------
    device
        As for extraction; ``cuda`` fails without a GPU.
    backbone, weights
        Loaded for the check; weights None: not checked, so that nothing is downloaded.
    address
        A Ray cluster; None: Ray is started in this process for the check.

    Raises
    ------
    UsageError
        If there is no device or backbone of that name.

    """
    if device not in DEVICES:
        raise UsageError(f"--device {device} is unknown: take one of {', '.join(DEVICES)}")
    check_backbone(backbone)
    checks = [_python(), *(_package(name) for name in PACKAGES), _decoders()]
    checks.append(_attempt("device", lambda: device_name(resolve_device(device))))
    if weights is not None:
        checks.append(_attempt("weights", lambda: _weights(backbone, weights)))
    checks += [_room("/tmp", LEAST_TEMPORARY_BYTES), _room("/dev/shm", LEAST_SHARED_BYTES)]
    try:
        checks += _ray(address)
    except LungCTError as error:
        checks.append(_failure("ray", error))
    return Examination(checks)


@dataclass(frozen=True)
class Sight:
    """What a node sees of a job: the versions it runs, and what of the job's places it does not see."""

    lungct: str
    revision: int
    python: str
    torch: str
    unseen: tuple[str, ...] = ()


def check_nodes(src: Place, owner: Owner) -> None:
    """See that every node runs this lungct, and sees SRC and the table, before any work.

    Raises
    ------
    UsageError
        If one does not; the sentence names the node.

    """
    mark = owner.staging / "seen-from-every-node"
    stage(mark, b"")
    here = look(None, None)
    for address, answer in on_each_node(look, str(src), str(mark)):
        if isinstance(answer, LungCTError):
            raise UsageError(
                f"node {address} cannot take part: {answer}; `lungct doctor --address` looks at every node"
            )
        if answer.unseen:
            raise UsageError(
                f"node {address} does not see {answer.unseen[0]}: give a path that every node sees in the same place, "
                "or object storage that they all may use"
            )
        if (answer.lungct, answer.revision) != (here.lungct, here.revision):
            raise UsageError(
                f"node {address} runs lungct {answer.lungct} (revision {answer.revision}) and this one is "
                f"{here.lungct} ({here.revision}): install the same on all nodes"
            )


def look(src: str | None, mark: str | None) -> Sight:
    """Look around on the machine that this runs on."""
    unseen = []
    if src is not None and not locate(src, argument="SRC").is_dir():
        unseen.append(f"SRC {src}")
    if mark is not None and not locate(mark, argument="out").is_file():
        unseen.append(f"--out {mark.split('/.lungct/')[0]}")
    python = ".".join(map(str, sys.version_info[:2]))
    return Sight(__version__, REVISION, python, metadata.version("torch"), tuple(unseen))


def check_decoders() -> None:
    """See that every decoder works here, before any work (UsageError)."""
    found = _decoders()
    if found.state == "failure":
        raise UsageError(f"{found.found}: {found.fix}")


def _attempt(name: str, ask: Callable[[], str]) -> Check:
    """Ask the code itself; its refusal ends in the way out."""
    try:
        return Check(name, "pass", ask())
    except LungCTError as error:
        return _failure(name, error)


def _failure(name: str, error: LungCTError) -> Check:
    """Take a refusal apart: what is wrong, and after the last colon the way out."""
    found, _, fix = str(error).rpartition(": ")
    return Check(name, "failure", found or fix, fix if found else "")


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Check("python", "pass", version)
    return Check("python", "warning", version, "lungct is tested on 3.11 and 3.12")


def _package(name: str) -> Check:
    try:
        return Check(name, "pass", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "failure", "not installed", "pip install -c constraints.txt .")


def _decoders() -> Check:
    from lungct.dicom.codecs import CODECS, broken_decoders

    broken = broken_decoders()
    if not broken:
        return Check("decoders", "pass", f"{len(CODECS)} compressed transfer syntaxes")
    syntax, reason = next(iter(broken.items()))
    found = f"{len(broken)} transfer syntaxes do not decode (first {syntax}: {reason})"
    return Check("decoders", "failure", found, "pip install -c constraints.txt imagecodecs")


def _weights(backbone: str, weights: str) -> str:
    loaded = load_weights(backbone, parse_weights(weights))
    return f"{backbone} {weights}, SHA-256 {loaded.sha256[:16]}…"


def _room(path: str, least: int) -> Check:
    if not os.path.isdir(path):
        return Check(path, "warning", "not there", "Ray keeps its objects and logs there")
    free = shutil.disk_usage(path).free
    found = f"{free / 2**30:.1f} GiB free"
    if free >= least:
        return Check(path, "pass", found)
    return Check(path, "warning", found, f"a job wants {least >> 30} GiB for Ray's objects and logs")


def _ray(address: str | None) -> list[Check]:
    """Ask Ray what it has, and every node of a cluster whether it is like the others."""
    with connect(address) as session:
        where = "started here" if session.local else f"{session.nodes} nodes"
        ray = Check("ray", "pass", f"{where}: {session.cpus} CPUs, {session.gpus} GPUs")
        if session.local:
            return [ray]
        return [ray, *_nodes(on_each_node(look, None, None))]


def _nodes(answers: list[tuple[str, Any]]) -> list[Check]:
    checks, seen = [], look(None, None)
    for address, answer in answers:
        name = f"node {address}"
        if isinstance(answer, LungCTError):
            fix = "see whether `ray status` has it; install lungct there as on the others"
            checks.append(Check(name, "failure", str(answer), fix))
            continue
        found = f"lungct {answer.lungct}, Python {answer.python}, torch {answer.torch}"
        if answer == seen:
            checks.append(Check(name, "pass", found))
        else:
            checks.append(Check(name, "failure", found, "make it like the others"))
    return checks
