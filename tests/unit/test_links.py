"""The buttons that lead from Airflow's UI to runs, models and objects."""

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.taskinstancekey import TaskInstanceKey
from airflow.sdk.execution_time.xcom import XCom
from airflow.serialization.serialized_objects import DagSerialization
from astro.files import File
from astro.table import Metadata, Table

from include import links
from include.settings import PipelinesSettings, Settings
from tests.helpers.dags import load_dag

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


def test_recording_outside_of_a_task_does_nothing():
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


def shown(dag_id: str) -> dict[str, dict[str, str]]:
    """The buttons that the web server shows, and the XComs where it looks, by task: all it knows is the serialised DAG."""
    served = DagSerialization.from_json(DagSerialization.to_json(load_dag(dag_id)))
    return {
        task.task_id: {link.name: link.xcom_key for link in task.operator_extra_links}
        for task in served.tasks
        if task.operator_extra_links
    }


def test_every_task_that_writes_to_wandb_and_to_the_object_store_leads_to_both(monkeypatch, console):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    tasks = shown("customer_analytics")
    for task_id in ("train", "promote_model.compare_with_champion", "predict"):
        assert tasks[task_id] == {"Objects": "link.objects", "W&B run": "link.wandb_run"}
    assert tasks["create_buckets_if_not_exists"] == {"Objects": "link.objects"}  # a mapped one


def test_web_server_knows_every_button_of_tasks_of_every_kind():
    features, train = shown("feature_eng"), shown("train")
    of_run = {"MLflow experiment": "link.mlflow_experiment", "MLflow run": "link.mlflow_run"}
    assert features["build_features"] == of_run  # Astro SDK
    assert train["train_model"] == of_run  # TaskFlow
    assert train["register_model.create_model_version"] == {
        "MLflow model": "link.mlflow_model"
    }  # a provider's operator
    for dag_id in ("feature_eng", "train", "predict", "customer_analytics"):
        assert "W&B run" not in str(shown(dag_id))  # offline
        assert "Objects" not in str(shown(dag_id))  # not configured


def test_button_is_found_where_the_task_has_recorded_it():
    task = FakeTask()
    for link in links.LINKS:
        links._push_link(task, link, f"http://{link.key}")
    assert task.pushed == {link().xcom_key: f"http://{link.key}" for link in links.LINKS}


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
