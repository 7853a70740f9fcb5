"""moto's S3 server, answering one request at a time: `python s3_server.py -p PORT`.

moto checks the condition of a conditional write and writes in two steps. With two threads between them, two clients
that both ask to create one object are both told that they did, which no real store allows.
"""

from __future__ import annotations

import threading
from typing import Any

from moto import server


def one_at_a_time(app: Any) -> Any:
    """Wrap a WSGI application so that it answers one request at a time."""
    lock = threading.Lock()

    def serve(environ: Any, start_response: Any) -> list[bytes]:
        with lock:
            return list(app(environ, start_response))

    return serve


def main() -> None:
    serving: Any = server
    run_simple = serving.run_simple
    serving.run_simple = lambda host, port, app, **options: run_simple(host, port, one_at_a_time(app), **options)
    server.main()


if __name__ == "__main__":
    main()
