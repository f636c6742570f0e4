"""What the Astro CLI reads is right: the services that docker-compose.override.yml adds, and the variables of .env_example.

The rules of docs/astro-stack.md, checked without Docker.
"""

import ast
import http.server
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.coordinator import CoordinatorManager

from include.settings import Settings
from include.task_process import TaskCoordinator

PROJECT = Path(__file__).parents[2]
OVERRIDE = PROJECT / "docker-compose.override.yml"
EXAMPLE = PROJECT / ".env_example"
AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer"}
GENERATED = {"postgres", "db-migration"} | AIRFLOW  # the Astro CLI's own services, for Airflow 3
CODE = ("include", "dags", "plugins")
IN_IMAGE = "/usr/local/airflow"  # where the project is in the image

pytestmark = pytest.mark.skipif(
    not (OVERRIDE.exists() and EXAMPLE.exists()), reason="the stack's files are not in this copy of the project"
)

# Variables that code reads, but that nobody sets in .env
NOT_FOR_ENV = {
    "PATH": "the operating system's",
    "HOME": "the operating system's",
    "PYTHONPATH": "the image sets it",
    "AIRFLOW_HOME": "the image sets it",
    "MLFLOW_RUN_ID": "removed, not read",
    "PREDICTION_VENV_CACHE": "the Dockerfile sets it",
}
# Variables of .env_example that programs read which are not part of this repository
READ_ELSEWHERE = {
    "MINIO_ROOT_USER": "MinIO",
    # pragma: allowlist nextline secret, because it is the name of a service
    "MINIO_ROOT_PASSWORD": "MinIO",
    "MLFLOW_BACKEND_STORE_URI": "mlflow server",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT": "mlflow server",
    "MLFLOW_SERVE_ARTIFACTS": "mlflow server",
}


# the compose file


class NoTwice(yaml.SafeLoader):
    """YAML, but a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        return super().construct_mapping(node, deep)


def override() -> dict[str, Any]:
    return yaml.load(OVERRIDE.read_text(), NoTwice)


def code_of_override() -> str:
    """The file without its comments."""
    return re.sub(r"^\s*#.*$", "", OVERRIDE.read_text(), flags=re.M)


def added() -> dict[str, dict[str, Any]]:
    """The services that the override adds, by name."""
    return {name: service for name, service in override()["services"].items() if name not in GENERATED}


def resolved(text: str) -> str:
    """The text with the defaults of its variables."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def variables(text: str) -> set[str]:
    """The variables that compose replaces; $$ is a dollar sign for the container's shell."""
    return set(re.findall(r"\$\{?(\w+)", text.replace("$$", "")))


def test_override_holds_nothing_obsolete() -> None:
    assert set(override()) == {"services", "volumes"}  # no `version`, no network but the CLI's
    assert "host.docker.internal" not in OVERRIDE.read_text() + EXAMPLE.read_text()


@pytest.mark.parametrize("name", added())
def test_service_is_in_the_network_of_airflow(name: str) -> None:
    assert added()[name]["networks"] == ["airflow"]


@pytest.mark.parametrize("name", added())
def test_image_is_pinned_and_can_be_replaced(name: str) -> None:
    image = added()[name]["image"]
    pinned = re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[a-z0-9.]+(?:/[a-z0-9-]+)+:([\w.-]+)\}", image)
    assert pinned, image
    assert pinned[1] != "latest"
    assert re.search(r"\d", pinned[1])


@pytest.mark.parametrize("name", override()["services"])
def test_ports_are_on_loopback_and_can_be_moved(name: str) -> None:
    for port in override()["services"][name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+_PORT:-\d+\}:\d+", port), port


def test_ports_are_the_documented_ones() -> None:
    ports = {name: [resolved(port) for port in service.get("ports", [])] for name, service in added().items()}
    assert ports["minio"] == ["127.0.0.1:9000:9000", "127.0.0.1:9001:9001"]
    assert ports["mlflow"] == ["127.0.0.1:5000:5000"]


