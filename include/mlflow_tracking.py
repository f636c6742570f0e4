"""MLflow's Python client in a task: where it talks to, and one run for each task of a DAG run."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from include.links import MLflowExperimentLink, MLflowRunLink, experiment_url, record_link, run_url
from include.mlflow_api import TIMEOUT, quoted
from include.mlflow_files import find_damage, record_files
from include.servers.connections import fields_of
from include.servers.mlflow import MLFLOW_VARIABLES, mlflow_server, read_mlflow
from include.servers.s3 import S3_VARIABLES, Keys, s3_server
from include.settings import settings
from include.task_logs import quieten_mlflow

if TYPE_CHECKING:
    from airflow.sdk import Connection
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

    ``inputs`` is a digest of all that the task was given: with it ``find_finished_run`` can tell whether the work is done. The
    status FINISHED, which makes it so, is written last.
    """
    import mlflow
    from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME

    task = task_name(context)
    for leftover in _search(experiment_id, f"tags.`{TASK_TAG}` = {quoted(task)} and attributes.status != 'FINISHED'"):
        log.info("Deleting MLflow run %s, which an earlier attempt of this task did not finish", leftover.info.run_id)
        _delete(leftover)
    # MLflow itself would name the script that the worker was started with
    tags = tags | {TASK_TAG: task, INPUTS_TAG: inputs, MLFLOW_SOURCE_NAME: f"dags/{context['ti'].dag_id}.py"}
    with mlflow.start_run(experiment_id=experiment_id, run_name=run_name, tags=tags) as run:
        record_run(run)
        yield run
        record_files(run.info.run_id)


def record_run(run: Any) -> None:
    """Give the task the buttons for this MLflow run and its experiment, and say in its log where the run is."""
    log.info("MLflow run %s", run.info.run_name)
    record_link(MLflowExperimentLink, experiment_url(run.info.experiment_id))
    record_link(MLflowRunLink, run_url(run.info.experiment_id, run.info.run_id))


def task_name(context: Any) -> str:
    """DAG, DAG run and task as one string: the same for each attempt."""
    instance = context["ti"]
    return f"{instance.dag_id}/{instance.run_id}/{instance.task_id}"


def find_finished_run(context: Any, experiment_id: str, run_name: str, inputs: str) -> Any | None:
    """The run to go on with: of those that did this work with the same inputs, in whichever DAG run, the first to end.

    Runs that have lost files since do not count. Where this task has ended a run of its own after the one to go on with, because
    both ran at the same time, its own is deleted: call it before the work, and after it.
    """
    condition = (
        f"attributes.run_name = {quoted(run_name)} and attributes.status = 'FINISHED' "
        f"and tags.`{INPUTS_TAG}` = {quoted(inputs)}"
    )
    runs = sorted(_search(experiment_id, condition), key=lambda run: (run.info.end_time, run.info.run_id))
    while runs:
        first = runs.pop(0)
        damage = find_damage(first.info.run_id)
        if damage is None:
            for other in runs:
                if other.data.tags.get(TASK_TAG) == task_name(context):
                    log.info(
                        "MLflow run %s did the same: using it, and deleting %s", first.info.run_id, other.info.run_id
                    )
                    _delete(other)
            return first
        log.warning("MLflow run %s did the same, but cannot be used any more: %s", first.info.run_id, damage)
    return None


def _delete(run: Any) -> None:
    """Delete the run with its logged models, which MLflow would still list."""
    import mlflow

    client = mlflow.MlflowClient()
    of_run = f"source_run_id = '{run.info.run_id}'"
    for model in client.search_logged_models([run.info.experiment_id], filter_string=of_run):
        client.delete_logged_model(model.model_id)
    client.delete_run(run.info.run_id)


def _search(experiment_id: str, condition: str) -> list[Any]:
    import mlflow

    return mlflow.MlflowClient().search_runs([experiment_id], filter_string=condition, max_results=100)
