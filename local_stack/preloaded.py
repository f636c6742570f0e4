"""The `airflow` command with the libraries that tasks use imported beforehand: `python -m local_stack.preloaded scheduler`.

The scheduler's LocalExecutor and the Celery workers fork the tasks' processes from their own, so what that has imported costs
a task nothing: several seconds each. Only for one machine's stack; elsewhere tasks run in processes of their own, and DAG
files import none of this.
"""

import functools
import gc
import importlib
import sys

import boto3
from airflow.__main__ import main
from airflow.providers_manager import ProvidersManager
from botocore.loaders import JSONFileLoader

from local_stack.config import Stack
from local_stack.processes import end_leftovers

PRELOADED = (
    "airflow.api.common.experimental.get_task_instance",
    "airflow.io.path",
    "airflow.models.taskinstancehistory",
    "airflow.notifications.basenotifier",
    "airflow.operators.empty",
    "airflow.operators.subdag",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.amazon.aws.operators.s3",
    "airflow.providers.postgres.hooks.postgres",
    "astro.databases.postgres",
    "astro.sql",
    "boto3.s3.inject",
    "filelock",
    "git",
    "jinja2.ext",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "mlflow.data",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.tracking.request_header.registry",
    "mlflow_provider.hooks.client",
    "mlflow_provider.operators.pyfunc",
    "mlflow_provider.operators.registry",
    "pandas",
    "pandas.plotting._matplotlib",
    "pandera.accessors.pandas_accessor",
    "pandera.api.geopandas",
    "pandera.backends.pandas.builtin_hypotheses",
    "pandera.backends.pandas.register",
    "pandera.pandas",
    "pyarrow.csv",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "s3fs",
    "sentry_sdk.integrations.aws_lambda",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "skops.io",
    "wandb",
)


def read_once() -> None:
    """Let botocore keep its descriptions of AWS, of which each session parses a megabyte anew, for the tasks' clients."""
    kept = functools.cache(JSONFileLoader().load_file)
    JSONFileLoader.load_file = lambda _, file_path: kept(file_path)  # type: ignore[method-assign, assignment]
    # with made-up keys: without any it would look for some, at last on the network, in Amazon's cloud
    session = boto3.session.Session(aws_access_key_id="-", aws_secret_access_key="-")  # noqa: S106
    session.client("s3", region_name="us-east-1")


def preload() -> None:
    """Import what tasks use, and read what each of them would have to read again."""
    for module in PRELOADED:
        importlib.import_module(module)
    providers = ProvidersManager()  # each task would look for the providers' entry points anew
    providers.initialize_providers_hooks()
    providers.initialize_providers_filesystems()
    providers.initialize_providers_extra_links()
    read_once()
    gc.freeze()  # a task's garbage collector need not look through all that, and copy its memory by doing so


if __name__ == "__main__":
    if sys.argv[1] == "scheduler":
        end_leftovers(Stack())
    preload()
    main()