@pytest.mark.parametrize("name", added())
def test_server_is_restarted_and_checked(name: str) -> None:
    service = added()[name]
    if service["restart"] == "no":  # a job that ends: others wait for its success
        assert "healthcheck" not in service
        assert waited_for()[name] == {"service_completed_successfully"}
    else:
        assert service["restart"] == "unless-stopped"
        check = service["healthcheck"]
        assert check["test"][0] == "CMD"
        assert "curl" not in check["test"]  # neither image has it
        assert {"interval", "timeout", "retries"} < set(check)
        assert waited_for()[name] == {"service_healthy"}


def waited_for() -> dict[str, set[str]]:
    """The conditions under which the others wait for a service."""
    conditions: dict[str, set[str]] = {}
    for service in override()["services"].values():
        for name, need in service.get("depends_on", {}).items():
            conditions.setdefault(name, set()).add(need["condition"])
    return conditions


@pytest.mark.parametrize("name", override()["services"])
def test_container_is_not_root(name: str) -> None:
    user = override()["services"][name].get("user")
    if name == "prepare":  # ends after a second; docs/decisions/0010 says why it is root
        assert user == "root"
    elif name in added() or name == "postgres":  # their images would start as root
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*|postgres", user), user
    else:
        assert user is None  # as the Dockerfile's last line says


PARTS = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}


def test_airflow_reaches_its_database_by_psycopg2() -> None:
    """SQLAlchemy 2.1 takes psycopg 3 for the Astro CLI's address, with which Airflow 3.3.2 has no graph of its assets."""
    services = override()["services"]
    for name in AIRFLOW | {"db-migration"}:
        address = services[name]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        # pragma: allowlist nextline secret, because it is the Astro CLI's default
        assert resolved(address) == "postgresql+psycopg2://postgres:postgres@postgres:5432"


@pytest.mark.parametrize("name", sorted(AIRFLOW))
def test_part_of_airflow_is_checked(name: str) -> None:
    check = override()["services"][name]["healthcheck"]
    assert check["test"] == ["CMD", "python", f"{IN_IMAGE}/docker/airflow-health.py", PARTS[name]]
    assert {"interval", "timeout", "retries"} < set(check)


class Answers(http.server.BaseHTTPRequestHandler):
    """An api-server that is asked how it is: its health by part, and the paths that were asked for."""

    status: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))
        found = self.path in ("/execution/health", "/api/v2/monitor/health")
        self.send_response(200 if found else 404)
        self.end_headers()
        self.wfile.write(
            json.dumps({part: {"status": self.status.get(part, "healthy")} for part in PARTS.values()}).encode()
        )

    def log_message(self, *_: Any) -> None:
        """Nothing is written."""


@pytest.fixture
def api_server() -> Iterator[str]:
    Answers.status.clear()
    Answers.asked.clear()
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/execution/"
        server.shutdown()


