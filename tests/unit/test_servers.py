"""What is read of a connection, in every form that Airflow accepts, and which forms are refused with the reason.

That all clients see it so is tested on real servers: tests/integration/servers.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Connection

from include.errors import ConfigurationError
from include.mlflow_tracking import tracking_uri
from include.servers.connections import Fields, fields_of, parse_connection, read_connection
from include.servers.mlflow import MLflowServer, read_mlflow
from include.servers.postgres import PostgresServer, read_postgres
from include.servers.s3 import Keys, S3Server, read_s3

PROJECT = Path(__file__).parents[2]
# pragma: allowlist nextline secret, because it is made up
PASSWORD = "pw-that-nobody-may-see"


def connection(form: dict[str, Any] | str) -> Connection:
    """As Airflow reads the variable's text."""
    if isinstance(form, str):
        return Connection(conn_id="it", uri=form)
    return Connection.from_json(json.dumps(form), conn_id="it")


def mlflow(form: dict[str, Any] | str, **environment: str) -> MLflowServer:
    return read_mlflow(fields_of(connection(form)), environment)


def s3(form: dict[str, Any] | str) -> S3Server:
    return read_s3(fields_of(connection(form)))


def postgres(form: dict[str, Any] | str) -> PostgresServer:
    return read_postgres(fields_of(connection(form)))


# MLflow


@pytest.mark.parametrize(
    ("form", "url"),
    [
        ({"conn_type": "http", "host": "http://mlflow:5000"}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "http://mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "http://mlflow", "port": "5000"}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "mlflow", "port": 5000}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "mlflow:5000"}, "http://mlflow:5000"),
        ({"host": "mlflow"}, "http://mlflow"),
        ({"conn_type": "generic", "host": "http://mlflow:5000"}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "http://mlflow:5000/"}, "http://mlflow:5000"),
        ({"conn_type": "http", "host": "http://mlflow:5000/some/path/"}, "http://mlflow:5000/some/path"),
        ({"conn_type": "http", "host": "HTTPS://MLflow.example.com"}, "https://MLflow.example.com"),
        ({"conn_type": "http", "host": "mlflow.example.com", "schema": "https"}, "https://mlflow.example.com"),
        (
            {"conn_type": "http", "host": "mlflow.example.com", "schema": "https", "port": 443},
            "https://mlflow.example.com:443",
        ),
        ({"conn_type": "http", "host": "https://mlflow.example.com", "schema": "https"}, "https://mlflow.example.com"),
        ({"conn_type": "https", "host": "mlflow.example.com"}, "https://mlflow.example.com"),
        ({"conn_type": "https", "host": "https://mlflow.example.com"}, "https://mlflow.example.com"),
        ({"conn_type": "http", "host": "::1", "port": 5000}, "http://[::1]:5000"),
        ({"conn_type": "http", "host": "http://[::1]:5000"}, "http://[::1]:5000"),
        # pragma: allowlist nextline secret, because it is made up
        ("https://me:pw@mlflow.example.com", "https://mlflow.example.com"),
        # pragma: allowlist nextline secret, because it is made up
        ("https://me:pw@host/mlflow", "https://host/mlflow"),
        # pragma: allowlist nextline secret, because it is made up
        ("http://user:p%40ss@host:5000/prefix", "http://host:5000/prefix"),
        ("http://host/a/b%20c", "http://host/a/b%20c"),
        ("http://host:443/https", "https://host:443"),
        # pragma: allowlist nextline secret, because it is made up
        ("http://https://me:pw@host:8443", "https://host:8443"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("http://http%3A%2F%2F127.0.0.1:5000/", "http://127.0.0.1:5000"),
    ],
)
def test_address_of_mlflow(form, url):
    assert mlflow(form).url == url
    assert tracking_uri(connection(form)) == url


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"conn_type": "http", "host": "http://127.0.0.1:5000", "port": 5000}, "host names a port already"),
        ({"conn_type": "http", "host": "127.0.0.1:5000", "port": 5001}, "host names a port already"),
        ({"conn_type": "http", "host": "http://127.0.0.1/mlflow", "port": 5000}, "host ends in a path"),
        ({"conn_type": "http", "host": "http://127.0.0.1/", "port": 5000}, "host ends in a path"),
        ({"conn_type": "http", "host": " http://127.0.0.1:5000 "}, "nothing around it"),
        ({"conn_type": "http", "host": "http://127.0.0.1:5000\n"}, "nothing around it"),
        ({"conn_type": "http", "host": "http://127.0.0.1:port"}, "http://host:port"),
        ({"conn_type": "http", "host": "http://127.0.0.1:99999"}, "http://host:port"),
        ({"conn_type": "http", "host": "http://"}, "http://host:port"),
        ({"conn_type": "http", "host": "http://h/?a=b"}, "http://host:port"),
        ({"conn_type": "http", "host": f"http://me:{PASSWORD}@h"}, "http://host:port"),
        ({"conn_type": "http"}, "has no host"),
        ({"conn_type": "http", "host": "ftp://h"}, "names ftp"),
        ({"conn_type": "http", "host": "https://h", "schema": "http"}, "names http and https"),
        ({"conn_type": "https", "host": "http://h"}, "names http and https"),
        ({"conn_type": "http", "host": "h", "port": 443}, "port 443, but not https"),
        ({"conn_type": "http", "host": "http://h/a", "schema": "b"}, "a path in host and another in schema"),
        (f"mlflow://me:{PASSWORD}@h", "is of type mlflow"),
        ({"conn_type": "postgres", "host": "h"}, "is of type postgres"),
        ({"conn_type": "http", "host": "h", "login": "me"}, "has a login but no password"),
        ({"conn_type": "http", "host": "h", "password": PASSWORD}, "has a password but no login"),
        ({"conn_type": "http", "host": "h", "extra": {"X-Key": PASSWORD}}, "has X-Key in extra"),
        ({"conn_type": "http", "host": "h", "extra": {"verify": "/no/ca.pem"}}, "/no/ca.pem"),
        ({"conn_type": "http", "host": "h", "extra": {"cert": "/no/cert.pem"}}, "/no/cert.pem"),
        ("https://h?verify=false", "'false' as verify"),
    ],
)
def test_mlflow_connection_that_can_be_read_in_two_ways_is_refused(form, words):
    with pytest.raises(ConfigurationError) as raised:
        mlflow(form)
    assert words in str(raised.value)
    assert PASSWORD not in str(raised.value)
    assert "connection it" in str(raised.value)


