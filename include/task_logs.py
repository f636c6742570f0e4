"""What a task's log leaves out, so that it reads like a report: chatter of libraries that tells its reader nothing."""

import logging
import os

# They say on each use what the task itself says once, or only that they were called.
CHATTY = (
    "airflow.hooks.base",  # Retrieving connection ...
    "airflow.providers.amazon.aws.utils.connection_wrapper",  # credentials retrieved from login and password
    "airflow.task.hooks.airflow.providers",  # each SQL statement
    "airflow.task.hooks.include.mlflow_api",  # Sending 'POST' to url
    "airflow.task.operators.airflow.decorators",  # Done. Returned value not shown
    "airflow.task.operators.astro",  # Returning table Table(name=...
    "airflow.task.operators.include.venv_prediction",  # Use 'pickle' as serializer
    "airflow.task.operators.mlflow_provider",  # Call HTTP method
    "aiobotocore.credentials",
    "botocore.credentials",  # Found credentials in environment variables
    "smart_open",  # uploading part_num: 1
)


def quieten_libraries() -> None:
    """Let through only the warnings and errors of CHATTY."""
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def quieten_mlflow() -> None:
    """The same for MLflow's client, which configures its loggers when it is imported: before or after this."""
    os.environ["MLFLOW_LOGGING_LEVEL"] = "WARNING"
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in (
        "mlflow.utils.environment",  # there is no pip in this environment
        "mlflow.sklearn",  # the scaler has no method predict
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
