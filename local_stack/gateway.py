"""Lets workers in networks of their own reach the stack's services: `python -m local_stack.gateway`.

Such a worker has nothing but a loopback device. What connects to a service's port there is passed on through a Unix socket
in the worker's folder, and from this process to the service. So the services listen on this machine's loopback only, the
worker uses the same addresses as everybody, and nothing needs root's rights.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from local_stack.config import CELERY_WORKERS, Stack

SOCKETS = "net"  # folder in the worker's home
LINGER = 5  # seconds
joined: set[asyncio.Task[Any] | None] = (
    set()
)  # the event loop itself does not keep them from being collected as garbage
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def service_ports(stack: Stack) -> tuple[int, ...]:
    """What a worker connects to: Airflow's api-server, PostgreSQL, S3, MLflow, Redis."""
    ports = stack.ports
    return ports.airflow, ports.postgres, ports.s3, ports.mlflow, ports.redis


def pass_on(connect: Connect) -> Handler:
    """A server's handler that joins each connection with a new one."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        joined.add(asyncio.current_task())
        # a service that is away: whoever asked sees a connection that is closed at once
        with contextlib.closing(writer), contextlib.suppress(OSError):
            other_reader, other_writer = await connect()
            with contextlib.closing(other_writer):
                await _join(_copy(reader, other_writer), _copy(other_reader, writer))
        joined.discard(asyncio.current_task())

    return handle


async def _join(*directions: Coroutine[Any, Any, None]) -> None:
    """Copy in both directions until one has ended, and then for as long as an answer may take."""
    copies = [asyncio.create_task(direction) for direction in directions]
    await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.wait(copies, timeout=LINGER)
    for copy in copies:
        copy.cancel()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # one of the two is gone
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve_worker(home: Path, ports: tuple[int, ...]) -> None:
    """On this machine: make the sockets in a worker's home, each of which leads to a service."""
    (home / SOCKETS).mkdir(parents=True, exist_ok=True)
    os.chdir(home)  # a socket's path has to be short
    for port in ports:
        connect = lambda port=port: asyncio.open_connection("127.0.0.1", port)  # noqa: E731
        await asyncio.start_unix_server(pass_on(connect), f"{SOCKETS}/{port}")


async def listen(home: Path, ports: tuple[int, ...]) -> None:
    """In the worker's network: listen on the services' ports and pass on to the sockets. Changes the working directory."""
    os.chdir(home)
    for port in ports:
        connect = lambda port=port: asyncio.open_unix_connection(f"{SOCKETS}/{port}")  # noqa: E731
        await asyncio.start_server(pass_on(connect), "127.0.0.1", port)


async def main() -> None:
    """Serve all workers, for ever."""
    stack = Stack()
    for name in CELERY_WORKERS:
        await serve_worker(stack.worker_home(name), service_ports(stack))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
