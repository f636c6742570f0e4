"""What `make doctor` and the DAG `doctor` check: every connection and service, from where the tasks run.

A check is a function that returns what it has found, in one line, or raises Trouble with what is wrong and what mends it.
``examine`` bounds each in time. None changes anything that stays, but for a deleted MLflow experiment "doctor".
"""

import os
import shutil
import socket
import sys
import tempfile
import threading
import tomllib
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import Requirement

from include.errors import ConfigurationError
from include.settings import INCLUDE, settings

PROJECT = INCLUDE.parent
TIMEOUT = 5  # seconds for one answer of a service
LIMIT = 40  # seconds for one check; the longest talks to a service a dozen times
EXPERIMENT = "doctor"
XCOM_BACKEND = "include.xcom_backend.ObjectStoreXComBackend"
START = "start the stack (make start, or astro dev start)"


class Trouble(Exception):
    """What is wrong, and what mends it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. To mend it: {remedy}")
        self.problem, self.remedy = problem, remedy


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; ``remedy`` is empty where all is well."""

    label: str
    found: str
    remedy: str = ""

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.remedy


def checks() -> dict[str, Callable[[], str]]:
    """All checks by label; cheap, so that a DAG file can ask for the labels."""
    buckets = dict.fromkeys(settings.buckets)
    return {
        "Versions": check_versions,
        "Airflow": check_airflow,
        "Ports": check_ports,
        "S3": check_s3,
        **{f"S3 bucket {bucket}": partial(check_bucket, bucket) for bucket in buckets},
        "MLflow": check_mlflow,
        "MLflow artifacts": check_artifacts,
        "PostgreSQL": check_postgres,
        "Weights & Biases": check_wandb,
        "Notifications": check_notifications,
    }


def examine(label: str, limit: float = LIMIT) -> Finding:
    """Run one check, for at most ``limit`` seconds."""
    outcome: list[Finding] = []

    def run() -> None:
        try:
            outcome.append(Finding(label, checks()[label]()))
        except Trouble as trouble:
            outcome.append(Finding(label, trouble.problem, trouble.remedy))
        except Exception as error:  # whatever it is: a doctor must not fall ill
            reason = _first_line(error) or type(error).__name__
            outcome.append(Finding(label, reason, "the check did not expect this: see the log of that service"))

    # a thread that cannot be stopped is left behind; a daemon, so that the process can end
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    return next(iter(outcome), Finding(label, f"no result within {limit:.0f} s", f"{START}, or look at its load"))


# S3


def check_s3() -> str:
    """The endpoint answers and accepts the login."""
    client, address = _s3()
    with _s3_explained(address):
        try:
            names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
        except Exception as error:
            if _error_code(error) == "AccessDenied":  # a login may be restricted to its buckets
                return f"{address} answers and knows the login, which may not list buckets"
            raise
    return f"{address} answers and accepts the login; buckets: {', '.join(names) or 'none yet'}"


def check_bucket(bucket: str) -> str:
    """An object can be written, read, listed and deleted."""
    client, address = _s3()
    key, content = f".doctor/{uuid.uuid4().hex}", b"written by doctor"
    needed = "s3:ListBucket, GetObject, PutObject and DeleteObject"
    rights = f"grant {needed} on bucket {bucket} to the login of {_named(settings.aws_conn_id)}"
    check_s3()  # says better what is wrong with address or login
    with _s3_explained(address, rights):
        try:
            client.head_bucket(Bucket=bucket)
        except Exception as error:
            if _error_code(error) in ("404", "NoSuchBucket"):
                return "not there yet: the first run makes it"
            raise
        client.put_object(Bucket=bucket, Key=key, Body=content)
        try:
            if client.get_object(Bucket=bucket, Key=key)["Body"].read() != content:
                raise Trouble(f"bucket {bucket} does not return what was written", "look at the log of the S3 server")
            client.list_objects_v2(Bucket=bucket, Prefix=key)
        finally:
            client.delete_object(Bucket=bucket, Key=key)
    return "can be written, read, listed and cleaned"


