"""Which failures of a task are worth a retry, and which connection they point at."""

import functools
import inspect
import os
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from airflow.exceptions import AirflowFailException, AirflowNotFoundException

from include.errors import ConfigurationError, InputError
from include.settings import settings

P = ParamSpec("P")
R = TypeVar("R")

S3_REFUSALS = {
    "401",
    "403",
    "AccessDenied",
    "ExpiredToken",
    "Forbidden",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
MLFLOW_REFUSALS = {"PERMISSION_DENIED", "UNAUTHENTICATED"}
POSTGRES_REFUSALS = (
    "authentication failed",
    "does not exist",  # the role, or the database
    "no password supplied",
    "no pg_hba.conf entry",
    "permission denied",
)


def fail_at_once(function: Callable[P, R]) -> Callable[P, R]:
    """Make bad input and bad configuration fail the task without retries, with their message as the log's last word.

    Anything else, such as a service that is away, is raised as it is and retried as the DAG says; a note in the traceback
    names the connection to look at.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except AirflowFailException:
            raise
        except Exception as error:
            if reason := hopeless(error):
                raise AirflowFailException(reason) from error
            if connection := connection_behind(error):
                error.add_note(f"If this stays so, look at the server behind connection {connection}.")
            raise

    # the Astro SDK looks at the parameters' annotations without following functools.wraps
    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapper


def hopeless(error: BaseException) -> str | None:
    """What to mend, where trying again cannot help; None where it may."""
    for each in _chain(error):
        if isinstance(each, InputError | ConfigurationError):
            return str(each)
        if isinstance(each, AirflowNotFoundException):
            return _undefined(each)
        if isinstance(each, PermissionError):
            if each.filename:
                return f"this machine refuses: {each}"
            return f"the object store refuses: {each}. Check login and rights of connection {settings.aws_conn_id}"
        if reason := _refused(each):
            return reason
    return None


def _undefined(error: AirflowNotFoundException) -> str:
    ids = (settings.aws_conn_id, settings.mlflow_conn_id, settings.postgres_conn_id)
    for variable in (f"AIRFLOW_CONN_{id_.upper()}" for id_ in ids if id_ in str(error)):
        if os.environ.get(variable):  # Airflow does not say that it cannot read it
            return f"{error}: {variable} is set, but cannot be read: write it as one line of JSON, see .env_example"
    return f"{error}: define the connection in the UI (Admin > Connections) or as AIRFLOW_CONN_<ID>"


def _refused(error: BaseException) -> str | None:
    """The same for errors of the clients' own, which are not imported for this."""
    client, said = _client(error), _first_line(error)
    if client == "botocore":
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        if code in S3_REFUSALS or "Credentials" in type(error).__name__:
            return f"the object store refuses: {said}. Check login and password of connection {settings.aws_conn_id}"
    elif client == "mlflow" and getattr(error, "error_code", "") in MLFLOW_REFUSALS:
        return (
            f"MLflow refuses: {said}. Check login and password of connection {settings.mlflow_conn_id}; with 'Invalid Host "
            "header' add the host to the server's --allowed-hosts"
        )
    elif client == "psycopg2" and any(words in said for words in POSTGRES_REFUSALS):
        kind = type(error).__name__
        if kind in ("OperationalError", "InsufficientPrivilege", "InvalidSchemaName"):
            return f"PostgreSQL refuses: {said}. Check login, password and rights of connection {settings.postgres_conn_id}"
    elif isinstance(error, ValueError) and said.startswith("Invalid endpoint"):
        return f"{said}. Write endpoint_url of connection {settings.aws_conn_id} as http://host:port"
    return None


def connection_behind(error: BaseException) -> str | None:
    """The id of the connection whose server has failed; None where it is not known."""
    clients = {_client(each) for each in _chain(error)}
    for client, connection in (
        ("botocore", settings.aws_conn_id),
        ("psycopg2", settings.postgres_conn_id),
        ("mlflow", settings.mlflow_conn_id),
        ("requests", settings.mlflow_conn_id),
    ):
        if client in clients:
            return connection
    return None


def _client(error: BaseException) -> str:
    """The library that has raised it."""
    name = type(error).__module__.partition(".")[0]
    return {"aiobotocore": "botocore", "boto3": "botocore"}.get(name, name)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return " ".join(next(iter(str(error).strip().splitlines()), "").split()).rstrip(".")
