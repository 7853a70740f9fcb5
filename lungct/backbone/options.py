"""The backbones' names, and what a user may ask of them: all that can be checked without torch.

`torch_module` and `constructed` are the one door through which the other modules reach torch and torchvision.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lungct.errors import UsageError
from lungct.storage import local_path

BACKBONES = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
}
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from, as the user typed it.

    Attributes
    ----------
    text
        What was typed.
    seed
        The seed of ``random:SEED``, else None.
    path
        The file, else None. Neither seed nor path: torchvision's ImageNet weights.

    """

    text: str
    seed: int | None = None
    path: Path | None = None


def check_backbone(name: str) -> str:
    """Return ``name`` if it is one of the backbones, or raise a UsageError that lists them."""
    if name not in BACKBONES:
        raise UsageError(f"--backbone {name}: unknown; choose one of {', '.join(BACKBONES)}")
    return name


def parse_weights(text: str | os.PathLike[str]) -> WeightsSource:
    """Understand ``imagenet``, ``random:SEED`` or a file's path.

    Raises
    ------
    UsageError
        If the seed is no integer from 0 to 2**64 - 1, or the file is not there.

    """
    text = os.fspath(text)
    if text == "imagenet":
        return WeightsSource(text)
    if text == "random" or text.startswith("random:"):
        digits = text.removeprefix("random").removeprefix(":")
        if not re.fullmatch(r"[0-9]{1,20}", digits) or int(digits) >= 2**64:
            raise UsageError(f"--weights {text}: give a seed from 0 to 2**64 - 1, as in random:0")
        return WeightsSource(text, seed=int(digits))
    path = local_path(text, argument="weights")
    if not path.is_file():
        raise UsageError(f"--weights {text}: no such file; give imagenet, random:SEED or a weights file")
    return WeightsSource(text, path=path)


def default_batch_size(device: str) -> int:
    """Return the triplets in a batch where the user does not say: part of a table's settings."""
    return 64 if device == "cuda" else 16


def resolve_device(device: str = "auto") -> str:
    """Settle ``auto``, ``cpu`` or ``cuda`` to the ``cpu`` or ``cuda`` of this machine.

    Raises
    ------
    UsageError
        If CUDA is asked for and torch finds no GPU, or the word is another.

    """
    if device not in DEVICES:
        raise UsageError(f"--device {device}: unknown; choose one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    torch = torch_module()
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        built = torch.version.cuda or "no CUDA"
        raise UsageError(
            f"--device cuda: torch {torch.__version__} (built for {built}) finds no GPU here; "
            "check the driver with nvidia-smi, or use --device cpu"
        )
    return "cpu"


def resolve_precision(precision: str, device: str) -> str:
    """Settle ``auto``, ``fp32`` or ``bf16`` for a device ``cpu`` or ``cuda``: auto is bf16 on a GPU that has it.

    Raises
    ------
    UsageError
        If bf16 is asked of a GPU that would only emulate it, or the word is another.

    """
    if precision not in PRECISIONS:
        raise UsageError(f"--precision {precision}: unknown; choose one of {', '.join(PRECISIONS)}")
    if precision == "fp32" or device == "cpu":
        return "fp32" if precision == "auto" else precision
    native = torch_module().cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and not native:
        raise UsageError(f"--precision bf16: {device_name(device)} has no bfloat16; use --precision fp32")
    return "bf16" if native else "fp32"


def device_name(device: str) -> str:
    """Name the kind of device on which bytes are the same: the GPU's model, or the CPU's instruction set."""
    torch = torch_module()
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU with {torch.backends.cpu.get_cpu_capability()}"


def torch_module() -> Any:
    """Import torch, set up for large activations."""
    # Huge pages for activations of tens of megabytes, mapped anew for every layer: 5 to 10 % of a CPU's time.
    # torch looks at the variable when it first allocates.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    import torch

    return torch


def constructed(backbone: str) -> Any:
    """Run torchvision's constructor of a backbone, on the device that is current."""
    from torchvision import models

    return models.get_model(backbone, weights=None)
