"""Connect to a Ray cluster, or start Ray in this process: the one place that begins and ends Ray.

Without an address, and outside a job that Ray itself runs (which finds its cluster in ``RAY_ADDRESS``), Ray is
started in the process: no dashboard, no usage reports, a token of its own that nobody else knows, and it is shut
down on the way out. Ray that was running before is used and left running.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lungct.errors import ClusterError, LungCTError, UsageError
from lungct.machine import usable_cpus

# What is in flight between decoding and the network fits in far less; on a laptop Ray's own default (30 % of the
# memory) would let Ray Data buffer gigabytes to no gain.
LOCAL_OBJECT_STORE_BYTES = 4 << 30
# A node that says nothing for so long is not there.
NODE_SECONDS = 120.0


@dataclass(frozen=True)
class Session:
    """The Ray that a command works on.

    Attributes
    ----------
    cpus, gpus
        What the cluster has now, in all its nodes.
    nodes
        How many nodes are alive.
    local
        Whether Ray runs on this machine alone, started by this process.

    """

    cpus: int
    gpus: int
    nodes: int
    local: bool


@contextmanager
def connect(address: str | None = None) -> Iterator[Session]:
    """Use the Ray that is there, or start it; shut down only what was started here.

    Parameters
    ----------
    address
        A cluster's address, as ``ray.init`` takes it; None: the job's own cluster if this process runs as a Ray job
        (``RAY_ADDRESS``), else Ray in this process.

    Raises
    ------
    UsageError
        If no cluster answers at the address.
    ClusterError
        If Ray does not start.

    """
    address = address or os.environ.get("RAY_ADDRESS")
    local = address is None
    _quiet_environment()
    if local:
        _token_environment()
    import ray

    if ray.is_initialized():
        with _own_errors():
            yield _session(local=False)
        return
    try:
        with _own_sigterm():
            if local:
                ray.init(
                    address="local",
                    num_cpus=usable_cpus(),
                    include_dashboard=False,
                    object_store_memory=_object_store_bytes(),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            else:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises bare ones too
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if address:
            raise UsageError(
                f"no Ray cluster answers at --address {address} ({reason}): give the address that `ray status` "
                "works with, or leave --address out to run on this machine"
            ) from error
        raise ClusterError(f"Ray did not start on this machine: {reason}") from error
    try:
        with _own_errors():
            yield _session(local=local)
    finally:
        ray.shutdown()


def on_each_node(look: Callable[..., Any], *arguments: Any) -> list[tuple[str, Any]]:
    """Call a function on every node that is alive, and give each node's address with what it returned.

    A node's own failure is returned as the LungCTError that says it.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(*arguments)
        for node in nodes
    ]
    ray.wait(asked, num_returns=len(asked), timeout=NODE_SECONDS)
    answers: list[tuple[str, Any]] = []
    for node, reference in zip(nodes, asked, strict=True):
        try:
            answer = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            answer = ClusterError(f"it did not answer within {NODE_SECONDS:g} s")
        except ray.exceptions.RayError as error:
            answer = _from_ray(error)
        answers.append((str(node["NodeManagerAddress"]), answer))
    return answers


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep ray.init from replacing a handler of SIGTERM: its own exits with 15, whatever was there before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    install = signal.signal
    before = signal.getsignal(signal.SIGTERM)

    def refuse(number: int, handler: Any) -> Any:
        return before if number == signal.SIGTERM else install(number, handler)

    signal.signal = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = install


def _session(*, local: bool) -> Session:
    import ray

    resources = ray.cluster_resources()
    alive = sum(1 for node in ray.nodes() if node["Alive"])
    return Session(
        cpus=max(1, int(resources.get("CPU", 1))),
        gpus=int(resources.get("GPU", 0)),
        nodes=alive,
        local=local,
    )


def _object_store_bytes() -> int:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    shared = os.statvfs("/dev/shm")
    return int(min(LOCAL_OBJECT_STORE_BYTES, 0.3 * pages, 0.9 * shared.f_bavail * shared.f_frsize))


def _quiet_environment() -> None:
    """Keep Ray from reporting usage over the network and from drawing its own bars and plans on our stderr."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TQDM", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # A thread of Ray Data's that outlives the session must not begin, or join, another Ray.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # Ray would otherwise tell of a coming change in how it treats GPUs that a task did not ask for.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def _token_environment() -> None:
    """Have Ray in this process demand a token of this run, which no file keeps.

    Ray's ports are open to whoever reaches this machine: the token keeps others out. Ray reads the mode when it is
    imported, so where somebody imported it before, their mode stays.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise an error of ours from inside a task or an actor as itself, and what else Ray raises in a line."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        raise _from_ray(error) from error


def _from_ray(error: Exception) -> LungCTError:
    """Find the error of ours inside one of Ray's, or say in a line what Ray says."""
    cause: BaseException | None = error
    while cause is not None:
        # Ray's wrapper of an error of ours is of our class too, with a traceback for a message: go on to the cause.
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, LungCTError) and not isinstance(inner, LungCTError):
            return cause
        cause = inner
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return ClusterError(f"Ray gave up: {type(error).__name__}: {lines[-1] if lines else ''}".strip())
