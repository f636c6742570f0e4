"""S3, MLflow and the warehouse are unavailable for a while, and the scheduler is killed, each at its worst moment."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from include.settings import settings
from tests.support.breaking import (
    Hold,
    away,
    champion_predicts,
    counted,
    digest,
    kill_service,
    pid_of,
    unfinished_or_twice,
    wait_until_idle,
)
from tests.support.local_stack import RUN_TIMEOUT, RunningStack, await_that, services
from tests.support.possum_runs import Round, follow, mlflow_runs, versions_of_run

AWAY = 12  # seconds: longer than the pause before the first retry
TABLE = "pred_away"
EXECUTOR = "airflow worker -- LocalExecutor: "  # the title of one of its workers begins with this
# to be asked as the database's own user: of others' sessions it says nothing
WAITING = (
    "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = %s"
)


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


@contextmanager
def locked(stack: RunningStack, database: str, lock: str, *values: str) -> Iterator[None]:
    """A lock in one of the databases, for which those wait who would go on otherwise."""
    connection = services.postgres.connect(stack.stack, database)
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute(lock, values)
    try:
        yield
    finally:
        connection.close()


@dataclass(frozen=True)
class Outage:
    """A service was away, and a task needed it."""

    dag_id: str
    run_id: str
    task_id: str
    ended: datetime


@dataclass(frozen=True)
class Trouble:
    """What went away, and the runs that lived through it."""

    outages: dict[str, Outage]
    possum: Round
    churn: str
    schedulers: tuple[int, int]


@pytest.fixture(scope="module")
def trouble(breakable: RunningStack, new_animals, new_customers) -> Trouble:
    """One round of each pipeline, with all the troubles in their course."""
    stack, airflow = breakable, breakable.airflow
    outages: dict[str, Outage] = {}

    def hold_out(**hit: tuple[str, str, str]) -> None:
        threading.Event().wait(AWAY)
        outages.update({service: Outage(*task, datetime.now(UTC)) for service, task in hit.items()})

    def somebody_waits(database: str, kind_of_lock: str) -> None:
        await_that(lambda: stack.query(WAITING, kind_of_lock, database=database), seconds=RUN_TIMEOUT, every=0.05)

    wait_until_idle(stack)
    # the warehouse goes while the predictions are being replaced, and S3 before the features are written
    began = datetime.now(UTC)
    table_lock = "SELECT pg_advisory_xact_lock(hashtext(%s))"
    before = ("feature_eng", "build_features")
    with (
        locked(stack, "warehouse", table_lock, f"{settings.churn.warehouse_schema}.{TABLE}"),
        Hold(stack, [before]) as hold,
    ):
        churn = airflow.trigger_with("customer_analytics", source=new_customers(), predictions_table=TABLE)
        feature_eng = airflow.trigger_with("feature_eng", source=new_animals())
        hold.wait_for(before)
        somebody_waits("warehouse", "advisory")
        with warehouse_away(stack), away(stack, "s3"):
            hold.let_go(before)
            hold_out(
                warehouse=("customer_analytics", churn, "predict"),
                s3=("feature_eng", feature_eng, "save_data_to_s3"),
            )
    airflow.wait_for_success("customer_analytics", churn)

    # MLflow goes while the training is being recorded
    with locked(stack, "mlflow", "LOCK TABLE metrics IN SHARE MODE"):
        airflow.wait_for_success("feature_eng", feature_eng)
        train = airflow.wait_for_triggered("train", feature_eng)
        somebody_waits("mlflow", "relation")
        assert [run.info.status for run in mlflow_runs(stack, f"train/{train}/train_model")] == ["RUNNING"]
        with away(stack, "mlflow"):
            hold_out(mlflow=("train", train, "train_model"))
    airflow.wait_for_success("train", train)

    # the scheduler goes while the model predicts
    predict = airflow.wait_for_triggered("predict", train)
    scoring = ("predict", "run_prediction")
    with Hold(stack, [scoring]) as hold:
        assert hold.wait_for(scoring).run_id == predict
        killed = pid_of(stack, "scheduler")
        kill_service(stack, "scheduler")
        successor = await_that(lambda: (pid := pid_of(stack, "scheduler")) != killed and pid)
    return Trouble(outages, follow(stack, feature_eng, began), churn, (killed, successor))


@pytest.mark.parametrize("service", ["warehouse", "s3", "mlflow"])
def test_task_that_needed_the_service_succeeds_when_it_is_back(breakable, trouble, service):
    outage = trouble.outages[service]
    task = breakable.airflow.task(outage.dag_id, outage.run_id, outage.task_id)
    assert task["state"] == "success"
    # otherwise it did without: its first try has failed, or waited for the service
    began, ended = (datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
    assert task["try_number"] > 1 or began < outage.ended < ended


def test_chain_goes_on_with_the_next_scheduler(trouble):
    before, after = trouble.schedulers
    assert after
    assert before != after
    assert trouble.possum.predictions["rows"] == 101


def test_next_scheduler_ends_what_the_killed_one_has_left(breakable, trouble):
    """One executor's workers: those of the scheduler that runs."""
    _, scheduler = trouble.schedulers
    workers = [services.psutil.Process(int(line.split()[0])) for line in breakable.processes() if EXECUTOR in line]
    assert {worker.ppid() for worker in workers} == {scheduler}
    assert len(workers) == int(breakable.environment["AIRFLOW__CORE__PARALLELISM"])


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
