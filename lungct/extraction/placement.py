"""Where the parts of an extraction run: on which device, on which nodes, with how many actors.

On a cluster, the driver's own machine shows nothing of the GPUs, and the nodes that have them may not have started yet.
So a probe task that asks for a GPU finds out device, precision and GPU model before a table's settings are written.
Actors then follow the GPUs as nodes join and leave. Decoding goes to the CPUs of the GPU nodes first, because then
pixels need not cross the network; other nodes' CPUs take what those cannot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lungct.arguments import spelled
from lungct.backbone import device_name, resolve_device, resolve_precision
from lungct.cluster import Session
from lungct.errors import ClusterError
from lungct.progress import print_message

# A cloud takes minutes to start a node, and longer if a quota or an empty spot market delays it.
GPU_WAIT_SECONDS = float(os.environ.get("LUNGCT_GPU_WAIT_SECONDS", "1800"))
REPORT_SECONDS = 30.0
# How old the list of GPU nodes may be when a decoding task is placed.
NODES_SECONDS = 5.0


@dataclass(frozen=True)
class ComputeDevice:
    """What the network runs on.

    Attributes
    ----------
    device
        ``cpu`` or ``cuda``.
    precision
        ``fp32`` or ``bf16``.
    name
        The model of the GPU, or ``CPU``.

    """

    device: str
    precision: str
    name: str


def find_device(device: str, precision: str, session: Session, *, quiet: bool = True) -> ComputeDevice:
    """Find out what the network will run on: here, or on a GPU node of a cluster.

    Parameters
    ----------
    device, precision
        As the user gave them. On a cluster, ``auto`` means ``cuda`` if the cluster has a GPU now.

    Raises
    ------
    UsageError
        If there is no such device, or it has no such precision.
    ClusterError
        If no GPU is available within `GPU_WAIT_SECONDS`.

    """
    if device == "auto" and not session.local:
        device = "cuda" if session.gpus else "cpu"
    if device == "cuda" and not session.local:
        return _probe(precision, quiet=quiet)
    return describe_device(device, precision)


def describe_device(device: str, precision: str) -> ComputeDevice:
    """Return what ``device`` and ``precision`` mean on the machine that this runs on."""
    settled = resolve_device(device)
    return ComputeDevice(settled, resolve_precision(precision, settled), device_name(settled))


def _probe(precision: str, *, quiet: bool) -> ComputeDevice:
    """Run `describe_device` in a task that asks for a GPU, and wait for a node that has one."""
    import ray

    begun = time.monotonic()
    task = ray.remote(num_gpus=1, num_cpus=0, max_retries=-1)(describe_device)
    found = task.remote("cuda", precision)
    while not ray.wait([found], timeout=REPORT_SECONDS)[0]:
        waited = time.monotonic() - begun
        if waited > GPU_WAIT_SECONDS:
            ray.cancel(found, force=True)
            raise ClusterError(
                f"no node with a free GPU joined the cluster within {waited / 60:.0f} min",
                fix="see why with `ray status` (a quota, no spot machine, another job), or give "
                f"{spelled('device', 'cpu')}",
            )
        print_message(f"waiting for a GPU, {waited:.0f} s", quiet=quiet)
    device: ComputeDevice = ray.get(found)
    return device


def actor_pool(device: str, session: Session, workers: int | None, units: int) -> Any:
    """Return how Ray Data scales the network actors: a fixed number on CPUs and on one machine, else with the GPUs.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    workers
        The user's number of actors, or None.
    units
        Number of units: more actors would have nothing to do.

    """
    from ray.data import ActorPoolStrategy

    if device == "cpu" or session.local:
        return ActorPoolStrategy(size=fixed_size(device, session, workers, units))
    most = min(workers or units, units)
    return ActorPoolStrategy(min_size=1, max_size=most, initial_size=max(1, min(session.gpus, most)))


def fixed_size(device: str, session: Session, workers: int | None, units: int) -> int:
    """Return the actors of a pool that does not grow: the user's number, else one per GPU, else one."""
    return min(workers or (max(1, session.gpus) if device == "cuda" else 1), units)


def gpu_nodes_first() -> Callable[[], dict[str, Any]]:
    """Return a function that places each decoding task: on the GPU nodes in turn, elsewhere when they are busy."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = _GpuNodes()

    def arguments() -> dict[str, Any]:
        node = nodes.next()
        if node is None:
            return {"scheduling_strategy": "SPREAD"}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)}

    return arguments


class _GpuNodes:
    """The ids of the nodes that have GPUs and CPUs, one after another; the list is renewed every few seconds."""

    def __init__(self) -> None:
        self._nodes: list[str] = []
        self._listed = -NODES_SECONDS
        self._count = 0

    def next(self) -> str | None:
        import ray

        now = time.monotonic()
        if now - self._listed >= NODES_SECONDS:
            self._listed = now
            self._nodes = sorted(
                node["NodeID"]
                for node in ray.nodes()
                if node["Alive"] and node["Resources"].get("GPU") and node["Resources"].get("CPU")
            )
        if not self._nodes:
            return None
        self._count += 1
        return self._nodes[self._count % len(self._nodes)]
