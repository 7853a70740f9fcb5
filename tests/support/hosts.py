"""Hosts for tests, all on this one machine, each with its own address, processes, files and sshd.

A host is a set of Linux namespaces (network, processes, mounts, name, IPC) around a first process. It has one address
on a network that leads nowhere else, its own /tmp, /dev/shm, /run and home directories, and one unprivileged account,
`ACCOUNT`. Of this machine's files it sees those of the system and, read-only and at their usual paths, the running
Python with its packages and a checkout. `SHARED` is one directory that all hosts can see and write to.

The operator is one more host, without sshd: commands that a person would type run there. The bridge that connects all
hosts is in the operator's network, so nothing appears in this machine's own network, process table or mounts. A host
ends when its first process ends, and the kernel ends that process even when the test is killed; all processes, mounts
and network devices of the host end with it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support import ROOT

ACCOUNT = "lungct"
UID = 4321
HOME = f"/home/{ACCOUNT}"
SHARED = "/srv/shared"
NETWORK = "10.77.0"
SHM_BYTES = 600 << 20
TMP_BYTES = 2 << 30
PROGRAMS = ("ip", "nsenter", "ps", "rsync", "setpriv", "ssh", "/usr/sbin/sshd", "unshare")
# Top-level directories that hosts see as they are. Any other is hidden, except for what is mounted in it.
SYSTEM = ("bin", "etc", "lib", "lib64", "nix", "opt", "sbin", "usr")
SSHD_CONFIG = """\
HostKey /etc/ssh/host_key
UsePAM no
PasswordAuthentication no
PidFile none
MaxStartups 100
"""


@dataclass
class Host:
    """A host: its name, its address, its home directory and the pid of its first process, both as seen from outside."""

    name: str
    address: str
    home: Path
    pid: int
    environment: dict[str, str] = field(default_factory=dict)

    def enter(self, *command: object, cwd: str = HOME, **environment: str) -> list[str]:
        """Return the command line that runs a command on the host, as the account."""
        values = {
            "HOME": HOME,
            "USER": ACCOUNT,
            "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            **self.environment,
            **environment,
        }
        return [
            *("nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", "--ipc"),
            *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"),
            *("env", "-i", f"--chdir={cwd}", *(f"{key}={value}" for key, value in values.items())),
            *map(str, command),
        ]

    def run(
        self, *command: object, cwd: str = HOME, timeout: float = 120, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, as the account, with stderr in stdout."""
        return subprocess.run(
            self.enter(*command, cwd=cwd, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, *command: object, cwd: str = HOME, **environment: str) -> subprocess.Popen[str]:
        """Start a command on the host, as the account, and return at once; it ends with the host at the latest."""
        return subprocess.Popen(
            self.enter(*command, cwd=cwd, **environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def processes(self) -> list[str]:
        """Return the command line of every process on the host."""
        return self.run("ps", "-eo", "args").stdout.splitlines()[1:]


@dataclass
class Network:
    """The operator, the hosts and, as seen from outside, the directory that they share and the checkout."""

    operator: Host
    hosts: list[Host]
    shared: Path
    checkout: Path

    def plug(self, host: Host, *, connected: bool) -> None:
        """Connect a host to all others, or cut it off."""
        state = "up" if connected else "down"
        _in_network(self.operator, "ip", "link", "set", f"to-{host.name}", state)


def missing() -> list[str]:
    """Return the names of what this machine lacks to run hosts: root, programs."""
    lacking = [program for program in PROGRAMS if shutil.which(program) is None]
    return lacking if os.geteuid() == 0 else ["root", *lacking]


@contextmanager
def network(directory: Path, names: Sequence[str]) -> Iterator[Network]:
    """Run hosts with these names, and an operator who may log in to them.

    Parameters
    ----------
    directory
        An empty directory, for the homes, the shared directory and a copy of the checkout.

    """
    checkout = copy_checkout(directory / "checkout")
    shared = directory / "shared"
    shared.mkdir()
    _chown(shared)
    addresses = {name: f"{NETWORK}.{i + 1}" for i, name in enumerate(names)}
    key = _prepare_files(directory, {**addresses, "operator": f"{NETWORK}.254"})
    with ExitStack() as stack:
        operator = stack.enter_context(_host(directory, "operator", f"{NETWORK}.254", sshd=False))
        shutil.copy(key, operator.home / ".ssh" / "lungct_cluster")
        _chown(operator.home / ".ssh" / "lungct_cluster")
        _in_network(operator, "ip", "link", "add", "bridge", "type", "bridge")
        _set_address(operator, "bridge")
        hosts = []
        for name, address in addresses.items():
            host = stack.enter_context(_host(directory, name, address, sshd=True))
            _connect(operator, host)
            hosts.append(host)
        yield Network(operator, hosts, shared, checkout)


def copy_checkout(to: Path) -> Path:
    """Copy the checkout, without what git ignores, so that later changes to it do not reach the hosts."""
    ignored = (ROOT / ".gitignore").read_text().split()
    names = [name.strip("/") for name in ignored]
    shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(".git", *names), symlinks=True)
    return to


def _prepare_files(directory: Path, addresses: dict[str, str]) -> Path:
    """Write every host's home and system files, and return the path of the key that opens all of them."""
    key = directory / "key"
    _ssh_key(key)
    for name in addresses:
        home = directory / name / "home"
        etc = directory / name / "etc"
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        shutil.copy(f"{key}.pub", home / ".ssh" / "authorized_keys")
        # The account finds a prepared Python, because no package index can be reached from the network.
        (home / ".bashrc").write_text(f"export PATH={shlex.quote(sys.prefix)}/bin:$PATH\n")
        _chown(home, *home.rglob("*"))
        _prepare_etc(etc, addresses)
    return key


def _prepare_etc(etc: Path, addresses: dict[str, str]) -> None:
    """Write the files of /etc in which a host differs from this machine."""
    (etc / "ssh").mkdir(parents=True)
    _ssh_key(etc / "ssh" / "host_key")
    (etc / "ssh" / "sshd_config").write_text(SSHD_CONFIG)
    for name, line in {
        "passwd": f"{ACCOUNT}:x:{UID}:{UID}::{HOME}:/bin/bash",
        "group": f"{ACCOUNT}:x:{UID}:",
    }.items():
        others = [other for other in Path("/etc", name).read_text().splitlines() if not other.startswith(f"{ACCOUNT}:")]
        (etc / name).write_text("\n".join([*others, line, ""]))
    (etc / "shadow").write_text(f"root:*:19000::::::\n{ACCOUNT}:*:19000::::::\n")
    (etc / "shadow").chmod(0o600)
    lines = [f"{address} {name}" for name, address in addresses.items()]
    (etc / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))


def _ssh_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)


