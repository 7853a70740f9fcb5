"""A worker's setup hook that replaces reading and the network with sleeps of the same length; see ``scale.py``."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np


def hook() -> None:
    """Patch a Ray worker before it runs any code of lungct."""
    import lungct.backbone as backbone
    from lungct.dicom import Scan, SeriesOptions
    from lungct.extraction import worker
    from lungct.sandbox import Prepared

    decode_s = float(os.environ["SIMULATED_DECODE_SECONDS"])
    network_s = float(os.environ["SIMULATED_NETWORK_SECONDS"])
    triplets = int(os.environ["SIMULATED_TRIPLETS"])
    pixels = np.zeros((triplets, 3, 224, 224), np.uint8)

    def prepare(copy: Any, preset: str, options: SeriesOptions, archive: str | None) -> Prepared:
        time.sleep(decode_s)
        return Prepared(
            pixels=pixels,
            positions_mm=np.arange(triplets, dtype=np.float64),
            scan=Scan(
                slices=3 * triplets,
                spacing_mm=(2.5, 0.7, 0.7),
                manufacturer="SIMULATED",
                kernel="B30f",
                series_reason="the only CT series",
                pixel_hash="0" * 64,
            ),
        )

    class Backbone:
        dim = backbone.BACKBONES["resnet18"]

        def __init__(self, *_: Any, **__: Any) -> None:
            self._random = np.random.default_rng(0)

        def features(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            time.sleep(network_s * len(pixels) / triplets)
            return self._random.random((len(pixels), self.dim), dtype=np.float32)

    worker.prepare_patient = prepare
    backbone.Backbone = Backbone  # type: ignore[assignment,misc]
    backbone.resolve_device = lambda device="auto": device
    backbone.resolve_precision = lambda precision, device: "bf16"
    backbone.device_name = lambda device: "a simulated GPU"
