"""GPUs that only Ray knows of: a worker's setup hook that lets the CPU do the work of a GPU.

Each call of the network is recorded in the directory PRETEND_GPU_LOG, with the node that it ran on, and takes
PRETEND_GPU_SECONDS longer than it would. PRETEND_GPU_NAME is the model of the GPU (default: the same everywhere).
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np


def hook() -> None:
    """Replace the network and the detection of devices in a Ray worker."""
    import lungct.backbone as package
    from lungct.backbone import network, options

    def resolve_device(device: str = "auto") -> str:
        return device

    def resolve_precision(precision: str, device: str) -> str:
        return "fp32" if precision == "auto" else precision

    def device_name(device: str) -> str:
        return os.environ.get("PRETEND_GPU_NAME", "Pretended GPU") if device == "cuda" else "CPU"

    class Backbone(network.Backbone):
        def __init__(self, backbone: str, weights: Any, *, device: str = "cpu", **named: Any) -> None:
            for module in (options, network):
                vars(module)["resolve_device"] = lambda device="auto": "cpu"
            super().__init__(backbone, weights, device="cpu", **named)

        def features(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            import ray

            time.sleep(float(os.environ.get("PRETEND_GPU_SECONDS", "0")))
            found = super().features(pixels)
            node = ray.get_runtime_context().get_node_id()
            text = f"{time.time()} {node} {len(pixels)}\n"
            (Path(os.environ["PRETEND_GPU_LOG"]) / uuid.uuid4().hex).write_text(text)
            return found

    for module in (package, options):
        for function in (resolve_device, resolve_precision, device_name):
            vars(module)[function.__name__] = function
    vars(package)["Backbone"] = Backbone


def calls(log: Path) -> list[tuple[float, str]]:
    """Return when and on which node the network ran, in order of time."""
    found = [path.read_text().split() for path in log.iterdir()]
    return sorted((float(moment), node) for moment, node, _ in found)
