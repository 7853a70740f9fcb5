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

from lungct.backbone import device_name, load_weights, parse_weights, resolve_device
from lungct.cluster import connect
from lungct.errors import LungCTError

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

    """
    checks = [_python(), *(_package(name) for name in PACKAGES), _decoders()]
    checks.append(_attempt("device", lambda: device_name(resolve_device(device))))
    if weights is not None:
        checks.append(_attempt("weights", lambda: _weights(backbone, weights)))
    checks += [_room("/tmp", LEAST_TEMPORARY_BYTES), _room("/dev/shm", LEAST_SHARED_BYTES)]
    checks.append(_attempt("ray", lambda: _ray(address)))
    return Examination(checks)


def _attempt(name: str, ask: Callable[[], str]) -> Check:
    """Ask the code itself; its refusal names the way out already."""
    try:
        return Check(name, "pass", ask())
    except LungCTError as error:
        return Check(name, "failure", str(error))


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
    from lungct.dicom.decoding import CODECS, broken_decoders

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
    return Check(
        path, "warning", found, f"a job wants {least >> 30} GiB for Ray's objects and logs"
    )


def _ray(address: str | None) -> str:
    with connect(address) as session:
        where = "started here" if session.local else f"{session.nodes} nodes"
        return f"{where}: {session.cpus} CPUs, {session.gpus} GPUs"
