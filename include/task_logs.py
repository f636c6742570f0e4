"""What a task's log leaves out, so that it reads like a report: chatter of libraries that tells its reader nothing."""

import logging
import os

# They say on each use what the task itself says once, or only that they were called. Airflow's loggers first: what they let
# through is for its configuration to say (NAMESPACE_LEVELS)
AIRFLOWS = (
    "airflow.providers.amazon.aws.utils.connection_wrapper",  # credentials retrieved from login and password
    "airflow.task.hooks.airflow.providers",  # each SQL statement
    "airflow.task.hooks.include.mlflow_api",  # Sending 'POST' to url
    "airflow.task.operators.airflow.providers.standard.decorators",  # Done. Returned value not shown
    "airflow.task.operators.astro",  # Returning table Table(name=...
    "airflow.task.operators.include.venv_prediction",  # Use 'pickle' as serializer
    "airflow.task.operators.mlflow_provider",  # Call HTTP method
)
LIBRARIES = (
    "aiobotocore.credentials",
    "botocore.credentials",  # Found credentials in environment variables
    "smart_open",  # uploading part_num: 1
)
# The value of AIRFLOW__LOGGING__NAMESPACE_LEVELS, in both stacks
NAMESPACE_LEVELS = " ".join(f"{name}=WARNING" for name in AIRFLOWS)


def quieten_libraries() -> None:
    """Let through only the warnings and errors of LIBRARIES."""
    for name in LIBRARIES:
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
