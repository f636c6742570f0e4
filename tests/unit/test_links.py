"""The buttons that lead from Airflow's UI to runs, models and objects."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.sdk.exceptions import AirflowException
from airflow.sdk.execution_time.xcom import XCom
from astro.files import File
from astro.table import Metadata, Table

from include import links
from include.settings import PipelinesSettings, Settings
from tests.helpers.dags import load_dag

PROJECT = Path(__file__).parents[2]
TI_KEY = TaskInstanceKey("dag", "task", "run", 1, -1)
CONSOLE = "http://localhost:9001/browser/{bucket}/{key}"


@pytest.fixture
def console(monkeypatch):
    monkeypatch.setattr(links, "settings", Settings(pipelines=PipelinesSettings(object_ui_url=CONSOLE)))


class FakeTask:
    """A task instance that keeps the XComs that are pushed."""

    def __init__(self, **operator: Any) -> None:
        self.pushed: dict[str, Any] = {}
        self.context = {"ti": self, "task": SimpleNamespace(**operator)}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def test_pages_are_the_browsers():
    assert links.experiment_url("7") == "http://localhost:5000/#/experiments/7"
    assert links.run_url("7", "abc") == "http://localhost:5000/#/experiments/7/runs/abc"
    assert links.model_url("my model") == "http://localhost:5000/#/models/my%20model"
    assert links.model_url("m", "3") == "http://localhost:5000/#/models/m/versions/3"


def test_page_of_an_object_has_its_key_as_one_part(console):
    assert links.object_url("s3://data/plots/run=1/a b.png") == (
        "http://localhost:9001/browser/data/plots%2Frun%3D1%2Fa%20b.png"
    )
    assert links.object_url("s3://data") == "http://localhost:9001/browser/data/"


def test_object_has_no_page_where_none_is_configured():
    assert links.object_url("s3://data/key") == ""


def test_button_reads_what_the_task_has_recorded(monkeypatch):
    recorded = {"link.mlflow_run": "http://localhost:5000/#/experiments/1/runs/2"}
    monkeypatch.setattr(XCom, "get_value", lambda *, ti_key, key: recorded.get(key))
    assert links.MLflowRunLink().get_link(None, ti_key=TI_KEY) == recorded["link.mlflow_run"]
    assert links.MLflowModelLink().get_link(None, ti_key=TI_KEY) == ""


def test_recording_pushes_a_small_xcom_and_says_the_address(monkeypatch, caplog):
    task = FakeTask()
    monkeypatch.setattr("airflow.sdk.get_current_context", lambda: task.context)
    with caplog.at_level("INFO"):
        links.record_link(links.MLflowRunLink, "http://here")
        links.record_link(links.WandbRunLink, None)
    assert task.pushed == {"link.mlflow_run": "http://here"}
    assert "MLflow run: http://here" in caplog.text


def test_recording_outside_of_a_task_does_nothing(monkeypatch):
    def no_context() -> None:
        raise AirflowException("no context")

    monkeypatch.setattr("airflow.sdk.get_current_context", no_context)
    links.record_link(links.MLflowRunLink, "http://here")


def test_table_of_the_astro_sdk_is_named_in_the_log(caplog):
    with caplog.at_level("INFO"):
        links.record_outcome(FakeTask().context, Table("customers", metadata=Metadata(schema="tmp_astro")))
    assert "Written to table tmp_astro.customers" in caplog.text


@pytest.mark.parametrize(
    ("operator", "result", "pushed"),
    [
        ({}, File("s3://data/a.csv"), {"link.objects": "http://localhost:9001/browser/data/a.csv"}),
        ({"bucket_name": "data"}, None, {"link.objects": "http://localhost:9001/browser/data/"}),
        (
            {},
            {"model_version": {"name": "m", "version": "3"}},
            {"link.mlflow_model": "http://localhost:5000/#/models/m/versions/3"},
        ),
        ({}, {"registered_model": {"name": "m"}}, {"link.mlflow_model": "http://localhost:5000/#/models/m"}),
        ({}, {"model_version": "7"}, {}),
        ({}, {"model_version": {"version": "7"}}, {}),
        ({}, {"registered_model": {"name": None}}, {}),
        ({}, type("File", (), {"path": "s3://data/of-another-class.csv"})(), {}),
        ({}, File("/local/file.csv"), {}),
        ({}, [1, 2], {}),
        ({}, None, {}),
    ],
)
def test_outcomes_of_foreign_operators_are_understood(console, operator, result, pushed):
    task = FakeTask(**operator)
    links.record_outcome(task.context, result)
    assert task.pushed == pushed


@pytest.mark.parametrize(("operator", "result"), [({}, File("s3://data/a.csv")), ({"bucket_name": "data"}, None)])
def test_nothing_is_recorded_of_objects_that_have_no_page(operator, result):
    task = FakeTask(**operator)
    links.record_outcome(task.context, result)
    assert task.pushed == {}


def test_buttons_that_can_lead_nowhere_are_left_out(monkeypatch, console):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert not links.WandbRunLink.is_possible()
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert links.WandbRunLink.is_possible()
    monkeypatch.setenv("WANDB_MODE", "nonsense")
    assert not links.WandbRunLink.is_possible()
    assert links.ObjectsLink.is_possible()
    monkeypatch.setattr(links, "settings", Settings())
    assert not links.ObjectsLink.is_possible()


def test_every_task_that_writes_to_wandb_and_to_the_object_store_leads_to_both(monkeypatch, console):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    dag = load_dag("customer_analytics")
    for task_id in ("train", "promote_model.compare_with_champion", "predict"):
        assert dag.get_task(task_id).extra_links == ["Objects", "W&B run"]
    assert dag.get_task("create_buckets_if_not_exists").extra_links == ["Objects"]


def test_webserver_knows_every_button_of_every_dag(monkeypatch):
    """What the UI shows comes from the serialised DAG: an unknown class of links would take all of a task's away."""
    from airflow import plugins_manager
    from airflow.serialization.serialized_objects import SerializedDAG

    monkeypatch.setattr(
        plugins_manager,
        "registered_operator_link_classes",
        {f"include.links.{each.__name__}": each for each in links.LINKS},
    )
    for name in ("global_operator_extra_links", "operator_extra_links"):
        monkeypatch.setattr(plugins_manager, name, [])
    shown: dict[str, list[str]] = {}
    for dag_id, dag in DagBag(PROJECT / "dags").dags.items():
        served = SerializedDAG.from_json(SerializedDAG.to_json(dag))
        shown |= {f"{dag_id}.{task.task_id}": task.extra_links for task in served.tasks if task.extra_links}
    assert shown["feature_eng.build_features"] == ["MLflow experiment", "MLflow run"]  # Astro SDK
    assert shown["train.train_model"] == ["MLflow experiment", "MLflow run"]  # TaskFlow
    assert shown["train.register_model.create_model_version"] == ["MLflow model"]  # a provider's operator
    assert "W&B run" not in str(shown)  # offline
    assert "Objects" not in str(shown)  # not configured


