"""`airflow scheduler`, with the libraries that tasks use imported beforehand.

LocalExecutor forks its workers from this process, so what it has imported costs a task nothing: several seconds each.
Only for one machine's stack; elsewhere tasks run in processes of their own, and DAG files import none of this.
"""

import importlib
import sys

from airflow.__main__ import main

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

if __name__ == "__main__":
    for module in PRELOADED:
        importlib.import_module(module)
    sys.argv = ["airflow", "scheduler", "--skip-serve-logs"]
    main()
