"""What must be right before the stack can start; whatever is not ends in one line that says what to do."""

import contextlib
import os
import shutil
import socket
import sys
from dataclasses import asdict

from local_stack.config import Ports, Stack, search_path

NEEDED_SPACE = 1 << 30  # bytes: databases, objects and logs of many runs
HINTS = {5000: " (on macOS that may be the AirPlay Receiver, System Settings > General > AirDrop & Handoff)"}


def check_folder(stack: Stack) -> None:
    """Make the state folder, and fail where it holds something else, cannot be written, or its disk is full."""
    _check_path(stack)
    try:
        if holds_other_things(stack):
            sys.exit(
                f"error: {stack.home} holds other files, and `make clean` would remove them: "
                "set LOCAL_STACK_DIR to an empty folder, or to one that does not exist"
            )
        stack.home.mkdir(parents=True, exist_ok=True)
        probe = stack.home / ".probe"
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        sys.exit(
            f"error: cannot write to {stack.home} ({error.strerror}): make it writable for you, "
            "or set LOCAL_STACK_DIR to a folder that is"
        )
    free = shutil.disk_usage(stack.home).free
    if free < NEEDED_SPACE:
        sys.exit(
            f"error: only {free >> 20} MB free below {stack.home}, {NEEDED_SPACE >> 20} MB are needed: "
            "free some space, or set LOCAL_STACK_DIR to a folder on another disk"
        )
    _ = stack.secrets  # made first: they tell that the folder is a stack's
    for folder in (stack.logs, stack.s3_data, stack.airflow_home, stack.wandb_dir):
        folder.mkdir(exist_ok=True)


def _check_path(stack: Stack) -> None:
    try:
        path = os.fsencode(stack.home).decode()
    except UnicodeDecodeError:
        sys.exit(f"error: the path {stack.home!r} is not UTF-8: set LOCAL_STACK_DIR to a folder whose path is")
    # a line break in a log or message; to PYTHONPATH, which a Celery worker's copy of the project is in, a colon ends a path
    refused = {character for character in path if character < " "} | ({":"} & set(path))
    if refused:
        named = ", ".join(sorted(map(repr, refused)))
        sys.exit(f"error: the path {path!r} may not hold {named}: set LOCAL_STACK_DIR to another folder")


def holds_other_things(stack: Stack) -> bool:
    """Whether the state folder is one that no stack has made."""
    return stack.home.exists() and any(stack.home.iterdir()) and not stack.secrets_file.exists()


def check_redis() -> None:
    """Fail where the queue's server is not installed."""
    if not shutil.which("redis-server", path=search_path()):
        sys.exit(
            "error: EXECUTOR=celery needs redis-server, which is not installed: install it (Debian, Ubuntu: apt install "
            "redis-server; macOS: brew install redis), or leave EXECUTOR out"
        )


def check_ports(ports: Ports, *, with_redis: bool = False) -> None:
    """Fail where another program listens on one of the ports."""
    numbers = {name: port for name, port in asdict(ports).items() if name != "redis" or with_redis}
    for name, port in numbers.items():
        variable = f"{name.upper()}_PORT"
        if list(numbers.values()).count(port) > 1:
            sys.exit(f"error: port {port} is wanted twice: give {variable} another number")
        if not _is_free(port):
            sys.exit(
                f"error: port {port}, wanted for {name}, is taken by another program{HINTS.get(port, '')}: stop that "
                f"program, or choose another port, for example: make start {variable}={_free_port_from(port + 1)}"
            )


def _is_free(port: int) -> bool:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.closing(socket.socket(family)) as probe, contextlib.suppress(OSError):
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                return False
    with contextlib.closing(socket.socket()) as probe:
        if os.name == "posix":  # as servers do: a port in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port_from(port: int) -> int:
    return next((number for number in range(port, 65536) if _is_free(number)), 0)
