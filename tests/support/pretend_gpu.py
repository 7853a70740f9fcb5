"""GPUs that Ray believes in and torch does not: a worker's setup hook that has the CPU do a GPU's work.

Each call of the network is written down, with the node that it ran on, in the directory PRETEND_GPU_LOG, and takes
PRETEND_GPU_SECONDS longer than it needs to. PRETEND_GPU_NAME is the GPU's model (default: the same everywhere).
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np


def hook() -> None:
    import lungct.backbone as package
    from lungct.backbone import network, options

    def device(asked: str = "auto") -> str:
        return asked

    def precision(asked: str, device: str) -> str:
        return "fp32" if asked == "auto" else asked

    def name(device: str) -> str:
        return os.environ.get("PRETEND_GPU_NAME", "Pretended GPU") if device == "cuda" else "CPU"

    class Backbone(network.Backbone):
        def __init__(self, backbone: str, weights: Any, *, device: str = "cpu", **named: Any):
            options.resolve_device = network.resolve_device = lambda asked="auto": "cpu"
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
        module.resolve_device = device  # type: ignore[attr-defined]
        module.resolve_precision = precision  # type: ignore[attr-defined]
        module.device_name = name  # type: ignore[attr-defined]
    package.Backbone = Backbone  # type: ignore[misc]


def calls(log: Path) -> list[tuple[float, str]]:
    """When and on which node the network ran, in order."""
    found = [path.read_text().split() for path in log.iterdir()]
    return sorted((float(moment), node) for moment, node, _ in found)
