"""PostgreSQL as a whole is unavailable for a while, and with it Airflow's memory, MLflow's runs and the warehouse."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from tests.support.breaking import (
    Hold,
    away,
    champion_predicts,
    counted,
    tries,
    unfinished_or_twice,
    wait_until_idle,
)
from tests.support.local_stack import RunningStack, await_that, services
from tests.support.possum_runs import Round, follow, versions_of_run

AWAY = 12  # seconds: longer than the pause before the first retry
TABLE = "pred_database_away"
# the database goes when this has done everything, and its success is being recorded
HIT = ("feature_eng", "build_features")


@dataclass(frozen=True)
class Survived:
    """A round of the possum DAGs and a churn run, which were both at work when the database went."""

    possum: Round
    churn: str


@pytest.fixture(scope="module")
def survived(breakable: RunningStack, new_animals, new_customers) -> Survived:
    began = datetime.now(UTC)
    wait_until_idle(breakable)
    with Hold(breakable, [HIT]) as hold:
        churn = breakable.airflow.trigger_with("customer_analytics", source=new_customers(), predictions_table=TABLE)
        possum = breakable.airflow.trigger_with("feature_eng", source=new_animals())
        hold.wait_for(HIT)
        with away(breakable, "postgres"):
            threading.Event().wait(AWAY)
    await_that(lambda: not services.unhealthy(breakable.stack))
    rounds = follow(breakable, possum, began)
    breakable.airflow.wait_for_success("customer_analytics", churn)
    return Survived(rounds, churn)


def test_success_that_could_not_be_recorded_at_once_is_recorded_without_another_try(breakable, survived):
    """The process that watches over the task goes on to report it."""
    dag_id, task_id = HIT
    assert tries(breakable, dag_id, survived.possum.feature_eng)[task_id] == 1


def test_runs_succeed_when_the_database_is_back(breakable, survived):
    assert survived.possum.predictions["rows"] == 101
    assert breakable.airflow.run("customer_analytics", survived.churn)["state"] == "success"


def test_every_service_is_back(breakable, survived):
    assert await_that(lambda: breakable.command("status").returncode == 0)


def test_each_step_has_one_finished_mlflow_run_and_one_version(breakable, survived):
    assert unfinished_or_twice(breakable, survived.possum) == {}
    assert len(versions_of_run(breakable, survived.possum.trained["run_id"])) == 1


def test_customers_are_in_the_tables_once(breakable, survived):
    assert counted(breakable, TABLE) == {(200, 200)}


def test_champion_loads_and_predicts(breakable, survived):
    assert champion_predicts(breakable)
