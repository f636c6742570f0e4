"""PostgreSQL by connections in many forms: psycopg and SQLAlchemy, the Astro SDK and the doctor see the same server."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pandas as pd
import pytest
import sqlalchemy
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk.exceptions import AirflowFailException
from astro.databases import create_database
from psycopg import sql

from include.churn.load import (  # registers the project's database with the Astro SDK
    LoadCheckedFileOperator,
    warehouse_table,
)
from include.churn.warehouse import replace_predictions
from include.doctor import examine
from include.task_errors import fail_at_once
from include.warehouse import postgres_hook
from tests.fakes.relay import as_pooler, relaying
from tests.support.certificates import Certificates
from tests.support.servers import Postgres

PREDICTIONS = pd.DataFrame(
    {"customer_id": [1], "churn_probability": [0.5], "used_for_training": [True], "model_version": ["m"]}
)
QUERY = "SELECT 1"
ENV_EXAMPLE = Path(__file__).parents[3] / ".env_example"


@fail_at_once
def by_psycopg(statement: str = QUERY) -> Any:
    with closing(postgres_hook().get_conn()) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


@fail_at_once
def by_sqlalchemy(statement: str = QUERY) -> Any:
    with postgres_hook().get_sqlalchemy_engine().connect() as connection:
        return connection.execute(sqlalchemy.text(statement)).scalar()


@fail_at_once
def by_sdk_in_sqlalchemy(statement: str = QUERY) -> Any:
    return create_database("postgres_default").run_sql(statement, handler=lambda result: result.scalar())


@fail_at_once
def by_sdk_in_psycopg(statement: str = QUERY) -> Any:
    return create_database("postgres_default").hook.get_first(statement)[0]


PARTS = (by_psycopg, by_sqlalchemy, by_sdk_in_sqlalchemy, by_sdk_in_psycopg)


def fields(server: Postgres, **extra: Any) -> dict[str, Any]:
    return {
        "conn_type": "postgres",
        "host": "127.0.0.1",
        "port": server.port,
        "login": "postgres",
        "password": server.password,
        "schema": "postgres",
        "extra": extra,
    }


def uri(server: Postgres, **extra: str) -> str:
    return f"postgresql://postgres:{server.password}@127.0.0.1:{server.port}/postgres?{urlencode(extra)}"


Form = Callable[..., dict[str, Any] | str]
HALVES: dict[str, Form] = {
    "extra": fields,
    "uri": uri,
    "sqlalchemy-query": lambda server, **options: fields(server, sqlalchemy_query=options),  # noqa: PLW0108 (it nests)
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("form", HALVES)
def test_tls_that_the_server_lacks_is_refused_by_all_parts(postgres: Postgres, define, form, part):
    define(postgres=HALVES[form](postgres, sslmode="require"))
    with pytest.raises(
        AirflowFailException, match=r"does not support SSL.*extra of connection postgres_default.*sslmode"
    ):
        part()


@pytest.mark.parametrize(
    "part", [PostgresHook.get_conn, lambda hook: hook.get_sqlalchemy_engine().connect()], ids=["psycopg", "sqlalchemy"]
)
def test_form_of_env_example_is_refused_by_airflows_own_hook_too(postgres: Postgres, define, part):
    """For tasks of a user's own."""
    line = next(line for line in ENV_EXAMPLE.read_text("utf-8").splitlines() if "db.example.com" in line)
    example = json.loads(line.partition("=")[2])
    define(postgres=fields(postgres, **example["extra"]))
    with pytest.raises(Exception, match="server does not support SSL"):
        part(PostgresHook("postgres_default"))


def test_doctor_refuses_it_too(postgres: Postgres, define):
    define(postgres=fields(postgres, sslmode="require"))
    assert "does not support SSL" in examine("PostgreSQL").found
    assert "sslmode" in examine("PostgreSQL").remedy


