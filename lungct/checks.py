"""What a job needs before it starts: packages, decoders, device, weights, an account, room, file locks, nodes.

`examine` calls the very code that extraction and training use (device, weights, decoders, cluster), so what passes here
does not fail an hour later. It changes nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from lungct._version import __version__
from lungct.arguments import one_of, spelled
from lungct.backbone import (
    DEVICES,
    check_backbone,
    device_name,
    load_weights,
    parse_weights,
    resolve_device,
)
from lungct.cluster import connect, on_each_node
from lungct.errors import LungCTError, LungCTWarning, UsageError
from lungct.features import REVISION
from lungct.machine import ensure_account
from lungct.ray_storage import MORE_SHARED_MEMORY, SHARED_MEMORY, RayStorage, find_ray_storage
from lungct.storage import Owner, Place, check_locks, locate, stage

PACKAGES = (
    *("ray", "torch", "torchvision", "lightgbm", "scikit-learn", "pyarrow", "numpy"),
    *("opencv-python-headless", "pydicom", "imagecodecs"),
)
LEAST_TEMPORARY_BYTES = 5 << 30
LEAST_SHARED_BYTES = 1 << 30


@dataclass(frozen=True)
class Check:
    """The outcome of one check: its state, what was found, and the fix if there is one."""

    name: str
    state: Literal["pass", "warning", "failure"]
    found: str
    fix: str = ""

    def line(self) -> str:
        """Return the outcome as one line of text."""
        return f"{self.state:<8} {self.name}: {self.found}" + (f"; {self.fix}" if self.fix else "")


@dataclass(frozen=True)
class Examination:
    """The outcomes of all checks of one ``lungct doctor``."""

    checks: list[Check]

    @property
    def ready(self) -> bool:
        """Whether nothing failed."""
        return all(check.state != "failure" for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Return the outcomes as the command prints them with ``--json``."""
        return {
            "command": "doctor",
            "ready": self.ready,
            "checks": [asdict(c) for c in self.checks],
        }

    def text(self) -> str:
        """Return the outcomes as text, one line each."""
        return "\n".join(check.line() for check in self.checks)


def examine(
    *,
    device: str = "auto",
    backbone: str = "resnet152",
    weights: str | None = None,
    address: str | None = None,
) -> Examination:
    """Check that extraction and training have everything they need.

    Parameters
    ----------
    device
        As for extraction; ``cuda`` fails without a GPU.
    backbone, weights
        The weights to load. None: no weights are checked, so that nothing is downloaded.
    address
        A Ray cluster; None: Ray is started in this process for the check.

    Raises
    ------
    UsageError
        If there is no device or backbone of that name.

    """
    one_of(device, DEVICES, "device")
    check_backbone(backbone)
    checks = [_python(), *(_package(name) for name in PACKAGES), _decoders()]
    checks.append(_attempt("device", lambda: device_name(resolve_device(device))))
    if weights is not None:
        checks.append(_attempt("weights", lambda: _weights(backbone, weights)))
    checks += [_account(), *_ray_places(), _attempt("file locks", _locks)]
    try:
        checks += _ray(address)
    except LungCTError as error:
        checks.append(_failure("ray", error))
    return Examination(checks)


@dataclass(frozen=True)
class NodeReport:
    """What a node has: the versions it runs, and which arguments of the job (SRC, out) name places it cannot see."""

    lungct: str
    revision: int
    python: str
    torch: str
    unseen: tuple[str, ...] = ()


def report_node(src: str | None = None, mark: str | None = None) -> NodeReport:
    """Return a report on the machine that this runs on.

    Parameters
    ----------
    src
        The archive, which the machine should see.
    mark
        A file in the table's directory, which the machine should see.

    """
    unseen = []
    if src is not None and not locate(src, argument="SRC").is_dir():
        unseen.append("SRC")
    if mark is not None and not locate(mark, argument="out").is_file():
        unseen.append("out")
    python = ".".join(map(str, sys.version_info[:2]))
    return NodeReport(__version__, REVISION, python, metadata.version("torch"), tuple(unseen))


def check_nodes(src: Place, owner: Owner) -> None:
    """Check, before any work, that every node runs this lungct and sees both the archive and the table.

    Raises
    ------
    UsageError
        If one does not; the error names the node.

    """
    mark = owner.staging / "seen-from-every-node"
    stage(mark, b"")
    here = report_node()
    for address, report in on_each_node(report_node, str(src), str(mark)):
        if isinstance(report, LungCTError):
            raise UsageError(
                f"node {address} cannot take part: {report}", fix="check every node with `lungct doctor --address`"
            )
        for argument in report.unseen:
            place = src if argument == "SRC" else owner.table
            raise UsageError(
                f"node {address} does not see {spelled(argument, str(place))}",
                fix="give a path that every node sees in the same place, or object storage that all nodes may use",
            )
        if (report.lungct, report.revision) != (here.lungct, here.revision):
            raise UsageError(
                f"node {address} runs lungct {report.lungct} (revision {report.revision}), this one "
                f"{here.lungct} (revision {here.revision})",
                fix="install the same version on all nodes",
            )