def test_login_and_token_are_told_apart():
    # pragma: allowlist nextline secret, because it is made up
    server = mlflow({"conn_type": "http", "host": "h", "login": "me", "password": "p w"})
    assert (server.login, server.password, server.token) == ("me", "p w", "")
    server = mlflow("https://token:t%2F0@h")
    assert (server.login, server.password, server.token) == ("", "", "t/0")


@pytest.mark.parametrize("value", ["yes", "of course"])
def test_variable_of_mlflow_that_is_neither_true_nor_false_is_named(value):
    with pytest.raises(ConfigurationError, match=f"MLFLOW_TRACKING_INSECURE_TLS is {value}"):
        mlflow("https://h", MLFLOW_TRACKING_INSECURE_TLS=value)


def test_variables_of_mlflow_that_exclude_each_other_are_named(tmp_path):
    (tmp_path / "ca.pem").touch()
    with pytest.raises(ConfigurationError, match="MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH"):
        mlflow(
            "https://h",
            MLFLOW_TRACKING_INSECURE_TLS="true",
            MLFLOW_TRACKING_SERVER_CERT_PATH=str(tmp_path / "ca.pem"),
        )


# S3


@pytest.mark.parametrize(
    ("form", "endpoint", "keys"),
    [
        ({"conn_type": "aws", "login": "K", "password": "S"}, None, Keys("K", "S")),
        ({"conn_type": "aws", "extra": {"region_name": "eu-central-1"}}, None, None),
        (
            {
                "conn_type": "aws",
                "extra": {"aws_access_key_id": "K", "aws_secret_access_key": "S", "aws_session_token": "T"},
            },
            None,
            Keys("K", "S", "T"),
        ),
        (
            {
                "conn_type": "aws",
                "login": "K",
                "password": "S",
                "extra": json.dumps({"endpoint_url": "http://s3:9000"}),
            },
            "http://s3:9000",
            Keys("K", "S"),
        ),
        (
            {
                "conn_type": "aws",
                "extra": {"endpoint_url": "http://a", "service_config": {"s3": {"endpoint_url": "http://b/s3/"}}},
            },
            "http://b/s3/",
            None,
        ),
        # pragma: allowlist nextline secret, because it is made up
        ("aws://K:S%2F%2B@/?endpoint_url=http%3A%2F%2Fs3%3A9000", "http://s3:9000", Keys("K", "S/+")),
        ("aws://K:S@?__extra__=%7B%22endpoint_url%22%3A%22https%3A%2F%2Fs3%22%7D", "https://s3", Keys("K", "S")),
        ({"conn_type": "aws", "extra": {"endpoint_url": "http://[::1]:9000"}}, "http://[::1]:9000", None),
    ],
)
def test_object_store_of_a_connection(form, endpoint, keys):
    server = s3(form)
    assert (server.endpoint_url, server.keys) == (endpoint, keys)
    text = form if isinstance(form, str) else json.dumps(form)
    assert read_s3(parse_connection("it", text)) == server  # as programs without Airflow read it


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("aws://K:S@minio:9000", "has a host, which nothing reads: write the server's address as endpoint_url"),
        (
            {"conn_type": "aws", "extra": {"host": "http://minio:9000"}},
            "host in extra, which nothing reads: write endpoint_url",
        ),
        ({"conn_type": "aws", "extra": {"region": "eu"}}, "write region_name"),
        ({"conn_type": "aws", "extra": {"session_token": PASSWORD}}, "write aws_session_token"),
        ({"conn_type": "aws", "login": "K"}, "has a login but no password"),
        ({"conn_type": "aws", "password": PASSWORD}, "has a password but no login"),
        ({"conn_type": "http", "login": "K", "password": PASSWORD}, "is of type http"),
        ({"conn_type": "aws", "extra": {"endpoint_url": "minio:9000"}}, "Invalid endpoint 'minio:9000'"),
        ({"conn_type": "aws", "extra": {"endpoint_url": " http://minio:9000"}}, "Invalid endpoint"),
        ({"conn_type": "aws", "extra": {"endpoint_url": f"http://K:{PASSWORD}@minio"}}, "Invalid endpoint 'minio'"),
        ({"conn_type": "aws", "extra": {"verify": "False"}}, "'False' as verify"),
        ({"conn_type": "aws", "extra": {"verify": "/no/ca.pem"}}, "verify of connection it is /no/ca.pem"),
        ({"conn_type": "aws", "extra": {"service_config": {"s3": {"verify": False}}}}, "verify in service_config.s3"),
        (
            {"conn_type": "aws", "extra": {"service_config": {"s3": []}, "config_kwargs": 1}},
            "config_kwargs in extra that is not",
        ),
        ({"conn_type": "aws", "extra": {"config_kwargs": {"proxies": {"http": "http://p"}}}}, "set HTTP_PROXY"),
        ({"conn_type": "aws", "extra": {"config_kwargs": {"signature_version": "unsigned"}}}, "no signature"),
        ({"conn_type": "aws", "extra": "nonsense"}, "an extra that is not a JSON object"),
        ({"conn_type": "aws", "extra": [1]}, "an extra that is not a JSON object"),
    ],
)
def test_aws_connection_that_not_all_parts_would_follow_is_refused(form, words):
    with pytest.raises(ConfigurationError) as raised:
        s3(form)
    assert words in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_settings_of_botocore_reach_mlflows_client():
    config = {"s3": {"addressing_style": "path"}, "request_checksum_calculation": "when_supported"}
    variables = s3({"conn_type": "aws", "extra": {"endpoint_url": "http://s3", "config_kwargs": config}}).environment(
        None, None
    )
    assert variables["MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE"] == "path"
    assert variables["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_supported"


def test_server_of_ones_own_gets_uploads_without_trailing_checksums_and_amazon_as_it_likes():
    keys, plain = Keys("K", "S"), {"conn_type": "aws"}
    own = s3(plain | {"extra": {"endpoint_url": "http://s3"}}).environment(keys, "us-east-1")
    assert own["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_required"
    assert "AWS_REQUEST_CHECKSUM_CALCULATION" not in s3(plain).environment(keys, "us-east-1")


# PostgreSQL


@pytest.mark.parametrize(
    ("form", "server"),
    [
        (
            {"conn_type": "postgres", "host": "db", "port": 5432, "login": "w", "password": "p", "schema": "d"},
            PostgresServer("db", 5432, "d", "w", "p", {}, {}),
        ),
        # pragma: allowlist nextline secret, because it is made up
        ("postgresql://w:p%40%2F%3A@db/d%20e", PostgresServer("db", None, "d e", "w", "p@/:", {}, {})),
        ("postgres://w:p@db:1/d?sslmode=require", PostgresServer("db", 1, "d", "w", "p", {"sslmode": "require"}, {})),
        ("postgres://w@%2Ftmp%2Fsocket/d", PostgresServer("/tmp/socket", None, "d", "w", "", {}, {})),
        ("postgres://w@[::1]:5432/d", PostgresServer("::1", 5432, "d", "w", "", {}, {})),
        ("postgres:///d?host=%2Ftmp", PostgresServer("", None, "d", "", "", {"host": "/tmp"}, {})),
        (
            {
                "conn_type": "postgresql",
                "host": "a,b",
                "extra": {"sslmode": "require", "keepalives": True, "cursor": "dictcursor"},
            },
            PostgresServer(
                "a,b", None, "", "", "", {"sslmode": "require", "keepalives": "1"}, {"cursor": "dictcursor"}
            ),
        ),
        (
            {
                "conn_type": "postgres",
                "host": "db",
                "extra": {"sqlalchemy_query": {"sslmode": "require"}, "connect_timeout": 5},
            },
            PostgresServer("db", None, "", "", "", {"sslmode": "require", "connect_timeout": "5"}, {}),
        ),
    ],
)
def test_database_of_a_connection(form, server):
    assert postgres(form) == server


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"conn_type": "postgres", "host": "db:5432"}, "names a port"),
        ({"conn_type": "postgres", "host": "postgres://db"}, "the name or address alone"),
        ({"conn_type": "postgres", "host": f"me:{PASSWORD}@db"}, "the name or address alone"),
        ({"conn_type": "postgres", "host": " db"}, "the name or address alone"),
        ({"conn_type": "postgres", "host": "db/d"}, "the name or address alone"),
        ({"conn_type": "postgres", "host": "[::1]"}, "the name or address alone"),
        ({"conn_type": "postgres"}, "has no host"),
        ({"conn_type": "http", "host": "db"}, "is of type http"),
        ({"host": "db"}, "is of type (none)"),
        (
            {
                "conn_type": "postgres",
                "host": "db",
                "extra": {"sslmode": "disable", "sqlalchemy_query": {"sslmode": "require"}},
            },
            "has sslmode in extra and in its sqlalchemy_query",
        ),
        ({"conn_type": "postgres", "host": "db", "extra": {"sqlalchemy_query": "sslmode=require"}}, "sqlalchemy_query"),
    ],
)
def test_postgres_connection_that_cannot_be_right_is_refused(form, words):
    with pytest.raises(ConfigurationError) as raised:
        postgres(form)
    assert words in str(raised.value)
    assert PASSWORD not in str(raised.value)