@pytest.mark.parametrize("form", HALVES)
def test_certificate_is_checked_by_all_parts(postgres_tls: Postgres, certificates: Certificates, define, form):
    define(postgres=HALVES[form](postgres_tls, sslmode="verify-full", sslrootcert=certificates.authority))
    assert [part() for part in PARTS] == [1] * len(PARTS)  # without TLS nobody is let in
    replace_predictions(PREDICTIONS, "pred_tls")
    table = warehouse_table("pred_tls")
    assert len(create_database("postgres_default").export_table_to_pandas_dataframe(table)) == 1
    assert examine("PostgreSQL").healthy, examine("PostgreSQL")


@pytest.mark.parametrize("part", PARTS)
def test_certificate_that_is_not_trusted_fails_at_once(postgres_tls: Postgres, define, tmp_path, part):
    define(postgres=fields(postgres_tls, sslmode="verify-full", sslrootcert="system"))
    with pytest.raises(
        AirflowFailException, match=r"certificate verify failed.*connection postgres_default.*sslrootcert"
    ):
        part()
    define(postgres=fields(postgres_tls, sslmode="verify-full", sslrootcert=str(tmp_path / "no.pem")))
    with pytest.raises(AirflowFailException, match=r"no\.pem.*connection postgres_default"):
        part()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("options", [{"sslmode": "of course"}, {"no_such_option": "1"}], ids=["value", "name"])
def test_option_that_libpq_does_not_know_fails_at_once(postgres: Postgres, define, options, part):
    define(postgres=fields(postgres, **options))
    with pytest.raises(AirflowFailException, match="extra of connection postgres_default"):
        part()


@pytest.mark.parametrize("part", PARTS)
def test_other_options_reach_all_parts(postgres: Postgres, define, part):
    define(postgres=fields(postgres, application_name="possums & co", connect_timeout=7, keepalives=True))
    assert part("SELECT current_setting('application_name')") == "possums & co"


@pytest.mark.parametrize("as_uri", [False, True], ids=["json", "uri"])
def test_names_and_password_with_special_characters_reach_all_parts(postgres: Postgres, define, as_uri):
    name, password = "Dr. O'Possum@zoo/1", "p:@/ s?#%ä€'\"\\"
    with closing(postgres.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        role = sql.Identifier(name)
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(role))
        cursor.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
        cursor.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(password)))
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
    there = {"login": name, "password": password, "schema": name}
    quoted = {field: quote(value, safe="") for field, value in there.items()}
    text = "postgres://{login}:{password}@127.0.0.1:{port}/{schema}".format(**quoted, port=postgres.port)
    define(postgres=text if as_uri else fields(postgres) | there)
    for part in PARTS:
        assert part("SELECT current_user || '|' || current_database()") == f"{name}|{name}"
    assert examine("PostgreSQL").healthy, examine("PostgreSQL")


def test_pooler_that_refuses_options_is_no_trouble(postgres: Postgres, define):
    with relaying(postgres.port, as_pooler) as port:
        define(postgres=fields(Postgres(port, postgres.password)))
        assert examine("PostgreSQL").healthy, examine("PostgreSQL")
        replace_predictions(PREDICTIONS, "pred_pooled")


def test_options_that_a_pooler_refuses_fail_at_once(postgres: Postgres, define):
    with relaying(postgres.port, as_pooler) as port:
        define(postgres=fields(Postgres(port, postgres.password), options="-c statement_timeout=5s"))
        with pytest.raises(AirflowFailException, match=r"unsupported startup parameter.*connection postgres_default"):
            by_psycopg()


def test_statement_that_can_never_work_is_not_tried_again(postgres: Postgres, define):
    define(postgres=fields(postgres))
    for part in PARTS:
        for statement in ("SELEC 1", "SELECT 'x'::int", "SELECT no_such_function()"):
            with pytest.raises(AirflowFailException, match="PostgreSQL rejects the statement"):
                part(statement)


@pytest.mark.parametrize(
    "form", ["http://me@127.0.0.1/postgres", '{"conn_type": "postgres", "host": "127.0.0.1:5432"}']
)
def test_load_refuses_a_connection_that_is_none_to_a_database(define, form):
    define(postgres=form)
    load = LoadCheckedFileOperator(task_id="load", name="orders", source="data/orders.csv")
    with pytest.raises(AirflowFailException, match="connection postgres_default"):
        load.execute({"params": {}})
