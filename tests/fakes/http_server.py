"""A server on loopback that answers as a test wants it, for clients that are to meet what no real server here says."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("werkzeug", reason="needs werkzeug, which the Astro image lacks: make test")

from werkzeug import Request, Response
from werkzeug.serving import make_server


@contextmanager
def answering(answer: Callable[[Request], Response]) -> Iterator[str]:
    """Answer every request with what the function returns; gives the server's address."""
    server = make_server("127.0.0.1", 0, Request.application(answer), threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
