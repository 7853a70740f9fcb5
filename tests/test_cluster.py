"""`ray up deploy/onprem.yaml` for real: a head and two workers (`hosts`), and an operator who follows docs/cluster.md.

Only the addresses, the account and the key are changed in the file. The tests tell one story and run in order: up,
requests without a token, jobs, a path that only one host sees, a stopped job, a killed raylet, a killed driver, a host
cut off, a killed head, down. The operator's commands have a separate home directory, so that no token is left where
another Ray on this machine would find it. What the cluster computes is compared with what the operator's own machine
computes without a cluster.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, hosts
from support.ct_files import write_series
from support.hosts import HOME, SHARED, Host, Network, wait_until

pytestmark = pytest.mark.cluster
PATIENTS = 24
FILE = f"{HOME}/onprem.yaml"
SRC = f"{SHARED}/scans"
NETWORK = ("--device", "cpu", "--backbone", "resnet18", "--weights", "random:3")
ONE_EACH = ("--shard-patients", 1)
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
SECONDS = {"seconds", "created", "started", "finished", "settings.json"}  # the last one's checksum: it has paths


@dataclass
class Cluster:
    """A running cluster: its network, how long `ray up` took, and how long the workers then took to join."""

    network: Network
    up_seconds: float
    join_seconds: float

    @property
    def head(self) -> Host:
        return self.network.hosts[0]

    @property
    def workers(self) -> list[Host]:
        return self.network.hosts[1:]

    def operate(self, *command: object, timeout: float = 120, **environment: str) -> Any:
        """Run one of the operator's commands in the root of the checkout."""
        return self.network.operator.run(*command, cwd=str(ROOT), timeout=timeout, **environment)

    def submit(self, *job: object, code: int = 0, seconds: float = 600) -> Submitted:
        """Submit a job and wait until it ends."""
        ran = self.operate(*submission(*job), timeout=seconds)
        assert ran.returncode == code, ran.stdout
        return Submitted(ran.stdout)

    def submit_only(self, *job: object) -> str:
        """Submit a job and return its id."""
        ran = self.operate(*submission(*job, no_wait=True))
        assert ran.returncode == 0, ran.stdout
        return str(re.findall(r"raysubmit_\w+", ran.stdout)[0])

    def logs(self, job: str) -> str:
        return str(self.operate("ray", "job", "logs", job).stdout)

    def job_status(self, job: str) -> str:
        """Return a job's state in Ray's word, which `ray job status` does not print for a job that has ended."""
        ran = self.operate("python", "-c", STATUS, job)
        assert ran.returncode == 0, ran.stdout
        return str(ran.stdout.split()[-1])

    def shared(self, name: str) -> Path:
        """Return the path on this machine of a path in the hosts' shared directory."""
        return self.network.shared / name


STATUS = """
import sys
from ray.job_submission import JobSubmissionClient
print(JobSubmissionClient().get_job_status(sys.argv[1]).value)
"""


@dataclass
class Submitted:
    """What `ray job submit` printed."""

    printed: str

    @property
    def line(self) -> dict[str, Any]:
        """The job's result."""
        lines = [line for line in self.printed.splitlines() if line.startswith("{")]
        values: dict[str, Any] = json.loads(lines[-1])
        return values