def _s3() -> tuple[Any, str]:
    """A client that gives up soon, and the endpoint's address."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from botocore.config import Config

    _connection(settings.aws_conn_id)
    limits = Config(connect_timeout=TIMEOUT, read_timeout=TIMEOUT, retries={"total_max_attempts": 1})
    client = S3Hook(aws_conn_id=settings.aws_conn_id, config=limits).get_conn()
    return client, client.meta.endpoint_url


@contextmanager
def _s3_explained(address: str, rights: str = "grant it to the login") -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as error:
        remedy = f"set login and password of {_named(settings.aws_conn_id)}"
        raise Trouble(f"there are no credentials for {address}", remedy) from error
    except BotoCoreError as error:
        raise Trouble(
            f"{address} does not answer ({type(error).__name__})",
            f"{START}, or correct endpoint_url of {_named(settings.aws_conn_id)}",
        ) from error
    except ClientError as error:
        code = _error_code(error)
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId"):
            remedy = f"correct login and password of {_named(settings.aws_conn_id)}"
            raise Trouble(f"{address} does not accept the login ({code})", remedy) from error
        if code in ("403", "AccessDenied"):
            raise Trouble(f"{address} refuses {error.operation_name} (access denied)", rights) from error
        raise Trouble(
            f"{address} answers {error.operation_name} with {code}", "look at the log of the S3 server"
        ) from error


def _error_code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


# MLflow


def check_mlflow() -> str:
    """The server answers this host name and login, and has the client's version."""
    import requests

    from include.mlflow_tracking import tracking_uri

    connection = _connection(settings.mlflow_conn_id)
    address = tracking_uri(connection)
    name = _named(settings.mlflow_conn_id)
    login = (connection.login, connection.password or "") if connection.login else None
    try:
        answer = requests.get(
            f"{address}/api/2.0/mlflow/experiments/search", params={"max_results": 1}, auth=login, timeout=TIMEOUT
        )
        served = requests.get(f"{address}/version", auth=login, timeout=TIMEOUT).text.strip()
    except requests.RequestException as error:
        raise Trouble(
            f"{address} does not answer ({type(error).__name__})", f"{START}, or correct the host of {name}"
        ) from error
    if "host header" in answer.text.lower():
        host = urlsplit(address).netloc
        raise Trouble(f"{address} refuses the host name {host}", f"add {host} to MLFLOW_ALLOWED_HOSTS of the server")
    if answer.status_code in (401, 403):
        raise Trouble(
            f"{address} does not accept the login (HTTP {answer.status_code})", f"correct login and password of {name}"
        )
    if answer.status_code != 200 or "json" not in answer.headers.get("content-type", ""):
        raise Trouble(f"{address} is no MLflow server (HTTP {answer.status_code})", f"correct the host of {name}")
    installed = version("mlflow-skinny")
    if served != installed:
        remedy = f"install {installed} on the server (MLFLOW_IMAGE in the Astro stack), or lock {served} here"
        raise Trouble(f"the server is MLflow {served}, the client {installed}", remedy)
    return f"{address} answers this host name and login, version {served}"


