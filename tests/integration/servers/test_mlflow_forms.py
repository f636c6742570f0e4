"""MLflow by connections in many forms: hook, client and doctor reach the same server in the same way, or are refused."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.doctor import examine
from include.mlflow_api import call_mlflow
from include.mlflow_tracking import connect_mlflow
from include.task_errors import fail_at_once
from tests.fakes.http_proxy import proxy_to
from tests.fakes.http_server import Request, Response, answering
from tests.fakes.relay import relaying, with_tls
from tests.support.certificates import Certificates
from tests.support.servers import Port, aws

AWS = aws("http://127.0.0.1:9")  # which none of these parts calls


@fail_at_once
def by_hook() -> list[str]:
    answer = call_mlflow("GET", "experiments/search", max_results=5)
    return sorted(each["name"] for each in answer.get("experiments", []))


@fail_at_once
def by_client() -> list[str]:
    import mlflow

    connect_mlflow()
    return sorted(each.name for each in mlflow.MlflowClient().search_experiments())


def works_everywhere() -> None:
    assert by_hook() == by_client() == ["Default"]
    assert examine("MLflow").healthy, examine("MLflow")


FORMS: dict[str, Callable[[int], dict[str, Any] | str]] = {
    "json": lambda port: {"conn_type": "http", "host": f"http://127.0.0.1:{port}"},
    "port-of-its-own": lambda port: {"conn_type": "http", "host": "http://127.0.0.1", "port": port},
    "no-scheme": lambda port: {"conn_type": "http", "host": "127.0.0.1", "port": port},
    "host-and-port-in-one": lambda port: {"host": f"127.0.0.1:{port}"},
    "slash-at-the-end": lambda port: {"conn_type": "http", "host": f"http://127.0.0.1:{port}/"},
    "uri": lambda port: f"http://127.0.0.1:{port}",
    "uri-in-uri": lambda port: f"http://{quote(f'http://127.0.0.1:{port}', safe='')}",
    "schema": lambda port: {"conn_type": "http", "host": "127.0.0.1", "port": port, "schema": "http"},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_parts_reach_the_server_by_any_form_of_the_connection(mlflow: Port, define, form):
    define(mlflow=FORMS[form](mlflow.number), aws=AWS)
    works_everywhere()


TLS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "not-checked": ({"verify": False}, {}),
    "ca-file": ({"verify": "CA"}, {}),
    "not-checked-by-variable": ({}, {"MLFLOW_TRACKING_INSECURE_TLS": "true"}),
    "ca-file-by-variable": ({}, {"MLFLOW_TRACKING_SERVER_CERT_PATH": "CA"}),
    "ca-file-of-requests": ({}, {"REQUESTS_CA_BUNDLE": "CA"}),
    "connection-before-variable": ({"verify": False}, {"MLFLOW_TRACKING_SERVER_CERT_PATH": "CA"}),
}


@pytest.mark.parametrize("way", TLS)
def test_certificate_is_checked_by_all_parts_alike(
    mlflow_tls: Port, certificates: Certificates, define, monkeypatch, way
):
    extra, variables = TLS[way]
    for name, value in variables.items():
        monkeypatch.setenv(name, certificates.authority if value == "CA" else value)
    extra = {name: certificates.authority if value == "CA" else value for name, value in extra.items()}
    define(mlflow={"conn_type": "https", "host": "127.0.0.1", "port": mlflow_tls.number, "extra": extra}, aws=AWS)
    works_everywhere()


def test_connection_wins_where_a_variable_switches_the_check_off(mlflow_tls: Port, define, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    define(mlflow={"conn_type": "http", "host": mlflow_tls.url("https"), "extra": {"verify": True}}, aws=AWS)
    for part in (by_hook, by_client):
        with pytest.raises(AirflowFailException, match="certificate is not accepted"):
            part()


@pytest.mark.parametrize("part", [by_hook, by_client])
def test_certificate_that_is_not_trusted_fails_at_once_and_says_where_to_trust_it(
    mlflow_tls: Port, define, monkeypatch, part
):
    define(mlflow=mlflow_tls.url("https"), aws=AWS)
    words = (
        r'certificate is not accepted.*"verify" in extra of connection mlflow_default.*MLFLOW_TRACKING_SERVER_CERT_PATH'
    )
    with pytest.raises(AirflowFailException, match=words):
        part()
    assert "AIRFLOW_CONN_MLFLOW_DEFAULT" in examine("MLflow").remedy


@contextmanager
def recording(wanted: str | None = None, prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server that answers as MLflow does where it gets the Authorization that it wants; and what it got."""
    got: list[str] = []

    def answer(request: Request) -> Response:
        got.append(f"{request.path} {request.headers.get('Authorization')}")
        if wanted and request.headers.get("Authorization") != wanted:
            return Response('{"error_code": "UNAUTHENTICATED", "message": "log in"}', 401)
        if not request.path.startswith(prefix):
            return Response("not here", 404)
        if request.path.endswith("/version"):
            from importlib.metadata import version

            return Response(version("mlflow-skinny"))
        return Response('{"experiments": [{"name": "Default", "experiment_id": "0"}]}', mimetype="application/json")

    with answering(answer) as url:
        yield url, got


