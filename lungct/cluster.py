"""Connect to a Ray cluster, or start Ray in this process: the one place that starts and stops Ray.

Without an address, and outside a Ray job (which finds its cluster in ``RAY_ADDRESS``), Ray is started in this process:
without dashboard and usage reports, with a token that nobody else knows, and shut down at the end. Ray that was running
before is used and left running. Where its files and objects are kept, `lungct.ray_storage` decides.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lungct.arguments import spelled
from lungct.errors import ClusterError, LungCTError, LungCTWarning, UsageError
from lungct.machine import ensure_account, usable_cpus
from lungct.patients import printable
from lungct.ray_storage import MORE_SHARED_MEMORY, find_ray_storage
from lungct.storage import is_utf8

# A node that does not answer within this time counts as lost.
NODE_SECONDS = 120.0


@dataclass(frozen=True)
class Session:
    """The Ray cluster that a command runs on.

    Attributes
    ----------
    cpus, gpus
        What all nodes of the cluster have now.
    nodes
        How many nodes are alive.
    local
        Whether this process started Ray, on this machine alone.

    """

    cpus: int
    gpus: int
    nodes: int
    local: bool


@contextmanager
def connect(address: str | None = None) -> Iterator[Session]:
    """Use the Ray that is running, or start it; shut down only what was started here.

    Parameters
    ----------
    address
        A cluster's address, as ``ray.init`` takes it; None: the job's own cluster if this process runs as a Ray job
        (``RAY_ADDRESS``), else Ray in this process.

    Raises
    ------
    UsageError
        If no cluster answers at the address, or Ray finds no place for its files on this machine.
    ClusterError
        If Ray does not start.

    """
    address = address or os.environ.get("RAY_ADDRESS")
    local = address is None
    _set_quiet_environment()
    ensure_account()
    if local:
        _set_token_environment()
    import ray

    if ray.is_initialized():
        with _own_errors():
            yield _session(local=False)
        return
    _check_code_directories()
    try:
        with _own_sigterm(), _printable_command_line():
            if address is None:
                _start_ray()
            else:
                _join_ray(address)
    except LungCTError:
        raise
    except Exception as error:  # Ray also raises plain Exceptions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if address:
            raise UsageError(
                f"no Ray cluster answers at {spelled('address', address)} ({reason})",
                fix="give the address that `ray status` works with, or none to run on this machine",
            ) from error
        raise ClusterError(f"Ray did not start on this machine ({reason})") from error
    try:
        with _own_errors():
            yield _session(local=local)
    finally:
        ray.shutdown()


def _start_ray() -> None:
    import ray

    storage = find_ray_storage()
    if storage.directory_warning is not None:
        _warn_once(storage.directory_warning)
    if storage.objects_warning is not None:
        _warn_once(f"{storage.objects_warning}: {MORE_SHARED_MEMORY}")
    ray.init(
        address="local",
        num_cpus=usable_cpus(),
        include_dashboard=False,
        object_store_memory=storage.object_bytes,
        _plasma_directory=storage.objects,
        _temp_dir=storage.directory,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


_warned: set[str] = set()


def _warn_once(sentence: str) -> None:
    """Warn of what a process does not need to hear twice."""
    if sentence not in _warned:
        _warned.add(sentence)
        warnings.warn(LungCTWarning(sentence), stacklevel=2)


def _join_ray(address: str) -> None:
    import ray

    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)


def on_each_node(function: Callable[..., Any], *arguments: Any) -> list[tuple[str, Any]]:
    """Call a function on every node that is alive; return each node's address with its result.

    The result of a node that fails is a LungCTError.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"]]
    task = ray.remote(num_cpus=0, max_retries=0)(function)
    calls = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(*arguments)
        for node in nodes
    ]
    ray.wait(calls, num_returns=len(calls), timeout=NODE_SECONDS)
    answers: list[tuple[str, Any]] = []
    for node, reference in zip(nodes, calls, strict=True):
        try:
            answer = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            answer = ClusterError(f"the node did not answer within {NODE_SECONDS:g} s")
        except ray.exceptions.RayError as error:
            answer = _from_ray(error)
        answers.append((str(node["NodeManagerAddress"]), answer))
    return answers


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep ray.init from replacing the handler of SIGTERM: Ray's own always exits with 15."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    install = signal.signal
    before = signal.getsignal(signal.SIGTERM)

    def install_others(number: int, handler: Any) -> Any:
        return before if number == signal.SIGTERM else install(number, handler)

    signal.signal = install_others  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = install


def _check_code_directories() -> None:
    """Raise UsageError if Ray could not pass on to its workers where they find the code of this process."""
    script = os.path.dirname(os.path.realpath(sys.argv[0]))
    for what, directory in (("current", os.path.abspath(".")), ("script's", script if script in sys.path else "")):
        if not is_utf8(directory):
            raise UsageError(
                f"the {what} directory {printable(directory)} is not UTF-8, which Ray requires of it",
                fix="work in another directory, and give absolute paths",
            )


@contextmanager
def _printable_command_line() -> Iterator[None]:
    """Let Ray store this process's command line, which it keeps as UTF-8 text, although it may have other bytes."""
    from ray._private import utils

    read = utils.get_entrypoint_name
    utils.get_entrypoint_name = lambda: printable(read())
    try:
        yield
    finally:
        utils.get_entrypoint_name = read


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


def _set_quiet_environment() -> None:
    """Keep Ray from reporting usage over the network and from printing its own bars and plans on stderr."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TQDM", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # A thread of Ray Data that outlives the session must not start or join another Ray.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    # Otherwise Ray announces a coming change in how it treats GPUs that a task did not ask for.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


def _set_token_environment() -> None:
    """Make Ray in this process require a token that exists only in this process and is stored in no file.

    Ray's ports are open to everyone who can reach this machine, and the token keeps them out. Ray reads the mode when
    it is imported, so if it was imported before, its mode stays.
    """
    if "ray" not in sys.modules and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def _own_errors() -> Iterator[None]:
    """Raise a LungCTError from inside a task or an actor as itself, and Ray's own errors as a ClusterError."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        raise _from_ray(error) from error


def _from_ray(error: Exception) -> LungCTError:
    """Return the LungCTError inside one of Ray's errors, or a ClusterError with the last line of Ray's own."""
    cause: BaseException | None = error
    while cause is not None:
        # Ray's wrapper of a LungCTError is also a LungCTError, with a traceback for a message: go on to the cause.
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, LungCTError) and not isinstance(inner, LungCTError):
            return cause
        cause = inner
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return ClusterError(f"Ray failed ({type(error).__name__}: {lines[-1].strip() if lines else 'no message'})")
