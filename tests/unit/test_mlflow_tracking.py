"""How an Airflow connection becomes MLflow's environment."""

import json
import os

import pytest

from include.mlflow_tracking import connect_mlflow, mlflow_environment, run_url
from include.settings import settings

# pragma: allowlist nextline secret, because it is made up
AWS = {"conn_type": "aws", "login": "key", "password": "secret", "extra": {"endpoint_url": "http://s3:9000"}}


@pytest.fixture
def define(monkeypatch):
    """Define the two connections, as a user does by variables."""

    def define_connections(mlflow: dict, aws: dict | None = None) -> dict[str, str]:
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http"} | mlflow))
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws or AWS))
        return mlflow_environment()

    return define_connections


def test_server_without_login_gets_address_and_keys_of_the_object_store(define):
    variables = define({"host": "http://mlflow:5000"})
    assert variables["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert variables["AWS_ACCESS_KEY_ID"] == "key"
    # pragma: allowlist nextline secret, because it is made up
    assert variables["AWS_SECRET_ACCESS_KEY"] == "secret"
    assert variables["MLFLOW_S3_ENDPOINT_URL"] == "http://s3:9000"
    assert not {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN", "DATABRICKS_TOKEN"} & set(variables)


def test_login_and_password_are_handed_over(define):
    variables = define({"host": "https://mlflow.example.com", "login": "me", "password": "pass"})
    assert variables["MLFLOW_TRACKING_USERNAME"] == "me"
    # pragma: allowlist nextline secret, because it is made up
    assert variables["MLFLOW_TRACKING_PASSWORD"] == "pass"


def test_token_is_handed_over_as_one(define):
    variables = define({"host": "https://mlflow.example.com", "login": "token", "password": "t0"})
    assert variables["MLFLOW_TRACKING_TOKEN"] == "t0"
    assert "MLFLOW_TRACKING_USERNAME" not in variables


def test_databricks_is_a_server_like_any_other(define):
    variables = define({"host": "https://dbc-1.cloud.databricks.com", "login": "token", "password": "t0"})
    assert variables["MLFLOW_TRACKING_URI"] == "https://dbc-1.cloud.databricks.com"
    assert not [name for name in variables if name.startswith("DATABRICKS")]


def test_aws_itself_needs_no_endpoint_but_a_region_and_a_session_token(define):
    aws = {
        "conn_type": "aws",
        "login": "key",
        # pragma: allowlist nextline secret, because it is made up
        "password": "secret",
        "extra": {"region_name": "eu-central-1", "aws_session_token": "session"},
    }
    variables = define({"host": "http://mlflow:5000"}, aws)
    assert variables["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert variables["AWS_SESSION_TOKEN"] == "session"
    assert "MLFLOW_S3_ENDPOINT_URL" not in variables


def test_telemetry_is_off(define):
    assert define({"host": "http://mlflow:5000"})["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_connecting_puts_it_into_this_process(define, monkeypatch):
    variables = define({"host": "http://mlflow:5000"})
    for name in variables:
        monkeypatch.setenv(name, "before")
    connect_mlflow()
    assert {name: os.environ[name] for name in variables} == variables


def test_link_of_a_run_is_where_a_browser_finds_it():
    assert run_url("7", "abc") == f"{settings.pipelines.mlflow_ui_url}/#/experiments/7/runs/abc"


def test_what_another_login_has_set_is_taken_out_of_this_process(define, monkeypatch):
    stale = ("AWS_SESSION_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN", "MLFLOW_S3_IGNORE_TLS")
    for name in stale:
        monkeypatch.setenv(name, "of another login")
    define({"host": "http://mlflow:5000"})
    connect_mlflow()
    assert not set(stale) & set(os.environ)


def test_certificates_are_checked_as_the_connections_say(define, tmp_path):
    (tmp_path / "ca.pem").touch()
    unchecked = {"verify": False}
    variables = define({"host": "https://mlflow", "extra": unchecked}, AWS | {"extra": unchecked})
    assert variables["MLFLOW_TRACKING_INSECURE_TLS"] == variables["MLFLOW_S3_IGNORE_TLS"] == "true"
    by_file = {"verify": str(tmp_path / "ca.pem")}
    variables = define({"host": "https://mlflow", "extra": by_file}, AWS | {"extra": by_file})
    assert variables["MLFLOW_TRACKING_SERVER_CERT_PATH"] == variables["AWS_CA_BUNDLE"] == str(tmp_path / "ca.pem")
    assert not {"MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_S3_IGNORE_TLS"} & set(variables)
