from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import lungct as run
from support.commands import refused

from lungct import checks
from lungct.checks import Check, Examination, examine
from lungct.cluster import Session
from lungct.errors import ClusterError, LungCTError, UsageError


def raise_error(error: LungCTError) -> str:
    raise error


@pytest.mark.ray
def test_a_failure_names_its_fix(tmp_path: Path, ray_session: Session) -> None:
    examination = examine(weights=str(tmp_path / "missing.pt"), device="cpu")
    outcomes = {check.name: check for check in examination.checks}
    assert not examination.ready
    assert outcomes["weights"].state == "failure"
    assert outcomes["decoders"].state == outcomes["device"].state == outcomes["ray"].state == "pass"


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        ("--device cuda: torch 2.9.0 (built for CUDA 13) finds no GPU here", "check the driver with nvidia-smi"),
        ("s3://scans/x cannot be read: access was denied; by the bucket", "check the credentials: see the manual"),
        ("it failed: twice", None),
    ],
)
def test_message_and_fix_are_the_errors_own(monkeypatch: pytest.MonkeyPatch, message: str, fix: str | None) -> None:
    """However many colons and semicolons there are in either."""
    monkeypatch.setattr(checks, "resolve_device", lambda device: raise_error(UsageError(message, fix=fix)))
    monkeypatch.setattr(checks, "connect", lambda address: raise_error(ClusterError("no Ray in this test")))
    (device,) = [check for check in examine().checks if check.name == "device"]
    assert device == Check("device", "failure", message, fix or "")
    assert device.line() == f"failure  device: {message}" + (f"; {fix}" if fix else "")


def test_an_examination_is_ready_unless_something_failed() -> None:
    warned = Check("/tmp", "warning", "1.0 GiB free", "a job needs 5 GiB")
    assert Examination([Check("python", "pass", "3.12.1"), warned]).ready
    assert not Examination([warned, Check("ray", "failure", "not installed")]).ready


@pytest.mark.parametrize("options", [{"backbone": "vgg16"}, {"device": "tpu"}])
def test_unknown_names_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(options.values()))):
        examine(**options)


@pytest.mark.ray
def test_the_command_prints_a_line_per_check_or_json() -> None:
    ran = run("doctor", "--device", "cpu", "--backbone", "resnet18", "--weights", "random:1")
    assert ran.code == 0, ran
    assert all(line.split()[0] in ("pass", "warning") for line in ran.stdout.splitlines())
    ran = run("doctor", "--device", "cpu", "--weights", "missing.pt", "--json")
    assert (ran.code, ran.line["ready"], ran.stderr) == (1, False, "")
    (failure,) = [check for check in ran.line["checks"] if check["state"] == "failure"]
    assert failure["name"] == "weights"
    assert json.loads(ran.stdout)["command"] == "doctor"


def test_the_command_refuses_unknown_names() -> None:
    assert "vgg16" in refused("doctor", "--backbone", "vgg16")
    assert "--device must be one of auto, cpu, cuda, not 'tpu'" in refused("--quiet", "doctor", "--device", "tpu")
