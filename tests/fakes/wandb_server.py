"""A W&B server for tests: speaks to the real client (wandb 0.27.2) over loopback, standard library only.

It covers what one train and one predict need: runs with config, history, summary and files, resuming, artifacts with
versions and aliases, and ``wandb sync``. What a run uploaded can be read from Python (``server.run(...)``,
``server.versions(...)``), and faults can be switched on (``server.faults``, ``server.die()``).

    with FakeWandb(api_key="x" * 40) as server:
        ...  # WANDB_BASE_URL=server.url
"""

import argparse
import base64
import gzip
import hashlib
import json
import logging
import re
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from tests.fakes.wandb_graphql import GraphQL

OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")

KEY = "5ecre7" * 7  # for tests: as long as a real one, and found nowhere else
SECRETS = (KEY.encode(), base64.b64encode(f"api:{KEY}".encode()))  # as it is, and as HTTP sends it

log = logging.getLogger(__name__)


def files_with_key(folder: Path) -> list[Path]:
    """Files below the folder that hold the tests' key."""
    return [path for path in folder.rglob("*") if _holds_key(path)]


def _holds_key(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with suppress(FileNotFoundError):  # removed meanwhile, by a service that runs
        content = path.read_bytes()
        return any(secret in content for secret in SECRETS)
    return False


@dataclass
class Faults:
    """What the server does wrong from now on."""

    hang_downloads: bool = False  # accepts the request for a file and never answers
    hang_uploads: bool = False  # takes a file and never says so
    tampered: dict[str, bytes] = field(default_factory=dict)  # file name -> what is served in its place
    die_at: str | None = None  # the GraphQL operation at which the server goes away
    # what it answers in place of its own answer, as (HTTP status, body); by GraphQL operation ("UpsertBucket", or for one run
    # alone "UpsertBucket <id>"), file_stream, upload or download
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)