def submission(*job: object, no_wait: bool = False) -> list[object]:
    wait = ["--no-wait"] if no_wait else []
    return ["ray", "job", "submit", *wait, "--working-dir", ".", "--", "python", *job]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Three hosts, and an operator with a token, a key, the cluster file and a cohort."""
    assert hosts.missing() == [], "`make test-cluster`, as root, installs what is missing"
    with hosts.network(tmp_path_factory.mktemp("cluster"), ["head", "worker1", "worker2"]) as found:
        write_cohort(found.shared)
        write_cluster_file(found)
        found.operator.environment |= TOKEN
        made = found.operator.run("ray", "get-auth-token", "--generate")
        assert made.returncode == 0, made.stdout
        closed = found.operator.run("chmod", "-R", "go=", f"{HOME}/.ray")
        assert closed.returncode == 0, closed.stdout
        yield found


def write_cohort(shared: Path) -> None:
    for i in range(PATIENTS):
        write_series(shared / "scans" / f"p{i:02d}", slices=40 + i, rows=64, columns=64, seed=i)
    labels = "".join(f"p{i:02d},{i * 7 % 3 % 2}\n" for i in range(PATIENTS))
    (shared / "labels.csv").write_text(f"id,cancer\n{labels}")


def write_cluster_file(network: Network) -> None:
    """Change only those lines of deploy/onprem.yaml that are marked for it."""
    head, *workers = (host.address for host in network.hosts)
    config = yaml.safe_load((network.checkout / "deploy" / "onprem.yaml").read_text())
    config["provider"] |= {"head_ip": head, "worker_ips": workers}
    config["auth"] |= {"ssh_user": hosts.ACCOUNT, "ssh_private_key": "~/.ssh/lungct_cluster"}
    (network.operator.home / "onprem.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[Cluster]:
    """The running cluster, with all hosts in it and a tunnel to the dashboard."""
    up_seconds = ray_up(network)
    joined = wait_until(lambda: alive(network) == 3, 900, "three hosts alive")
    network.operator.environment["RAY_API_SERVER_ADDRESS"] = "http://127.0.0.1:8265"
    with tunnel(network.operator):
        yield Cluster(network, up_seconds, joined)


@contextmanager
def tunnel(operator: Host) -> Iterator[None]:
    """Keep a tunnel to the dashboard open while the context lasts."""
    process = operator.start("ray", "dashboard", FILE)
    try:
        wait_until(lambda: http_status(operator) is not None, 60, "a dashboard")
        yield
    finally:
        hosts.kill_all([process])


def ray_up(network: Network, attempts: int = 3) -> float:
    """Call `ray up`, again if a busy machine kept Ray's head from starting within its 30 s; return the seconds."""
    for attempt in range(attempts):
        begun = time.monotonic()
        up = network.operator.run("ray", "up", "--yes", FILE, cwd=str(ROOT), timeout=400)
        if up.returncode == 0:
            return time.monotonic() - begun
        if "timed out during startup" not in up.stdout or attempt == attempts - 1:
            break
    raise AssertionError(up.stdout)


def alive(network: Network) -> int:
    """Return the number of hosts that `ray status`, called through `ray exec`, lists as active."""
    printed = network.operator.run("ray", "exec", FILE, "ray status").stdout
    active = printed.partition("Pending:")[0]
    return sum(int(count) for count in re.findall(r"^ (\d+) local", active, re.MULTILINE))


def http_status(operator: Host, *header: str) -> int | None:
    """Return the status of the job API's answer; None if it does not answer."""
    script = (
        "import sys, urllib.request as u, urllib.error as e\n"
        "try: print(u.urlopen(u.Request(sys.argv[1], headers=dict([sys.argv[2:]] if sys.argv[2:] else []))).status)\n"
        "except e.HTTPError as error: print(error.code)"
    )
    ran = operator.run("python", "-c", script, "http://127.0.0.1:8265/api/jobs/", *header)
    return int(ran.stdout) if ran.returncode == 0 else None


@pytest.fixture(scope="module")
def undisturbed(network: Network) -> Path:
    """The table and the run that one machine computes, undisturbed and without a cluster."""
    table, run = f"{SHARED}/local/features", f"{SHARED}/local/run"
    on_this_machine(network.operator, "extract", SRC, "--out", table, *NETWORK, *ONE_EACH)
    labels = f"{SHARED}/labels.csv"
    on_this_machine(network.operator, "train", table, "--labels", labels, "--out", run)
    return network.shared / "local"


def on_this_machine(operator: Host, *command: object) -> None:
    ran = operator.run("python", "-m", "lungct.cli", *command, timeout=600)
    assert ran.returncode == 0, ran.stdout


def table_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("features/*.parquet")}


def without_seconds(value: Any) -> Any:
    """Remove times and durations, which always differ."""
    if isinstance(value, dict):
        return {key: without_seconds(v) for key, v in value.items() if key not in SECONDS}
    return [without_seconds(v) for v in value] if isinstance(value, list) else value


def extraction(out: str) -> tuple[object, ...]:
    return ("jobs/extract.py", SRC, "--out", f"{SHARED}/{out}", *NETWORK, *ONE_EACH)


def await_files(directory: Path, count: int) -> None:
    wait_until(lambda: len(table_files(directory)) >= count, 600, f"{count} patients done")


def test_ray_up_brings_every_host(cluster: Cluster) -> None:
    print(f"ray up {cluster.up_seconds:.0f} s, workers {cluster.join_seconds:.0f} s later")
    for host in cluster.network.hosts:
        assert any("raylet" in process for process in host.processes()), host.name
        # No host reaches an index: each took the prepared Python of its account's PATH.
        assert host.run("readlink", "lungct-venv").stdout.strip() == sys.prefix
    assert "lungct 0" in cluster.operate("ray", "exec", FILE, "lungct --version").stdout


