"""What is said when a task has failed: in the log, and to whomever PIPELINES_NOTIFY_URL names."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from include import notifications
from include.dag_defaults import DEFAULT_ARGS
from include.settings import PipelinesSettings, Settings
from tests.fakes.http_server import Request, Response, answering

# pragma: allowlist nextline secret, because it is made up
SECRET = "t0ps3cret"


class Receiver:
    """A server on loopback that keeps what is posted, and answers with a chosen code."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.code = 200
        self.url = ""

    def answer(self, request: Request) -> Response:
        self.got.append(json.loads(request.get_data()))
        return Response(status=self.code)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    kept = Receiver()
    with answering(kept.answer) as url:
        kept.url = f"json://user:{SECRET}@{url.removeprefix('http://')}/hook"
        yield kept


@pytest.fixture
def notify(monkeypatch):
    def call(url: str | None, **context: Any) -> None:
        chosen = Settings(pipelines=PipelinesSettings(notify_url=SecretStr(url) if url else None))
        monkeypatch.setattr(notifications, "settings", chosen)
        notifications.FailureNotifier().notify(failure() | context)

    return call


def failure(**other: Any) -> dict[str, Any]:
    about = {
        "dag_id": "feature_eng",
        "task_id": "extract_data",
        "run_id": "manual__1",
        "try_number": 1,
        "map_index": -1,
        "rendered_map_index": None,
        "log_url": "http://localhost:8080/log",
    }
    ti = SimpleNamespace(**about | other)
    return {"ti": ti, "exception": ValueError("possum.csv: column 'age' is missing\nand more")}


def test_every_task_has_the_callback():
    assert isinstance(DEFAULT_ARGS["on_failure_callback"], notifications.FailureNotifier)


def test_by_default_one_line_is_logged(notify, caplog):
    notify(None)
    assert [record.getMessage() for record in caplog.records] == [
        "feature_eng.extract_data has failed at try 1 of run manual__1: possum.csv: column 'age' is missing"
    ]


def test_mapped_task_is_named_with_its_label():
    assert "extract_data (data) has failed" in notifications.describe_failure(
        failure(map_index=0, rendered_map_index="data")
    )
    assert "extract_data (3) has failed" in notifications.describe_failure(failure(map_index=3))


@pytest.mark.parametrize(
    ("exception", "said"),
    [
        (None, "no reason given, its process was lost or killed"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 1000), "x" * 300 + "..."),
        ("Task was killed externally", "Task was killed externally"),
    ],
)
def test_reason_is_always_one_short_line(exception, said):
    assert notifications.describe_failure(failure() | {"exception": exception}).endswith(f"manual__1: {said}")


def test_message_goes_where_the_url_says(notify, receiver, caplog):
    notify(receiver.url)
    [message] = receiver.got
    assert message["title"] == "Airflow: feature_eng has failed"
    assert "column 'age' is missing" in message["message"]
    assert "http://localhost:8080/log" in message["message"]
    assert message["type"] == "failure"
    assert SECRET not in caplog.text


def test_several_urls_each_get_the_message(notify, receiver):
    notify(f"{receiver.url} {receiver.url}2")
    assert len(receiver.got) == 2


@pytest.mark.parametrize("code", [401, 500])
def test_message_that_is_refused_is_said_without_the_secret(notify, receiver, caplog, code):
    receiver.code = code
    with caplog.at_level("DEBUG"):
        notify(receiver.url)
    assert "No message was sent: json did not take it" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("url", [f"nosuch://{SECRET}@host", f"{SECRET}", f"slack://{SECRET}"])
def test_url_that_apprise_does_not_know_is_said_without_the_secret(notify, caplog, url):
    with caplog.at_level("DEBUG"):
        notify(url)
    assert "Apprise does not understand PIPELINES_NOTIFY_URL" in caplog.text
    assert SECRET not in caplog.text


def test_nobody_listening_is_said_soon(notify, caplog):
    with answering(Receiver().answer) as url:
        pass  # it is closed again
    notify(url.replace("http", "json", 1))
    assert "No message was sent" in caplog.text


def test_slack_and_mail_are_understood():
    for url in (
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        # pragma: allowlist nextline secret, because it is made up
        "mailtos://user:password@smtp.example.com?to=me@example.com",
    ):
        assert notifications.understood(url) is None


def test_settings_do_not_show_the_url():
    assert SECRET not in repr(Settings(pipelines=PipelinesSettings(notify_url=SecretStr(SECRET))))
