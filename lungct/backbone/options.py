"""The names of the backbones and the options of a network: everything that can be checked without torch.

The other modules reach torch and torchvision's networks only through `torch_module` and `construct`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lungct.arguments import one_of, spelled
from lungct.errors import UsageError
from lungct.machine import ensure_account
from lungct.storage import local_path

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
BACKBONES: dict[str, int] = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnet152": 2048,
}
"""The backbones, each with its D, the numbers in a feature."""

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)

Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_SEEDS = 2**64


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from, as the user typed it.

    Attributes
    ----------
    text
        What the user typed.
    seed
        The seed of ``random:SEED``, else None.
    path
        The file, else None. With neither seed nor path: torchvision's ImageNet weights.

    """

    text: str
    seed: int | None = None
    path: Path | None = None


def check_backbone(name: str) -> str:
    """Return the name of a backbone, checked.

    Raises
    ------
    UsageError
        If there is no such backbone; the message lists those that exist.

    """
    one_of(name, BACKBONES, "backbone")
    return name


def parse_weights(text: str | os.PathLike[str]) -> WeightsSource:
    """Parse ``imagenet``, ``random:SEED`` or the path of a file.

    Raises
    ------
    UsageError
        If the seed is not a whole number from 0 to 2**64 - 1, or the file does not exist.

    """
    text = os.fspath(text)
    if text == "imagenet":
        return WeightsSource(text)
    if text == "random" or text.startswith("random:"):
        digits = text.removeprefix("random").removeprefix(":")
        if not re.fullmatch(r"[0-9]{1,20}", digits) or int(digits) >= _SEEDS:
            raise UsageError(
                f"{spelled('weights', text)} has no seed from 0 to 2**64 - 1", fix="write it as in random:0"
            )
        return WeightsSource(text, seed=int(digits))
    path = local_path(text, argument="weights")
    if not path.is_file():
        raise UsageError(
            f"the weights file {text} does not exist", fix="give imagenet, random:SEED or the path of a weights file"
        )
    return WeightsSource(text, path=path)


def default_batch_size(device: str) -> int:
    """Return the default number of triplets in a batch, which is one of a table's settings."""
    return 64 if device == "cuda" else 16


def resolve_device(device: str = "auto") -> str:
    """Return the ``cpu`` or ``cuda`` that ``auto``, ``cpu`` or ``cuda`` means on this machine.

    Raises
    ------
    UsageError
        If there is no such device, or it is ``cuda`` and torch finds no GPU.

    """
    one_of(device, DEVICES, "device")
    if device == "cpu":
        return "cpu"
    torch = torch_module()
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        built = torch.version.cuda or "no CUDA"
        # A cluster's node raises this, too, and cannot know how the reader spells an option: the names are left bare.
        raise UsageError(
            f"device cuda: torch {torch.__version__} (built for {built}) finds no GPU here",
            fix="check the driver with nvidia-smi, or use device cpu",
        )
    return "cpu"


def resolve_precision(precision: str, device: str) -> str:
    """Return the ``fp32`` or ``bf16`` that a precision means on ``cpu`` or ``cuda``: auto is bf16 on a GPU that has it.

    Raises
    ------
    UsageError
        If there is no such precision, or it is ``bf16`` on a GPU that would only emulate it.

    """
    one_of(precision, PRECISIONS, "precision")
    if precision == "fp32" or device == "cpu":
        return "fp32" if precision == "auto" else precision
    native = torch_module().cuda.is_bf16_supported(including_emulation=False)
    if precision == "bf16" and not native:
        raise UsageError(f"precision bf16: {device_name(device)} has no bfloat16", fix="use precision fp32")
    return "bf16" if native else "fp32"


def device_name(device: str) -> str:
    """Return the kind of device, within which bytes are the same: the GPU's model, or the CPU's instruction set."""
    torch = torch_module()
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"CPU with {torch.backends.cpu.get_cpu_capability()}"


def torch_module() -> Any:
    """Return the module torch, imported and set up for large activations."""
    # Huge pages for activations of tens of megabytes, which are mapped anew for every layer, save 5 to 10 % of a CPU's
    # time. torch reads the variable when it first allocates.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    ensure_account()
    import torch

    return torch


def construct(backbone: str) -> Any:
    """Return a backbone as torchvision constructs it, on torch's current device."""
    from torchvision import models

    return models.get_model(backbone, weights=None)
