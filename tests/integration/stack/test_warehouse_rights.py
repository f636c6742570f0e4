"""What the role of the warehouse may do on the stack's PostgreSQL: work in its schema, and nothing elsewhere."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from include.settings import settings
from local_stack import postgres
from local_stack.config import POSTGRES_BIN
from tests.support.local_stack import LocalStack, RunningStack


def ask(stack: LocalStack, sql: str, database: str = "postgres") -> list[tuple]:
    """The rows of a query, asked as superuser."""
    connection = postgres.connect(stack.stack, database)
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows = cursor.fetchall()
    connection.close()
    return rows


def run_as_superuser(stack: LocalStack, *statements: str) -> None:
    connection = postgres.connect(stack.stack)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


CONNECTABLE = "SELECT datname FROM pg_database WHERE datallowconn AND has_database_privilege('{}', oid, 'CONNECT')"


@pytest.mark.parametrize("role", ["warehouse", "mlflow", "airflow"])
def test_role_may_connect_to_its_own_database_only(stack: RunningStack, role: str) -> None:
    databases = {name for (name,) in ask(stack, "SELECT datname FROM pg_database WHERE datallowconn")}
    assert databases == {"postgres", "template1", "airflow", "mlflow", "warehouse"}
    assert ask(stack, CONNECTABLE.format(role)) == [(role,)]


@pytest.mark.parametrize("database", ["postgres", "template1", "airflow", "mlflow"])
def test_server_refuses_the_warehouse_role_elsewhere(stack: RunningStack, database: str) -> None:
    import psycopg

    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(
            host="127.0.0.1",
            port=stack.ports.postgres,
            user="warehouse",
            password=stack.stack.secrets.warehouse_password,
            dbname=database,
        )


def test_warehouse_role_has_no_special_right(stack: RunningStack) -> None:
    sql = (
        "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication FROM pg_roles "
        "WHERE rolname = 'warehouse'"
    )
    assert ask(stack, sql) == [(False,) * 5]
    members = "SELECT 1 FROM pg_auth_members WHERE member = 'warehouse'::regrole"
    assert ask(stack, members) == []


@pytest.mark.parametrize("database", ["airflow", "mlflow"])
def test_warehouse_role_may_read_no_table_of_another_service(stack: RunningStack, database: str) -> None:
    tables = "SELECT has_table_privilege('warehouse', oid, 'SELECT, INSERT, UPDATE, DELETE') FROM pg_class WHERE relkind = 'r' "
    rows = ask(stack, tables + "AND relnamespace = 'public'::regnamespace", database)
    assert len(rows) > 10
    assert set(rows) == {(False,)}


def test_warehouse_role_owns_its_schema_and_not_its_database(stack: RunningStack) -> None:
    import psycopg

    schema = settings.churn.warehouse_schema
    owner = "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = '{}'"
    assert stack.query(owner.format(schema), database="warehouse") == [("warehouse",)]
    assert stack.query(
        f"CREATE TABLE {schema}.rights (n int); DROP TABLE {schema}.rights; SELECT 1", database="warehouse"
    )
    for refused in (
        "ALTER DATABASE warehouse RENAME TO other",
        "CREATE SCHEMA other",
        "CREATE TABLE public.rights (n int)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stack.query(refused, database="warehouse")


def test_start_takes_the_database_from_a_role_that_owned_it(stack: RunningStack) -> None:
    """As in a state folder of an earlier version, which left the databases postgres and template1 open, too."""
    run_as_superuser(
        stack,
        "ALTER DATABASE warehouse OWNER TO warehouse",
        "GRANT ALL ON DATABASE postgres, template1, warehouse TO PUBLIC",
    )
    stack.start()
    assert ask(stack, CONNECTABLE.format("warehouse")) == [("warehouse",)]
    assert ask(stack, "SELECT has_database_privilege('warehouse', 'warehouse', 'CREATE')") == [(False,)]
    assert ask(stack, "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'warehouse'") == [("postgres",)]


# docker/databases.sql, which does the same in the Astro stack; here on databases of other names


def run_databases_sql(stack: LocalStack, **connection: str) -> subprocess.CompletedProcess[str]:
    file = Path(__file__).parents[3] / "docker" / "databases.sql"
    options = ["--dbname", "postgres", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]
    environment = {
        "PATH": os.environ["PATH"],
        "PGHOST": "127.0.0.1",
        "PGPORT": str(stack.stack.ports.postgres),
        "PGUSER": "postgres",
        "PGPASSWORD": stack.stack.secrets.airflow_password,
        "AIRFLOW_CONN_POSTGRES_DEFAULT": json.dumps({"conn_type": "postgres", **connection}),
        "MLFLOW_BACKEND_STORE_URI": "postgresql+psycopg2://someone:p@db.example.com/mlflow",
        "CHURN_WAREHOUSE_SCHEMA": "of its own",
    }
    return subprocess.run(
        [POSTGRES_BIN / "psql", *options, "--file", file],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_databases_sql_gives_the_role_one_schema(stack: RunningStack) -> None:
    # pragma: allowlist nextline secret, because it is made up
    connection = {"host": "postgres", "login": "sales-role", "password": "p", "schema": "sales base"}
    try:
        for _ in range(2):  # at each start
            done = run_databases_sql(stack, **connection)
            assert (done.returncode, done.stderr) == (0, "")
        assert ask(stack, CONNECTABLE.format("sales-role")) == [("sales base",)]
        owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'sales base'"
        assert ask(stack, owner) == [("postgres",)]
        assert ask(stack, "SELECT has_database_privilege('sales-role', 'sales base', 'CREATE')") == [(False,)]
        schemas = "SELECT nspname FROM pg_namespace WHERE has_schema_privilege('sales-role', oid, 'CREATE')"
        assert ask(stack, schemas, "sales base") == [("of its own",)]
    finally:
        run_as_superuser(stack, 'DROP DATABASE IF EXISTS "sales base"', 'DROP ROLE IF EXISTS "sales-role"')


@pytest.mark.parametrize(
    "connection",
    [
        # pragma: allowlist nextline secret, because it is made up
        {"host": "db.example.com", "login": "me", "password": "p", "schema": "analytics"},
        # pragma: allowlist nextline secret, because it is made up
        {"host": "postgres", "login": "postgres", "password": "p", "schema": "postgres"},
    ],
    ids=["another server", "superuser"],
)
def test_databases_sql_leaves_what_is_not_its_own(stack: RunningStack, connection: dict[str, str]) -> None:
    before = ask(stack, "SELECT datname, datdba, datacl::text FROM pg_database ORDER BY 1")
    done = run_databases_sql(stack, **connection)
    assert (done.returncode, done.stderr) == (0, "")
    assert ask(stack, "SELECT datname, datdba, datacl::text FROM pg_database ORDER BY 1") == before