def check_artifacts() -> str:
    """A run's artifact can be written and read back; run and artifact are removed again."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from include.mlflow_experiment import create_or_restore_experiment, is_usable, list_experiments
    from include.mlflow_tracking import connect_mlflow
    from include.object_store import object_path

    check_mlflow()  # the calls below would wait for a server that is away
    check_s3()
    client, address = _s3()
    bucket = settings.mlflow_artifact_bucket
    with _s3_explained(address, f"grant s3:ListBucket on bucket {bucket}"), _suppress_missing():
        client.head_bucket(Bucket=bucket)
        connect_mlflow()
        existing = list_experiments(EXPERIMENT)
        if not is_usable(existing, EXPERIMENT):
            create_or_restore_experiment(existing, EXPERIMENT, f"s3://{bucket}/{EXPERIMENT}")
        mlflow_client = mlflow.MlflowClient()
        experiment = mlflow_client.get_experiment_by_name(EXPERIMENT)
        run = mlflow_client.create_run(experiment.experiment_id, run_name=EXPERIMENT)
        location = f"{run.info.artifact_uri}/doctor.txt"
        try:
            mlflow_client.log_text(run.info.run_id, "written by doctor", "doctor.txt")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(mlflow_client.download_artifacts(run.info.run_id, "doctor.txt", folder))
                if path.read_text(encoding="utf-8") != "written by doctor":
                    raise Trouble(f"{location} is not what was written", "look at the log of the S3 server")
            listed = [each.path for each in mlflow_client.list_artifacts(run.info.run_id)]
        except (MlflowException, OSError) as error:
            remedy = (
                f"look at the check of S3 bucket {bucket}; MLFLOW_DEFAULT_ARTIFACT_ROOT must name a bucket of that S3"
            )
            raise Trouble(f"{location} cannot be written and read: {_first_line(error)}", remedy) from error
        finally:
            with suppress(Exception):
                object_path(location).unlink()
            mlflow_client.delete_run(run.info.run_id)
            mlflow_client.delete_experiment(experiment.experiment_id)
        if listed != ["doctor.txt"]:
            remedy = "give the MLflow server the same endpoint and keys as the connection of S3"
            raise Trouble("the MLflow server does not see what tasks write", remedy)
        return f"written to s3://{bucket}/, read back, and seen by the server"
    return f"bucket {bucket} is not there yet: the first run of feature_eng makes it"


@contextmanager
def _suppress_missing() -> Iterator[None]:
    """Leave the block where S3 says that there is no such bucket."""
    try:
        yield
    except Exception as error:
        if _error_code(error) not in ("404", "NoSuchBucket"):
            raise


# PostgreSQL


def check_postgres() -> str:
    """The warehouse answers, accepts the login, and lets it make schemas, tables and rows; all is rolled back."""
    import psycopg2
    from psycopg2 import errors, sql

    connection = _connection(settings.postgres_conn_id)
    name = _named(settings.postgres_conn_id)
    where = f"{connection.host}:{connection.port or 5432}/{connection.schema}"
    arguments: dict[str, Any] = (
        {"sslmode": connection.extra_dejson["sslmode"]} if "sslmode" in connection.extra_dejson else {}
    )
    try:
        session = psycopg2.connect(
            host=connection.host,
            port=connection.port or 5432,
            user=connection.login,
            password=connection.password,
            dbname=connection.schema,
            connect_timeout=TIMEOUT,
            options=f"-c statement_timeout={TIMEOUT}s -c lock_timeout={TIMEOUT}s",
            **arguments,
        )
    except psycopg2.OperationalError as error:
        said = _first_line(error)
        if "authentication failed" in said or "role" in said:
            raise Trouble(f"{where} does not accept the login", f"correct login and password of {name}") from error
        if "permission denied" in said:
            remedy = f'GRANT CONNECT ON DATABASE "{connection.schema}" TO "{connection.login}"'
            raise Trouble(f"{where}: {said.rpartition('FATAL:')[2].strip()}", remedy) from error
        if "does not exist" in said:
            raise Trouble(f"{where}: there is no such database", f"make it, or correct the schema of {name}") from error
        raise Trouble(f"{where} does not answer ({said})", f"{START}, or correct host and port of {name}") from error
    schema = settings.churn.warehouse_schema
    with closing(session), session.cursor() as cursor:
        try:
            # as the Astro SDK does; "if not exists" alone asks for a right that an existing schema makes needless
            cursor.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            table = sql.Identifier(schema, f"doctor_{uuid.uuid4().hex[:8]}")
            cursor.execute(sql.SQL("CREATE TABLE {} (n int)").format(table))
            cursor.execute(sql.SQL("INSERT INTO {} VALUES (1)").format(table))
        except errors.InsufficientPrivilege as error:
            remedy = f'GRANT CREATE ON DATABASE "{connection.schema}" TO "{connection.login}"; or make schema {schema} its own'
            raise Trouble(f"{where}: {_first_line(error)}", remedy) from error
        finally:
            session.rollback()
        number = session.server_version // 10000
    return f"{where} (version {number}) accepts the login, which may make tables in schema {schema}"


# Weights & Biases


def check_wandb() -> str:
    """The mode; online the server and the key, offline the folder."""
    import requests

    from include.wandb_tracking import runs_folder, tracking_target

    try:
        target = tracking_target()
    except ConfigurationError as error:
        raise Trouble(f"WANDB_MODE={os.environ.get('WANDB_MODE')} cannot be", str(error)) from error
    folder = runs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Trouble(f"{folder} cannot be written ({error.strerror})", "set WANDB_DIR to a folder that can") from error
    if not target.online:
        return f"{target}; runs are recorded in {folder}"
    query = {"query": "query Viewer { viewer { username } }"}
    key = ("api", os.environ.get("WANDB_API_KEY", ""))
    try:
        answer = requests.post(f"{target.base_url.rstrip('/')}/graphql", json=query, auth=key, timeout=TIMEOUT)
    except (requests.RequestException, ValueError) as error:
        remedy = "correct WANDB_BASE_URL or the network; WANDB_MODE=offline works without"
        raise Trouble(f"{target.base_url} does not answer ({type(error).__name__})", remedy) from error
    viewer = (
        answer.json().get("data", {}).get("viewer")
        if answer.ok and "json" in answer.headers.get("content-type", "")
        else None
    )
    if not viewer:
        remedy = f"set WANDB_API_KEY to a key of that server ({target.base_url.replace('api.', '', 1)}/authorize)"
        raise Trouble(f"{target.base_url} does not accept the key (HTTP {answer.status_code})", remedy)
    return f"{target}; logged in as {viewer.get('username')}"


# this installation


def check_versions() -> str:
    """What is installed is what requirements.txt and the lock say."""
    lines = (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    wanted = {
        each.name: str(each.specifier).removeprefix("==")
        for each in pinned
        if each.marker is None or each.marker.evaluate()
    }
    lock = tomllib.loads((PROJECT / "uv.lock").read_text(encoding="utf-8"))
    left_out = ("apache-airflow", "astro-sdk-python", "airflow-provider-mlflow")  # of requirements.txt, see its header
    wanted |= {each["name"]: each["version"] for each in lock["package"] if each["name"] in left_out}
    differing = []
    for name, locked in wanted.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "missing"
        if installed.partition("+")[0] != locked:  # Astro's own build of Airflow has a local version
            differing.append(f"{name} {installed}, locked {locked}")
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise Trouble(f"{'; '.join(differing[:5])}{more}", "make setup; in the Astro stack: astro dev restart")
    return f"{len(wanted)} packages as locked, Airflow {wanted['apache-airflow']}"


def check_airflow() -> str:
    """Airflow has the settings that the DAGs rely on, and uv for the environments of predictions."""
    from airflow.configuration import conf

    backend = conf.get("core", "xcom_backend")
    if backend != XCOM_BACKEND:
        raise Trouble(f"XComs go to {backend}", f"set AIRFLOW__CORE__XCOM_BACKEND={XCOM_BACKEND}, see .env_example")
    allowed = conf.get("core", "allowed_deserialization_classes").split()
    if not {"airflow.*", "astro.*"} <= set(allowed):
        remedy = "set AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES=airflow.* astro.*, see .env_example"
        raise Trouble(f"from XComs only {' '.join(allowed)} may be read", remedy)
    if not shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])):
        raise Trouble(
            "uv, which builds the environments of predictions, is not there", "make setup, or rebuild the image"
        )
    return f"DataFrames in XComs go to bucket {settings.xcom_bucket}; uv is there"


def check_ports() -> str:
    """Each address of the connections takes connections."""
    from include.mlflow_tracking import tracking_uri

    mlflow, s3 = urlsplit(tracking_uri(_connection(settings.mlflow_conn_id))), urlsplit(_s3()[1])
    warehouse = _connection(settings.postgres_conn_id)
    addresses = {
        "S3": (s3.hostname, s3.port or (443 if s3.scheme == "https" else 80)),
        "MLflow": (mlflow.hostname, mlflow.port or (443 if mlflow.scheme == "https" else 80)),
        "PostgreSQL": (warehouse.host, warehouse.port or 5432),
    }
    closed = []
    for name, (host, port) in addresses.items():
        try:
            socket.create_connection((host or "", port), timeout=TIMEOUT).close()
        except OSError as error:
            closed.append(f"{name} at {host}:{port} ({error.strerror or _first_line(error)})")
    if closed:
        raise Trouble(f"nothing listens for {', '.join(closed)}", f"{START}, or correct the connection")
    return ", ".join(f"{name} at {host}:{port}" for name, (host, port) in addresses.items())


def check_notifications() -> str:
    """PIPELINES_NOTIFY_URL, if it is set, is one that Apprise understands; nothing is sent."""
    from include.notifications import understood

    if not settings.pipelines.notify_url:
        return "failures are told in the log only (PIPELINES_NOTIFY_URL is not set)"
    if problem := understood(settings.pipelines.notify_url.get_secret_value()):
        raise Trouble(*problem)
    return "failures are told in the log and where PIPELINES_NOTIFY_URL says"


# what several need


def _connection(id_: str) -> Any:
    from airflow.exceptions import AirflowNotFoundException
    from airflow.hooks.base import BaseHook

    try:
        return BaseHook.get_connection(id_)
    except AirflowNotFoundException as error:
        if (variable := f"AIRFLOW_CONN_{id_.upper()}") in os.environ:  # Airflow does not say that it cannot read it
            raise Trouble(
                f"{variable} is set but cannot be read", "write it as one line of JSON, see .env_example"
            ) from error
        remedy = f"define it as {variable} (see .env_example), or in the UI at Admin > Connections"
        raise Trouble(f"there is no connection {id_}", remedy) from error
    except Exception as error:
        raise Trouble(
            f"connection {id_} cannot be read: {_first_line(error)}", f"correct AIRFLOW_CONN_{id_.upper()}"
        ) from error


def _named(id_: str) -> str:
    return f"connection {id_} (AIRFLOW_CONN_{id_.upper()})"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
