"""Connections that are wrong, on real servers: the DAGs' own functions fail with a message that names the connection.

Where trying again cannot help they fail at once (AirflowFailException); what may pass is left to the retries, with a note.
"""

import copy
import json
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from airflow.exceptions import AirflowFailException
from airflow.sdk import Context

from include.settings import ChurnSettings, Settings, settings
from tests.fakes.http_server import Request, Response, answering

if TYPE_CHECKING:
    from airflow.sdk import DAG

    from tests.support.local_stack import RunningStack

PROJECT = Path(__file__).parents[3]
PREDICTIONS = pd.DataFrame(
    {"customer_id": [1], "churn_probability": [0.5], "used_for_training": [True], "model_version": ["m"]}
)
ANIMALS = f"s3://{settings.data_bucket_name}/animals.csv"

Dags = dict[str, "DAG"]
Task = Callable[[Dags], Any]


# The DAGs' own functions


def make_bucket(_: Dags) -> Any:
    from include.buckets import EnsureBucketOperator

    return EnsureBucketOperator(task_id="bucket", bucket_name="made", aws_conn_id=settings.aws_conn_id).execute(
        Context()
    )


def extract_data(dags: Dags) -> Any:
    return dags["feature_eng"].get_task("extract_data").python_callable(ANIMALS)


def save_predictions(dags: Dags) -> Any:
    return dags["predict"].get_task("save_predictions").python_callable(PREDICTIONS, "run")


def add_line_to_file(dags: Dags) -> Any:
    model = {"model_uri": f"s3://{settings.mlflow_artifact_bucket}/no-model"}
    return dags["predict"].get_task("add_line_to_file").python_callable(model)


def push_frame(_: Dags) -> Any:
    from include.xcom_backend import ObjectStoreXComBackend

    return ObjectStoreXComBackend.serialize_value(PREDICTIONS, key="k", task_id="t", dag_id="d", run_id="r")


def list_experiments(dags: Dags) -> Any:
    task = dags["feature_eng"].get_task("prepare_mlflow_experiment.list_existing_experiments")
    return task.python_callable()


def fetch_experiment_id(dags: Dags) -> Any:
    return dags["train"].get_task("fetch_experiment_id").python_callable()


def create_registered_model(dags: Dags) -> Any:
    return copy.copy(dags["train"].get_task("register_model.create_registered_model")).execute({})


def create_model_version(dags: Dags) -> Any:
    task = copy.copy(dags["train"].get_task("register_model.create_model_version"))
    task.source, task.run_id = "s3://b/k", "0" * 32
    return task.execute({})


def end_of_train(dags: Dags) -> Any:
    return dags["train"].get_task("end").python_callable({}, outlet_events={})


def load_orders(dags: Dags) -> Any:
    task = copy.copy(dags["customer_analytics"].get_task("extract_and_load.load_orders"))
    task.source = "data/orders.csv"
    return task.execute({"params": {}})


def replace_predictions(_: Dags) -> Any:
    from include.churn.warehouse import replace_predictions as replace
    from include.task_errors import fail_at_once

    return fail_at_once(replace)(PREDICTIONS, "pred_bad_connection")


# What is wrong: the connection, what becomes of it (None: it is not defined), the task, words of the message, and whether
# it is hopeless

AWS, MLFLOW, POSTGRES = settings.aws_conn_id, settings.mlflow_conn_id, settings.postgres_conn_id
NOWHERE, CLOSED = "nowhere.invalid", 9  # no such host; nobody listens on this port


def without_slash(connection: dict) -> None:
    connection["extra"]["endpoint_url"] = connection["extra"]["endpoint_url"].removeprefix("http://")


def endpoint(url: str) -> Callable[[dict], None]:
    return lambda connection: connection["extra"].update(endpoint_url=url)


def change(**fields: Any) -> Callable[[dict], None]:
    return lambda connection: connection.update(fields)