def _chown(*paths: Path) -> None:
    """Make the hosts' account the owner of paths."""
    for path in paths:
        os.chown(path, UID, UID, follow_symlinks=False)


@contextmanager
def _host(directory: Path, name: str, address: str, *, sshd: bool) -> Iterator[Host]:
    """Run one host, not yet connected to the network."""
    files = directory / name
    script = "\n".join(_setup_commands(directory, name, sshd=sshd))
    with (files / "log").open("w") as log:
        # unshare is killed when this process ends, and the host's first process when unshare ends.
        outer = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork"),
                *("--kill-child", "bash", "-c", script),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert outer.stdout is not None
        assert outer.stdout.readline() == "ready\n", (files / "log").read_text()
        pid = int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        yield Host(name, address, files / "home", pid)
    finally:
        outer.kill()
        outer.wait()


def _setup_commands(directory: Path, name: str, *, sshd: bool) -> Iterator[str]:
    """Yield the shell commands of a host's first process: set up the host's files, then serve or sleep."""
    files = directory / name
    read_only = [(path, path) for path in _python_paths()]
    read_only += [(str(directory / "checkout"), str(ROOT))]
    writable = [(str(files / "home"), HOME), (str(directory / "shared"), SHARED)]
    yield "set -eu"
    for file in ("ssh", "passwd", "group", "shadow", "hosts"):
        yield f"mount --bind {shlex.quote(str(files / 'etc' / file))} /etc/{file}"
    yield "mount -t tmpfs tmpfs /mnt"
    mounts = sorted({target: source for source, target in read_only + writable}.items())
    for i, (_, source) in enumerate(mounts):
        yield f"mkdir /mnt/{i}; mount --bind {shlex.quote(source)} /mnt/{i}"
    for top in sorted({"home", "root", "srv", *(target.split("/")[1] for target, _ in mounts)}):
        if top not in (*SYSTEM, "tmp"):
            yield f"mount -t tmpfs -o mode=755 tmpfs /{shlex.quote(top)}"
    yield f"mount -t tmpfs -o mode=1777,size={TMP_BYTES} tmpfs /tmp"
    for i, (target, _) in enumerate(mounts):
        place = shlex.quote(target)
        yield f"mkdir -p {place}; mount --bind /mnt/{i} {place}"
    for target, source in mounts:
        if (source, target) not in writable:
            yield f"mount -o remount,bind,ro {shlex.quote(target)}"
    yield "umount --recursive --lazy /mnt"
    yield f"mount -t tmpfs -o mode=1777,size={SHM_BYTES} tmpfs /dev/shm"
    yield "mount -t tmpfs -o mode=755 tmpfs /run; mkdir /run/sshd"
    yield "mount -t proc proc /proc"
    yield f"hostname {name}; ip link set lo up; echo ready"
    # The shell waits, as init does, so that it reaps processes whose parents have ended.
    yield "/usr/sbin/sshd -D -e & wait" if sshd else "sleep infinity & wait"


def _python_paths() -> list[str]:
    """Return the directories of the running Python and its packages that are not among the system's."""
    paths = {sys.prefix, sys.base_prefix, *site.getsitepackages()}
    paths |= {path for path in sys.path if path.endswith("-packages")}
    return [
        path
        for path in sorted(os.path.abspath(path) for path in paths)
        if path.split("/")[1] not in SYSTEM and os.path.isdir(path)
    ]


def _connect(operator: Host, host: Host) -> None:
    """Connect a host to the bridge by a pair of virtual Ethernet devices."""
    near = f"to-{host.name}"
    far = ("peer", "name", "eth0", "netns", str(host.pid))
    _in_network(operator, "ip", "link", "add", near, "type", "veth", *far)
    _in_network(operator, "ip", "link", "set", near, "master", "bridge", "up")
    _set_address(host, "eth0")


def _set_address(host: Host, device: str) -> None:
    _in_network(host, "ip", "address", "add", f"{host.address}/24", "dev", device)
    _in_network(host, "ip", "link", "set", device, "up")


def _in_network(host: Host, *command: str) -> None:
    """Run a command as root, in the host's network and otherwise outside the host."""
    subprocess.run(["nsenter", f"--target={host.pid}", "--net", *command], check=True)


def kill_all(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Kill processes that `Host.start` started and that are no longer needed."""
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Wait until a condition holds, and return the seconds that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - begun
