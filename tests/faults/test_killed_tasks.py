"""Each task that writes is killed by SIGKILL when it has written everything and nothing is recorded, and runs again.

Those that take long, or have a half of what they write that somebody could take for the whole, are killed in the middle too. The
runs succeed, and nothing is there twice or by half.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from include.datasets import MODEL_TRAINED, POSSUM_FEATURES
from include.settings import settings
from include.wandb_tracking.target import run_id_for
from tests.support.breaking import (
    LOOK,
    Moment,
    Task,
    at_once,
    champion_predicts,
    counted,
    digest,
    kill_task,
    killing,
    runner_of,
    tries,
    unfinished_or_twice,
    wait_until_idle,
)
from tests.support.local_stack import RUN_TIMEOUT, RunningStack, await_that
from tests.support.possum_runs import Round, asset_events, follow, mlflow_runs, read_csv, versions_of_run

TABLE = "pred_killed"
# the pause before the next try is not what is tested
SOON = "UPDATE task_instance SET end_date = now() - interval '2 minutes' WHERE run_id = %s AND state = 'up_for_retry' RETURNING 1"
TASKS: tuple[Task, ...] = (
    ("feature_eng", "prepare_mlflow_experiment.get_current_experiment_id"),
    ("feature_eng", "extract_data"),
    ("feature_eng", "build_features"),
    ("feature_eng", "save_data_to_s3"),
    ("feature_eng", "save_animals_to_s3"),
    ("feature_eng", "end"),
    ("train", "train_model"),
    ("train", "register_model.create_model_version"),
    ("train", "register_model.transition_model"),
    ("train", "promote_model.compare_with_champion"),
    ("train", "end"),
    ("predict", "add_line_to_file"),
    ("predict", "run_prediction"),
    ("predict", "check_drift"),
    ("predict", "plot_predictions"),
    ("predict", "save_predictions"),
    ("customer_analytics", "extract_and_load.load_customers"),
    ("customer_analytics", "extract_and_load.load_orders"),
    ("customer_analytics", "transform.transform_churn"),
    ("customer_analytics", "transform.transform_customers"),
    ("customer_analytics", "left_out.count_left_out"),
    ("customer_analytics", "train"),
    ("customer_analytics", "promote_model.compare_with_champion"),
    ("customer_analytics", "predict"),
)


def middles(stack: RunningStack) -> dict[Task, Moment]:
    """When each of the long tasks is in the middle of its work."""

    def records_in_mlflow(task: str) -> bool:
        return bool(mlflow_runs(stack, task))

    def records_in_wandb(task: str) -> bool:
        dag_id, run_id, job_type = task.split("/")
        return any((stack.stack.wandb_dir / run_id_for(dag_id, run_id) / job_type).rglob("*.wandb"))

    return {
        ("feature_eng", "build_features"): records_in_mlflow,
        ("train", "train_model"): records_in_mlflow,
        ("predict", "run_prediction"): at_once,
        ("customer_analytics", "extract_and_load.load_orders"): at_once,
        ("customer_analytics", "train"): records_in_wandb,
        ("customer_analytics", "predict"): records_in_wandb,
    }


@dataclass(frozen=True)
class Killed:
    """One round through the possum DAGs and one churn run, and the run of each task that was killed."""

    possum: Round
    churn: str
    tasks: dict[Task, str]


@pytest.fixture(scope="module")
def killed(breakable: RunningStack, new_animals, new_customers) -> Killed:
    wait_until_idle(breakable)
    with killing(breakable, TASKS, middles(breakable)) as tasks:
        began = datetime.now(UTC)
        airflow = breakable.airflow
        churn = airflow.trigger_with("customer_analytics", source=new_customers(), predictions_table=TABLE)
        possum = airflow.trigger_with("feature_eng", source=new_animals())
        rounds = follow(breakable, possum, began)
        airflow.wait_for_success("customer_analytics", churn)
    return Killed(rounds, churn, tasks)


@pytest.mark.parametrize("task", TASKS, ids="-".join)
def test_task_was_killed_and_succeeded_at_its_next_try(breakable, killed, task):
    dag_id, task_id = task
    assert task in killed.tasks, "no run came to its end"
    kills = 1 + (task in middles(breakable))
    log = breakable.airflow.task_log(dag_id, killed.tasks[task], task_id)
    assert tries(breakable, dag_id, killed.tasks[task])[task_id] > kills, log


def test_objects_are_what_the_events_say(breakable, killed):
    (features,) = asset_events(breakable, POSSUM_FEATURES.name, killed.possum.feature_eng)
    assert features == killed.possum.features
    (model,) = asset_events(breakable, MODEL_TRAINED.name, killed.possum.train)
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
    schema = settings.churn.warehouse_schema
    assert counted(breakable, TABLE) == {(200, 200)}
    left = f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}' AND tablename = 'next_{TABLE}'"
    assert breakable.query(left, database="warehouse") == [(0,)]


def test_churn_model_is_what_its_record_says(breakable, killed):
    trained = breakable.airflow.xcom("customer_analytics", killed.churn, "train")
    assert digest(breakable, trained["model_uri"]) == trained["sha256"]
    assert digest(breakable, trained["about"]["uri"]) == trained["about"]["sha256"]
    champion = breakable.airflow.xcom("customer_analytics", killed.churn, "fetch_champion")["champion"]
    model = champion["trained"]["model"]
    assert digest(breakable, model["uri"]) == model["sha256"]


@pytest.fixture(scope="module")
def never(breakable: RunningStack, new_animals) -> str:
    """A run of which the first task that reads is killed at each try."""
    run = breakable.airflow.trigger_with("feature_eng", source=new_animals())

    def is_over() -> bool:
        breakable.query(SOON, run)
        if pid := runner_of(breakable, "feature_eng", run, "extract_data"):
            kill_task(pid)
        return breakable.airflow.run("feature_eng", run)["state"] == "failed"

    await_that(is_over, seconds=RUN_TIMEOUT, every=LOOK)
    return run


def test_task_that_is_killed_is_tried_again_as_often_as_it_may(breakable, never):
    task = breakable.airflow.task("feature_eng", never, "extract_data")
    assert task["state"] == "failed"
    assert task["try_number"] == task["max_tries"] + 1 > 1


def test_failure_of_a_task_whose_process_was_killed_is_told(breakable, never):
    """Airflow itself calls on_failure_callback in the task's process only."""
    last = breakable.airflow.task("feature_eng", never, "extract_data")["try_number"]
    log = (breakable.stack.logs / "scheduler.log").read_text(encoding="utf-8")
    told = re.findall(
        rf"feature_eng\.extract_data has failed at try (\d+) of run {re.escape(never)}: no reason given", log
    )
    assert told == [str(last)]
