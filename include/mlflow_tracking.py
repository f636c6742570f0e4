"""MLflow's Python client in a task: where it talks to, and one run for each task of a DAG run."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.links import MLflowExperimentLink, MLflowRunLink, experiment_url, record_link, run_url
from include.mlflow_api import TIMEOUT, quoted
from include.servers.connections import fields_of
from include.servers.mlflow import MLFLOW_VARIABLES, mlflow_server, read_mlflow
from include.servers.s3 import S3_VARIABLES, Keys, s3_server
from include.settings import settings
from include.task_logs import quieten_mlflow

if TYPE_CHECKING:
    from airflow.models.connection import Connection
    from mlflow import ActiveRun

log = logging.getLogger(__name__)

INPUTS_TAG = "airflow.inputs"  # what the task was given, as one digest
TASK_TAG = "airflow.task"  # DAG, DAG run and task


def tracking_uri(connection: "Connection") -> str:
    """The server's address; raises ConfigurationError where the connection can be read in more than one way."""
    return read_mlflow(fields_of(connection), os.environ).url


def mlflow_environment() -> dict[str, str]:
    """The variables that MLflow's client reads, made from the Airflow connections for MLflow and S3.

    Contains credentials: for os.environ or a child process, never for a log or an XCom.
    """
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    tracking, store = mlflow_server(), s3_server()
    # as Amazon's hook gets them: from the connection, by a role or a profile that it names, or from this machine
    session = S3Hook(aws_conn_id=settings.aws_conn_id).get_session()
    found = session.get_credentials()
    frozen = found and found.get_frozen_credentials()
    keys = Keys(frozen.access_key, frozen.secret_key, frozen.token or "") if frozen else None
    return {
        # a server that is away for half a minute is waited for; for longer, the task's own retries are
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(TIMEOUT),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # its links name the server as the tasks see it; task_run logs one for the browser
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
        "MLFLOW_UV_AUTO_DETECT": "false",  # the model's requirements are given, not the project's
        **tracking.environment(),
        **store.environment(keys, session.region_name or store.region),
    }


def connect_mlflow() -> None:
    """Point this process's MLflow client at the server and the object store of the connections."""
    variables = mlflow_environment()
    for name in (*MLFLOW_VARIABLES, *S3_VARIABLES):
        os.environ.pop(name, None)  # of another login, which the client would mix with this one
    os.environ.update(variables)
    # warnings that the reader of a task's log can do nothing about
    warnings.filterwarnings("ignore", message="Hint: Inferred schema contains integer", module="mlflow")
    warnings.filterwarnings("ignore", message="The specified dataset source can be interpreted", module="mlflow")
    quieten_mlflow()


@contextmanager
def task_run(
    context: Any, experiment_id: str, run_name: str, *, inputs: str, tags: dict[str, str]
) -> Iterator["ActiveRun"]:
    """A new active MLflow run for this task; runs that earlier attempts of it left unfinished are deleted.

    ``inputs`` is a digest of all that the task was given: with it ``find_finished_run`` can tell whether the work is done.
    """
    import mlflow

    task = task_name(context)
    for leftover in _search(experiment_id, f"tags.`{TASK_TAG}` = {quoted(task)} and attributes.status != 'FINISHED'"):
        log.info("Deleting MLflow run %s, which an earlier attempt of this task did not finish", leftover.info.run_id)
        mlflow.MlflowClient().delete_run(leftover.info.run_id)
    with mlflow.start_run(
        experiment_id=experiment_id, run_name=run_name, tags=tags | {TASK_TAG: task, INPUTS_TAG: inputs}
    ) as run:
        record_run(run)
        yield run


def record_run(run: Any) -> None:
    """Give the task the buttons for this MLflow run and its experiment, and say in its log where the run is."""
    log.info("MLflow run %s", run.info.run_name)
    record_link(MLflowExperimentLink, experiment_url(run.info.experiment_id))
    record_link(MLflowRunLink, run_url(run.info.experiment_id, run.info.run_id))


def task_name(context: Any) -> str:
    """DAG, DAG run and task as one string: the same for each attempt."""
    instance = context["ti"]
    return f"{instance.dag_id}/{instance.run_id}/{instance.task_id}"


def find_finished_run(experiment_id: str, run_name: str, inputs: str) -> Any | None:
    """The run that was the first to end of those that did the same work with the same inputs, in whichever DAG run."""
    condition = (
        f"attributes.run_name = {quoted(run_name)} and attributes.status = 'FINISHED' "
        f"and tags.`{INPUTS_TAG}` = {quoted(inputs)}"
    )
    return min(_search(experiment_id, condition), key=_end, default=None)


def keep_first(experiment_id: str, run_name: str, inputs: str, own_run: str) -> str:
    """The id of the run to go on with, after the own one has ended.

    Where the same task ran twice at the same time, that is the one that ended first, for both; the other is deleted.
    """
    import mlflow

    first = find_finished_run(experiment_id, run_name, inputs)
    if first is None or first.info.run_id == own_run:
        return own_run
    log.info("MLflow run %s did the same meanwhile: using it, and deleting %s", first.info.run_id, own_run)
    mlflow.MlflowClient().delete_run(own_run)
    record_run(first)
    return first.info.run_id


def _end(run: Any) -> tuple[int, str]:
    return run.info.end_time, run.info.run_id


def _search(experiment_id: str, condition: str) -> list[Any]:
    import mlflow

    return mlflow.MlflowClient().search_runs([experiment_id], filter_string=condition, max_results=100)
