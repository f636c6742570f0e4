"""Which errors of a task are worth a retry; the others fail it at once, with a message that says what to do."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException

from include.client_errors import explain, package_of
from include.errors import chain
from include.settings import settings

P = ParamSpec("P")
R = TypeVar("R")

# These tell Airflow what to do with the task, whatever caused them
SIGNALS = (AirflowFailException, AirflowRescheduleException, AirflowSkipException)


def fail_at_once(function: Callable[P, R]) -> Callable[P, R]:
    """Make bad input and bad configuration fail the task without retries, with their message as the last line of its log.

    Anything else, such as a service that is unavailable, is raised as it is and retried as the DAG says; a note in the
    traceback says what to look at.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except SIGNALS:
            raise
        except Exception as error:
            if reason := hopeless(error):
                raise AirflowFailException(reason) from error
            if note := what_to_look_at(error):
                error.add_note(note)
            raise

    # the Astro SDK looks at the parameters' annotations without following functools.wraps
    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapper


def hopeless(error: BaseException) -> str | None:
    """What is wrong and what to do, if a retry cannot help; None if it may."""
    explanation = explain(error)
    return str(explanation) if explanation and explanation.permanent else None


def what_to_look_at(error: BaseException) -> str | None:
    """For an error worth a retry: what it means, or at least which connection it concerns."""
    if explanation := explain(error):
        return str(explanation) if explanation.remedy else None
    clients = {package_of(each) for each in chain(error)}
    connections = {
        "botocore": settings.aws_conn_id,
        "psycopg": settings.postgres_conn_id,
        "mlflow": settings.mlflow_conn_id,
    }
    behind = next((conn_id for client, conn_id in connections.items() if client in clients), None)
    return f"If this stays so, look at the server behind connection {behind}." if behind else None
