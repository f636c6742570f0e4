"""MLflow's REST API through the provider's hook: cheap to import, for tasks that need no MLflow client."""

import include.legacy_packages

import os
from typing import Any
from urllib.parse import urlsplit

import requests
from airflow.sdk.exceptions import AirflowException
from mlflow_provider.hooks.client import MLflowClientHook
from requests.adapters import HTTPAdapter

from include.errors import ConfigurationError, InputError
from include.servers.mlflow import mlflow_server
from include.settings import settings

ALREADY_EXISTS = "RESOURCE_ALREADY_EXISTS"
DOES_NOT_EXIST = "RESOURCE_DOES_NOT_EXIST"
TIMEOUT = 30  # seconds for an answer, as MLflow's own client waits (mlflow_tracking)


class MLflowApiError(AirflowException):
    """MLflow answered with an error; ``code`` is its error code, such as RESOURCE_ALREADY_EXISTS."""

    def __init__(self, endpoint: str, response: requests.Response) -> None:
        answer = _json(response)
        self.code = str(answer.get("error_code", "")) if isinstance(answer, dict) else ""
        super().__init__(f"MLflow answers {endpoint} with HTTP {response.status_code}: {response.text[:500]}")


class MLflowHook(MLflowClientHook):
    """MLflowClientHook with the same address, login and certificate checks as MLflow's own client."""

    def get_conn(self, headers: dict[Any, Any] | None = None) -> requests.Session:
        """A session for the server of the connection."""
        server = mlflow_server()
        self.base_url = server.url
        session = requests.Session()
        session.mount("http://", _Adapter())
        session.mount("https://", _Adapter())
        if server.login:  # in UTF-8, as MLflow's client sends them; requests would use Latin-1
            session.auth = (server.login.encode(), server.password.encode())  # type: ignore[assignment]
        elif server.token:
            session.headers["Authorization"] = f"Bearer {server.token}"
        session.headers.update(headers or {})
        # the hook bypasses these variables, which MLflow's client honours
        environment = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        session.verify = environment if server.verify in (None, True) else server.verify
        session.cert = server.certificate
        return session


class _Adapter(HTTPAdapter):
    """An adapter with a default timeout."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        return super().send(*args, **kwargs | {"timeout": kwargs.get("timeout") or TIMEOUT})


def call_mlflow(method: str, endpoint: str, **parameters: Any) -> dict[str, Any]:
    """Call ``api/2.0/mlflow/<endpoint>`` and return its answer.

    Raises ConfigurationError if MLflow refuses the login or the host name, or if the server is not MLflow; MLflowApiError for
    other errors.
    """
    hook = MLflowHook(method, mlflow_conn_id=settings.mlflow_conn_id)
    response = hook.run(endpoint=f"api/2.0/mlflow/{endpoint}", request_params=parameters)
    status, name = response.status_code, settings.mlflow_conn_id
    if status in (401, 403) and "host header" in response.text.lower():
        host = urlsplit(hook.base_url).netloc
        raise ConfigurationError(
            f"MLflow refuses the host name {host} (HTTP {status}: {response.text[:200]}): correct connection {name}, or add "
            f"{host} to the server's --allowed-hosts (MLFLOW_ALLOWED_HOSTS of the Astro stack)"
        )
    if status in (401, 403):
        raise ConfigurationError(
            f"MLflow at {hook.base_url} refuses (HTTP {status}: {response.text[:200]}): check login "
            f"and password of connection {name}"
        )
    if status == 407:
        raise ConfigurationError(
            f"the proxy in front of MLflow at {hook.base_url} wants a login (HTTP 407): correct HTTP_PROXY, or name the "
            "server in NO_PROXY"
        )
    if status < 500 and status not in (408, 429) and not isinstance(_json(response), dict):
        raise ConfigurationError(
            f"{hook.base_url} is no MLflow server (HTTP {status} for {endpoint}: {response.text[:100]}): check host and port of "
            f"connection {name}"
        )
    if status != 200:
        raise MLflowApiError(endpoint, response)
    return response.json()


def quoted(text: str) -> str:
    """The text as a string in MLflow's search filters: in the quotes that it does not contain, as they cannot be escaped."""
    if "'" in text and '"' in text:
        raise InputError(f"{text} contains both kinds of quotes, which MLflow cannot search for: use one kind")
    return f'"{text}"' if "'" in text else f"'{text}'"


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
