"""After all pipelines: no key and no password lies in databases, logs, buckets or command lines, nor in what W&B would upload."""

from datetime import UTC, datetime

import pytest

from include.settings import settings
from tests.support.possum_runs import follow
from tests.support.secrets_search import command_line_texts, database_texts, file_texts, object_texts, search


@pytest.fixture(scope="module")
def ran(breakable):
    """The stack after all that former tests have run, and after one run of each pipeline at least."""
    airflow = breakable.airflow
    done = {dag_id for (dag_id,) in breakable.query("SELECT dag_id FROM dag_run WHERE state = 'success'")}
    if "predict" not in done:
        follow(breakable, airflow.trigger("feature_eng"), datetime.now(UTC))
    if "customer_analytics" not in done:
        airflow.wait_for_success("customer_analytics", airflow.trigger("customer_analytics"))
    return breakable


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("airflow", {"xcom", "rendered_task_instance_fields", "log"}),
        ("mlflow", {"params", "tags", "runs"}),
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
    for expected in ("task_id=run_prediction", "dag_id=customer_analytics"):
        assert any(expected in place for place in places)


def test_no_object_has_a_secret(ran):
    places, found = search(ran, object_texts(ran))
    assert found == set()
    for bucket in (settings.data_bucket_name, settings.xcom_bucket, settings.churn.model_bucket):
        assert any(place.startswith(f"s3://{bucket}/") for place in places)


def test_nothing_that_wandb_keeps_has_a_secret(ran):
    places, found = search(ran, file_texts(ran.stack.wandb_dir))
    assert found == set()
    assert any(place.endswith(".wandb") for place in places)


def test_no_command_line_shows_a_secret(ran):
    places, found = search(ran, command_line_texts(ran))
    assert found == set()
    assert len(places) > 5