Case = tuple[str, Callable[[dict], None] | str | None, Task, list[str], bool]
CASES: dict[str, Case] = {
    # S3
    "s3-secret-bucket": (
        AWS,
        change(password="x"),
        make_bucket,
        ["login and password of connection aws_default"],
        True,
    ),
    "s3-secret-read": (
        AWS,
        change(password="x"),
        extract_data,
        ["object store refuses", "connection aws_default"],
        True,
    ),
    "s3-secret-write": (AWS, change(password="x"), save_predictions, ["signature", "connection aws_default"], True),
    "s3-secret-xcom": (AWS, change(password="x"), push_frame, ["signature", "connection aws_default"], True),
    "s3-secret-model": (AWS, change(password="x"), add_line_to_file, ["connection aws_default"], True),
    "s3-login-bucket": (AWS, change(login="x"), make_bucket, ["InvalidAccessKeyId", "connection aws_default"], True),
    "s3-login-read": (AWS, change(login="x"), extract_data, ["connection aws_default"], True),
    "s3-no-scheme": (
        AWS,
        without_slash,
        make_bucket,
        ["Invalid endpoint", "endpoint_url of connection aws_default"],
        True,
    ),
    "s3-no-json": (AWS, "{nonsense", extract_data, ["AIRFLOW_CONN_AWS_DEFAULT"], True),
    "s3-closed-port": (AWS, endpoint(f"http://127.0.0.1:{CLOSED}"), make_bucket, ["127.0.0.1:9", "aws_default"], False),
    "s3-no-host": (AWS, endpoint(f"http://{NOWHERE}:9000"), make_bucket, [NOWHERE, "aws_default"], False),
    "s3-undefined": (AWS, None, make_bucket, ["aws_default", "define the connection"], True),
    "s3-undefined-read": (AWS, None, extract_data, ["aws_default", "define the connection"], True),
    # MLflow
    "mlflow-undefined": (MLFLOW, None, list_experiments, ["mlflow_default", "define the connection"], True),
    "mlflow-no-json": (MLFLOW, "{nonsense", list_experiments, ["AIRFLOW_CONN_MLFLOW_DEFAULT is set"], True),
    "mlflow-no-host": (MLFLOW, change(host=""), list_experiments, ["mlflow_default has no host"], True),
    "mlflow-no-host-client": (MLFLOW, change(host=""), end_of_train, ["mlflow_default has no host"], True),
    "mlflow-closed-port": (
        MLFLOW,
        change(host=f"http://127.0.0.1:{CLOSED}"),
        list_experiments,
        ["mlflow_default"],
        False,
    ),
    "mlflow-wrong-host": (MLFLOW, change(host=f"http://{NOWHERE}:5000"), fetch_experiment_id, [NOWHERE], False),
    "mlflow-is-s3": (MLFLOW, "S3", list_experiments, ["is no MLflow server", "connection mlflow_default"], True),
    "mlflow-is-airflow": (MLFLOW, "AIRFLOW", fetch_experiment_id, ["is no MLflow server", "mlflow_default"], True),
    "mlflow-401": (MLFLOW, "401", list_experiments, ["HTTP 401", "connection mlflow_default"], True),
    "mlflow-401-model": (MLFLOW, "401", create_registered_model, ["HTTP 401", "connection mlflow_default"], True),
    "mlflow-401-client": (MLFLOW, "401", end_of_train, ["MLflow refuses", "connection mlflow_default"], True),
    "mlflow-403-host": (MLFLOW, "403", fetch_experiment_id, ["Invalid Host header", "--allowed-hosts"], True),
    "mlflow-403-version": (MLFLOW, "403", create_model_version, ["Invalid Host header", "--allowed-hosts"], True),
    "mlflow-403-client": (MLFLOW, "403", end_of_train, ["Invalid Host header", "--allowed-hosts"], True),
    "mlflow-500": (MLFLOW, "500", fetch_experiment_id, ["HTTP 500"], False),
    # PostgreSQL
    "postgres-undefined": (POSTGRES, None, replace_predictions, ["postgres_default", "define the connection"], True),
    "postgres-no-json": (POSTGRES, "{", replace_predictions, ["AIRFLOW_CONN_POSTGRES_DEFAULT is set"], True),
    "postgres-password": (
        POSTGRES,
        change(password="x"),
        replace_predictions,
        ["password auth", "postgres_default"],
        True,
    ),
    "postgres-password-sdk": (POSTGRES, change(password="x"), load_orders, ["password auth", "postgres_default"], True),
    "postgres-login": (
        POSTGRES,
        change(login="nobody"),
        load_orders,
        ['"nobody"', "connection postgres_default"],
        True,
    ),
    "postgres-database": (POSTGRES, change(schema="absent"), load_orders, ['"absent" does not exist', POSTGRES], True),
    "postgres-of-airflow": (POSTGRES, change(schema="airflow"), replace_predictions, ['"airflow"', POSTGRES], True),
    "postgres-of-mlflow": (POSTGRES, change(schema="mlflow"), load_orders, ['"mlflow"', POSTGRES], True),
    "postgres-closed-port": (POSTGRES, change(port=CLOSED), replace_predictions, ["port 9", POSTGRES], False),
    "postgres-closed-port-sdk": (POSTGRES, change(port=CLOSED), load_orders, ["port 9", POSTGRES], False),
    "postgres-no-host": (POSTGRES, change(host=NOWHERE), replace_predictions, [NOWHERE, POSTGRES], False),
}


