from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import lungct as run
from support.commands import refused

from lungct.checks import examine
from lungct.cluster import Session
from lungct.errors import UsageError


@pytest.mark.ray
def test_what_fails_names_its_fix(tmp_path: Path, ray_session: Session) -> None:
    found = examine(weights=str(tmp_path / "missing.pt"), device="cpu")
    states = {check.name: check for check in found.checks}
    assert not found.ready
    assert states["weights"].state == "failure"
    assert states["weights"].fix
    assert states["decoders"].state == states["device"].state == states["ray"].state == "pass"


@pytest.mark.parametrize("options", [{"backbone": "vgg16"}, {"device": "tpu"}])
def test_what_cannot_be_checked_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(options.values()))):
        examine(**options)


def test_the_command_prints_a_line_a_check_and_its_exit_code() -> None:
    ran = run("doctor", "--device", "cpu", "--backbone", "resnet18", "--weights", "random:1")
    assert ran.code == 0, ran
    assert all(line.split()[0] in ("pass", "warning") for line in ran.stdout.splitlines())
    assert "vgg16" in refused("doctor", "--backbone", "vgg16")
    assert "--device tpu" in refused("--quiet", "doctor", "--device", "tpu")
