"""MLflow's REST API through the provider's hook: cheap to import, for tasks that need no MLflow client."""

from typing import Any

import requests
from airflow.exceptions import AirflowException
from mlflow_provider.hooks.client import MLflowClientHook

from include.errors import ConfigurationError
from include.settings import settings

ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"


class MLflowApiError(AirflowException):
    """MLflow answered with an error; ``code`` is its error code, such as RESOURCE_ALREADY_EXISTS."""

    def __init__(self, endpoint: str, response: requests.Response) -> None:
        try:
            self.code = response.json().get("error_code", "")
        except ValueError:
            self.code = ""
        super().__init__(f"MLflow answers {endpoint} with HTTP {response.status_code}: {response.text[:500]}")


def call_mlflow(method: str, endpoint: str, **parameters: Any) -> dict[str, Any]:
    """Call ``api/2.0/mlflow/<endpoint>`` and return its answer.

    Raises ConfigurationError where MLflow refuses the login or the host name, MLflowApiError for other errors.
    """
    hook = MLflowClientHook(method, mlflow_conn_id=settings.mlflow_conn_id)
    if not hook.get_connection(settings.mlflow_conn_id).host:
        raise ConfigurationError(f"connection {settings.mlflow_conn_id} has no host: write it as http://host:port")
    response = hook.run(endpoint=f"api/2.0/mlflow/{endpoint}", request_params=parameters)
    if response.status_code in (401, 403):
        raise ConfigurationError(
            f"MLflow at {hook.base_url} refuses (HTTP {response.status_code}: {response.text[:200]}): check login "
            f"and password of connection {settings.mlflow_conn_id}; with 'Invalid Host header' add the host to the "
            "server's --allowed-hosts"
        )
    if response.status_code in (200, 400, 404) and not _is_json(response):
        raise ConfigurationError(
            f"{hook.base_url} is no MLflow server (HTTP {response.status_code} for {endpoint}): check host and port of "
            f"connection {settings.mlflow_conn_id}"
        )
    if response.status_code != 200:
        raise MLflowApiError(endpoint, response)
    return response.json()


def _is_json(response: requests.Response) -> bool:
    try:
        response.json()
    except ValueError:
        return False
    return True
