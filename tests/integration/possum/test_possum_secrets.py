"""After all runs: no key and no password lies where a user of Airflow or MLflow can read it."""

from collections.abc import Iterator

import pytest

from tests.support.local_stack import RunningStack

SECRETS = (
    "s3_secret_key",
    "fernet_key",
    "webserver_secret_key",
    "airflow_password",
    "mlflow_password",
    "warehouse_password",
)


@pytest.fixture(scope="module")
def secrets(stack: RunningStack, by_hand: str) -> dict[str, bytes]:
    """The stack's secrets, after every kind of run."""
    return {name: getattr(stack.stack.secrets, name).encode() for name in SECRETS}


def texts_of_database(stack: RunningStack, database: str) -> Iterator[tuple[str, bytes]]:
    """Every row of every table, as text, and binary values as they are."""
    tables = stack.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=database)
    for (table,) in tables:
        for row in stack.query(f'SELECT * FROM "{table}"', database=database):
            for value in row:
                yield table, bytes(value) if isinstance(value, memoryview) else str(value).encode()


@pytest.mark.parametrize("database", ["airflow", "mlflow"])
def test_no_table_has_a_secret(stack, secrets, database):
    """XComs, rendered fields, serialised DAGs, events, runs' parameters and tags and the rest."""
    found, seen = set(), set()
    for table, text in texts_of_database(stack, database):
        seen.add(table)
        found |= {(table, name) for name, secret in secrets.items() if secret in text}
    assert found == set()
    expected = {"airflow": {"xcom", "rendered_task_instance_fields", "log"}, "mlflow": {"params", "tags", "runs"}}
    assert expected[database] <= seen


def test_no_log_of_a_task_or_service_has_a_secret(stack, secrets):
    logs = [path for path in stack.stack.logs.rglob("*") if path.is_file()]
    assert any("task_id=run_prediction" in str(path) for path in logs)
    found = {(str(path), name) for path in logs for name, secret in secrets.items() if secret in path.read_bytes()}
    assert found == set()


def test_no_object_has_a_secret(stack, secrets):
    """Models, plots, features, XComs."""
    found = set()
    for bucket in stack.s3.list_buckets()["Buckets"]:
        for key in stack.keys(bucket["Name"]):
            data = stack.object(f"s3://{bucket['Name']}/{key}")
            found |= {(key, name) for name, secret in secrets.items() if secret in data}
    assert found == set()


def test_no_command_line_shows_a_secret(stack, secrets):
    """Any user of the machine can list these."""
    lines = stack.processes()
    assert len(lines) > 5
    assert [line for line in lines if any(secret.decode() in line for secret in secrets.values())] == []