def check_decoders() -> None:
    """Raise UsageError, before any work, if a decoder does not work on this machine."""
    check = _decoders()
    if check.state == "failure":
        raise UsageError(check.found, fix=check.fix)


def _attempt(name: str, what: Callable[[], str]) -> Check:
    """Run what a job would run, and report what it returns or the error it raises."""
    try:
        return Check(name, "pass", what())
    except LungCTError as error:
        return _failure(name, error)


def _failure(name: str, error: LungCTError) -> Check:
    return Check(name, "failure", error.message, error.fix or "")


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
    found = f"{len(broken)} transfer syntaxes cannot be decoded (first {syntax}: {reason})"
    return Check("decoders", "failure", found, "pip install -c constraints.txt imagecodecs")


def _weights(backbone: str, weights: str) -> str:
    loaded = load_weights(backbone, parse_weights(weights))
    return f"{backbone} {weights}, SHA-256 {loaded.sha256[:16]}…"


def _account() -> Check:
    account = ensure_account()
    found = f"{account.name}, home {account.home}"
    if not account.substituted:
        return Check("account", "pass", found)
    found = f"user id {os.getuid()} has no name or no home, so lungct uses {found}"
    return Check("account", "warning", found, "set LOGNAME, and HOME to a directory that lasts: weights are kept there")


def _ray_places() -> list[Check]:
    """Check where Ray would keep its files and its objects."""
    try:
        storage = find_ray_storage()
    except UsageError as error:
        return [_failure("TMPDIR", error)]
    return [_ray_directory(storage), _ray_objects(storage)]


def _ray_directory(storage: RayStorage) -> Check:
    if storage.directory_warning is not None:
        return Check("TMPDIR", "warning", storage.directory_warning, "set TMPDIR to a directory with a short path")
    place = os.path.dirname(storage.directory)
    free = shutil.disk_usage(place).free if os.path.isdir(place) else 0
    found = f"Ray's files are in {storage.directory}, {free / 2**30:.1f} GiB free"
    if free >= LEAST_TEMPORARY_BYTES:
        return Check("TMPDIR", "pass", found)
    fix = f"a job needs {LEAST_TEMPORARY_BYTES >> 30} GiB there: make room, or set TMPDIR to another disk"
    return Check("TMPDIR", "warning", found, fix)


def _ray_objects(storage: RayStorage) -> Check:
    if storage.objects_warning is not None:
        return Check(SHARED_MEMORY, "warning", storage.objects_warning, MORE_SHARED_MEMORY)
    found = f"{storage.object_bytes / 2**30:.1f} GiB for Ray's objects"
    if storage.object_bytes >= LEAST_SHARED_BYTES:
        return Check(SHARED_MEMORY, "pass", found)
    return Check(SHARED_MEMORY, "warning", found, MORE_SHARED_MEMORY)


def _locks() -> str:
    """Try the locks of the current directory's file system, where tables are most often written to."""
    here = Path.cwd()
    directory = here if os.access(here, os.W_OK) else Path(tempfile.gettempdir())
    check_locks(directory)
    return f"work in {directory}"


def _ray(address: str | None) -> list[Check]:
    """Check what Ray has and, on a cluster, that every node is like this one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LungCTWarning)  # the lines above say the same
        return _connected(address)


def _connected(address: str | None) -> list[Check]:
    with connect(address) as session:
        where = "started here" if session.local else f"{session.nodes} nodes"
        ray = Check("ray", "pass", f"{where}: {session.cpus} CPUs, {session.gpus} GPUs")
        if session.local:
            return [ray]
        return [ray, *(_node(node, report) for node, report in on_each_node(report_node))]


def _node(address: str, report: NodeReport | LungCTError) -> Check:
    name = f"node {address}"
    if isinstance(report, LungCTError):
        fix = "check that `ray status` lists it; install lungct there as on the other nodes"
        return Check(name, "failure", str(report), fix)
    found = f"lungct {report.lungct}, Python {report.python}, torch {report.torch}"
    if report == report_node():
        return Check(name, "pass", found)
    return Check(name, "failure", found, "install the same versions as on this machine")
