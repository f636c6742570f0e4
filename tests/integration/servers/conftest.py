"""Real servers, each by itself: an S3 server, an MLflow server and a PostgreSQL, with TLS and without."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from include.servers.connections import NETWORK_VARIABLES
from include.servers.mlflow import MLFLOW_VARIABLES
from include.servers.s3 import S3_VARIABLES
from include.settings import settings
from tests.fakes.relay import as_postgres_with_tls, relaying, with_tls
from tests.support.certificates import Certificates, make_certificates
from tests.support.servers import Port, Postgres, serving_mlflow, serving_postgres, serving_s3


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def s3_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("s3")
    for bucket in settings.buckets:  # to rclone a folder is a bucket
        (folder / bucket).mkdir()
    return folder


@pytest.fixture(scope="session")
def s3(s3_data: Path) -> Iterator[Port]:
    """An S3 server, by plain HTTP."""
    with serving_s3(s3_data) as served:
        yield served


@pytest.fixture(scope="session")
def s3_tls(s3_data: Path, certificates: Certificates) -> Iterator[Port]:
    """The same objects by HTTPS, with a certificate that nobody trusts."""
    with serving_s3(s3_data, "--cert", certificates.certificate, "--key", certificates.key) as served:
        yield served


@pytest.fixture(scope="session")
def mlflow(s3: Port, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    """An MLflow server, by plain HTTP."""
    with serving_mlflow(tmp_path_factory.mktemp("mlflow"), s3) as served:
        yield served


@pytest.fixture(scope="session")
def mlflow_tls(mlflow: Port, certificates: Certificates) -> Iterator[Port]:
    """The same server by HTTPS, with a certificate that nobody trusts."""
    with relaying(mlflow.number, with_tls(certificates.certificate, certificates.key)) as port:
        yield Port(port)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that knows no TLS."""
    with serving_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_tls(postgres: Postgres, certificates: Certificates) -> Iterator[Postgres]:
    """The same PostgreSQL, by TLS only and with a certificate that nobody trusts."""
    with relaying(postgres.port, as_postgres_with_tls(certificates.certificate, certificates.key)) as port:
        yield postgres._replace(port=port)


@pytest.fixture(autouse=True)
def forget_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of its own for each test, and an environment that tasks may change."""
    import s3fs
    from airflow.sdk.io import store

    store._STORE_CACHE.clear()
    s3fs.S3FileSystem.clear_instance_cache()
    for name in {*os.environ, *NETWORK_VARIABLES, *MLFLOW_VARIABLES, *S3_VARIABLES}:
        present = os.environ.get(name)
        monkeypatch.setenv(name, present or "")  # what a task sets or removes is taken back
        if present is None:
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")  # its client tries again whatever the error is
    monkeypatch.setattr("mlflow.store.artifact.s3_artifact_repo._MAX_CACHE_SECONDS", 1e-6)


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Define connections: as keywords fields of JSON, or a text."""

    def define_connections(**connections: dict[str, Any] | str) -> None:
        for name, value in connections.items():
            text = value if isinstance(value, str) else json.dumps(value)
            monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}_DEFAULT", text)

    return define_connections
