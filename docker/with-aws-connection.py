"""Run a command with the S3 endpoint and keys of Airflow's connection in its environment, as MLflow and boto3 read them.

    python with-aws-connection.py COMMAND [ARGUMENT...]

So the MLflow server uses the same object store as the DAGs, and one variable, AIRFLOW_CONN_AWS_DEFAULT, moves both.
Without it, or with the connection defined elsewhere, the usual AWS_* variables apply. Runs in MLflow's image: only the
standard library is there for sure.
"""

import json
import os
import sys

variable = "AIRFLOW_CONN_" + (os.environ.get("AWS_CONN_ID") or "aws_default").upper()
text = os.environ.get(variable, "").strip()
try:
    connection = json.loads(text or "{}")
    extra = connection.get("extra") or {}
    extra = json.loads(extra) if isinstance(extra, str) else extra
except (ValueError, AttributeError):
    sys.exit(f"error: {variable} is not a connection in JSON, as .env_example has it")
values = {
    "AWS_ACCESS_KEY_ID": connection.get("login"),
    "AWS_SECRET_ACCESS_KEY": connection.get("password"),
    "AWS_SESSION_TOKEN": extra.get("aws_session_token"),
    "AWS_DEFAULT_REGION": extra.get("region_name"),
    "MLFLOW_S3_ENDPOINT_URL": extra.get("endpoint_url"),
}
os.environ.update({name: str(value) for name, value in values.items() if value})
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
