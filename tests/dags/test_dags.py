"""The DAG files: they import, quickly, and hold what the project's documents promise."""

import inspect
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.definitions.timetables.simple import NullTimetable

from tests.dags.expected import DAGS, ORDER

PROJECT = Path(__file__).parents[2]
DAG_FILES = PROJECT / "dags"
MINIMUM_RETRIES = 2
# What a DAG file must not import: each costs the scheduler a second or more at each look at the file
HEAVY = ("mlflow", "sklearn", "matplotlib", "wandb", "pandera", "s3fs", "aiobotocore", "torch", "scipy", "skops")


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(DAG_FILES)


@pytest.fixture(params=DAGS)
def dag(bag, request) -> Any:
    return bag.dags[request.param]


def datasets(found: Any) -> set[str]:
    """The assets' names, which are those of the tutorial's datasets."""
    return {asset.name for asset in found}


def waited_for(dag: Any) -> set[str]:
    """The assets that schedule the DAG."""
    if isinstance(dag.timetable, NullTimetable):
        return set()
    return datasets(dag.timetable.asset_condition.objects)


def in_another_process(code: str, **variables: str) -> Any:
    """Run code that knows ``bag`` and ends by printing JSON, with these variables in its environment."""
    head = f"""
import json, sys
from airflow.dag_processing.dagbag import DagBag
from airflow.listeners.listener import get_listener_manager
get_listener_manager()  # loads plugins, as each of Airflow's processes does first
bag = DagBag({str(DAG_FILES)!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", head + code],
        env=os.environ | {"PYTHONPATH": str(PROJECT)} | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_file_imports(bag):
    """A cycle among a DAG's tasks is an error of import too."""
    assert bag.import_errors == {}


def test_every_dag_is_expected_and_every_expected_one_is_there(bag):
    assert set(bag.dags) == set(DAGS)


def test_dag_is_named_like_its_file(dag):
    assert dag.dag_id == Path(dag.fileloc).stem


def test_dag_has_tags_and_an_owner(dag):
    assert dag.tags
    assert dag.owner
    assert dag.owner != "airflow"


def test_dag_and_every_task_function_have_docs(dag):
    assert dag.doc_md.strip()
    assert not dag.doc_md.endswith(".md")  # what Airflow leaves there of a file that is not found
    functions = {task.task_id: task.python_callable for task in dag.tasks if hasattr(task, "python_callable")}
    # SQL files carry their own comments, and the SDK puts a function of its own in front of them
    own = {name: function for name, function in functions.items() if function.__module__.startswith("unusual_prefix")}
    assert own
    assert [name for name, function in own.items() if not inspect.getdoc(function)] == []


def test_every_task_shows_a_doc_in_the_ui(dag):
    assert [task.task_id for task in dag.tasks if not (task.doc_md or "").strip()] == []


def test_dag_and_every_task_retry_and_end_some_time(dag):
    assert dag.default_args["retries"] >= MINIMUM_RETRIES
    assert {task.task_id: task.retries for task in dag.tasks if task.retries < MINIMUM_RETRIES} == {}
    assert [task.task_id for task in dag.tasks if not isinstance(task.execution_timeout, timedelta)] == []


def test_dag_has_the_expected_tasks_groups_and_params_and_no_others(dag):
    wanted = DAGS[dag.dag_id]
    assert set(dag.task_ids) == wanted["tasks"]
    assert {group for group in dag.task_group.get_task_group_dict() if group} == wanted["groups"]
    assert set(dag.params) == wanted["params"]


def test_dag_is_scheduled_by_its_datasets_only(dag):
    assert waited_for(dag) == DAGS[dag.dag_id]["schedule"]
    assert dag.catchup is False


def test_tasks_update_the_documented_datasets_and_no_others(dag):
    outlets = {task.task_id: datasets(task.outlets) for task in dag.tasks if task.outlets}
    assert outlets == DAGS[dag.dag_id]["outlets"]


def test_every_dataset_that_a_dag_waits_for_is_updated_by_a_task_of_another_dag(bag):
    waits = {(dag.dag_id, uri) for dag in bag.dags.values() for uri in waited_for(dag)}
    updates = {(dag.dag_id, uri) for dag in bag.dags.values() for task in dag.tasks for uri in datasets(task.outlets)}
    assert waits
    for waiting, uri in waits:
        assert {dag_id for dag_id, updated in updates if updated == uri} - {waiting}, f"{waiting} would never start"


@pytest.mark.parametrize(("dag_id", "earlier", "later"), ORDER)
def test_task_runs_after(bag, dag_id, earlier, later):
    assert later in {task.task_id for task in bag.dags[dag_id].get_task(earlier).get_flat_relatives(upstream=False)}


def test_branches_join_where_either_may_be_skipped(bag):
    for dag_id, task_id in (
        ("feature_eng", "prepare_mlflow_experiment.get_current_experiment_id"),
        ("train", "register_model.create_model_version"),
        ("customer_analytics", "transform.transform_customers"),
        ("customer_analytics", "features"),
        ("customer_analytics", "fetch_champion"),
    ):
        assert bag.dags[dag_id].get_task(task_id).trigger_rule == "none_failed_min_one_success"


def test_buckets_are_made_one_task_each_with_the_bucket_as_label(bag):
    task = bag.dags["feature_eng"].get_task("create_buckets_if_not_exists")
    assert task.expand_input.value["bucket_name"] == ["data", "mlflowdatapossums", "localxcom"]
    assert task.partial_kwargs["map_index_template"] == "{{ task.bucket_name }}"


def test_dataset_names_follow_the_settings():
    """In a process of its own, as the settings are read once, when it begins."""
    code = """
outlets = bag.dags["feature_eng"].get_task("end").outlets
waits = bag.dags["train"].timetable.asset_condition.objects
print(json.dumps([each.name for each in [*outlets, *waits]]))
"""
    named = in_another_process(code, DATA_BUCKET_NAME="mine", POSSUM_FILE_PATH="animals.csv")
    assert named == ["s3://mine_animals.csv"] * 2


def test_reading_the_files_warns_of_nothing():
    """In a process of its own, with the plugins that Airflow's processes load before they read a DAG file."""
    code = "print(json.dumps([len(bag.dags), bag.captured_warnings]))"
    parsed, warned = in_another_process(code, AIRFLOW__CORE__PLUGINS_FOLDER=str(PROJECT / "plugins"))
    assert parsed == len(DAGS)
    assert warned == {}


def test_parsing_imports_nothing_heavy():
    """In a process of its own, as another test may have imported any of them."""
    code = f"print(json.dumps([len(bag.dags), sorted(set(sys.modules) & set({HEAVY!r}))]))"
    parsed, heavy = in_another_process(code)
    assert parsed == len(DAGS)
    assert heavy == []
