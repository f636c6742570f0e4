"""Which failures of a task are worth a retry."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from airflow.exceptions import AirflowFailException, AirflowNotFoundException

from include.errors import ConfigurationError, InputError

P = ParamSpec("P")
R = TypeVar("R")


def fail_at_once(function: Callable[P, R]) -> Callable[P, R]:
    """Make bad input and bad configuration fail the task without retries, with their message as the log's last word.

    Anything else, such as a service that is away, is raised as it is and retried as the DAG says.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (InputError, ConfigurationError) as error:
            raise AirflowFailException(str(error)) from error
        except AirflowNotFoundException as error:
            raise AirflowFailException(
                f"{error}: define the connection in the UI (Admin > Connections) or as AIRFLOW_CONN_<ID>"
            ) from error
        except PermissionError as error:
            raise AirflowFailException(
                f"the object store refuses: {error}. Check login and rights of its connection"
            ) from error

    # the Astro SDK looks at the parameters' annotations without following functools.wraps
    wrapper.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return wrapper
