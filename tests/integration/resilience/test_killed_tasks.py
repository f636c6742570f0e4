"""Each task that writes is killed by SIGKILL at its first try; the runs succeed, and nothing is there twice or by half."""

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from include.settings import settings
from tests.integration.resilience.breaking import (
    Killer,
    at_once,
    champion_predicts,
    counted,
    digest,
    handed_over,
    tries,
    unfinished_or_twice,
)
from tests.support.local_stack import RunningStack
from tests.support.possum_runs import Round, follow, mlflow_runs, read_csv, versions_of_run

TABLE = "pred_killed"
POSSUM = (
    ("feature_eng", "build_features"),
    ("feature_eng", "save_data_to_s3"),
    ("train", "train_model"),
    ("train", "register_model.create_model_version"),
    ("train", "promote_model.compare_with_champion"),
    ("predict", "run_prediction"),
    ("predict", "plot_predictions"),
    ("predict", "save_predictions"),
)
CHURN = (
    ("customer_analytics", "extract_and_load.load_orders"),
    ("customer_analytics", "transform.transform_customers"),
    ("customer_analytics", "train"),
    ("customer_analytics", "promote_model.compare_with_champion"),
    ("customer_analytics", "predict"),
)
# killed when they have begun to record a run in MLflow, so that half a run is there
RECORDING = {("feature_eng", "build_features"), ("train", "train_model")}


@dataclass(frozen=True)
class Killed:
    """One round through the possum DAGs and one churn run, with the tasks that were killed."""

    possum: Round
    churn: str
    tasks: dict[tuple[str, str], str]


@pytest.fixture(scope="module")
def killed(breakable: RunningStack, new_animals, new_customers) -> Killed:
    def records(task: str) -> bool:
        return bool(mlflow_runs(breakable, task))

    # two of them, because asking MLflow takes time in which a short task could end
    quick = dict.fromkeys({*POSSUM, *CHURN} - RECORDING, at_once)
    with Killer(breakable, quick) as killer, Killer(breakable, dict.fromkeys(RECORDING, records)) as recording_killer:
        began = datetime.now(UTC)
        airflow = breakable.airflow
        churn = airflow.trigger_with("customer_analytics", source=new_customers(), predictions_table=TABLE)
        possum = airflow.trigger_with("feature_eng", source=new_animals())
        rounds = follow(breakable, possum, began)
        airflow.wait_for_success("customer_analytics", churn)
    return Killed(rounds, churn, killer.killed | recording_killer.killed)


@pytest.mark.parametrize("task", [*POSSUM, *CHURN], ids="-".join)
def test_task_was_killed_and_succeeded_at_its_second_try(breakable, killed, task):
    dag_id, task_id = task
    assert task in killed.tasks, "it ended before it could be killed"
    log = breakable.airflow.task_log(dag_id, killed.tasks[task], task_id)
    assert tries(breakable, dag_id, killed.tasks[task])[task_id] == 2, log


def test_objects_are_what_the_events_say(breakable, killed):
    (features,) = handed_over(breakable, "feature_eng", killed.possum.feature_eng)
    assert features == killed.possum.features
    (model,) = handed_over(breakable, "train", killed.possum.train)
    for name in ("features", "animals"):
        assert digest(breakable, model[f"{name}_uri"]) == model[f"{name}_sha256"]
    for outcome in (killed.possum.plot, killed.possum.predictions):
        assert digest(breakable, outcome["uri"]) == outcome["sha256"]
    assert read_csv(breakable.object(killed.possum.predictions["uri"]))["case"].is_unique


def test_each_step_has_one_finished_mlflow_run(breakable, killed):
    assert unfinished_or_twice(breakable, killed.possum) == {}


def test_mlflow_run_has_one_version(breakable, killed):
    assert len(versions_of_run(breakable, killed.possum.trained["run_id"])) == 1


def test_champion_loads_and_predicts(breakable, killed):
    assert champion_predicts(breakable)


def test_customers_are_in_the_tables_once(breakable, killed):
    schema = settings.warehouse_schema
    assert counted(breakable, TABLE) == {(200, 200)}
    left = f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}' AND tablename = '{TABLE}_next'"
    assert breakable.query(left, database="warehouse") == [(0,)]


def test_churn_model_is_what_its_record_says(breakable, killed):
    trained = breakable.airflow.xcom("customer_analytics", killed.churn, "train")
    assert digest(breakable, trained["model_uri"]) == trained["sha256"]
    assert digest(breakable, trained["about"]["uri"]) == trained["about"]["sha256"]
    champion = breakable.airflow.xcom("customer_analytics", killed.churn, "fetch_champion")["champion"]
    model = champion["trained"]["model"]
    assert digest(breakable, model["uri"]) == model["sha256"]