def test_the_dashboard_listens_on_the_head_only(cluster: Cluster) -> None:
    reached = cluster.operate("bash", "-c", f"exec 3<>/dev/tcp/{cluster.head.address}/8265 && echo reached")
    assert "refused" in reached.stdout


def test_nothing_answers_without_the_token(cluster: Cluster) -> None:
    operator, head = cluster.network.operator, cluster.head
    token = (operator.home / ".ray" / "auth_token").read_text().strip()
    assert http_status(operator) == 401
    assert http_status(operator, "Authorization", f"Bearer {token[::-1]}x") in (401, 403)
    assert http_status(operator, "Authorization", f"Bearer {token}") == 200
    assert cluster.operate(*submission("-c", "1"), RAY_AUTH_MODE="disabled").returncode != 0
    address = f"{head.address}:6379"
    connect = f"import ray; ray.init({address!r}, log_to_driver=False); print('inside')"
    for host in (cluster.workers[0], head):
        assert host.run("ray", "status", "--address", address, RAY_AUTH_MODE="token").returncode == 0
        status = host.run("ray", "status", "--address", address, RAY_AUTH_MODE="disabled")
        assert status.returncode != 0, status.stdout
        inside = host.run("python", "-c", connect, RAY_AUTH_MODE="disabled")
        assert (inside.returncode != 0, "inside" in inside.stdout) == (True, False), inside.stdout


def test_jobs_compute_what_one_machine_computes(cluster: Cluster, undisturbed: Path) -> None:
    extracted = cluster.submit(*extraction("study/features")).line
    assert (extracted["extracted"], extracted["failed"]) == (PATIENTS, 0)
    assert table_files(cluster.shared("study/features")) == table_files(undisturbed / "features")
    where = (f"{SHARED}/study/features", "--labels", f"{SHARED}/labels.csv")
    cluster.submit("jobs/train.py", *where, "--out", f"{SHARED}/study/run")
    of_cluster, of_machine = (
        without_seconds(json.loads((study / "run" / "metrics.json").read_text()))
        for study in (cluster.shared("study"), undisturbed)
    )
    assert of_cluster == of_machine


def test_a_path_that_only_one_host_sees_is_refused(cluster: Cluster) -> None:
    copied = cluster.head.run("cp", "-r", SRC, "/tmp/scans")
    assert copied.returncode == 0, copied.stdout
    job = ("jobs/extract.py", "/tmp/scans", "--out", f"{SHARED}/never", *NETWORK)
    printed = cluster.submit(*job, code=1).printed
    assert re.search(r"lungct: error: node 10\.77\.0\.[23] does not see SRC /tmp/scans", printed), printed
    assert table_files(cluster.shared("never")) == {}
    job = ("jobs/extract.py", SRC, "--out", "/tmp/table", *NETWORK)
    printed = cluster.submit(*job, code=1).printed
    assert re.search(r"lungct: error: node 10\.77\.0\.[23] does not see --out", printed), printed


STOP = """
import sys, time
from ray.job_submission import JobSubmissionClient
client = JobSubmissionClient()
begun = time.monotonic()
client.stop_job(sys.argv[1])
while not client.get_job_status(sys.argv[1]).is_terminal():
    time.sleep(0.02)
print(time.monotonic() - begun)
"""


def test_a_stopped_job_ends_in_time_and_can_be_continued(cluster: Cluster, undisturbed: Path) -> None:
    job = extraction("stopped")
    submitted = cluster.submit_only(*job)
    await_files(cluster.shared("stopped"), 3)
    ended = cluster.operate("python", "-c", STOP, submitted)
    assert ended.returncode == 0, ended.stdout
    print(f"stopped in {float(ended.stdout.splitlines()[-1]):.1f} s")
    assert float(ended.stdout.splitlines()[-1]) < 3
    assert cluster.job_status(submitted) == "STOPPED"
    assert "stopped by a signal" in cluster.logs(submitted)
    done = table_files(cluster.shared("stopped"))
    assert 3 <= len(done) < PATIENTS
    result = cluster.submit(*job).line
    assert (result["skipped"], result["skipped"] + result["extracted"]) == (len(done), PATIENTS)
    assert table_files(cluster.shared("stopped")) == table_files(undisturbed / "features")


