"""Measure how fast a patient's many small objects are fetched if every request takes 50 ms.

usage: python bench/objects.py [OBJECTS] [DELAY_MS]     (default: 600 objects of 0.5 MB, 50 ms)

The server answers from memory, in a separate process, and implements only as much of S3 as reading needs: an emulator
would be slower than the client, and its speed would be measured. For comparison, a tenth of the objects are fetched one
request after another.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support import stores

from lungct.storage import ObjectPath, local_copy

BODY = bytes(range(256)) * 2048


def serve(connection: Connection, objects: int, delay_s: float) -> None:
    """Serve a listing of ``patient/`` and the objects in it, each answer delayed; send the port first."""
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
    connection.send(server.server_address[1])
    server.serve_forever()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 600
    delay_s = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.05
    spawn = get_context("spawn")
    receiver, sender = spawn.Pipe()
    server = spawn.Process(target=serve, args=(sender, count, delay_s), daemon=True)
    server.start()
    patient = ObjectPath("s3://scans", "patient")
    with stores.environment(stores.s3_environment(receiver.recv())):
        few = max(1, count // 10)
        start = time.perf_counter()
        for i in range(few):
            (patient / f"{i:04d}").read_bytes()
        one_by_one = few / (time.perf_counter() - start)
        start = time.perf_counter()
        with local_copy(str(patient)):
            together = count / (time.perf_counter() - start)
    server.kill()
    print(f"{count} objects of {len(BODY) >> 10} KiB, {delay_s * 1000:g} ms per request, one process")
    print(f"one after another  {one_by_one:8.1f} objects/s")
    print(f"lungct             {together:8.1f} objects/s   ({together / one_by_one:.1f} times)")


if __name__ == "__main__":
    main()
