"""How the doctor's checks are run, and those that need no service."""

import json
import time

import pytest

from include import doctor
from include.doctor import Trouble, checks, examine


@pytest.fixture
def only(monkeypatch):
    """The one check that there is, for this test."""
    return lambda check: monkeypatch.setattr(doctor, "checks", lambda: {"it": check})


def test_healthy_check_has_no_remedy(only):
    only(lambda: "all is well")
    assert (examine("it").healthy, examine("it").found) == (True, "all is well")


def test_trouble_comes_with_its_remedy(only):
    def check() -> str:
        raise Trouble("it is broken", "repair it")

    only(check)
    finding = examine("it")
    assert (finding.healthy, finding.found, finding.remedy) == (False, "it is broken", "repair it")


def test_an_unexpected_error_is_a_finding_of_one_line(only):
    def check() -> str:
        raise RuntimeError("first\nsecond")

    only(check)
    finding = examine("it")
    assert not finding.healthy
    assert finding.found == "first"
    assert finding.remedy


def test_a_check_that_hangs_is_given_up(only):
    only(lambda: str(time.sleep(60)))  # type: ignore[func-returns-value]
    began = time.monotonic()
    finding = examine("it", limit=0.2)
    assert time.monotonic() - began < 5
    assert "no result within" in finding.found


def test_labels_are_distinct_and_name_each_bucket_once():
    labels = list(checks())
    assert [label for label in labels if label.startswith("S3 bucket")] == [
        "S3 bucket data",
        "S3 bucket mlflowdatapossums",
        "S3 bucket localxcom",
        "S3 bucket churnmodels",
    ]


def test_installed_versions_are_those_of_the_lock():
    assert "packages as locked, Airflow 3.3.2" in doctor.check_versions()


def test_another_version_is_named(monkeypatch):
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "pandas" else real(name))
    with pytest.raises(Trouble, match=r"pandas 0\.1, locked 3\.1\.1.*make setup"):
        doctor.check_versions()


def test_other_xcom_backend_is_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "airflow.models.xcom.BaseXCom")
    with pytest.raises(Trouble, match=r"BaseXCom.*set AIRFLOW__CORE__XCOM_BACKEND=include\.xcom_backend"):
        doctor.check_airflow()


WATCHED = {
    "AIRFLOW__CORE__XCOM_BACKEND": doctor.XCOM_BACKEND,
    "AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES": "airflow.* astro.*",
    "AIRFLOW__SDK__COORDINATORS": json.dumps({"task_process": {"classpath": doctor.COORDINATOR}}),
    "AIRFLOW__SDK__QUEUE_TO_COORDINATOR": json.dumps({"default": "task_process"}),
}


@pytest.mark.parametrize("missing", ["AIRFLOW__SDK__COORDINATORS", "AIRFLOW__SDK__QUEUE_TO_COORDINATOR"])
def test_tasks_that_airflow_watches_itself_are_named(monkeypatch, missing):
    for name, value in WATCHED.items():
        monkeypatch.setenv(name, value)
    assert "uv is there" in doctor.check_airflow()
    monkeypatch.delenv(missing)
    with pytest.raises(Trouble, match=r"queue default are watched by Airflow itself.*QUEUE_TO_COORDINATOR"):
        doctor.check_airflow()


def test_missing_connection_is_named():
    finding = examine("MLflow")
    assert "The conn_id `mlflow_default` isn't defined" in finding.found
    assert "define the connection" in finding.remedy
    assert "AIRFLOW_CONN_MLFLOW_DEFAULT" in finding.remedy


def test_connection_that_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", "{no json")
    finding = examine("PostgreSQL")
    assert "isn't defined" in finding.found
    assert "AIRFLOW_CONN_POSTGRES_DEFAULT is set, but cannot be read: write it as one line of JSON" in finding.remedy


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WANDB_MODE": "nonsense"}, "WANDB_MODE=nonsense.*set it to online or offline"),
        ({"WANDB_MODE": "online"}, "needs WANDB_API_KEY"),
        ({"WANDB_DIR": "/proc/nowhere"}, "cannot be written.*set WANDB_DIR"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "does not answer.*WANDB_BASE_URL"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": "no url"}, "WANDB_BASE_URL='no url' is not a URL"),
        ({"WANDB_API_KEY": "k" * 40 + " "}, "WANDB_API_KEY has a blank"),
        ({"WANDB_API_KEY": '"' + "k" * 40 + '"'}, "WANDB_API_KEY has quotes"),
    ],
)
def test_wandb_that_cannot_work_is_said(monkeypatch, tmp_path, variables, said):
    for name, value in ({"WANDB_DIR": str(tmp_path)} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Trouble, match=said) as raised:
        doctor.check_wandb()
    assert "k" * 40 not in str(raised.value)


def test_wandb_without_a_key_is_offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert doctor.check_wandb().startswith("offline, because WANDB_API_KEY is not set")


def test_a_notify_url_that_nobody_understands_is_said_without_it(monkeypatch):
    from pydantic import SecretStr

    from include.settings import PipelinesSettings, Settings

    monkeypatch.setattr(
        doctor, "settings", Settings(pipelines=PipelinesSettings(notify_url=SecretStr("nosuch://s3cret")))
    )
    with pytest.raises(Trouble, match="does not understand PIPELINES_NOTIFY_URL") as caught:
        doctor.check_notifications()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("label", ["S3", "S3 bucket data", "MLflow", "MLflow artifacts", "PostgreSQL", "Ports"])
def test_form_of_a_connection_that_the_tasks_refuse_is_refused_with_the_same_words(monkeypatch, label):
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://K:S@minio:9000")
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "http", "host": "http://h:5000", "port": 5000}')
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", '{"conn_type": "postgres", "host": "postgres:5432"}')
    finding = examine(label)
    assert any(words in finding.found for words in ("has a host, which nothing reads", "names a port"))
    assert "AIRFLOW_CONN_" in finding.remedy


def test_ports_are_those_of_the_proxy_where_there_is_one(monkeypatch):
    for name, address in {"HTTP_PROXY": "http://127.0.0.1:7", "NO_PROXY": "mlflow.internal"}.items():
        monkeypatch.setenv(name, address)
        monkeypatch.setenv(name.lower(), address)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://K:S@/?endpoint_url=http%3A%2F%2Fs3.internal")
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "http://mlflow.internal:9")
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", "postgres://me@%2Ftmp/d")
    finding = examine("Ports")
    assert "S3 at 127.0.0.1:7" in finding.found
    assert "MLflow at mlflow.internal:9" in finding.found
    assert "PostgreSQL" not in finding.found  # a socket has no port
