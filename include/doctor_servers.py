"""The doctor's checks of the servers behind the connections, with the same clients as the tasks.

Each check returns its result in one line, or raises: Trouble, or an error of a client, which include/client_errors.py
explains.
"""

import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from include.client_errors import s3_code
from include.errors import first_line
from include.servers.connections import variable_of
from include.servers.mlflow import mlflow_server
from include.servers.postgres import postgres_server
from include.servers.s3 import set_up_clients
from include.settings import settings

TIMEOUT = 5  # seconds for one answer of a service
EXPERIMENT = "doctor"
START = "start the stack (make start, or astro dev start)"


class Trouble(Exception):
    """What is wrong, and how to fix it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. To mend it: {remedy}")
        self.problem, self.remedy = problem, remedy


def check_ports() -> str:
    """The address of each connection, or the proxy in front of it, accepts connections."""
    warehouse = postgres_server()
    addresses = {"S3": _way_to(_s3()[1]), "MLflow": _way_to(mlflow_server().url)}
    if warehouse.host and not set(warehouse.host) & set("/,"):  # neither a socket nor a list of servers
        addresses["PostgreSQL"] = (warehouse.host, warehouse.port or 5432)
    closed = []
    for name, address in addresses.items():
        try:
            socket.create_connection(address, timeout=TIMEOUT).close()
        except OSError as error:
            closed.append(f"{name} at {_shown(address)} ({error.strerror or first_line(error)})")
    if closed:
        raise Trouble(f"nothing listens for {', '.join(closed)}", f"{START}, or correct the connection")
    return ", ".join(f"{name} at {_shown(address)}" for name, address in addresses.items())


def _way_to(url: str) -> tuple[str, int]:
    """The host and port that a client connects to: the server's, or the proxy's."""
    from requests.utils import get_environ_proxies, select_proxy

    parts = urlsplit(select_proxy(url, get_environ_proxies(url)) or url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _shown(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


# S3


def check_s3() -> str:
    """The endpoint answers and accepts the login."""
    client, address = _s3()
    try:
        names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    except Exception as error:
        if s3_code(error) == "AccessDenied":  # a login may be restricted to its buckets
            return f"{address} answers and knows the login, which may not list buckets"
        raise
    return f"{address} answers and accepts the login; buckets: {', '.join(names) or 'none yet'}"


def check_bucket(bucket: str) -> str:
    """An object can be written, read, listed and deleted."""
    client, _ = _s3()
    key, content = f".doctor/{uuid.uuid4().hex}", b"written by doctor"
    check_s3()  # says more clearly what is wrong with address or login
    with _rights(bucket, "s3:ListBucket, GetObject, PutObject and DeleteObject"):
        if not _is_there(client, bucket):
            return "not there yet: the first run makes it"
        client.put_object(Bucket=bucket, Key=key, Body=content)
        try:
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != content:
                raise Trouble(f"bucket {bucket} does not return what was written", "look at the log of the S3 server")
            client.list_objects_v2(Bucket=bucket, Prefix=key)
        finally:
            client.delete_object(Bucket=bucket, Key=key)
    return "can be written, read, listed and cleaned"


def _s3() -> tuple[Any, str]:
    """A client with short timeouts, and the endpoint's address."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    set_up_clients()
    hook = S3Hook(aws_conn_id=settings.aws_conn_id)
    limits = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"total_max_attempts": 1})
    client = hook.get_client_type(config=hook.config.merge(limits))
    return client, client.meta.endpoint_url


def _is_there(client: Any, bucket: str) -> bool:
    try:
        client.head_bucket(Bucket=bucket)
    except Exception as error:
        if s3_code(error) in ("404", "NoSuchBucket"):
            return False
        raise
    return True


