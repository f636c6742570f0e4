"""How the doctor's checks are run, and those that need no service."""

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
    assert "packages as locked, Airflow 2.11.2" in doctor.check_versions()


def test_another_version_is_named(monkeypatch):
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda name: "0.1" if name == "pandas" else real(name))
    with pytest.raises(Trouble, match=r"pandas 0\.1, locked 2\.1\.4.*make setup"):
        doctor.check_versions()


def test_other_xcom_backend_is_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__XCOM_BACKEND", "airflow.models.xcom.BaseXCom")
    with pytest.raises(Trouble, match=r"BaseXCom.*set AIRFLOW__CORE__XCOM_BACKEND=include\.xcom_backend"):
        doctor.check_airflow()


def test_missing_connection_is_named(monkeypatch):
    monkeypatch.setattr("airflow.models.connection.Connection.get_connection_from_secrets", _not_found)
    with pytest.raises(Trouble, match=r"no connection mlflow_default.*AIRFLOW_CONN_MLFLOW_DEFAULT"):
        doctor.check_mlflow()


def test_connection_that_cannot_be_read_is_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", "{no json")
    with pytest.raises(Trouble, match=r"AIRFLOW_CONN_POSTGRES_DEFAULT is set but cannot be read.*JSON"):
        doctor.check_postgres()


def _not_found(*_):
    from airflow.exceptions import AirflowNotFoundException

    raise AirflowNotFoundException("it isn't defined")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WANDB_MODE": "nonsense"}, "WANDB_MODE=nonsense.*set it to online or offline"),
        ({"WANDB_MODE": "online"}, "needs WANDB_API_KEY"),
        ({"WANDB_DIR": "/proc/nowhere"}, "cannot be written.*set WANDB_DIR"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"}, "does not answer.*WANDB_BASE_URL"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_BASE_URL": "no url"}, "does not answer.*WANDB_BASE_URL"),
    ],
)
def test_wandb_that_cannot_work_is_said(monkeypatch, tmp_path, variables, said):
    for name, value in ({"WANDB_DIR": str(tmp_path)} | variables).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Trouble, match=said):
        doctor.check_wandb()


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