def test_plugin_registers_all_buttons_and_is_cheap():
    code = """
import json, sys, importlib.util
spec = importlib.util.spec_from_file_location("extra_links", "plugins/extra_links.py")
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
heavy = sorted({"mlflow", "wandb", "pandas", "boto3", "requests_aws4auth"} & set(sys.modules))
print(json.dumps([[link.name for link in module.ExtraLinksPlugin.operator_extra_links], heavy]))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    names, heavy = json.loads(done.stdout.splitlines()[-1])
    assert names == ["MLflow experiment", "MLflow run", "MLflow model", "W&B run", "Objects"]
    assert heavy == []


class OddTable:
    """A result that looks like the SDK's, and has nothing of it."""

    __module__ = "astro.table"


OddTable.__name__ = "Table"


@pytest.mark.parametrize("result", [OddTable(), {"model_version": {"name": "m", "version": object()}}])
def test_looking_for_links_never_fails_a_task_whose_work_is_done(caplog, result):
    links.record_outcome(FakeTask().context, result)
    links.record_outcome({}, result)  # not even a context


def test_button_that_cannot_be_recorded_fails_no_task(monkeypatch, caplog, console):
    def away(self: FakeTask, key: str, value: Any) -> None:
        raise ConnectionError("Airflow's database is away")

    monkeypatch.setattr(FakeTask, "xcom_push", away)
    task = FakeTask(bucket_name="data")
    monkeypatch.setattr("airflow.sdk.get_current_context", lambda: task.context)
    links.record_outcome(task.context, None)
    links.record_link(links.MLflowRunLink, "http://here")
    assert "The button MLflow run could not be recorded" in caplog.text
