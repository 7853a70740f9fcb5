"""How fast a patient's many small objects come, when each request takes 50 ms.

usage: python bench/objects.py [OBJECTS] [DELAY_MS]     (default 600 objects of 0.5 MB, 50 ms)

A server of its own process speaks as much S3 as reading needs, from memory, and waits before each answer: an emulator
would be what is measured. One request after another is timed beside, with a tenth of the objects.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import stores

from lungct.storage import ObjectPath, local_copy

BODY = bytes(range(256)) * 2048


def serve(pipe: Any, objects: int, delay_s: float) -> None:
    """Answer a listing of ``patient/`` and the objects in it, each after a while."""
    entry = (
        "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        "<ETag>x</ETag><Size>{}</Size></Contents>"
    )
    listing = (
        "<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated>"
        + "".join(entry.format(f"patient/{i:04d}", len(BODY)) for i in range(objects))
        + "</ListBucketResult>"
    ).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(delay_s)
            data = listing if "list-type" in unquote(self.path) else BODY
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\nETag: x\r\n"
            head += "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
            self.wfile.write(head.encode() + data)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    pipe.send(server.server_address[1])
    server.serve_forever()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    delay = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.05
    ours, theirs = get_context("spawn").Pipe()
    server = get_context("spawn").Process(target=serve, args=(theirs, count, delay), daemon=True)
    server.start()
    patient = ObjectPath("s3://scans", "patient")
    with stores.environment(stores.s3_environment(ours.recv())):
        few = max(1, count // 10)
        begun = time.perf_counter()
        for i in range(few):
            (patient / f"{i:04d}").read_bytes()
        alone = few / (time.perf_counter() - begun)
        begun = time.perf_counter()
        with local_copy(str(patient)):
            together = count / (time.perf_counter() - begun)
    server.kill()
    print(f"{count} objects of {len(BODY) >> 10} KiB, {delay * 1000:g} ms a request, one process")
    print(f"one after another  {alone:8.1f} objects/s")
    print(f"lungct             {together:8.1f} objects/s   ({together / alone:.1f} times)")


if __name__ == "__main__":
    main()
