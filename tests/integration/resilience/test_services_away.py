"""S3, MLflow and the warehouse are away for half a minute, and the scheduler is killed, each at its worst moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from tests.integration.resilience.breaking import (
    away,
    champion_predicts,
    counted,
    digest,
    kill_service,
    pid_of,
    running,
    unfinished_or_twice,
)
from tests.support.local_stack import RunningStack, await_that, services
from tests.support.possum_runs import Round, follow, mlflow_runs, versions_of_run

AWAY = 30  # seconds
TABLE = "pred_away"


@contextmanager
def warehouse_away(stack: RunningStack) -> Iterator[None]:
    """The warehouse is in Airflow's own server, so its database is shut alone: sessions end, and nobody can connect."""
    connection = services.postgres.connect(stack.stack)
    with connection.cursor() as cursor:
        cursor.execute("ALTER DATABASE warehouse ALLOW_CONNECTIONS false")
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'warehouse'")
        try:
            yield
        finally:
            cursor.execute("ALTER DATABASE warehouse ALLOW_CONNECTIONS true")
    connection.close()


@dataclass
class Trouble:
    """What went away, at which task, and the runs that lived through it."""

    moments: dict[str, str] = field(default_factory=dict)
    possum: Round | None = None
    churn: str = ""
    schedulers: tuple[int, int] = (0, 0)


def loaded(stack: RunningStack, churn: str) -> bool:
    """Whether all files are in the warehouse."""
    tasks = stack.airflow.tasks("customer_analytics", churn)
    return all(task["state"] == "success" for task in tasks if task["task_id"].startswith("extract_and_load."))


@pytest.fixture(scope="module")
def trouble(breakable: RunningStack, new_animals, new_customers) -> Trouble:
    """One round of each pipeline, with all the troubles in their course."""
    stack, found = breakable, Trouble()
    clock = threading.Event()  # never set: for waiting

    def hold(service: str, task: str) -> None:
        found.moments[service] = task
        clock.wait(AWAY)

    began = datetime.now(UTC)
    churn = stack.airflow.trigger_with("customer_analytics", source=new_customers(), predictions_table=TABLE)
    await_that(lambda: running(stack, "customer_analytics", churn, "extract_and_load.load_payments"), every=0.1)
    with warehouse_away(stack):
        hold("warehouse", "load_payments")
    feature_eng = stack.airflow.trigger_with("feature_eng", source=new_animals())
    # no task shall meet two of the troubles: that would need more retries than there are
    await_that(lambda: loaded(stack, churn))
    await_that(lambda: running(stack, "feature_eng", feature_eng, "save_data_to_s3"), every=0.05)
    with away(stack, "s3"):
        hold("s3", "save_data_to_s3")
    stack.airflow.wait_for_success("feature_eng", feature_eng)
    train = stack.airflow.wait_for_triggered("train", feature_eng)
    await_that(lambda: mlflow_runs(stack, f"train/{train}/train_model"), every=0.05)
    with away(stack, "mlflow"):
        hold("mlflow", "train_model")
    stack.airflow.wait_for_success("train", train)
    predict = stack.airflow.wait_for_triggered("predict", train)
    await_that(lambda: running(stack, "predict", predict, "run_prediction"), every=0.1)
    before = pid_of(stack, "scheduler")
    kill_service(stack, "scheduler")
    found.schedulers = before, await_that(lambda: (pid := pid_of(stack, "scheduler")) and pid != before and pid)
    found.possum = follow(stack, feature_eng, began)
    stack.airflow.wait_for_success("customer_analytics", churn)
    found.churn = churn
    return found


@pytest.mark.parametrize("service", ["warehouse", "s3", "mlflow"])
def test_runs_succeed_when_the_service_is_back(trouble, service):
    assert service in trouble.moments
    assert trouble.possum
    assert trouble.churn


def test_chain_goes_on_with_the_next_scheduler(trouble):
    before, after = trouble.schedulers
    assert after
    assert before != after
    assert trouble.possum.predictions["rows"] == 101


def test_next_scheduler_ends_what_the_killed_one_has_left(breakable, trouble):
    """At most one executor and its workers: those of the scheduler that runs."""
    titles = [line.partition(" ")[2].strip() for line in breakable.processes()]
    assert titles.count("airflow executor -- LocalExecutor") <= 1
    assert titles.count("airflow worker -- LocalExecutor") <= 4


def test_objects_are_whole(breakable, trouble):
    for name in ("features", "animals"):
        assert digest(breakable, trouble.possum.model[f"{name}_uri"]) == trouble.possum.model[f"{name}_sha256"]
    for outcome in (trouble.possum.plot, trouble.possum.predictions):
        assert digest(breakable, outcome["uri"]) == outcome["sha256"]
    trained = breakable.airflow.xcom("customer_analytics", trouble.churn, "train")
    assert digest(breakable, trained["model_uri"]) == trained["sha256"]


def test_each_step_has_one_finished_mlflow_run_and_one_version(breakable, trouble):
    assert unfinished_or_twice(breakable, trouble.possum) == {}
    assert len(versions_of_run(breakable, trouble.possum.trained["run_id"])) == 1


def test_customers_are_in_the_tables_once(breakable, trouble):
    assert counted(breakable, TABLE) == {(200, 200)}


def test_champion_loads_and_predicts(breakable, trouble):
    assert champion_predicts(breakable)
