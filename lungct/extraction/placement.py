"""Where the parts of an extraction run: on which device, on which nodes, in how many actors.

On a cluster the driver's own machine says nothing about the GPUs: nodes with GPUs may not even be there yet. So a
probe task that asks for a GPU settles device, precision and GPU model before a table's settings are written. Actors
then follow the GPUs as nodes join and leave, and decoding goes to the GPU nodes' own CPUs first, so that pixels need
not cross the network; the other nodes' CPUs take what those cannot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lungct.backbone import device_name, resolve_device, resolve_precision
from lungct.cluster import Session
from lungct.errors import ClusterError
from lungct.progress import say

# A cloud takes minutes to give a node, and a quota or an empty spot market may keep it for longer.
GPU_WAIT_SECONDS = float(os.environ.get("LUNGCT_GPU_WAIT_SECONDS", "1800"))
SAY_EVERY_SECONDS = 30.0
# How old the list of nodes may be that decoding is spread by.
NODES_SECONDS = 5.0


@dataclass(frozen=True)
class Device:
    """What the network runs on: ``cpu`` or ``cuda``, ``fp32`` or ``bf16``, and the kind of device by its name."""

    device: str
    precision: str
    name: str


def find_device(device: str, precision: str, session: Session, *, quiet: bool = True) -> Device:
    """Settle ``auto`` where the network will run: here, or on a cluster's GPU node.

    Parameters
    ----------
    device, precision
        As the user gave them; ``auto`` on a cluster is ``cuda`` where it has a GPU now.

    Raises
    ------
    UsageError
        If there is no such device, or it has no such precision.
    ClusterError
        If no GPU comes.

    """
    if device == "auto" and not session.local:
        device = "cuda" if session.gpus else "cpu"
    if device == "cuda" and not session.local:
        return _probe(precision, quiet=quiet)
    return look_at_device(device, precision)


def look_at_device(device: str, precision: str) -> Device:
    """Settle ``auto`` on the machine that this runs on."""
    settled = resolve_device(device)
    return Device(settled, resolve_precision(precision, settled), device_name(settled))


def _probe(precision: str, *, quiet: bool) -> Device:
    """Have a task that asks for a GPU look at it, however long a node with one takes to come."""
    import ray

    begun = time.monotonic()
    task = ray.remote(num_gpus=1, num_cpus=0, max_retries=-1)(look_at_device)
    found = task.remote("cuda", precision)
    while not ray.wait([found], timeout=SAY_EVERY_SECONDS)[0]:
        waited = time.monotonic() - begun
        if waited > GPU_WAIT_SECONDS:
            ray.cancel(found, force=True)
            raise ClusterError(
                f"no node with a free GPU came within {waited / 60:.0f} min: `ray status` says why (a quota, no spot "
                "machine, another job); --device cpu does without"
            )
        say(f"waiting for a GPU, {waited:.0f} s", quiet=quiet)
    device: Device = ray.get(found)
    return device


def actor_pool(device: str, session: Session, workers: int | None, units: int) -> Any:
    """Say how many network actors there are: fixed on CPUs and on one machine, else as many as there are GPUs.

    Parameters
    ----------
    device
        ``cpu`` or ``cuda``.
    workers
        The user's number, or None.
    units
        Units of work: more actors than units have nothing to do.

    """
    from ray.data import ActorPoolStrategy

    if device == "cpu" or session.local:
        return ActorPoolStrategy(size=fixed_size(device, session, workers, units))
    most = min(workers or units, units)
    return ActorPoolStrategy(min_size=1, max_size=most, initial_size=max(1, min(session.gpus, most)))


def fixed_size(device: str, session: Session, workers: int | None, units: int) -> int:
    """Actors of a pool that does not grow: one a GPU, else one, or as many as the user says."""
    return min(workers or (max(1, session.gpus) if device == "cuda" else 1), units)


def gpu_nodes_first() -> Callable[[], dict[str, Any]]:
    """Give what says, task by task, where to decode: on the nodes with GPUs in turn, elsewhere when they are busy."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    turn = _Turn()

    def arguments() -> dict[str, Any]:
        node = turn.next()
        if node is None:
            return {"scheduling_strategy": "SPREAD"}
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)}

    return arguments


class _Turn:
    """The nodes with GPUs and CPUs, one after another, looked up anew every few seconds."""

    def __init__(self) -> None:
        self._nodes: list[str] = []
        self._looked = -NODES_SECONDS
        self._count = 0

    def next(self) -> str | None:
        import ray

        now = time.monotonic()
        if now - self._looked >= NODES_SECONDS:
            self._looked = now
            self._nodes = sorted(
                node["NodeID"]
                for node in ray.nodes()
                if node["Alive"] and node["Resources"].get("GPU") and node["Resources"].get("CPU")
            )
        if not self._nodes:
            return None
        self._count += 1
        return self._nodes[self._count % len(self._nodes)]
