"""After runs of customer_analytics: no secret lies in the warehouse or in what W&B would upload."""

import pytest

from tests.integration.possum.test_possum_secrets import SECRETS


@pytest.fixture(scope="module")
def ran(breakable):
    """The stack, after a run at least."""
    ((runs,),) = breakable.query(
        "SELECT count(*) FROM dag_run WHERE dag_id = 'customer_analytics' AND state = 'success'"
    )
    if not runs:
        breakable.airflow.wait_for_success("customer_analytics", breakable.airflow.trigger("customer_analytics"))
    return breakable


@pytest.fixture(scope="module")
def secrets(ran) -> dict[str, str]:
    return {name: getattr(ran.stack.secrets, name) for name in SECRETS}


def test_no_table_of_the_warehouse_has_a_secret(ran, secrets):
    tables = ran.query(
        "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        database="warehouse",
    )
    assert len(tables) > 5
    for schema, table in tables:
        rows = str(ran.query(f'SELECT * FROM "{schema}"."{table}"', database="warehouse"))
        assert [name for name, secret in secrets.items() if secret in rows] == [], table


def test_nothing_that_wandb_keeps_has_a_secret(ran, secrets):
    files = [path for path in ran.stack.wandb_dir.rglob("*") if path.is_file()]
    assert any(path.suffix == ".wandb" for path in files)
    found = {(path, name) for path in files for name, secret in secrets.items() if secret.encode() in path.read_bytes()}
    assert found == set()


def test_warehouse_role_has_rights_in_its_own_database_only(ran):
    rows = ran.query(
        "SELECT datname, has_database_privilege('warehouse', datname, 'CONNECT') FROM pg_database "
        "WHERE datname IN ('airflow', 'mlflow', 'warehouse') ORDER BY 1",
        database="warehouse",
    )
    assert rows == [("airflow", False), ("mlflow", False), ("warehouse", True)]
    sql = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = 'warehouse'"
    assert ran.query(sql, database="warehouse") == [(False, False, False, False)]