@contextmanager
def _rights(bucket: str, needed: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if s3_code(error) not in ("403", "AccessDenied"):
            raise
        remedy = f"grant {needed} on bucket {bucket} to the login of {_named(settings.aws_conn_id)}"
        operation = getattr(error, "operation_name", "this")
        raise Trouble(f"the object store refuses {operation} in bucket {bucket} (access denied)", remedy) from error


# MLflow


def check_mlflow() -> str:
    """The server answers this host name and login, and has the client's version."""
    from include.mlflow_api import MLflowHook, call_mlflow

    call_mlflow("GET", "experiments/search", max_results=1)
    hook = MLflowHook("GET")
    served = hook.run("version").text.strip()
    installed = version("mlflow-skinny")
    if served != installed:
        remedy = f"install {installed} on the server (MLFLOW_IMAGE in the Astro stack), or lock {served[:20]} here"
        raise Trouble(f"the server is MLflow {served[:20]}, the client {installed}", remedy)
    return f"{hook.base_url} answers this host name and login, version {served}"


def check_artifacts() -> str:
    """A run's artifact can be written and read back; run and artifact are removed again."""
    import mlflow

    from include.mlflow_experiment import create_or_restore_experiment, is_usable, list_experiments
    from include.mlflow_tracking import connect_mlflow
    from include.object_store import object_path

    check_mlflow()  # the calls below would wait for a server that is unavailable
    check_s3()
    bucket = settings.mlflow_artifact_bucket
    with _rights(bucket, "s3:ListBucket"):
        if not _is_there(_s3()[0], bucket):
            return f"bucket {bucket} is not there yet: the first run of feature_eng makes it"
    connect_mlflow()
    existing = list_experiments(EXPERIMENT)
    if not is_usable(existing, EXPERIMENT):
        create_or_restore_experiment(existing, EXPERIMENT, f"s3://{bucket}/{EXPERIMENT}")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name(EXPERIMENT)
    run = client.create_run(experiment.experiment_id, run_name=EXPERIMENT)
    location = f"{run.info.artifact_uri}/doctor.txt"
    try:
        with _rights(bucket, "s3:GetObject and PutObject"):
            client.log_text(run.info.run_id, "written by doctor", "doctor.txt")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(client.download_artifacts(run.info.run_id, "doctor.txt", folder))
                if path.read_text(encoding="utf-8") != "written by doctor":
                    raise Trouble(f"{location} is not what was written", "look at the log of the S3 server")
            listed = [each.path for each in client.list_artifacts(run.info.run_id)]
    finally:
        with suppress(Exception):
            object_path(location).unlink()
        client.delete_run(run.info.run_id)
        client.delete_experiment(experiment.experiment_id)
    if listed != ["doctor.txt"]:
        remedy = "give the MLflow server the same endpoint and keys as the connection of S3"
        raise Trouble("the MLflow server does not see what tasks write", remedy)
    return f"written to s3://{bucket}/, read back, and seen by the server"


# PostgreSQL


def check_postgres() -> str:
    """The warehouse answers, accepts the login, and lets it make schemas, tables and rows; all is rolled back."""
    from psycopg import errors, sql

    from include.warehouse import postgres_hook

    server, schema = postgres_server(), settings.churn.warehouse_schema
    with closing(postgres_hook(connect_timeout=str(TIMEOUT)).get_conn()) as session, session.cursor() as cursor:
        try:
            # within the transaction, because a pooler may reject options at the start of a session
            for limit in ("statement_timeout", "lock_timeout"):
                cursor.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(limit), sql.Literal(f"{TIMEOUT}s")))
            # as the Astro SDK does; "if not exists" alone asks for a right that an existing schema makes needless
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            table = sql.Identifier(schema, f"doctor_{uuid.uuid4().hex[:8]}")
            cursor.execute(sql.SQL("CREATE TABLE {} (n int)").format(table))
            cursor.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(table))
        except errors.InsufficientPrivilege as error:
            remedy = (
                f'GRANT CREATE ON DATABASE "{server.database}" TO "{server.login}"; or make schema {schema} its own'
            )
            raise Trouble(f"{server.address}: {first_line(error)}", remedy) from error
        finally:
            session.rollback()
        number = session.info.server_version // 10000
    return f"{server.address} (version {number}) accepts the login, which may make tables in schema {schema}"


def _named(conn_id: str) -> str:
    return f"connection {conn_id} ({variable_of(conn_id)})"
