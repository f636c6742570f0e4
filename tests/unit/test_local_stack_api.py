"""The client of Airflow's REST API that the demo and the tests have, on a server that answers as Airflow 3.3 does."""

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from local_stack.airflow_api import Airflow, log_lines
from local_stack.config import Ports, Stack
from tests.fakes.http_server import Request, Response, answering

EVENTS = "/api/v2/dags/train/dagRuns/run%201/upstreamAssetEvents"


class Server:
    """Gives out tokens that are good for a number of calls, and answers what it is told to."""

    def __init__(self) -> None:
        self.logins: list[dict[str, str]] = []
        self.calls_per_token = 100
        self.answers: dict[str, Response] = {}
        self._left = 0

    def __call__(self, request: Request) -> Response:
        if request.path == "/auth/token":
            self.logins.append(request.get_json())
            self._left = self.calls_per_token
            return Response(json.dumps({"access_token": f"token-{len(self.logins)}"}), 201, mimetype="application/json")
        if request.headers.get("Authorization") != f"Bearer token-{len(self.logins)}" or not self._left:
            return Response(status=401)
        self._left -= 1
        return self.answers.get(request.environ["RAW_URI"], Response("{}", mimetype="application/json"))


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def stack(tmp_path) -> Stack:
    return Stack(tmp_path)


@pytest.fixture
def airflow(server, stack) -> Iterator[Airflow]:
    with answering(server) as url:
        stack.keep_ports(Ports(airflow=urlsplit(url).port or 0))
        yield Airflow(stack)


def test_one_login_serves_many_calls(airflow, server, stack):
    for _ in range(3):
        assert airflow.get("/dags") == {}
    assert server.logins == [{"username": "admin", "password": stack.secrets.login_password}]


def test_token_that_has_run_out_is_replaced(airflow, server):
    server.calls_per_token = 1
    for _ in range(3):
        assert airflow.get("/dags") == {}
    assert len(server.logins) == 3


def test_events_come_in_the_order_of_time(airflow, server):
    events = [{"timestamp": "2026-01-02T00:00:00Z"}, {"timestamp": "2026-01-01T00:00:00Z"}]
    server.answers[EVENTS] = Response(json.dumps({"asset_events": events}), mimetype="application/json")
    assert airflow.events_of("train", "run 1") == events[::-1]


def test_events_that_airflow_cannot_tell_yet_are_none(airflow, server):
    """Airflow answers 500 while a run that one of them has started waits for its start."""
    server.answers[EVENTS] = Response(status=500)
    assert airflow.events_of("train", "run 1") == []


def test_log_entry_is_a_line():
    entry = {"timestamp": "2026-01-01T00:00:00Z", "level": "info", "event": "104 animals read", "logger": "include"}
    assert list(log_lines(entry)) == ["2026-01-01T00:00:00Z info 104 animals read"]
    assert list(log_lines({"event": "::group::Log message source details"})) == ["::group::Log message source details"]


def test_exceptions_of_a_log_entry_follow_it_the_cause_first():
    frames = [{"filename": "a.py", "lineno": 3, "name": "read"}]
    errors = [
        {"exc_type": "InputError", "exc_value": "a.csv cannot be used", "frames": frames},
        {"exc_type": "KeyError", "exc_value": "'age'", "frames": []},
    ]
    assert list(log_lines({"level": "error", "event": "Task failed with exception", "error_detail": errors})) == [
        "error Task failed with exception",
        "KeyError: 'age'",
        '  File "a.py", line 3, in read',
        "InputError: a.csv cannot be used",
    ]
