"""After all runs: no key and no password lies where a user of Airflow or MLflow can read it."""

import pytest

from tests.support.local_stack import RunningStack
from tests.support.secrets_search import command_line_texts, database_texts, file_texts, object_texts, search


@pytest.fixture(scope="module")
def ran(stack: RunningStack, by_hand: str) -> RunningStack:
    """The stack, after every kind of run."""
    return stack


@pytest.mark.parametrize(
    ("database", "expected"),
    [("airflow", {"xcom", "rendered_task_instance_fields", "log"}), ("mlflow", {"params", "tags", "runs"})],
)
def test_no_table_has_a_secret(ran, database, expected):
    places, found = search(ran, database_texts(ran, database))
    assert found == set()
    assert expected <= places


def test_no_log_of_a_task_or_service_has_a_secret(ran):
    places, found = search(ran, file_texts(ran.stack.logs))
    assert found == set()
    assert any("task_id=run_prediction" in place for place in places)


def test_no_object_has_a_secret(ran):
    places, found = search(ran, object_texts(ran))
    assert found == set()
    assert any(place.startswith("s3://data/") for place in places)


def test_no_command_line_shows_a_secret(ran):
    places, found = search(ran, command_line_texts(ran))
    assert found == set()
    assert len(places) > 5
