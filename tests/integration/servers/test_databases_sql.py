"""docker/databases.sql, which makes the Astro stack's databases, reads the connection in every form that the tasks read."""

import json
import os
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.servers import Postgres

PROJECT = Path(__file__).parents[3]
FIELDS = {"conn_type": "postgres", "host": "postgres", "login": "w", "password": "p@/:'", "schema": "w base"}
# pragma: allowlist nextline secret, because it is made up
STORE = "postgresql+psycopg2://keeper:p%40ss%2Fword@postgres:5432/runs"


def run(server: Postgres, **variables: str) -> subprocess.CompletedProcess[str]:
    from local_stack.config import POSTGRES_BIN

    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": "postgres",
        "PGPASSWORD": server.password,
    }
    command = [str(POSTGRES_BIN / "psql"), "--dbname", "postgres", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]
    return subprocess.run(
        [*command, "--file", str(PROJECT / "docker" / "databases.sql")],
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(autouse=True)
def no_leftovers(postgres: Postgres) -> Any:
    yield
    with closing(postgres.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for database, role in (("w base", "w"), ("runs", "keeper")):
            cursor.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            cursor.execute(f'DROP ROLE IF EXISTS "{role}"')


def may_log_in(server: Postgres, login: str, password: str, database: str) -> bool:
    psycopg.connect(host="127.0.0.1", port=server.port, user=login, password=password, dbname=database).close()
    return True


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(FIELDS),
        # pragma: allowlist nextline secret, because it is made up
        "postgresql://w:p%40%2F%3A%27@postgres:5432/w%20base",
        # pragma: allowlist nextline secret, because it is made up
        "postgres://w:p%40%2F%3A%27@postgres/w%20base?sslmode=disable",
    ],
    ids=["json", "uri", "uri-with-options"],
)
@pytest.mark.parametrize("conn_id", ["postgres_default", "my_warehouse"])
def test_databases_are_made_whatever_the_form_of_the_connection(postgres: Postgres, text: str, conn_id: str) -> None:
    variables = {
        f"AIRFLOW_CONN_{conn_id.upper()}": text,
        "POSTGRES_CONN_ID": conn_id,
        "MLFLOW_BACKEND_STORE_URI": STORE,
    }
    done = run(postgres, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert "database w base for w" in done.stdout
    assert may_log_in(postgres, "w", FIELDS["password"], "w base")
    assert may_log_in(postgres, "keeper", "p@ss/word", "runs")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps(FIELDS | {"host": "postgres:5432"}), "names a port in its host"),
        (json.dumps(FIELDS | {"login": ""}), "lacks login, password or database"),
        ("postgresql://w@postgres/w", "lacks login, password or database"),
        (json.dumps(FIELDS)[:-1], "is neither JSON nor a URI"),
        ("w:p@/:'", "is neither JSON nor a URI"),
    ],
)
def test_connection_that_cannot_be_read_ends_it_with_the_reason_and_no_secret(
    postgres: Postgres, text: str, words: str
) -> None:
    done = run(postgres, AIRFLOW_CONN_POSTGRES_DEFAULT=text)
    assert done.returncode != 0
    assert f"AIRFLOW_CONN_POSTGRES_DEFAULT {words}" in done.stderr
    assert FIELDS["password"] not in done.stderr + done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "",
        json.dumps(FIELDS | {"host": "db.example.com"}),
        "postgresql://w:p@db.example.com/w",
        "postgres://w:p@[::1]:5432/w",
    ],
)
def test_database_of_another_server_is_left_alone(postgres: Postgres, text: str) -> None:
    done = run(postgres, AIRFLOW_CONN_POSTGRES_DEFAULT=text)
    assert (done.returncode, done.stderr) == (0, "")
    assert "database w" not in done.stdout