PASSWORD = "p:@/ s?#%ä€"  # pragma: allowlist secret, because it is made up
BASIC = f"Basic {base64.b64encode(f'mé:{PASSWORD}'.encode()).decode()}"


@pytest.mark.parametrize("as_uri", [False, True], ids=["json", "uri"])
def test_login_with_special_characters_reaches_the_server_as_it_is(define, as_uri):
    with recording(BASIC) as (url, _):
        fields = {"conn_type": "http", "host": url, "login": "mé", "password": PASSWORD}
        uri = url.replace("http://", f"http://{quote('mé')}:{quote(PASSWORD, safe='')}@")
        define(mlflow=uri if as_uri else fields, aws=AWS)
        works_everywhere()


def test_bearer_token_reaches_the_server(define):
    with recording("Bearer t0") as (url, _):
        # pragma: allowlist nextline secret, because it is made up
        define(mlflow={"conn_type": "http", "host": url, "login": "token", "password": "t0"}, aws=AWS)
        works_everywhere()


@pytest.mark.parametrize("as_uri", [False, True], ids=["json", "uri"])
def test_path_in_front_of_the_api_is_kept(define, as_uri):
    with recording(prefix="/some/prefix/") as (url, _):
        fields = {"conn_type": "http", "host": f"{url}/some/prefix/"}
        define(mlflow=f"{url}/some/prefix" if as_uri else fields, aws=AWS)
        works_everywhere()


@pytest.mark.faults
def test_server_behind_a_proxy_is_reached_by_all_parts(define, monkeypatch):
    with recording() as (url, _), proxy_to({"mlflow.internal": int(url.rpartition(":")[2])}) as proxy:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        define(mlflow="http://mlflow.internal", aws=AWS)
        works_everywhere()
    assert len(proxy.asked) >= 4
    assert all(" http://mlflow.internal/" in request for request in proxy.asked)


@pytest.mark.faults
@pytest.mark.parametrize("by_variable", [False, True], ids=["extra", "variable"])
def test_certificate_of_ones_own_is_shown_by_all_parts(
    mlflow: Port, certificates: Certificates, define, monkeypatch, tmp_path, by_variable
):
    own = tmp_path / "own.pem"
    own.write_text(
        Path(certificates.certificate).read_text(encoding="utf-8") + Path(certificates.key).read_text(encoding="utf-8")
    )
    greet = with_tls(certificates.certificate, certificates.key, clients=certificates.authority)
    with relaying(mlflow.number, greet) as port:
        extra = {"verify": certificates.authority}
        define(mlflow={"conn_type": "http", "host": f"https://127.0.0.1:{port}", "extra": extra}, aws=AWS)
        with pytest.raises(Exception, match=r"(?i)certificate.required|reset|closed|EOF|broken pipe"):
            by_hook()
        if by_variable:
            monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(own))
        else:
            extra["cert"] = str(own)
            define(mlflow={"conn_type": "http", "host": f"https://127.0.0.1:{port}", "extra": extra})
        works_everywhere()


def test_login_that_was_set_for_another_server_is_not_sent(define, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "someone")
    # pragma: allowlist nextline secret, because it is made up
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "else")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token of another")
    with recording() as (url, got):
        define(mlflow=url, aws=AWS)
        works_everywhere()
    assert {line.split()[1] for line in got} == {"None"}


@pytest.mark.parametrize(
    "form",
    [
        # pragma: allowlist nextline secret, because it is made up
        lambda port: f"https://me:pw@127.0.0.1:{port}",
        # pragma: allowlist nextline secret, because it is made up
        lambda port: f"https://me:pw@127.0.0.1:{port}/mlflow",
        # pragma: allowlist nextline secret, because it is made up
        lambda port: {"conn_type": "https", "host": "127.0.0.1", "port": port, "login": "me", "password": "pw"},
        # pragma: allowlist nextline secret, because it is made up
        lambda port: f"http://me:pw@127.0.0.1:{port}/https",
        # pragma: allowlist nextline secret, because it is made up
        lambda port: {"conn_type": "http", "host": f"https://127.0.0.1:{port}", "login": "me", "password": "pw"},
    ],
    ids=["uri", "uri-with-path", "type", "schema", "host"],
)
def test_login_for_https_never_leaves_over_http(define, form):
    with recording() as (url, got):
        define(mlflow=form(int(url.rpartition(":")[2])), aws=AWS)
        for part in (by_hook, by_client):
            with pytest.raises(Exception, match=r"SSL|certificate"):
                part()
        assert not examine("MLflow").healthy
    assert got == []


@pytest.mark.parametrize("body", ['{"error_code": "ENDPOINT_NOT_FOUND"}', "<html>404 Not Found</html>"])
def test_server_without_logged_models_is_too_old(define, body):
    def answer(request: Request) -> Response:
        if "logged-models" in request.path:
            return Response(body, 404)
        return Response('{"experiment": {"experiment_id": "0"}}', mimetype="application/json")

    @fail_at_once
    def log_model() -> None:
        import mlflow

        connect_mlflow()
        mlflow.MlflowClient().create_logged_model("0", name="model")

    with answering(answer) as url:
        define(mlflow=url, aws=AWS)
        with pytest.raises(AirflowFailException, match=r"MLflow server is too old.*MLflow 3.*mlflow_default"):
            log_model()