class FakeWandb(GraphQL):
    """The server and its state; a context manager."""

    def __init__(self, api_key: str, port: int = 0, certificate: Path | None = None) -> None:
        super().__init__()
        self.api_key = api_key
        self.scheme = "https" if certificate else "http"
        self.faults = Faults()
        self.operations: list[str] = []  # names of the GraphQL operations, in order
        self.problems: list[str] = []  # what this server could not answer; a test should find none
        self.downloads: list[str] = []  # names of the artifact files that were fetched
        self.connections = 0  # how many there have been
        self._lock = threading.RLock()
        self._sockets: set[socket.socket] = set()
        self._stopped = threading.Event()
        self._http = _Server(self, port)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    # life

    @property
    def url(self) -> str:  # type: ignore[override]
        """For WANDB_BASE_URL."""
        return f"{self.scheme}://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Go away: refuse connections and cut those that exist."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    # what tests do to it

    def delete_run(self, name: str) -> None:
        """Delete a run, as its owner does in the browser; its id is never given again."""
        run = self.run(name)
        del self._runs[run.entity, run.project, name]
        said = f"run {run.entity}/{run.project}/{name} was previously created and deleted; try a new run name"
        self.faults.answers[f"UpsertBucket {name}"] = (409, json.dumps({"errors": [{"message": said}]}))

    # plumbing, called by the request handler

    def track(self, connection: socket.socket) -> None:
        """Remember a connection, so that ``die`` can cut it."""
        with self._lock:
            self.connections += 1
            self._sockets.add(connection)

    def forget(self, connection: socket.socket) -> None:
        """The connection is closed."""
        with self._lock:
            self._sockets.discard(connection)

    def authorised(self, header: str | None) -> bool:
        """Whether the request carries HTTP Basic ``api:KEY``."""
        expected = "Basic " + base64.b64encode(f"api:{self.api_key}".encode()).decode()
        return header == expected

    def operation(self, body: dict[str, Any]) -> str:
        """The name of the GraphQL operation that is asked for."""
        match = OPERATION.search(body["query"])
        return match[1] if match else "Viewer"  # the one nameless query asks whether the key is good

    def graphql(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Answer one GraphQL request; None means that the server has just died."""
        name = self.operation(body)
        if name == self.faults.die_at:
            threading.Thread(target=self.die, daemon=True).start()
            return None
        answer: Callable[[dict[str, Any]], dict[str, Any]] | None = getattr(self, f"_on_{name}", None)
        if answer is None:
            self.problems.append(f"unknown operation {name}")
            return {"errors": [{"message": f"the fake server does not know {name}"}]}
        with self._lock:
            try:
                return {"data": answer(body.get("variables") or {})}
            except Exception as failure:  # an answer, or else the client would try for ever
                self.problems.append(f"{name}: {failure!r} {body}")
                return {"errors": [{"message": repr(failure)}], "data": None}

    def file_stream(self, entity: str, project: str, name: str, body: dict[str, Any]) -> None:
        """Take history, summary, events and console lines of a run."""
        with self._lock:
            run = self._runs[entity, project, name]
            for file, chunk in (body.get("files") or {}).items():
                lines = run.lines.setdefault(file, {})
                lines.update(enumerate(chunk["content"], start=chunk["offset"]))
                if file == "wandb-summary.json":
                    run.summary = json.loads(chunk["content"][-1])
            if body.get("complete"):
                run.exit_code = body.get("exitcode", 0)
                run.state = "finished" if run.exit_code == 0 else "failed"

    def upload(self, key: str, content: bytes) -> None:
        """Take the bytes that a URL of this server was handed out for; hangs if it is told to."""
        if self.faults.hang_uploads:
            self._stopped.wait()
        kind, _, rest = key.partition("/")
        with self._lock:
            if kind == "run":
                run_id, _, name = rest.partition("/")
                next(run for run in self.runs if run.id == run_id).files[name] = content
            else:
                self._blobs[rest] = content

    def download(self, key: str, name: str) -> bytes | None:
        """The bytes behind a URL, or None if there are none; hangs or lies if it is told to."""
        if key not in self._blobs:
            return None
        if name != "manifest":
            with self._lock:
                self.downloads.append(name)
            if self.faults.hang_downloads:
                self._stopped.wait()
            if name in self.faults.tampered:
                return self.faults.tampered[name]
        return self._blobs[key]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def setup(self) -> None:
        super().setup()
        self.server.fake.track(self.connection)

    def finish(self) -> None:
        self.server.fake.forget(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (named by the base class)
        log.debug(format, *args)

    def do_POST(self) -> None:
        raw = self._body()
        if not self.server.fake.authorised(self.headers.get("Authorization")):
            self._json({"errors": [{"message": "user is not logged in"}]}, status=401)
        elif self.path.startswith("/graphql"):
            self._graphql(json.loads(raw))
        elif not self._faulty("file_stream"):
            _, _, entity, project, run, _ = unquote(self.path).split("/")  # /files/E/P/R/file_stream
            self.server.fake.file_stream(entity, project, run, json.loads(raw))
            self._json({"exitcode": None, "limits": {}})

    def do_PUT(self) -> None:
        # The URL is its own permission, as a signed one is.
        body = self._body()
        if not self._faulty("upload"):
            self.server.fake.upload(unquote(self.path).removeprefix("/storage/"), body)
            self._json({})

    def do_GET(self) -> None:
        if self._faulty("download"):
            return
        _, _, kind, key, name = [*unquote(self.path).split("/", 4), "", "", ""][:5]
        content = self.server.fake.download(key, name) if kind == "blob" else None
        self._send(404 if content is None else 200, content or b"", "application/octet-stream")

    def _faulty(self, operation: str) -> bool:
        """Answer in place of the server where a test wants that."""
        fault = self.server.fake.faults.answers.get(operation)
        if fault:
            self._send(fault[0], fault[1].encode(), "text/html" if fault[1].startswith("<") else "application/json")
        return bool(fault)

    def _graphql(self, body: dict[str, Any]) -> None:
        operation = self.server.fake.operation(body)
        self.server.fake.operations.append(operation)
        if self._faulty(f"{operation} {(body.get('variables') or {}).get('name')}") or self._faulty(operation):
            return
        answer = self.server.fake.graphql(body)
        if answer is None:
            self.close_connection = True
        else:
            self._json(answer)

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _json(self, answer: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status: int, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", hashlib.md5(content, usedforsecurity=False).hexdigest())
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a handler that hangs on purpose must not hold up the test

    def __init__(self, fake: FakeWandb, port: int) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("connection of %s broke", client_address, exc_info=True)


def main() -> None:
    """Serve until interrupted, to look at by hand."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--api-key", default="0" * 40)
    arguments = parser.parse_args()
    with FakeWandb(arguments.api_key, arguments.port) as server, suppress(KeyboardInterrupt):
        print(f"export WANDB_BASE_URL={server.url} WANDB_API_KEY={arguments.api_key}", flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
