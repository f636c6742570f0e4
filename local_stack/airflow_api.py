"""The few calls of Airflow's REST API that the demo and the tests need."""

from collections.abc import Generator
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_after_delay, wait_fixed

from local_stack.config import Stack

ENDED = ("success", "failed")


class TokenAuth(httpx.Auth):
    """Logs in at the first call, and again where the token has run out."""

    def __init__(self, url: str, login: tuple[str, str]) -> None:
        self._url = url
        self._login = dict(zip(("username", "password"), login, strict=True))
        self._token = ""

    requires_response_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with the token."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = yield request
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
        answer = yield httpx.Request("POST", self._url, json=self._login)
        self._token = answer.raise_for_status().json()["access_token"]
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class Airflow:
    """Airflow's REST API with the stack's login; passing trouble is waited out."""

    def __init__(self, stack: Stack) -> None:
        url = f"http://127.0.0.1:{stack.ports.airflow}"
        auth = TokenAuth(f"{url}/auth/token", stack.login)
        self._client = httpx.Client(base_url=f"{url}/api/v2", auth=auth, timeout=30, trust_env=False)

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        """GET, as JSON; tried again for a short while when the server does not answer."""
        for attempt in Retrying(
            retry=retry_if_exception_type(httpx.TransportError),
            stop=stop_after_attempt(5),
            wait=wait_fixed(1),
            reraise=True,
        ):
            with attempt:
                response = self._client.get(path, params=parameters).raise_for_status()
        return response.json()

    def unpause(self, dag_id: str) -> None:
        """Unpause the DAG, waiting for its file to have been read."""
        for attempt in Retrying(stop=stop_after_delay(90), wait=wait_fixed(0.5), reraise=True):
            with attempt:
                self._client.patch(f"/dags/{dag_id}", json={"is_paused": False}).raise_for_status()

    def trigger(self, dag_id: str, **params: Any) -> str:
        """Start a run with these params and return its id."""
        body = {"conf": params, "logical_date": None}
        return self._client.post(f"/dags/{dag_id}/dagRuns", json=body).raise_for_status().json()["dag_run_id"]

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The DAG run."""
        return self.get(_path(dag_id, run_id))

    def events_of(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The asset events that started the run, in the order of time; none yet while that cannot be told.

        Airflow 3.3 answers 500 while one of the runs that an event has started is queued and has no start date.
        """
        try:
            events = self.get(f"{_path(dag_id, run_id)}/upstreamAssetEvents")["asset_events"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
                raise
            return []
        return sorted(events, key=lambda event: event["timestamp"])

    def triggered_by(self, dag_id: str, source_run: str, since: datetime) -> str | None:
        """The run of the DAG that was started by an asset event of ``source_run``."""
        runs = self.get(f"/dags/{dag_id}/dagRuns", order_by="-start_date", start_date_gte=since.isoformat())
        for run in runs["dag_runs"]:
            if any(event["source_run_id"] == source_run for event in self.events_of(dag_id, run["dag_run_id"])):
                return run["dag_run_id"]
        return None

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """The task instances of the run, in the order of their start."""
        instances = self.get(f"{_path(dag_id, run_id)}/taskInstances", limit=1000)["task_instances"]
        return sorted(instances, key=lambda task: task["start_date"] or "~")

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """A task's XCom."""
        return self.get(f"{_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}")["value"]

    def log(self, task: dict[str, Any]) -> str:
        """The log of the task's last attempt."""
        path = f"{_path(task['dag_id'], task['dag_run_id'])}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        entries = self.get(path, full_content=True, map_index=task["map_index"])["content"]
        return "\n".join(line for entry in entries for line in log_lines(entry))


def log_lines(entry: dict[str, Any] | str) -> Generator[str, None, None]:
    """An entry of a task's log as a person reads it: time, level, message, and the exceptions, the first cause first."""
    if isinstance(entry, str):
        yield entry
        return
    yield " ".join(str(entry[key]) for key in ("timestamp", "level", "event") if entry.get(key))
    for error in reversed(entry.get("error_detail") or []):
        for frame in error["frames"]:
            yield f'  File "{frame["filename"]}", line {frame["lineno"]}, in {frame["name"]}'
        yield f"{error['exc_type']}: {error['exc_value']}"


def _path(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