def checked(part: str, tasks_api: str) -> subprocess.CompletedProcess[str]:
    # a proxy that nobody is asked through
    environment = {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": tasks_api, "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-I", "-S", str(PROJECT / "docker" / "airflow-health.py"), part]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("part", PARTS.values())
def test_health_check_tells_the_part_that_is_not_well(part: str, api_server: str) -> None:
    assert checked(part, api_server).returncode == 0
    Answers.status[part] = "unhealthy"
    done = checked(part, api_server)
    assert (done.returncode, done.stderr) == (1, f"error: {part} is unhealthy\n")


def test_api_server_is_healthy_only_when_a_task_may_call_it(api_server: str) -> None:
    """Airflow builds what tasks call at the first call, and tells that it is healthy before."""
    checked("metadatabase", api_server)
    # without the header each check would leave a traceback in the api-server's log, where nobody has to log in
    assert Answers.asked == [("/execution/health", "none"), ("/api/v2/monitor/health", None)]
    done = checked("metadatabase", api_server.replace("/execution/", "/elsewhere/"))
    assert done.returncode == 1
    assert "error: the api-server does not answer" in done.stderr


def test_data_of_a_service_are_given_to_its_user() -> None:
    services = override()["services"]
    command = services["prepare"]["command"][-1]
    assert "minio_data:/minio" in services["prepare"]["volumes"]
    assert f"chown -Rh {services['minio']['user']} /minio " in command  # -R: an earlier version's files are root's


@pytest.mark.parametrize("name", ["minio", "mlflow"])
def test_user_without_a_home_writes_to_tmp(name: str) -> None:
    assert added()[name]["environment"]["HOME"] == "/tmp"


def test_services_start_in_order() -> None:
    needs = {name: set(service.get("depends_on", {})) for name, service in override()["services"].items()}
    assert needs["prepare"] == {"postgres"}
    assert needs["minio"] == {"prepare"}
    assert needs["mlflow"] == {"prepare", "check", "minio"}
    assert needs["scheduler"] == {"prepare", "minio", "mlflow", "db-migration", "api-server"}
    assert needs["db-migration"] == {"postgres"}
    assert all("db-migration" in needs[name] for name in AIRFLOW)
    assert waited_for()["db-migration"] == {"service_completed_successfully"}
    assert waited_for()["api-server"] == waited_for()["postgres"] == {"service_healthy"}
    assert "healthcheck" in override()["services"]["postgres"]


def test_data_are_in_named_volumes() -> None:
    named = set(override()["volumes"])
    mounted = set()
    for name, service in override()["services"].items():
        for mount in service.get("volumes", []):
            source, target = mount.split(":")[:2]
            if source.startswith("./"):
                assert (PROJECT / source).exists() or source == "./include/plots", f"{name}: {source} does not exist"
            else:
                mounted.add(source)
                assert target.startswith("/")
    assert mounted == named == {"minio_data", "wandb_data"}


def test_no_secret_in_the_file() -> None:
    """Keys and passwords come from .env alone: the file neither names a value of .env_example nor sets a key itself."""
    text = code_of_override()
    for service in added().values():
        assert service["env_file"] == ".env"
        assert not [name for name in service.get("environment", {}) if re.search("KEY|SECRET|PASSW|TOKEN|CONN", name)]
    own = text.replace("${POSTGRES_PASSWORD:-postgres}", "")  # the Astro CLI's default
    assert not re.search(r"(password|secret|key)\w*\s*[:=]\s*[^$\s]", own, re.I)
    values = dict(assignments(commented=False))
    warehouse = json.loads(values["AIRFLOW_CONN_POSTGRES_DEFAULT"])
    mlflow_login, at, _ = values["MLFLOW_BACKEND_STORE_URI"].removeprefix("postgresql+psycopg2://").partition("@")
    secrets = (values["MINIO_ROOT_PASSWORD"], mlflow_login + at, f"{warehouse['login']}:{warehouse['password']}")
    for secret in secrets:
        assert secret not in text


def test_mlflow_is_lean_and_answers_to_its_name() -> None:
    service = added()["mlflow"]
    arguments = {resolved(each) for each in service["command"]}
    assert {"--workers=1", "--host=0.0.0.0"} < arguments
    (hosts,) = [each.removeprefix("--allowed-hosts=") for each in arguments if each.startswith("--allowed-hosts")]
    assert {"mlflow:*", "localhost:*", "127.0.0.1:*"} == set(hosts.split(","))
    assert any(each.startswith("--cors-allowed-origins=http") for each in arguments)
    assert service["environment"]["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert service["environment"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


# the variables


def assignments(commented: bool) -> list[tuple[str, str]]:
    """The variables that .env_example sets, or those that it shows in comments, with their values, in order."""
    pattern = r"^# ([A-Z][A-Z0-9_]*)=(.*)$" if commented else r"^([A-Z][A-Z0-9_]*)=(.*)$"
    return re.findall(pattern, EXAMPLE.read_text(), re.M)


def listed() -> set[str]:
    return {name for name, _ in assignments(commented=False) + assignments(commented=True)}


class Reads(ast.NodeVisitor):
    """Collects the environment variables that a module reads by name: os.environ[X], .get(X), .pop(X), X in os.environ."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: set[str] = set()
        self.constants = {
            target.id: node.value.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.visit(tree)

    def add(self, node: ast.expr) -> None:
        value = node.value if isinstance(node, ast.Constant) else self.constants.get(getattr(node, "id", ""))
        if isinstance(value, str):
            self.names.add(value)

    @staticmethod
    def is_environ(node: ast.expr) -> bool:
        return getattr(node, "attr", getattr(node, "id", "")) in ("environ", "env")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if self.is_environ(node.value) and isinstance(node.ctx, ast.Load):
            self.add(node.slice)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Attribute) and (
            function.attr == "getenv" or (function.attr in ("get", "pop") and self.is_environ(function.value))
        ):
            self.add(node.args[0])
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        if isinstance(node.ops[0], ast.In | ast.NotIn) and self.is_environ(node.comparators[0]):
            self.add(node.left)
        self.generic_visit(node)


def read_by_code() -> set[str]:
    """The variables that the DAGs and what they import read, settings and third parties' variables included."""
    names = set(Settings.variables())
    for folder in CODE:
        for file in (PROJECT / folder).rglob("*.py"):
            names |= Reads(ast.parse(file.read_text())).names
    return names


def read_by_stack() -> set[str]:
    """The variables of the override, and of the scripts that its services run."""
    names = variables(code_of_override())
    names |= set(re.findall(r"\$\$(\w+)", code_of_override()))
    names |= set(re.findall(r"printenv (\w+)", (PROJECT / "docker" / "databases.sql").read_text()))
    return names | Reads(ast.parse((PROJECT / "docker" / "with-aws-connection.py").read_text())).names


def named_in_code() -> str:
    return "\n".join(file.read_text() for folder in CODE for file in (PROJECT / folder).rglob("*.py"))


def test_reading_of_variables_is_found() -> None:
    source = (
        'A="ONE"\nos.environ[A]; environ.get("TWO"); os.getenv("THREE", 1); "FOUR" in os.environ; os.environ["NOT"] = 1'
    )
    assert Reads(ast.parse(source)).names == {"ONE", "TWO", "THREE", "FOUR"}


def test_each_variable_that_is_read_is_in_the_example() -> None:
    missing = (read_by_code() | read_by_stack()) - listed() - set(NOT_FOR_ENV)
    assert not missing, "describe these in .env_example"


def test_each_variable_of_the_example_is_read() -> None:
    read = read_by_code() | read_by_stack() | set(READ_ELSEWHERE)
    connections = {f"AIRFLOW_CONN_{Settings.model_fields[name].default.upper()}" for name in CONNECTION_FIELDS}
    for name in listed() - read - connections:
        if match := re.fullmatch(r"AIRFLOW__([A-Z_]+)__([A-Z_]+)", name):
            assert match[2].lower() in airflow_options()[match[1].lower()]["options"], name
        elif name.startswith("MLFLOW_"):
            mlflow_variables = installed_source("mlflow", "environment_variables.py")
            assert f'"{name}"' in mlflow_variables or name in named_in_code(), name
        else:
            assert name in named_in_code(), f"nothing reads {name}"


CONNECTION_FIELDS = [name for name in Settings.model_fields if name.endswith("_conn_id")]


def installed_source(package: str, *path: str) -> str:
    """A file of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    return Path(spec.origin).parent.joinpath(*path).read_text()


def airflow_options() -> dict[str, Any]:
    return yaml.safe_load(installed_source("airflow", "config_templates", "config.yml"))


def test_settings_show_the_defaults() -> None:
    shown = dict(assignments(commented=True)) | dict(assignments(commented=False))
    for name, path in Settings.variables().items():
        default = reduce(getattr, path, Settings())
        if isinstance(default, tuple):
            assert json.loads(shown[name]) == list(default)
        elif default is not None:
            assert shown[name] == str(default)


def test_defaults_of_the_override_are_those_of_the_example() -> None:
    shown = dict(assignments(commented=True) + assignments(commented=False))
    for name, default in re.findall(r"\$\{(\w+):-([^}]*)\}", code_of_override()):
        assert shown[name] == default


def test_example_is_read_alike_by_docker_and_compose() -> None:
    """`docker --env-file` keeps quotes and compose strips them; compose replaces dollar signs and cuts at ' #'."""
    names = [name for name, _ in assignments(commented=False)]
    assert len(names) == len(set(names))
    for name, value in assignments(commented=False) + assignments(commented=True):
        assert value == value.strip()
        assert value[:1] not in ("'", '"'), name
        assert "$" not in value
        assert " #" not in value
    for line in EXAMPLE.read_text().splitlines():
        assert not line or line.startswith("#") or re.match(r"[A-Z][A-Z0-9_]*=", line), line


def test_each_variable_of_the_example_is_explained() -> None:
    """A comment stands above each variable, or above the block of variables that it belongs to."""
    explained = False
    for line in EXAMPLE.read_text().splitlines():
        assignment = re.match(r"(# )?[A-Z][A-Z0-9_]*=", line)
        explained = explained if assignment else line.startswith("# ") and not line.startswith("# ----")
        assert explained or not assignment, line


def test_connections_are_json_on_one_line() -> None:
    for name, value in assignments(commented=False) + assignments(commented=True):
        if name.startswith("AIRFLOW_CONN_"):
            assert json.loads(value)["conn_type"] in ("aws", "http", "postgres")


def test_example_fits_the_services() -> None:
    values = dict(assignments(commented=False))
    aws = json.loads(values["AIRFLOW_CONN_AWS_DEFAULT"])
    assert (aws["login"], aws["password"]) == (values["MINIO_ROOT_USER"], values["MINIO_ROOT_PASSWORD"])
    assert aws["extra"]["endpoint_url"] == "http://minio:9000"
    assert len(values["MINIO_ROOT_PASSWORD"]) >= 8
    assert json.loads(values["AIRFLOW_CONN_MLFLOW_DEFAULT"])["host"] == "http://mlflow:5000"
    warehouse = json.loads(values["AIRFLOW_CONN_POSTGRES_DEFAULT"])
    assert warehouse["host"] == "postgres"
    assert warehouse["schema"] != "postgres"  # Airflow's own database
    assert warehouse["login"] != values["POSTGRES_USER"]
    # a bare postgresql:// would want another driver
    assert values["MLFLOW_BACKEND_STORE_URI"].startswith("postgresql+psycopg2://")
    assert values["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == f"s3://{Settings.model_fields['mlflow_artifact_bucket'].default}/"
    mounts = override()["services"]["scheduler"]["volumes"]
    assert f"wandb_data:{values['WANDB_DIR']}" in mounts


def test_databases_sql_makes_the_schema_of_the_settings() -> None:
    text = (PROJECT / "docker" / "databases.sql").read_text()
    assert f"`printenv CHURN_WAREHOUSE_SCHEMA || echo {Settings().churn.warehouse_schema}`" in text


def test_moving_the_console_is_said_to_move_the_buttons() -> None:
    text = EXAMPLE.read_text()
    assert dict(assignments(commented=False))["PIPELINES_OBJECT_UI_URL"].startswith("http://localhost:9001/")
    assert "MINIO_CONSOLE_PORT" in text.split("\nPIPELINES_OBJECT_UI_URL=")[0]


# the helpers


def with_connection(value: str) -> subprocess.CompletedProcess[str]:
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL")
    show = f"import os; print([os.environ.get(name) for name in {names}])"
    helper = str(PROJECT / "docker" / "with-aws-connection.py")
    environment = {"PATH": os.environ["PATH"], "AIRFLOW_CONN_AWS_DEFAULT": value}
    command = [sys.executable, helper, sys.executable, "-c", show]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_mlflow_server_gets_the_object_store_of_the_connection() -> None:
    value = dict(assignments(commented=False))["AIRFLOW_CONN_AWS_DEFAULT"]
    assert ast.literal_eval(with_connection(value).stdout) == [
        "minioadmin",
        "minioadmin",
        "us-east-1",
        "http://minio:9000",
    ]
    assert ast.literal_eval(with_connection("").stdout) == [None] * 4


# pragma: allowlist nextline secret, because it is made up
KEYS = {"aws_access_key_id": "K", "aws_secret_access_key": "S", "endpoint_url": "http://minio:9000"}
URI = "aws://K:S@/?endpoint_url=http%3A%2F%2Fminio%3A9000"


@pytest.mark.parametrize(
    "value",
    [
        {"conn_type": "aws", "extra": KEYS},
        {"conn_type": "aws", "extra": json.dumps(KEYS)},
        {
            "conn_type": "aws",
            "extra": KEYS | {"endpoint_url": "x", "service_config": {"s3": {"endpoint_url": "http://minio:9000"}}},
        },
        URI,
    ],
    ids=["keys-in-extra", "extra-as-text", "service-config", "uri"],
)
def test_mlflow_server_reads_every_form_that_the_tasks_read(value: Any) -> None:
    done = with_connection(value if isinstance(value, str) else json.dumps(value))
    assert (done.returncode, done.stderr) == (0, "")
    assert ast.literal_eval(done.stdout) == ["K", "S", None, "http://minio:9000"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("[1]", "AIRFLOW_CONN_AWS_DEFAULT is not a connection in JSON"),
        ('"text"', "AIRFLOW_CONN_AWS_DEFAULT is not a connection in JSON"),
        ("key:hidden", "AIRFLOW_CONN_AWS_DEFAULT is not a connection in JSON"),
        # pragma: allowlist nextline secret, because it is made up
        ('{"login": "key", "password": "hidden", ', "AIRFLOW_CONN_AWS_DEFAULT is not a connection in JSON"),
        # pragma: allowlist nextline secret, because it is made up
        ("aws://key:hidden@minio:9000", "endpoint_url"),
        ('{"conn_type": "aws", "extra": {"role_arn": "arn:aws:iam::1:role/r"}}', "role_arn"),
        ('{"conn_type": "aws", "extra": {"profile_name": "team"}}', "profile_name"),
        # pragma: allowlist nextline secret, because it is made up
        ('{"conn_type": "aws", "login": "key", "password": "hidden", "extra": {"verify": "/ca.pem"}}', "/ca.pem"),
    ],
)
def test_connection_that_the_mlflow_server_cannot_follow_ends_it_with_the_reason_and_no_secret(
    value: str, words: str
) -> None:
    done = with_connection(value)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*aws_default.*\n", done.stderr, re.IGNORECASE)
    assert words in done.stderr
    assert "hidden" not in done.stderr


def test_connection_that_cannot_be_followed_is_told_once_and_by_the_service_that_others_wait_for() -> None:
    """The server itself would be restarted for ever."""
    check, mlflow = added()["check"], added()["mlflow"]
    assert check["restart"] == "no"
    assert check["command"][:2] == mlflow["command"][:2]
    assert [check[key] for key in ("image", "volumes", "env_file", "user")] == [
        mlflow[key] for key in ("image", "volumes", "env_file", "user")
    ]


def test_what_the_mlflow_container_has_of_the_project_is_enough(tmp_path: Path) -> None:
    for mount in added()["mlflow"]["volumes"]:
        source, target = mount.split(":")[:2]
        copied = tmp_path / target.removeprefix("/project/")
        copied.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (PROJECT / source).is_dir() else shutil.copy
        copy(PROJECT / source, copied)
    # without this environment's packages, as MLflow's image has others
    command = [
        sys.executable,
        "-I",
        "-S",
        str(tmp_path / "docker" / "with-aws-connection.py"),
        "printenv",
        "AWS_ACCESS_KEY_ID",
    ]
    environment = {"PATH": os.environ["PATH"], "AWS_CONN_ID": "my_s3", "AIRFLOW_CONN_MY_S3": URI}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("K\n", "")


# the rest of what the CLI reads


def test_secrets_and_local_files_stay_out_of_the_image() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert {".env", ".git", "airflow_settings.yaml", ".venv", ".local"} <= set(ignored)


def test_ports_of_the_generated_services_are_the_documented_ones() -> None:
    config = yaml.safe_load((PROJECT / ".astro" / "config.yaml").read_text())
    assert config["api-server"]["port"] == "8080"
    assert config["postgres"]["port"] == "5432"
    assert "webserver" not in config  # Airflow 2's
    assert config["project"]["name"]


def test_the_image_sets_what_the_operator_needs() -> None:
    dockerfile = (PROJECT / "Dockerfile").read_text()
    environment = environment_of_image()
    assert f"COPY --from=wheels {environment['UV_FIND_LINKS']} {environment['UV_FIND_LINKS']}" in dockerfile
    # one filesystem, so that uv links instead of copying
    assert Path(environment["UV_CACHE_DIR"]).parent == Path(environment["PREDICTION_VENV_CACHE"]).parent
    # the project is in the image by then: whatever follows must not be slow
    last_stage = dockerfile.rsplit("\nFROM ", 1)[1]
    assert "--no-index" in last_stage
    assert "download" not in last_stage
    assert dockerfile.rstrip().endswith("USER astro")


def environment_of_image() -> dict[str, str]:
    """What the Dockerfile sets."""
    text = (PROJECT / "Dockerfile").read_text()
    found = re.findall(r"""^(?:ENV|   ) (\w+)=(".*?"|'.*?'|\S+)""", text, re.M)
    return {name: value.strip("'\"") for name, value in found}


def test_image_has_tasks_watched_by_the_class_that_keeps_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow itself reads the Dockerfile's settings; a task of no queue of its own goes to that class."""
    for name, value in environment_of_image().items():
        monkeypatch.setenv(name, value)
    coordinator = CoordinatorManager.from_config().for_queue(conf.get("operators", "default_queue"))
    assert type(coordinator) is TaskCoordinator


def test_each_option_of_airflow_that_the_image_sets_exists() -> None:
    names = [name for name in environment_of_image() if name.startswith("AIRFLOW__")]
    assert names
    for name in names:
        _, section, option = name.lower().split("__")
        assert option in airflow_options()[section]["options"], name


def test_dev_container_starts_this_stack() -> None:
    folder = PROJECT / ".devcontainer"
    if not folder.exists():
        pytest.skip("the dev container is not in this copy of the project")
    text = re.sub(r"^\s*//.*$", "", (folder / "devcontainer.json").read_text(), flags=re.M)
    config = json.loads(text)
    for command in ("onCreateCommand", "postStartCommand"):
        assert (PROJECT / config[command].split()[-1]).exists()
    # without these MLflow refuses a browser that comes by a Codespace's name
    names = {"MLFLOW_ALLOWED_HOSTS", "MLFLOW_CORS_ALLOWED_ORIGINS"}
    assert {name for name, value in config["remoteEnv"].items() if "*.app.github.dev" in value} == names
    assert set(config["remoteEnv"]) <= variables(code_of_override())
    assert {8080, 5000} <= set(config["forwardPorts"])
