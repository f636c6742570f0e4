"""Logging in at servers that are none, at some that are in trouble, and through proxies."""

import json

import pytest

from include.errors import ConfigurationError
from include.wandb_tracking import server
from include.wandb_tracking.errors import TrackingUnavailable
from include.wandb_tracking.server import log_in
from include.wandb_tracking.target import tracking_target
from tests.fakes.certificates import write_certificate
from tests.fakes.http_server import Response, answering
from tests.fakes.wandb_server import KEY, FakeWandb


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr(server, "KNOCK_TIMES", 1)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def at(url):
    return log_in(tracking_target({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": url}), "testing")


def answer(status, body, kind="application/json", **headers):
    return lambda _: Response(body, status, headers, content_type=kind)


def graphql(**content):
    return json.dumps(content)


def test_the_keys_owner_is_named():
    with FakeWandb(KEY) as fake:
        assert at(fake.url) == "acme"
        assert at(f"{fake.url}/") == "acme"


LOGIN_PAGE = "<html>Log in</html>"
NO_SERVER = [
    answer(200, LOGIN_PAGE, "text/html"),
    answer(403, "<html>blocked by the proxy</html>", "text/html"),
    answer(404, "not found", "text/plain"),
    answer(200, '{"status": "ok"}'),
    answer(200, "[]"),
]


@pytest.mark.parametrize("reply", NO_SERVER)
def test_an_answer_that_is_not_wandbs_is_no_outage(reply):
    with (
        answering(reply) as url,
        pytest.raises(ConfigurationError, match=r"is not the address of a W&B server.*WANDB_BASE_URL"),
    ):
        at(url)


def test_a_login_page_elsewhere_is_named_and_does_not_get_the_key():
    seen = []

    def login(request):
        seen.append(request.headers.get("Authorization"))
        return Response(LOGIN_PAGE, content_type="text/html")

    with answering(login) as elsewhere:
        page = elsewhere.replace("127.0.0.1", "localhost") + "/login"
        with answering(answer(302, "", Location=page)) as url, pytest.raises(ConfigurationError, match=page):
            at(url)
    assert seen == [None]


@pytest.mark.parametrize(
    "reply",
    [
        answer(401, graphql(errors=[{"message": "user is not logged in"}])),
        answer(401, "unauthorized", "text/plain"),
        answer(200, graphql(data={"viewer": None})),
        answer(200, graphql(data=None, errors=[{"message": "no such user"}])),
    ],
)
def test_a_key_that_the_server_does_not_know_is_refused(reply):
    with answering(reply) as url, pytest.raises(ConfigurationError, match="Check WANDB_API_KEY") as raised:
        at(url)
    assert KEY not in str(raised.value)


def test_a_refusal_is_quoted():
    refusal = graphql(errors=[{"message": "the account is suspended"}])
    with (
        answering(answer(402, refusal)) as url,
        pytest.raises(ConfigurationError, match=r"HTTP 402 .*account is suspended"),
    ):
        at(url)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
@pytest.mark.parametrize("body", ["<html>try later</html>", graphql(errors=[{"message": "try later"}])])
def test_a_server_in_trouble_is_worth_a_retry(status, body):
    with answering(answer(status, body)) as url, pytest.raises(TrackingUnavailable, match=f"HTTP {status}.*try later"):
        at(url)


def test_a_short_trouble_is_waited_for(monkeypatch):
    monkeypatch.setattr(server, "KNOCK_TIMES", 2)
    replies = [
        Response("", 503),
        Response(graphql(data={"viewer": {"username": "me"}}), content_type="application/json"),
    ]
    with answering(lambda _: replies.pop(0)) as url:
        assert at(url) == "me"


def test_an_unknown_certificate_is_no_outage(tmp_path):
    with (
        FakeWandb(KEY, certificate=write_certificate(tmp_path / "server.pem")) as fake,
        pytest.raises(ConfigurationError, match="set both SSL_CERT_FILE and REQUESTS_CA_BUNDLE"),
    ):
        at(fake.url)


def test_a_certificate_file_of_ones_own_is_used(tmp_path, monkeypatch):
    certificate = write_certificate(tmp_path / "server.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with FakeWandb(KEY, certificate=certificate) as fake:
        assert at(fake.url) == "acme"


def test_https_where_there_is_none_is_no_outage():
    with FakeWandb(KEY) as fake, pytest.raises(ConfigurationError, match="correct WANDB_BASE_URL"):
        at(fake.url.replace("http:", "https:"))


def test_a_server_that_is_away_is_not_taken_for_mlflow():
    """An error of requests in the chain would have the task's log say that MLflow does not answer."""
    with pytest.raises(TrackingUnavailable, match=r"http://127\.0\.0\.1:9 could not be reached") as raised:
        at("http://127.0.0.1:9")
    assert (raised.value.__cause__, raised.value.__context__) == (None, None)


def test_a_proxy_that_is_away_is_worth_a_retry(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(
        TrackingUnavailable, match=r"http://wandb\.example\.com could not be reached .*HTTPS_PROXY, NO_PROXY"
    ):
        at("http://wandb.example.com")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_login_is_no_outage(monkeypatch, scheme):
    with answering(answer(407, "who are you?", "text/plain")) as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", proxy)
        with pytest.raises(ConfigurationError, match=r"The proxy before .* refuses with HTTP 407"):
            at(f"{scheme}://wandb.example.com")


def test_a_proxy_that_is_no_url_is_refused_without_its_password(monkeypatch):
    # pragma: allowlist nextline secret, because it is an example
    monkeypatch.setenv("HTTP_PROXY", "http://me:s3cret@:port")
    with pytest.raises(ConfigurationError, match="HTTP_PROXY") as raised:
        at("http://wandb.example.com")
    assert "s3cret" not in str(raised.value)
