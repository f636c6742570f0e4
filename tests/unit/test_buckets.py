"""Buckets that can never be this project's: the task fails at once and names the variable, whatever the server answers.

Against servers that answer as Amazon does; a real one makes buckets in tests/integration/servers.
"""

import json
from collections.abc import Callable

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from include.buckets import EnsureBucketOperator
from include.settings import settings
from tests.fakes.http_server import Request, Response, answering

Answer = Callable[[Request], Response]
BUCKETS = {"DATA_BUCKET_NAME": settings.data_bucket_name, "CHURN_MODEL_BUCKET": settings.churn.model_bucket}


def make(answer: Answer, monkeypatch: pytest.MonkeyPatch, bucket: str = "data", region: str = "eu-central-1") -> None:
    with answering(answer) as url:
        connection = {
            "conn_type": "aws",
            "login": "K",
            "password": "S",
            "extra": {
                "endpoint_url": url,
                "region_name": region,
                "config_kwargs": {"retries": {"total_max_attempts": 1}},
            },
        }
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
        EnsureBucketOperator(task_id="bucket", bucket_name=bucket, aws_conn_id="aws_default").execute(Context())


def error(code: str, status: int) -> Response:
    return Response(f"<Error><Code>{code}</Code><Message>so it is</Message></Error>", status, mimetype="text/xml")


def refusing(code: str, status: int, head: int = 404) -> Answer:
    return lambda request: Response("", head) if request.method == "HEAD" else error(code, status)


@pytest.mark.parametrize("variable", BUCKETS)
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusing("BucketAlreadyExists", 409, head=403), "belongs to somebody else"),
        (refusing("TooManyBuckets", 400), "as many buckets as it may have"),
        (refusing("PermanentRedirect", 301), "another region"),
        (refusing("IllegalLocationConstraintException", 400), "in this region"),
        (refusing("InvalidLocationConstraint", 400), "in this region"),
        (refusing("AuthorizationHeaderMalformed", 400), "another region"),
        (refusing("InvalidBucketName", 400), "does not accept"),
        (refusing("AccessDenied", 403, head=403), "let the login of connection aws_default use or make bucket"),
        (refusing("PermanentRedirect", 301, head=301), "another region"),
    ],
)
def test_bucket_that_cannot_be_made_is_named_with_its_variable(monkeypatch, answer, words, variable):
    with pytest.raises(AirflowFailException, match=words) as raised:
        make(answer, monkeypatch, BUCKETS[variable])
    for word in (f"bucket {BUCKETS[variable]}", variable, "connection aws_default"):
        assert word in str(raised.value)


@pytest.mark.parametrize("name", ["My_Data", "a b", "ab", "da:ta"])
def test_name_that_no_server_accepts_fails_at_once(monkeypatch, name):
    """The settings refuse it already."""
    with pytest.raises(AirflowFailException, match=r"does not accept"):
        make(refusing("InvalidBucketName", 400), monkeypatch, name)


@pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("InternalError", 500), ("RequestTimeout", 400)])
def test_server_in_trouble_is_tried_again(monkeypatch, code, status):
    with pytest.raises(Exception, match=code) as raised:
        make(refusing(code, status), monkeypatch)
    assert not isinstance(raised.value, AirflowFailException)


@pytest.mark.parametrize("code", ["BucketAlreadyExists", "BucketAlreadyOwnedByYou"])
def test_bucket_that_another_task_has_just_made_is_taken(monkeypatch, code):
    asked: list[str] = []

    def answer(request: Request) -> Response:
        asked.append(request.method)
        if request.method == "HEAD":
            return Response("", 404 if len(asked) == 1 else 200)
        return error(code, 409)

    make(answer, monkeypatch)
    assert asked == ["HEAD", "PUT", "HEAD"]


def test_bucket_that_is_there_is_not_made(monkeypatch):
    make(lambda request: Response("", 200 if request.method == "HEAD" else 500), monkeypatch)
