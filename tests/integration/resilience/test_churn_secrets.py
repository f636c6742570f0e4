"""After runs of customer_analytics: no secret lies in databases, logs or buckets, nor in what W&B would upload."""

import pytest

from include.settings import settings
from tests.support.secrets_search import database_texts, file_texts, object_texts, search


@pytest.fixture(scope="module")
def ran(breakable):
    """The stack, after a run at least."""
    ((runs,),) = breakable.query(
        "SELECT count(*) FROM dag_run WHERE dag_id = 'customer_analytics' AND state = 'success'"
    )
    if not runs:
        breakable.airflow.wait_for_success("customer_analytics", breakable.airflow.trigger("customer_analytics"))
    return breakable


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("airflow", {"xcom", "rendered_task_instance_fields", "log"}),
        ("mlflow", {"runs"}),
        ("warehouse", {"stg_customers", "customers", "customer_churn_month"}),
    ],
)
def test_no_table_has_a_secret(ran, database, expected):
    places, found = search(ran, database_texts(ran, database))
    assert found == set()
    assert expected <= places


def test_no_log_of_a_task_or_service_has_a_secret(ran):
    places, found = search(ran, file_texts(ran.stack.logs))
    assert found == set()
    assert any("dag_id=customer_analytics" in place for place in places)


def test_no_object_has_a_secret(ran):
    places, found = search(ran, object_texts(ran))
    assert found == set()
    for bucket in (settings.xcom_bucket, settings.churn_model_bucket):
        assert any(place.startswith(f"s3://{bucket}/") for place in places)


def test_nothing_that_wandb_keeps_has_a_secret(ran):
    places, found = search(ran, file_texts(ran.stack.wandb_dir))
    assert found == set()
    assert any(place.endswith(".wandb") for place in places)


def test_warehouse_role_has_rights_in_its_own_database_only(ran):
    rows = ran.query(
        "SELECT datname, has_database_privilege('warehouse', datname, 'CONNECT') FROM pg_database "
        "WHERE datname IN ('airflow', 'mlflow', 'warehouse') ORDER BY 1",
        database="warehouse",
    )
    assert rows == [("airflow", False), ("mlflow", False), ("warehouse", True)]
    sql = "SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = 'warehouse'"
    assert ran.query(sql, database="warehouse") == [(False, False, False, False)]
