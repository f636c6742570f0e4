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

from include.settings import settings
from tests.dags.expected import DAGS, ORDER

PROJECT = Path(__file__).parents[2]
DAG_FILES = PROJECT / "dags"
MINIMUM_RETRIES = 2
# What a DAG file must not import: each costs the scheduler a second or more at each look at the file
HEAVY = ("mlflow", "sklearn", "matplotlib", "wandb", "pandera", "s3fs", "aiobotocore", "torch", "scipy", "skops")


@pytest.fixture(scope="module")
def bag():
    from airflow.models import DagBag

    return DagBag(DAG_FILES, include_examples=False)


@pytest.fixture(params=DAGS)
def dag(bag, request) -> Any:
    return bag.dags[request.param]


def datasets(found: Any) -> set[str]:
    """URIs as the tutorial writes them; Airflow appends a slash to a bucket without a key."""
    return {dataset.uri.rstrip("/") for dataset in found}


def test_every_file_imports(bag):
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


def test_dag_has_all_its_tasks_groups_and_params(dag):
    wanted = DAGS[dag.dag_id]
    assert wanted["tasks"] <= set(dag.task_ids)
    assert wanted["groups"] <= set(dag.task_group.get_task_group_dict())
    assert wanted["params"] <= set(dag.params)


def test_dag_is_scheduled_by_its_datasets_only(dag):
    wanted = DAGS[dag.dag_id]["schedule"]
    condition = dag.timetable.dataset_condition
    assert datasets(dataset for _, dataset in condition.iter_datasets()) == wanted
    if not wanted:
        assert dag.timetable.summary == "None"
    assert dag.catchup is False


def test_tasks_update_the_documented_datasets_and_no_others(dag):
    outlets = {task.task_id: datasets(task.outlets) for task in dag.tasks if task.outlets}
    assert outlets == DAGS[dag.dag_id]["outlets"]


def test_every_dataset_that_a_dag_waits_for_is_updated_by_another():
    updated = {uri for each in DAGS.values() for uris in each["outlets"].values() for uri in uris}
    assert {uri for each in DAGS.values() for uri in each["schedule"]} <= updated


def test_dag_has_no_cycle(dag):
    from airflow.utils.dag_cycle_tester import check_cycle

    check_cycle(dag)


@pytest.mark.parametrize(("dag_id", "earlier", "later"), ORDER)
def test_task_runs_after(bag, dag_id, earlier, later):
    assert later in {task.task_id for task in bag.dags[dag_id].get_task(earlier).get_flat_relatives(upstream=False)}


def test_branches_join_where_either_may_be_skipped(bag):
    for dag_id, task_id in (
        ("feature_eng", "prepare_mlflow_experiment.get_current_experiment_id"),
        ("train", "register_model.create_model_version"),
    ):
        assert bag.dags[dag_id].get_task(task_id).trigger_rule == "none_failed_min_one_success"


def test_buckets_are_made_one_task_each_with_the_bucket_as_label(bag):
    task = bag.dags["feature_eng"].get_task("create_buckets_if_not_exists")
    assert task.expand_input.value["bucket_name"] == ["data", "mlflowdatapossums", "localxcom"]
    assert task.partial_kwargs["map_index_template"] == "{{ task.bucket_name }}"


def test_dataset_names_follow_the_settings(bag):
    assert f"s3://{settings.data_bucket_name}_{settings.possum.file_path}" == "s3://data_possum.csv"


def test_parsing_imports_nothing_heavy():
    """In a process of its own, as another test may have imported any of them."""
    code = f"""
import json, sys
from airflow.models import DagBag
bag = DagBag({str(DAG_FILES)!r}, include_examples=False)
print(json.dumps([len(bag.dags), sorted(set(sys.modules) & set({HEAVY!r}))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parsed, heavy = json.loads(done.stdout.splitlines()[-1])
    assert parsed == len(DAGS)
    assert heavy == []
