"""Extraction on several nodes of one machine, with pretended GPUs that join and leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from support import pretend_gpu
from support.ct_files import write_series

import lungct
from lungct.errors import LungCTWarning, UsageError

pytestmark = pytest.mark.faults
# Batches of 4: the work of a GPU, done by the processor in next to no time and a second of sleep.
NETWORK: dict[str, Any] = {"backbone": "resnet18", "weights": "random:3", "batch_size": 4}
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    src = tmp_path_factory.mktemp("cohort")
    for i in range(60):
        write_series(src / f"p{i:02d}", slices=4, rows=32, columns=32, seed=i)
    return src


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRETEND_GPU_LOG", str(tmp_path / "log"))
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


@pytest.fixture
def cluster(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A head with one core and no GPU; the driver is connected to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "num_gpus": 0, "object_store_memory": 200 << 20},
    )
    ray.init(
        address=found.address,
        log_to_driver=False,
        runtime_env={
            "worker_process_setup_hook": "support.pretend_gpu.hook",
            "env_vars": {
                "PYTHONPATH": f"{TESTS}:{TESTS.parent}",
                "PRETEND_GPU_LOG": str(log),
                "PRETEND_GPU_SECONDS": "1",
            },
        },
    )
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def add_gpu(cluster: Cluster, cpus: int = 1) -> Any:
    return cluster.add_node(num_cpus=cpus, num_gpus=1, object_store_memory=200 << 20)


class Extraction(threading.Thread):
    """An extraction in a thread; `finish` returns its summary or raises its error."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(daemon=True)
        self.arguments, self.named = arguments, named
        self.outcome: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = lungct.extract(*self.arguments, **self.named)
        except Exception as error:
            self.outcome = error

    def finish(self, seconds: float = 300) -> Any:
        self.join(seconds)
        assert not self.is_alive(), "the extraction has not ended"
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def await_calls(log: Path, count: int, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while len(pretend_gpu.calls(log)) < count:
        assert time.monotonic() < deadline, f"{len(pretend_gpu.calls(log))} of {count} calls"
        time.sleep(0.2)


def pace(moments: list[float]) -> float:
    """Return the mean time from one call to the next, in seconds."""
    return (moments[-1] - moments[0]) / (len(moments) - 1)


def test_actors_follow_gpus_that_join(cluster: Cluster, cohort: Path, log: Path, tmp_path: Path) -> None:
    work = Extraction(cohort, tmp_path / "out", device="cuda", shard_patients=1, **NETWORK)
    time.sleep(8)
    assert work.is_alive()
    assert pretend_gpu.calls(log) == []
    add_gpu(cluster)
    await_calls(log, 12)
    assert len({node for _, node in pretend_gpu.calls(log)}) == 1
    joined = time.time()
    for _ in range(2):
        add_gpu(cluster)
    summary = work.finish()
    assert (summary.extracted, summary.failed) == (60, 0)
    calls = pretend_gpu.calls(log)
    nodes = {node for _, node in calls}
    assert len(nodes) == 3
    # Once all three work, calls follow each other faster than those of the one GPU did.
    first = {node: min(at for at, n in calls if n == node) for node in nodes}
    assert max(first.values()) > joined
    alone = [at for at, _ in calls if at <= joined]
    together = [at for at, _ in calls if at >= max(first.values())]
    assert pace(together) < 0.6 * pace(alone)
    settings = lungct.features.read_settings(tmp_path / "out")
    assert (settings.device, settings.precision, settings.batch_size) == ("cuda", "fp32", 4)


def test_a_gpu_node_that_leaves_loses_nothing(cluster: Cluster, cohort: Path, log: Path, tmp_path: Path) -> None:
    nodes = [add_gpu(cluster), add_gpu(cluster)]
    work = Extraction(cohort, tmp_path / "out", device="cuda", shard_patients=2, **NETWORK)
    await_calls(log, 8)
    cluster.remove_node(nodes[0], allow_graceful=False)
    summary = work.finish()
    assert (summary.extracted, summary.failed) == (60, 0)
    ids = lungct.read_features(tmp_path / "out").column("patient_id").to_pylist()
    assert ids == [f"p{i:02d}" for i in range(60)]


def test_decoding_goes_to_the_gpu_nodes_first(cluster: Cluster, cohort: Path, log: Path, tmp_path: Path) -> None:
    from lungct.extraction.placement import gpu_nodes_first

    assert gpu_nodes_first()() == {"scheduling_strategy": "SPREAD"}
    node = add_gpu(cluster, cpus=2)
    arguments = gpu_nodes_first()

    def node_after(seconds: float) -> Any:
        time.sleep(seconds)
        return ray.get_runtime_context().get_node_id()

    where = ray.remote(num_cpus=1)(node_after)
    ray.get(where.remote(0))
    tasks = []
    for _ in range(2):
        tasks.append(where.options(**arguments()).remote(6))
        time.sleep(2)
    late = where.options(**arguments()).remote(0)
    assert set(ray.get(tasks)) == {node.node_id}
    assert ray.get(late) != node.node_id  # its two cores are busy


def test_a_node_that_sees_neither_src_nor_dir_is_named(cluster: Cluster, cohort: Path, tmp_path: Path) -> None:
    from lungct import checks

    add_gpu(cluster)
    blind = ray.nodes()[-1]["NodeManagerAddress"]
    report = checks.report_node(str(tmp_path / "nowhere"), str(tmp_path / "out/.lungct/staging/x/y"))
    assert report.unseen == ("SRC", "out")
    # The directory exists when the driver looks, and is gone when the nodes do.
    gone = tmp_path / "gone"
    write_series(gone / "p", slices=4, rows=32, columns=32)
    owner = lungct.storage.own(tmp_path / "out")
    (gone / "p").rename(tmp_path / "p")
    gone.rmdir()
    with pytest.raises(UsageError, match=f"node {blind} does not see src='{gone}'"):
        checks.check_nodes(gone, owner)
    owner.release()


def test_another_kind_of_gpu_is_warned_of(
    cluster: Cluster, cohort: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lungct.extraction import preparation
    from lungct.extraction.placement import ComputeDevice

    add_gpu(cluster)
    monkeypatch.setattr(preparation, "find_device", lambda *_, **__: ComputeDevice("cuda", "fp32", "Another GPU"))
    with pytest.warns(LungCTWarning, match="computes on Pretended GPU"):
        lungct.extract(cohort, tmp_path / "out", device="cuda", limit=2, **NETWORK)
