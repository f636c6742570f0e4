"""An HTTP proxy that alone knows the way to a host: of an internal network, as far as the clients can tell."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Proxy(NamedTuple):
    """Its address, and what it has been asked for."""

    url: str
    asked: list[str]


@contextmanager
def proxy_to(hosts: dict[str, int]) -> Iterator[Proxy]:
    """Forward what is asked of these hosts to ports of 127.0.0.1; for all others the answer is 403."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            asked.append(f"{self.command} {self.path}")
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if parts.hostname not in hosts:
                self.answer(403, {}, b"not in my network")
                return
            if self.headers.get("Expect"):
                del self.headers["Expect"]
            server = HTTPConnection("127.0.0.1", hosts[parts.hostname], timeout=30)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "proxy-connection"}
            server.request(self.command, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
            response = server.getresponse()
            self.answer(response.status, dict(response.getheaders()), response.read())

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            length = headers.get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_CONNECT = forward  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing: pytest shows what was asked."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield Proxy(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        server.server_close()
