"""Where a stack keeps things and what its processes are given; nothing is started."""

import json
import locale
import os
import pwd
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local_stack.config import MAX_SOCKET_PATH, Ports, Secrets, Stack


@pytest.fixture
def stack(tmp_path) -> Stack:
    return Stack(tmp_path)


def test_ports_are_the_usual_ones_and_each_is_moved_by_its_variable(monkeypatch):
    assert Ports() == Ports(airflow=8080, mlflow=5000, s3=9000, objects=9001, postgres=5433)
    for number, name in enumerate(("airflow", "mlflow", "s3", "objects", "postgres"), start=1000):
        monkeypatch.setenv(f"LOCAL_STACK_{name.upper()}_PORT", str(number))
    assert Ports.from_environment() == Ports(1000, 1001, 1002, 1003, 1004)


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "80 ", "8080.0"])
def test_port_that_is_none_ends_in_one_line_that_names_the_variable(monkeypatch, text):
    monkeypatch.setenv("LOCAL_STACK_MLFLOW_PORT", text)
    with pytest.raises(
        SystemExit, match=f"^error: LOCAL_STACK_MLFLOW_PORT={text} is no port: give a number from 1 to 65535$"
    ):
        Ports.from_environment()


def test_stack_remembers_the_ports_with_which_it_was_started(stack, monkeypatch):
    stack.keep_ports(Ports(airflow=1234))
    monkeypatch.setenv("LOCAL_STACK_AIRFLOW_PORT", "4321")
    assert Stack(stack.home).ports.airflow == 1234
    stack.forget_ports()
    assert stack.ports.airflow == 4321


def test_port_and_executor_of_another_program_do_not_count(stack, monkeypatch):
    monkeypatch.setenv("AIRFLOW_PORT", "4321")
    monkeypatch.setenv("EXECUTOR", "celery")
    assert stack.ports == Ports()
    assert stack.executor == "local"


def test_state_folder_is_chosen_by_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_STACK_DIR", str(tmp_path / "state"))
    assert Stack().home == tmp_path / "state"


def test_secrets_are_made_once_and_differ(tmp_path):
    file = tmp_path / "secrets.json"
    first = Secrets.load_or_make(file)
    assert Secrets.load_or_make(file) == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(set(json.loads(file.read_text()).values())) == len(Secrets.__dataclass_fields__)


def test_start_that_was_killed_while_it_wrote_the_secrets_is_begun_again(tmp_path):
    """As if the disk had been full, or the process killed, before the first byte."""
    file = tmp_path / "secrets.json"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            Secrets.load_or_make(file)
    assert Secrets.load_or_make(file).s3_access_key


def test_secret_that_signs_tokens_is_as_long_as_the_signature(stack):
    """PyJWT warns at each request that is signed with fewer bytes than HS512 has."""
    environment = stack.environment()
    assert len(environment["AIRFLOW__API_AUTH__JWT_SECRET"].encode()) == 64


def test_stack_of_another_version_is_told_to_be_removed(tmp_path):
    """As one of Airflow 2, whose secrets had other names."""
    file = tmp_path / "secrets.json"
    # pragma: allowlist nextline secret, because it is made up
    file.write_text(json.dumps({"fernet_key": "x", "webserver_secret_key": "y"}))
    with pytest.raises(SystemExit, match=f"^error: {tmp_path} holds the stack of another version .*make clean"):
        Secrets.load_or_make(file)


