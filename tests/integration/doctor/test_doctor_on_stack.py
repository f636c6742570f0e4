"""`make doctor` and the DAG doctor on a real stack: all well, and one thing broken at a time."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from include import doctor
from include.doctor import checks, examine
from include.doctor_servers import EXPERIMENT
from include.settings import settings
from tests.fakes.http_server import Request, Response, answering
from tests.fakes.wandb_server import FakeWandb
from tests.support.local_stack import RunningStack, free_ports


@pytest.fixture
def ready(stack_connections: RunningStack, monkeypatch: pytest.MonkeyPatch) -> RunningStack:
    """The stack, with its buckets, and its environment in this process."""
    for name, value in stack_connections.environment.items():
        if name.startswith(("AIRFLOW__CORE__", "AIRFLOW__SDK__", "WANDB_")):
            monkeypatch.setenv(name, value)
    there = {bucket["Name"] for bucket in stack_connections.s3.list_buckets()["Buckets"]}
    for bucket in set(settings.buckets) - there:
        stack_connections.s3.create_bucket(Bucket=bucket)
    return stack_connections


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Change fields of a connection."""

    def change(id_: str, **fields: Any) -> None:
        variable = f"AIRFLOW_CONN_{id_.upper()}"
        monkeypatch.setenv(variable, json.dumps(json.loads(os.environ[variable]) | fields))

    return change


def test_make_doctor_finds_nothing_on_a_healthy_stack(ready: RunningStack) -> None:
    done = ready.command("doctor", COLUMNS="300")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert [line for line in lines if not line.startswith("ok")] == []
    assert len(lines) == len(checks()) + 1


def test_make_doctor_names_what_is_broken_and_fails(ready: RunningStack) -> None:
    broken = {"conn_type": "http", "host": f"http://127.0.0.1:{free_ports(1)[0]}"}
    done = ready.command("doctor", AIRFLOW_CONN_MLFLOW_DEFAULT=json.dumps(broken), WANDB_MODE="nonsense")
    failed = [line for line in done.stdout.splitlines() if not line.startswith("ok")]
    assert done.returncode == 1
    assert len(failed) == 4, done.stdout  # ports, server, artifacts, W&B
    assert all(line.startswith("FAIL") and "To mend it: " in line for line in failed)


def test_make_doctor_without_a_stack_says_how_to_start_one(tmp_path: Any) -> None:
    from tests.support.local_stack import LocalStack

    done = LocalStack(tmp_path / "none").command("doctor")
    assert done.returncode == 1
    assert "make start" in done.stdout


def test_nothing_of_the_checks_stays(ready: RunningStack) -> None:
    def objects() -> set[str]:
        buckets = [bucket["Name"] for bucket in ready.s3.list_buckets()["Buckets"]]
        return {f"s3://{bucket}/{key}" for bucket in buckets for key in ready.keys(bucket)}

    before = objects()
    for label in checks():
        assert examine(label).healthy
    # other runs may write meanwhile, but only the doctor writes of itself
    assert [uri for uri in objects() - before if b"doctor" in ready.object(uri)] == []
    assert ready.query("SELECT tablename FROM pg_tables WHERE tablename LIKE 'doctor%%'", database="warehouse") == []
    assert EXPERIMENT not in {each.name for each in ready.mlflow.search_experiments()}


