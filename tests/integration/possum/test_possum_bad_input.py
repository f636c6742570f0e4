"""Bad input stops feature_eng at once, says where it is bad, and changes nothing that others use.

A bad file and a file that is not there go through the scheduler; for the others the task's function is called.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from airflow.exceptions import AirflowFailException

from include.settings import INCLUDE, settings
from tests.helpers.dags import load_dag
from tests.support.local_stack import RunningStack
from tests.support.possum_runs import Round, what_bad_input_must_not_change

if TYPE_CHECKING:
    from airflow.sdk import DAG

# line of the file, header included, of the animal that gets the bad value
LINE = 11

BAD_VALUES = {
    # name: column, bad value, words that the message must have
    "wrong-type": ("hdlngth", "large", ["'hdlngth'", "not a number", f"line {LINE}", "'large'"]),
    "unknown-category": ("Pop", "Tas", ["'Pop'", "unknown category", f"line {LINE}", "'Tas'"]),
    "out-of-range": ("taill", "3700", ["'taill'", "outside 15 to 70 cm", f"line {LINE}", "'3700'"]),
    "duplicate-case": ("case", "3", ["'case'", "more than once", "line 4", f"line {LINE}"]),
}


def shipped() -> pd.DataFrame:
    return pd.read_csv(INCLUDE / settings.possum.file_path, dtype=str, keep_default_na=False)


def with_value(column: str, value: str) -> bytes:
    animals = shipped()
    animals.loc[LINE - 2, column] = value
    return animals.to_csv(index=False).encode()


# what the file holds (None: there is no such object), and words that the message must have
CASES: dict[str, tuple[bytes | None, list[str]]] = {
    **{name: (with_value(column, value), words) for name, (column, value, words) in BAD_VALUES.items()},
    "missing-column": (shipped().drop(columns="belly").to_csv(index=False).encode(), ["line 1", "'belly'"]),
    "missing-target": (shipped().assign(taill="").to_csv(index=False).encode(), ["'taill'"]),
    "too-few": (
        shipped().head(30).to_csv(index=False).encode(),
        ["too few animals for a holdout of 10", "6 holdout rows"],
    ),
    "empty-file": (b"", ["is empty"]),
    "no-csv": ((INCLUDE / settings.possum.picture_path).read_bytes(), ["is no CSV but a binary file"]),
    "absent-object": (None, ["does not exist"]),
}
BY_THE_SCHEDULER = ("wrong-type", "absent-object")


def state_of_the_world(stack: RunningStack) -> dict[str, Any]:
    """All that a bad file must not change."""
    return what_bad_input_must_not_change(stack) | {
        "train runs": stack.query("SELECT count(*) FROM dag_run WHERE dag_id IN ('train', 'predict')"),
    }


@dataclass(frozen=True)
class BadRuns:
    """Runs on bad files, and what else there was before and after them."""

    ids: dict[str, str]
    before: dict[str, Any]
    after: dict[str, Any]


@pytest.fixture(scope="module")
def addresses(possum_stack: RunningStack, first: Round) -> dict[str, str]:
    """The files, put into the bucket that the first run has made."""
    for name, (content, _) in CASES.items():
        if content is not None:
            possum_stack.s3.put_object(Bucket=settings.data_bucket_name, Key=f"incoming/{name}.csv", Body=content)
    return {name: f"s3://{settings.data_bucket_name}/incoming/{name}.csv" for name in CASES}


@pytest.fixture(scope="module")
def feature_eng() -> "DAG":
    return load_dag("feature_eng")


@pytest.fixture(scope="module")
def runs(possum_stack: RunningStack, addresses: dict[str, str], by_hand: str) -> BadRuns:
    """Two runs at the same time, and with the MLflow experiment deleted."""
    experiment = possum_stack.mlflow.get_experiment_by_name(settings.possum.experiment_name)
    assert experiment
    before = state_of_the_world(possum_stack)
    possum_stack.mlflow.delete_experiment(experiment.experiment_id)
    started = {
        name: possum_stack.airflow.trigger_with("feature_eng", source=addresses[name]) for name in BY_THE_SCHEDULER
    }
    ended = {name: possum_stack.airflow.wait("feature_eng", run)["state"] for name, run in started.items()}
    assert set(ended.values()) == {"failed"}, ended
    return BadRuns(started, before, state_of_the_world(possum_stack))


def assert_told(message: str, name: str) -> None:
    for word in (f"s3://{settings.data_bucket_name}/incoming/{name}.csv", *CASES[name][1]):
        assert word in message


@pytest.mark.parametrize("name", CASES)
def test_task_gives_up_and_names_file_column_and_rows(stack_connections, feature_eng, addresses, name):
    with pytest.raises(AirflowFailException) as refused:
        feature_eng.get_task("extract_data").python_callable(addresses[name])
    assert_told(str(refused.value), name)


@pytest.mark.parametrize("name", BY_THE_SCHEDULER)
def test_task_fails_on_its_first_try_and_says_the_same_in_its_log(stack, runs, name):
    task = stack.airflow.task("feature_eng", runs.ids[name], "extract_data")
    assert (task["state"], task["try_number"]) == ("failed", 1)
    log = stack.airflow.log(task)
    assert_told(log[log.index("AirflowFailException") :], name)


@pytest.mark.parametrize("name", BY_THE_SCHEDULER)
def test_nothing_after_the_check_runs(stack, runs, name):
    states = {task["task_id"]: task["state"] for task in stack.airflow.tasks("feature_eng", runs.ids[name])}
    later = ("build_features", "save_data_to_s3", "save_animals_to_s3", "end")
    assert {states[task] for task in later} == {"upstream_failed"}


def test_buckets_assets_and_registry_stay_as_they_were(runs):
    folders = {key.split("/")[0] for key in runs.before["objects"]}
    assert {"features", "animals", "plots", "predictions"} <= folders  # so these are looked at
    assert runs.after == runs.before


def test_all_runs_restore_the_one_deleted_experiment(stack, runs, first):
    ids = {
        stack.airflow.xcom("feature_eng", run, "prepare_mlflow_experiment.get_current_experiment_id")
        for run in runs.ids.values()
    }
    assert ids == {first.model["experiment_id"]}
    experiment = stack.mlflow.get_experiment_by_name(settings.possum.experiment_name)
    assert experiment.lifecycle_stage == "active"
    assert stack.mlflow.get_run(first.model["run_id"]).info.lifecycle_stage == "active"
