"""`airflow scheduler`, with the libraries that tasks use imported beforehand.

LocalExecutor forks its workers from this process, so what it has imported costs a task nothing: several seconds each.
Only for one machine's stack; elsewhere tasks run in processes of their own, and DAG files import none of this.
"""

import contextlib
import importlib
import os
import sys

import psutil
from airflow.__main__ import main

from local_stack.config import MARK

PRELOADED = (
    "pandas",
    "pyarrow.parquet",
    "pandera.pandas",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "mlflow.sklearn",
    "mlflow.data",
    "mlflow_provider.operators.pyfunc",
    "skops.io",
    "s3fs",
    "boto3",
    "wandb",
    "astro.sql",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.postgres.hooks.postgres",
    "airflow.io.path",
)

# titles of what LocalExecutor forks; one that works on a task has the task's command behind it
IDLE = ("airflow executor -- LocalExecutor", "airflow worker -- LocalExecutor")


def end_leftovers() -> None:
    """End the idle processes of a scheduler that was killed: nothing else would, and each holds its memory.

    Those that still work on a task go on and write its outcome to the database.
    """
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if " ".join(process.cmdline()).strip() in IDLE and process.environ().get(MARK) == os.environ.get(MARK):
                process.kill()


if __name__ == "__main__":
    end_leftovers()
    for module in PRELOADED:
        importlib.import_module(module)
    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    main()
