import inspect

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowNotFoundException

from include.errors import ConfigurationError, InputError
from include.task_errors import fail_at_once


def raising(error: BaseException):
    @fail_at_once
    def task() -> None:
        raise error

    return task


@pytest.mark.parametrize("kind", [InputError, ConfigurationError])
def test_bad_input_and_configuration_fail_without_retry_with_their_message(kind):
    with pytest.raises(AirflowFailException, match=r"^possum\.csv lacks 'taill'$"):
        raising(kind("possum.csv lacks 'taill'"))()


def test_missing_connection_fails_without_retry_and_says_where_to_define_it():
    with pytest.raises(AirflowFailException, match=r"mlflow_default isn't defined.*AIRFLOW_CONN_"):
        raising(AirflowNotFoundException("The conn_id mlflow_default isn't defined"))()


def test_refused_access_to_the_object_store_fails_without_retry():
    with pytest.raises(AirflowFailException, match="object store refuses: Forbidden"):
        raising(PermissionError("Forbidden"))()


@pytest.mark.parametrize(
    "error", [ConnectionError("away"), TimeoutError("slow"), AirflowException("500"), ValueError()]
)
def test_anything_else_stays_as_it_is_for_the_retries(error):
    with pytest.raises(type(error)) as caught:
        raising(error)()
    assert caught.value is error
    assert not isinstance(caught.value, AirflowFailException)


def test_wrapped_function_keeps_result_name_docs_and_parameters():
    @fail_at_once
    def build(animals: pd.DataFrame, *, factor: int = 2) -> int:
        """Docs."""
        return len(animals) * factor

    assert build(pd.DataFrame({"case": [1, 2]}), factor=3) == 6
    assert (build.__name__, build.__doc__) == ("build", "Docs.")
    # the Astro SDK reads tables where a parameter is annotated as a frame
    assert inspect.signature(build).parameters["animals"].annotation is pd.DataFrame