@pytest.mark.parametrize(
    ("label", "id_", "fields", "problem", "remedy"),
    [
        # pragma: allowlist nextline secret, because it is wrong
        ("S3", "aws_default", {"password": "wrong"}, "does not accept the login", "AIRFLOW_CONN_AWS_DEFAULT"),
        ("S3 bucket data", "aws_default", {"login": "wrong"}, "does not accept the login", "login and password"),
        ("S3", "aws_default", {"extra": {"endpoint_url": "http://127.0.0.1:9"}}, "Could|not answer", "endpoint_url"),
        ("Ports", "aws_default", {"extra": {"endpoint_url": "http://127.0.0.1:9"}}, "S3 at 127.0.0.1:9", "start"),
        ("MLflow", "mlflow_default", {"host": "http://127.0.0.1:9"}, "does not answer", "start the stack"),
        ("MLflow artifacts", "mlflow_default", {"host": "http://127.0.0.1:9"}, "does not answer", "start the stack"),
        # pragma: allowlist nextline secret, because it is wrong
        ("PostgreSQL", "postgres_default", {"password": "wrong"}, "not accept the login", "login and password"),
        ("PostgreSQL", "postgres_default", {"port": 9}, "does not answer", "host and port"),
        ("PostgreSQL", "postgres_default", {"schema": "nosuch"}, "no such database", "schema of connection"),
        ("PostgreSQL", "postgres_default", {"schema": "mlflow"}, "permission denied", "GRANT|login"),
    ],
)
def test_broken_connection_is_named_with_its_remedy(
    ready: RunningStack, connection: Any, label: str, id_: str, fields: dict, problem: str, remedy: str
) -> None:
    connection(id_, **fields)
    finding = examine(label)
    assert not finding.healthy
    assert any(word in finding.found for word in problem.split("|")), finding
    assert any(word in finding.remedy for word in remedy.split("|")), finding
    assert "wrong" not in finding.found + finding.remedy


def test_host_name_that_mlflow_refuses_is_told(ready: RunningStack, connection: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("socket.getaddrinfo", _resolve_to_loopback)
    connection("mlflow_default", host=f"http://mlflow.example.com:{ready.ports.mlflow}")
    monkeypatch.setenv("NO_PROXY", "*")
    finding = examine("MLflow")
    assert "refuses the host name mlflow.example.com" in finding.found
    assert "MLFLOW_ALLOWED_HOSTS" in finding.remedy


def test_other_server_is_no_mlflow(ready: RunningStack, connection: Any) -> None:
    connection("mlflow_default", host=ready.stack.s3_url)
    assert "is no MLflow server" in examine("MLflow").found


def deny(request: Request) -> Response:
    """An S3 server whose login may list buckets and nothing else."""
    if request.path == "/":
        return Response("<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>")
    return Response("<Error><Code>AccessDenied</Code></Error>", 403)


@pytest.fixture
def denying() -> Iterator[str]:
    with answering(deny) as url:
        yield url


@pytest.mark.parametrize("label", ["S3 bucket data", "MLflow artifacts"])
def test_missing_rights_in_a_bucket_are_named(ready: RunningStack, connection: Any, denying: str, label: str) -> None:
    connection("aws_default", extra={"endpoint_url": denying, "region_name": "us-east-1"})
    assert examine("S3").healthy
    finding = examine(label)
    assert "access denied" in finding.found
    assert "grant s3:ListBucket" in finding.remedy


def test_bucket_that_is_not_there_yet_is_no_trouble(ready: RunningStack) -> None:
    assert "not there yet" in doctor.check_bucket("nosuchbucket")


def test_wandb_key_is_checked(ready: RunningStack, monkeypatch: Any) -> None:
    right, wrong = "a" * 40, "b" * 40
    with FakeWandb(api_key=right) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", right)
        assert examine("Weights & Biases").healthy
        monkeypatch.setenv("WANDB_API_KEY", wrong)
        finding = examine("Weights & Biases")
    assert "does not accept the key" in finding.found
    assert "WANDB_API_KEY" in finding.remedy
    assert wrong not in str(finding)


def test_dag_doctor_is_green_with_a_label_for_each_check(ready: RunningStack) -> None:
    ready.airflow.unpause("doctor")
    run = ready.airflow.trigger("doctor")
    ready.airflow.wait_for_success("doctor", run)
    tasks = ready.airflow.tasks("doctor", run)
    assert {task["rendered_map_index"] for task in tasks} == set(checks())
    assert "answers and accepts the login" in ready.airflow.log(
        next(task for task in tasks if task["rendered_map_index"] == "S3")
    )


def _resolve_to_loopback(host: str, port: int, *_: Any, **__: Any) -> list:
    import socket

    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