# all


def test_what_is_printed_of_a_connection_and_its_server_holds_no_secret():
    # pragma: allowlist nextline secret, because it is made up
    secret = {"login": "me", "password": PASSWORD, "extra": {"aws_session_token": PASSWORD}}
    assert PASSWORD not in repr(fields_of(connection({"conn_type": "aws"} | secret)))
    assert PASSWORD not in repr(s3({"conn_type": "aws"} | secret))
    assert PASSWORD not in repr(mlflow(f"https://me:{PASSWORD}@h"))
    assert PASSWORD not in repr(mlflow(f"https://token:{PASSWORD}@h"))
    assert PASSWORD not in repr(postgres(f"postgres://me:{PASSWORD}@h/d?passfile={PASSWORD}"))


@pytest.mark.parametrize("text", ["", "[1]", '"text"', "{", '{"a":', f"K:{PASSWORD}", f"{PASSWORD}@h", "//h"])
def test_text_that_is_no_connection_is_refused_without_showing_it(text):
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_IT is not a connection in JSON") as raised:
        parse_connection("it", text)
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        # pragma: allowlist nextline secret, because it is made up
        "aws://K:S%2F@/?region_name=eu&verify=%2Ftmp",
        '{"conn_type": "aws", "login": "K", "password": "S", "port": "", "host": null}',
        # pragma: allowlist nextline secret, because it is made up
        "http://me:p%40w@host:1/a%2Fb?x=1",
        "https://[::1]:5000/",
    ],
)
def test_programs_without_airflow_read_the_same_fields(text):
    known = Connection.from_json(text, conn_id="it") if text.startswith("{") else Connection(conn_id="it", uri=text)
    assert parse_connection("it", text) == fields_of(known)


def test_undefined_connection_is_told_from_one_that_cannot_be_read(monkeypatch):
    with pytest.raises(ConfigurationError, match=r"isn't defined: define the connection .* AIRFLOW_CONN_IT"):
        read_connection("it")
    monkeypatch.setenv("AIRFLOW_CONN_IT", "{")
    with pytest.raises(ConfigurationError, match="AIRFLOW_CONN_IT is set, but cannot be read"):
        read_connection("it")


def test_programs_without_airflow_need_the_standard_library_only():
    code = "import include.servers.s3, include.servers.mlflow, include.servers.connections as c; print(c.Fields('x').login)"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=PROJECT, env={"PATH": os.environ["PATH"]}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_fields_without_anything_have_text_all_the_same():
    assert Fields("it").conn_type == Fields("it").host == ""
