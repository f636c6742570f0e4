"""Where a stack keeps things and what its processes are given; nothing is started."""

import json
import os
import stat

import pytest

from local_stack.config import MAX_SOCKET_PATH, Ports, Secrets, Stack


@pytest.fixture
def stack(tmp_path, monkeypatch) -> Stack:
    # the image sets the last one
    for name in ("AIRFLOW_PORT", "MLFLOW_PORT", "S3_PORT", "POSTGRES_PORT", "PREDICTION_VENV_CACHE"):
        monkeypatch.delenv(name, raising=False)
    return Stack(tmp_path)


def test_ports_are_the_usual_ones_and_each_is_moved_by_its_variable(monkeypatch):
    assert Ports() == Ports(airflow=8080, mlflow=5000, s3=9000, postgres=5433)
    for number, name in enumerate(("airflow", "mlflow", "s3", "postgres"), start=1000):
        monkeypatch.setenv(f"{name.upper()}_PORT", str(number))
    assert Ports.from_environment() == Ports(1000, 1001, 1002, 1003)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "80 ", "8080.0"])
def test_port_that_is_none_ends_in_one_line_that_names_the_variable(monkeypatch, text):
    monkeypatch.setenv("MLFLOW_PORT", text)
    with pytest.raises(SystemExit, match=f"^error: MLFLOW_PORT={text} is no port: give a number from 1 to 65535$"):
        Ports.from_environment()


def test_stack_remembers_the_ports_with_which_it_was_started(stack, monkeypatch):
    stack.keep_ports(Ports(airflow=1234))
    monkeypatch.setenv("AIRFLOW_PORT", "4321")
    assert Stack(stack.home).ports.airflow == 1234
    stack.forget_ports()
    assert stack.ports.airflow == 4321


def test_state_folder_is_chosen_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_STACK_DIR", str(tmp_path / "state"))
    assert Stack().home == tmp_path / "state"


def test_secrets_are_made_once_and_differ(tmp_path):
    file = tmp_path / "secrets.json"
    first = Secrets.load_or_make(file)
    assert Secrets.load_or_make(file) == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(set(json.loads(file.read_text()).values())) == len(Secrets.__dataclass_fields__)


def test_socket_of_a_deep_folder_has_a_short_path(tmp_path):
    deep = Stack(tmp_path / ("d" * 120))
    assert len(str(deep.socket).encode()) <= MAX_SOCKET_PATH
    assert deep.socket != Stack(tmp_path / ("e" * 120)).socket


class TestEnvironment:
    def test_another_airflow_or_mlflow_of_the_shell_is_left_out(self, stack, monkeypatch):
        for name in ("AIRFLOW_HOME", "AIRFLOW__CORE__EXECUTOR", "MLFLOW_TRACKING_URI", "AWS_PROFILE", "PYTHONPATH"):
            monkeypatch.setenv(name, "of another project")
        assert "of another project" not in stack.environment().values()

    def test_connection_of_the_shell_is_taken_over(self, stack, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "http://elsewhere:5000")
        environment = stack.environment()
        assert environment["AIRFLOW_CONN_MLFLOW_DEFAULT"] == "http://elsewhere:5000"
        assert json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])["extra"]["endpoint_url"] == stack.s3_url

    def test_setting_of_the_shell_is_taken_over(self, stack, monkeypatch):
        monkeypatch.setenv("MLFLOW_ARTIFACT_BUCKET", "mine")
        monkeypatch.setenv("PIPELINES_MLFLOW_UI_URL", "https://mlflow.example.com")
        environment = stack.environment()
        assert environment["MLFLOW_ARTIFACT_BUCKET"] == "mine"
        assert environment["PIPELINES_MLFLOW_UI_URL"] == "https://mlflow.example.com"

    def test_nothing_calls_home(self, stack):
        wanted = {
            "DO_NOT_TRACK": "1",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "WANDB_ERROR_REPORTING": "false",
        }
        assert wanted.items() <= stack.environment().items()

    def test_tasks_do_not_find_the_object_stores_keys_in_plain_variables(self, stack):
        environment = stack.environment()
        assert not {name for name in environment if name.startswith("AWS_")}

    def test_all_that_is_kept_lies_below_the_state_folder(self, stack):
        environment = stack.environment()
        for name in ("AIRFLOW_HOME", "AIRFLOW__LOGGING__BASE_LOG_FOLDER", "PREDICTION_VENV_CACHE", "WANDB_DIR"):
            assert environment[name].startswith(str(stack.home)), name

    def test_programs_of_this_environment_come_first(self, stack):
        import sys
        from pathlib import Path

        assert stack.environment()["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
