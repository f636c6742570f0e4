"""Run a command with the S3 server of Airflow's connection in its environment, as MLflow and boto3 read it.

    python docker/with-aws-connection.py COMMAND [ARGUMENT...]

So the MLflow server uses the same object store as the DAGs, and one variable, AIRFLOW_CONN_AWS_DEFAULT, moves both.
Without it, or with the connection defined elsewhere, the usual AWS_* variables apply. A connection that the server cannot
follow ends it, with the reason. Runs in MLflow's image: only the standard library is there for sure.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where include/ is, in the container too

from include.errors import ConfigurationError
from include.servers.connections import parse_connection, variable_of
from include.servers.s3 import S3_VARIABLES, read_s3

conn_id = os.environ.get("AWS_CONN_ID") or "aws_default"
if text := os.environ.get(variable_of(conn_id), "").strip():
    try:
        fields = parse_connection(conn_id, text)
        server = read_s3(fields)
        if server.looked_up:
            raise fields.refusal(
                f"has {server.looked_up}, which the MLflow server of this stack cannot follow",
                "write keys as login and password, or use an MLflow server elsewhere",
            )
    except ConfigurationError as error:
        sys.exit(f"error: {error}")
    if server.keys:
        for name in S3_VARIABLES:
            os.environ.pop(name, None)  # of another login, which boto3 would mix with this one
    os.environ.update(server.environment(server.keys, server.region))
os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606