def test_a_killed_raylet_is_restarted_and_the_job_goes_on(cluster: Cluster, undisturbed: Path) -> None:
    submitted = cluster.submit_only(*extraction("raylet"))
    await_files(cluster.shared("raylet"), 3)
    victim = busiest(cluster.workers)
    kill(victim, "raylet/raylet")
    await_end(cluster, submitted)
    assert cluster.job_status(submitted) == "SUCCEEDED", cluster.logs(submitted)
    assert table_files(cluster.shared("raylet")) == table_files(undisturbed / "features")
    wait_until(lambda: alive(cluster.network) == 3, 300, "the killed raylet's host")


def test_a_killed_driver_loses_nothing(cluster: Cluster, undisturbed: Path) -> None:
    submitted = cluster.submit_only(*extraction("driver"))
    await_files(cluster.shared("driver"), 3)
    kill(cluster.head, "^python jobs/extract.py")
    await_end(cluster, submitted)
    assert cluster.job_status(submitted) == "FAILED"
    done = len(table_files(cluster.shared("driver")))
    assert cluster.submit(*extraction("driver")).line["skipped"] == done
    assert table_files(cluster.shared("driver")) == table_files(undisturbed / "features")


def kill(host: Host, pattern: str) -> None:
    """Kill the processes of a host whose command lines match a pattern; there must be at least one."""
    found = host.run("pgrep", "--full", pattern).stdout.split()
    assert found, host.processes()
    assert host.run("kill", "-KILL", *found).returncode == 0


def await_end(cluster: Cluster, submitted: str) -> float:
    """Wait until a job has ended; return how long that took, in seconds."""
    return wait_until(lambda: cluster.job_status(submitted) not in ("PENDING", "RUNNING"), 900, "the job")


def test_a_host_cut_off_loses_nothing(cluster: Cluster, undisturbed: Path) -> None:
    submitted = cluster.submit_only(*extraction("cut"))
    await_files(cluster.shared("cut"), 3)
    victim = busiest(cluster.workers)
    done = len(table_files(cluster.shared("cut")))
    cluster.network.plug(victim, connected=False)
    try:
        assert done < PATIENTS
        ended = await_end(cluster, submitted)
        print(f"{victim.name} was cut off at {done} patients; the job ended {ended:.0f} s later")
        assert cluster.job_status(submitted) == "SUCCEEDED", cluster.logs(submitted)
        assert table_files(cluster.shared("cut")) == table_files(undisturbed / "features")
    finally:
        cluster.network.plug(victim, connected=True)


def busiest(workers: list[Host]) -> Host:
    """Return the worker with the most work, the network's actor above all."""

    def work(host: Host) -> tuple[int, int]:
        names = [name for name in host.processes() if name.startswith("ray::")]
        actors = [name for name in names if "NetworkActor" in name]
        return len(actors), len([name for name in names if not name.startswith("ray::IDLE")])

    return max(workers, key=work)


def test_a_killed_head_comes_back_with_ray_up(cluster: Cluster, undisturbed: Path) -> None:
    cluster.submit_only(*extraction("head"))
    await_files(cluster.shared("head"), 3)
    kill(cluster.head, "gcs_server")
    print(f"ray up again {ray_up(cluster.network):.0f} s")
    wait_until(lambda: alive(cluster.network) == 3, 300, "three hosts alive again")
    with tunnel(cluster.network.operator):
        assert cluster.submit(*extraction("head")).line["skipped"] >= 3
    assert table_files(cluster.shared("head")) == table_files(undisturbed / "features")


def test_ray_down_ends_ray_everywhere(cluster: Cluster) -> None:
    down = cluster.operate("ray", "down", "--yes", FILE, timeout=240)
    assert down.returncode == 0, down.stdout
    for host in cluster.network.hosts:
        took = wait_until(partial(no_ray_runs, host), 240, f"no Ray on {host.name}")
        print(f"{host.name}: no Ray {took:.0f} s later")


def no_ray_runs(host: Host) -> bool:
    return not any("raylet" in name or "gcs_server" in name for name in host.processes())


def test_processes_end_with_their_host(network: Network, tmp_path: Path) -> None:
    """If a host's first process is killed, all its processes end."""
    with hosts.network(tmp_path, ["alone"]) as other:
        sleeper = other.hosts[0].start("sleep", "1000")
    assert sleeper.wait(timeout=10) != 0
    assert subprocess.run(["ip", "link", "show", "to-alone"], capture_output=True).returncode != 0