@pytest.fixture(scope="module")
def dags() -> Dags:
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(PROJECT / "dags").dags


@pytest.fixture(autouse=True)
def forget_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case with clients of its own, and an environment that it may change."""
    import s3fs
    from airflow.sdk.io import store

    store._STORE_CACHE.clear()
    s3fs.S3FileSystem.clear_instance_cache()
    for name in list(os.environ):
        monkeypatch.setenv(name, os.environ[name])  # what tasks set is taken back
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def refuse(request: Request) -> Response:
    """Answer everything with the status that the first folder names, as MLflow does."""
    said = {401: "You are not authenticated", 403: "Invalid Host header - possible DNS rebinding attack detected"}
    status = int(request.path.split("/")[1])
    return Response(said.get(status, "Internal Server Error"), status)


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    with answering(refuse) as url:
        yield url


def told(error: BaseException) -> str:
    """What the log has of it: message and notes, without the traceback's code."""
    return "".join(traceback.format_exception_only(error))


@pytest.mark.parametrize("name", CASES)
def test_wrong_connection_is_named(stack_connections: "RunningStack", dags, refusing, monkeypatch, name):
    connection_id, wrong, task, words, hopeless = CASES[name]
    variable = f"AIRFLOW_CONN_{connection_id.upper()}"
    connection = copy.deepcopy(stack_connections.stack.connections()[connection_id])
    if wrong is None:
        monkeypatch.delenv(variable)
    elif isinstance(wrong, str) and wrong.startswith("{"):
        monkeypatch.setenv(variable, wrong)
    else:
        if isinstance(wrong, str):
            hosts = {"S3": stack_connections.stack.s3_url, "AIRFLOW": stack_connections.stack.airflow_url}
            connection["host"] = hosts.get(wrong, f"{refusing}/{wrong}")
        else:
            wrong(connection)
        monkeypatch.setenv(variable, json.dumps(connection))
    with pytest.raises(Exception) as raised:  # noqa: PT011 (which one is looked at below)
        task(dags)
    for word in words:
        assert word in told(raised.value)
    assert isinstance(raised.value, AirflowFailException) == hopeless
    for secret in ("s3_secret_key", "warehouse_password"):
        assert getattr(stack_connections.stack.secrets, secret) not in told(raised.value)


def test_bucket_that_is_not_there_is_named(stack_connections, dags, monkeypatch):
    import include.xcom_backend

    monkeypatch.setattr(include.xcom_backend, "settings", settings.model_copy(update={"xcom_bucket": "no-such-bucket"}))
    with pytest.raises(AirflowFailException, match=r"s3://no-such-bucket/.* there is no such bucket"):
        push_frame(dags)


@pytest.mark.parametrize("uri", ["s3://no-such-bucket/possum.csv", "s3://resilience/no-such-object.csv"])
def test_object_that_is_not_there_is_named(breakable, stack_connections, dags, uri):
    with pytest.raises(AirflowFailException, match=uri):
        dags["feature_eng"].get_task("extract_data").python_callable(uri)


@pytest.mark.parametrize(("schema", "words"), [("locked", "permission denied for schema locked"), ("absent", "absent")])
def test_schema_without_rights_is_named(stack_connections, dags, monkeypatch, schema, words):
    import include.churn.warehouse
    from local_stack import postgres

    monkeypatch.setattr(include.churn.warehouse, "settings", Settings(churn=ChurnSettings(warehouse_schema=schema)))
    with closing(postgres.connect(stack_connections.stack, "warehouse")) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS locked")
        try:
            with pytest.raises(AirflowFailException, match=words) as raised:
                replace_predictions(dags)
        finally:
            cursor.execute("DROP SCHEMA locked")
    assert "connection postgres_default" in str(raised.value)
