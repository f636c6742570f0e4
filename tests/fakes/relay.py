"""A relay in front of a real server: it ends TLS, or refuses as a pooler does, and passes on everything else."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ssl import CERT_REQUIRED, PROTOCOL_TLS_SERVER, SSLContext

Greet = Callable[[socket.socket], tuple[socket.socket, bytes] | None]
SSL_REQUEST = 80877103  # PostgreSQL's code for "may we use TLS?"


@contextmanager
def relaying(port: int, greet: Greet) -> Iterator[int]:
    """Relay to that port of 127.0.0.1; gives the port to connect to.

    ``greet`` gets each new connection, and returns the socket to go on with and what it has read already, or None for a
    connection that it has refused.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with suppress(OSError), client:
            if greeted := greet(client):
                inner, begun = greeted
                with socket.create_connection(("127.0.0.1", port)) as server, inner:
                    server.sendall(begun)
                    back = threading.Thread(target=_pass_on, args=(server, inner), daemon=True)
                    back.start()
                    _pass_on(inner, server)
                    back.join()

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def with_tls(certificate: str, key: str, clients: str | None = None) -> Greet:
    """A relay that speaks TLS to the client, and plain text to the server; ``clients`` is the CA of those that may come."""
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients:
        context.verify_mode = CERT_REQUIRED
        context.load_verify_locations(clients)
    return lambda client: (context.wrap_socket(client, server_side=True), b"")


def as_postgres_with_tls(certificate: str, key: str) -> Greet:
    """A relay that lets in nobody without TLS, as PostgreSQL does with ``hostssl``; the local stack's is built without."""
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def greet(client: socket.socket) -> tuple[socket.socket, bytes] | None:
        if _begin(client) is not None:
            _refuse(client, "28000", "no pg_hba.conf entry for host, no encryption")
            return None
        client.sendall(b"S")
        return context.wrap_socket(client, server_side=True), b""

    return greet


def as_pooler(client: socket.socket) -> tuple[socket.socket, bytes] | None:
    """As PgBouncer does: no TLS, and no session with ``options``."""
    while (begun := _begin(client)) is None:
        client.sendall(b"N")
    if b"\0options\0" in begun:
        _refuse(client, "08P01", "unsupported startup parameter in options: statement_timeout")
        return None
    return client, begun


def _begin(client: socket.socket) -> bytes | None:
    """A PostgreSQL client's first message; None where it only asks for TLS."""
    length = _read(client, 4)
    body = _read(client, struct.unpack("!I", length)[0] - 4)
    return None if struct.unpack("!I", body[:4])[0] == SSL_REQUEST else length + body


def _refuse(client: socket.socket, code: str, message: str) -> None:
    words = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
    client.sendall(b"E" + struct.pack("!I", len(words) + 4) + words)


def _read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        if not part:
            raise ConnectionError("the client has gone")
        data += part
    return data