def test_passwords_of_airflow_can_be_read_by_their_user_only(stack):
    stack.keep_passwords()
    assert json.loads(stack.passwords_file.read_text()) == {"admin": stack.login[1]}
    assert stat.S_IMODE(stack.passwords_file.stat().st_mode) == 0o600
    assert stack.environment()["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"] == str(stack.passwords_file)


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_socket_of_a_deep_folder_is_found_from_a_shell_with_another_tmpdir(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 120)
    before = Stack(deep).socket
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert Stack(deep).socket == before


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

    def test_objects_are_looked_at_in_the_stacks_own_view(self, stack):
        assert stack.page_of("s3://data/a b/plot.png") == "http://localhost:9001/data/a%20b/plot.png"

    def test_objects_of_another_store_are_not(self, stack, monkeypatch):
        # pragma: allowlist nextline secret, because it is made up
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://key:secret@")
        assert "PIPELINES_OBJECT_UI_URL" not in stack.environment()
        assert stack.page_of("s3://data/plot.png") == "s3://data/plot.png"
        monkeypatch.setenv("PIPELINES_OBJECT_UI_URL", "https://s3.example.com/{bucket}?prefix={key}")
        assert stack.page_of("s3://data/plot.png") == "https://s3.example.com/data?prefix=plot.png"

    def test_tasks_are_watched_by_the_projects_coordinator(self, stack):
        environment = stack.environment()
        (name,) = json.loads(environment["AIRFLOW__SDK__QUEUE_TO_COORDINATOR"]).values()
        coordinator = json.loads(environment["AIRFLOW__SDK__COORDINATORS"])[name]
        assert coordinator == {"classpath": "include.task_process.TaskCoordinator"}

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
        assert stack.environment()["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)

    @pytest.mark.parametrize(
        "name",
        [
            *("PGSSLMODE", "PGSERVICE", "PGHOSTADDR", "PGPASSFILE", "PGOPTIONS", "PGDATA"),
            *("RCLONE_READ_ONLY", "RCLONE_USER", "RCLONE_CONFIG", "RCLONE_AUTH_KEY"),
            *("WANDB_RUN_ID", "WANDB_RUN_GROUP", "WANDB_DIR", "WANDB_SILENT", "DATABRICKS_HOST", "DATABRICKS_TOKEN"),
            *("UV_CONSTRAINT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_EXCLUDE_NEWER", "PIP_TARGET", "PIP_USER"),
            *("VIRTUAL_ENV", "CONDA_PREFIX", "PREDICTION_VENV_CACHE", "MPLBACKEND", "GIT_DIR"),
            *("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONOPTIMIZE", "LD_PRELOAD", "LD_LIBRARY_PATH"),
            *("UVICORN_PORT", "AIRFLOW_API_APPS", "FORWARDED_ALLOW_IPS", "CELERY_BROKER_URL", "SPT_NOENV"),
            *("FILE_PATH", "KEY_COLUMN", "WAREHOUSE_SCHEMA", "POSSUM", "CHURN", "MLFLOW_PORT", "EXECUTOR"),
            *("LOCAL_STACK_MARK", "LOCAL_STACK_SOCKET", "LOCAL_STACK_POSTGRES_USER", "LOCAL_STACK_REDIS_PASSWORD"),
            *("LOGNAME", "USER", "LANG", "LC_ALL", "LC_NUMERIC", "LANGUAGE", "LOCPATH"),
        ],
    )
    def test_variable_that_is_meant_for_another_program_changes_nothing(self, stack, monkeypatch, name):
        before = stack.environment()
        monkeypatch.setenv(name, "of another program")
        assert stack.environment() == before

    @pytest.mark.parametrize(
        "name",
        [
            *("HOME", "TMPDIR", "TZ", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"),
            *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE"),
            *("MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH"),
            *("MLFLOW_S3_IGNORE_TLS", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"),
            *("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_HTTP_TIMEOUT"),
            *("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX_MINE_PASSWORD", "UV_CACHE_DIR", "PIP_INDEX_URL"),
            *("OPENBLAS_CORETYPE", "OMP_NUM_THREADS", "AIRFLOW_CONN_MINE", "POSSUM_FILE_PATH", "XCOM_BUCKET"),
        ],
    )
    def test_what_a_user_needs_reaches_the_processes(self, stack, monkeypatch, name):
        monkeypatch.setenv(name, "the user's")
        assert stack.environment()[name] == "the user's"

    def test_folder_of_the_library_that_python_itself_needs_is_kept(self, stack, monkeypatch, tmp_path):
        """And no other one: it may hold another libpq or libstdc++."""
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "libpython3.so.1.0").touch()
        found = {"INSTSONAME": "libpython3.so.1.0", "Py_ENABLE_SHARED": 1}
        monkeypatch.setattr("sysconfig.get_config_var", found.get)
        monkeypatch.setenv("LD_LIBRARY_PATH", f"/opt/oracle:{tmp_path / 'lib'}:")
        assert stack.environment()["LD_LIBRARY_PATH"] == str(tmp_path / "lib")

    @pytest.mark.parametrize(
        ("variables", "direct"),
        [
            ({}, "127.0.0.1,localhost,::1"),
            ({"HTTP_PROXY": "http://proxy:1"}, "127.0.0.1,localhost,::1"),
            ({"NO_PROXY": ".example.com, s3"}, ".example.com,s3,127.0.0.1,localhost,::1"),
            ({"no_proxy": "a", "NO_PROXY": "b,localhost"}, "a,b,localhost,127.0.0.1,::1"),
            ({"NO_PROXY": "*"}, "*"),  # beside others it would not count as a star
        ],
    )
    def test_this_machine_is_never_asked_through_a_proxy(self, stack, monkeypatch, variables, direct):
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        environment = stack.environment()
        assert (environment["NO_PROXY"], environment["no_proxy"]) == (direct, direct)
        assert environment.get("http_proxy") == environment.get("HTTP_PROXY") == variables.get("HTTP_PROXY")

    @pytest.mark.parametrize("users", ["C", "POSIX", "de_DE.ISO-8859-1"])
    def test_text_is_utf8_whatever_the_locale_is(self, stack, monkeypatch, users):
        monkeypatch.setenv("LC_ALL", users)
        done = subprocess.run(
            [sys.executable, "-c", "import locale, sys; print(locale.getpreferredencoding(), sys.stdout.encoding)"],
            env=stack.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.lower().split() == ["utf-8", "utf-8"]
        before = locale.setlocale(locale.LC_CTYPE)
        try:
            locale.setlocale(locale.LC_CTYPE, stack.environment()["LC_ALL"])  # it is there
            assert locale.nl_langinfo(locale.CODESET) == "UTF-8"
        finally:
            locale.setlocale(locale.LC_CTYPE, before)

    @pytest.mark.parametrize("name", ["root", "nobody-has-this-name"])
    def test_postgres_runs_as_the_user_whose_rights_the_command_has(self, stack, monkeypatch, name):
        monkeypatch.setenv("LOGNAME", name)
        monkeypatch.setenv("USER", name)
        monkeypatch.setattr("os.geteuid", lambda: 1)  # not root
        assert stack.environment()["LOCAL_STACK_POSTGRES_USER"] == pwd.getpwuid(1).pw_name

    @pytest.mark.parametrize("folder", ["100%", "cash$HOME"])
    def test_airflow_gets_no_path_in_which_it_would_replace_something(self, tmp_path, folder):
        (tmp_path / folder).mkdir()
        environment = Stack(tmp_path / folder).environment()
        values = [environment[name] for name in environment if name.startswith("AIRFLOW") and "_CONN" not in name]
        assert not [value for value in values if folder in value]
        assert environment["AIRFLOW_HOME"] == "airflow"  # its processes run in the stack's folder
