"""Which errors of the clients a retry cannot fix, and what their message names."""

import errno
import ssl

import psycopg
import pytest
import requests
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from botocore import exceptions as botocore
from botocore.exceptions import ClientError
from mlflow.exceptions import MlflowException, RestException
from psycopg import errors as postgres

from include.client_errors import explain
from include.errors import ConfigurationError, InputError
from include.task_errors import fail_at_once

AWS, MLFLOW, POSTGRES = (f"connection {name}_default" for name in ("aws", "mlflow", "postgres"))


def s3(code: str, status: int = 400) -> ClientError:
    response = {"Error": {"Code": code, "Message": "said it"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


def mlflow(code: str, message: str = "said it") -> RestException:
    return RestException({"error_code": code, "message": message})


def at_start(message: str) -> psycopg.OperationalError:
    return psycopg.OperationalError(f'connection failed: connection to server at "h", port 5432 failed: {message}')


def with_code(code: str, message: str = "said it") -> psycopg.Error:
    """As psycopg raises it for a statement."""
    return postgres.lookup(code)(message)


UNTRUSTED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)"

PERMANENT = {
    # S3
    "s3-login": (s3("SignatureDoesNotMatch"), [AWS, "does not accept the login"]),
    "s3-token": (s3("ExpiredToken"), [AWS]),
    "s3-no-keys": (botocore.NoCredentialsError(), [AWS, "login and password"]),
    "s3-no-profile": (botocore.ProfileNotFound(profile="team"), [AWS, "team"]),
    "s3-rights": (s3("AccessDenied", 403), [AWS, "refuses"]),
    "s3-bucket": (s3("NoSuchBucket", 404), [AWS, "bucket"]),
    "s3-bad-name": (botocore.ParamValidationError(report="Invalid bucket name"), ["bucket"]),
    "s3-certificate": (
        botocore.SSLError(endpoint_url="https://s3", error=ssl.SSLError(UNTRUSTED)),
        ['"verify" in extra', AWS, "AWS_CA_BUNDLE"],
    ),
    "s3-plain-http": (
        botocore.SSLError(
            endpoint_url="https://s3", error=ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number")
        ),
        [AWS],
    ),
    # MLflow
    "mlflow-too-old": (mlflow("ENDPOINT_NOT_FOUND"), [MLFLOW, "too old", "MLflow 3"]),
    "mlflow-login": (mlflow("UNAUTHENTICATED"), [MLFLOW, "login and password"]),
    "mlflow-bad-request": (mlflow("INVALID_PARAMETER_VALUE", "Model name cannot be empty"), ["cannot be empty"]),
    "mlflow-url": (requests.exceptions.InvalidURL("Failed to parse"), [MLFLOW, "host"]),
    "mlflow-schema": (requests.exceptions.MissingSchema("no scheme"), [MLFLOW]),
    "mlflow-header": (requests.exceptions.InvalidHeader("line break in the token"), [MLFLOW, "password"]),
    "mlflow-certificate": (
        requests.exceptions.SSLError(UNTRUSTED),
        ['"verify" in extra', MLFLOW, "MLFLOW_TRACKING_SERVER_CERT_PATH"],
    ),
    "mlflow-proxy-refuses": (
        requests.exceptions.ProxyError("Tunnel connection failed: 407 Proxy Authentication Required"),
        ["proxy", "407", "HTTPS_PROXY", "NO_PROXY"],
    ),
    "mlflow-proxy-is-none": (requests.exceptions.InvalidProxyURL("no proxy"), ["HTTPS_PROXY"]),
    # PostgreSQL
    "postgres-no-tls": (at_start("server does not support SSL, but SSL was required"), [POSTGRES, "sslmode"]),
    "postgres-certificate": (at_start("SSL error: certificate verify failed"), [POSTGRES, "sslrootcert"]),
    "postgres-other-host": (
        at_start('server certificate for "a" does not match host name "b"'),
        [POSTGRES, "sslmode"],
    ),
    "postgres-option": (
        psycopg.ProgrammingError('invalid connection option "x"\n'),
        [POSTGRES, "extra"],
    ),
    "postgres-value": (
        psycopg.OperationalError('connection is bad: invalid sslmode value: "x"'),
        [POSTGRES, "sslmode"],
    ),
    "postgres-number": (psycopg.ProgrammingError("bad value for connect_timeout: 'x'"), [POSTGRES, "extra"]),
    "postgres-pooler": (at_start("FATAL:  unsupported startup parameter: options"), [POSTGRES]),
    "postgres-login": (at_start('FATAL:  role "x" does not exist'), [POSTGRES, "login"]),
    "postgres-database": (at_start('FATAL:  database "x" does not exist'), [POSTGRES, "schema of"]),
    "postgres-rights": (with_code("42501", "permission denied for schema s"), [POSTGRES, "rights"]),
    "postgres-syntax": (with_code("42601", 'syntax error at or near "x"'), ["syntax error"]),
    "postgres-data": (with_code("22P02", "invalid input syntax for type integer"), ["invalid input syntax"]),
    "postgres-rows": (with_code("23505", 'duplicate key value violates unique constraint "t_pkey"'), ["t_pkey"]),
    # this machine
    "read-only": (OSError(errno.EROFS, "Read-only file system", "/opt/plots/x.png"), ["/opt/plots/x.png"]),
    "no-rights": (PermissionError(errno.EACCES, "Permission denied", "/root/x"), ["/root/x", "this machine"]),
    "no-ca-file": (OSError("Could not find a suitable TLS CA certificate bundle, invalid path: /x.pem"), ["/x.pem"]),
}
MAY_PASS = {
    "s3-away": (botocore.EndpointConnectionError(endpoint_url="http://s3"), [AWS, "endpoint_url"]),
    "s3-slow": (botocore.ReadTimeoutError(endpoint_url="http://s3"), [AWS]),
    "s3-busy": (s3("SlowDown", 503), [AWS]),
    "s3-error": (s3("500", 500), [AWS]),
    "s3-broken-off": (
        botocore.SSLError(endpoint_url="https://s3", error=ssl.SSLError("EOF occurred in violation of protocol")),
        [AWS],
    ),
    "s3-proxy": (botocore.ProxyConnectionError(proxy_url="http://p"), ["proxy", "HTTP_PROXY"]),
    "mlflow-away": (requests.exceptions.ConnectionError("refused"), [MLFLOW]),
    "mlflow-slow": (requests.exceptions.ReadTimeout("slow"), [MLFLOW]),
    "mlflow-proxy-away": (requests.exceptions.ProxyError("Cannot connect to proxy"), ["proxy", "HTTP_PROXY"]),
    "mlflow-proxy-in-trouble": (
        requests.exceptions.ProxyError("Tunnel connection failed: 503 Service Unavailable"),
        ["503"],
    ),
    "postgres-away": (at_start("Connection refused"), [POSTGRES, "host and port"]),
    "postgres-starting": (at_start("FATAL:  the database system is starting up"), [POSTGRES]),
    "postgres-full-house": (at_start("FATAL:  sorry, too many clients already"), [POSTGRES]),
    "postgres-no-name": (psycopg.OperationalError("failed to resolve host 'h': [Errno -2] not known"), [POSTGRES]),
    "postgres-gone": (psycopg.OperationalError("server closed the connection unexpectedly"), [POSTGRES]),
    "postgres-disk": (with_code("53100", "could not extend file"), ["disk of the PostgreSQL server is full"]),
    "disk": (OSError(errno.ENOSPC, "No space left on device", "/data/x"), ["the disk is full: /data/x"]),
    "quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), ["the disk is full: /"]),
}


@pytest.mark.parametrize("name", PERMANENT)
def test_what_a_retry_cannot_fix_fails_at_once_and_says_what_to_correct(name):
    error, words = PERMANENT[name]

    @fail_at_once
    def task() -> None:
        raise error

    with pytest.raises(AirflowFailException) as raised:
        task()
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("name", MAY_PASS)
def test_what_may_pass_is_tried_again_with_a_note(name):
    error, words = MAY_PASS[name]

    @fail_at_once
    def task() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        task()
    for word in words:
        assert word in " ".join(raised.value.__notes__)


@pytest.mark.parametrize("code", ["42P01", "42P06", "42P07", "40001", "40P01", "55P03", "57P01"])
def test_what_two_sessions_do_to_each_other_is_tried_again(code):
    explanation = explain(with_code(code))
    assert explanation is None or not explanation.permanent


def test_catalog_entry_that_another_session_has_just_made_is_tried_again():
    assert explain(with_code("23505", 'unique constraint "pg_type_typname_nsp_index"')) is None


def test_run_that_another_try_has_deleted_is_tried_again():
    message = "The run 0a1b must be in the 'active' state. Current state is deleted."
    assert explain(mlflow("INVALID_PARAMETER_VALUE", message)) is None


def raised_by(function) -> BaseException:
    with pytest.raises(Exception) as raised:  # noqa: PT011 (any)
        function()
    return raised.value


def test_error_inside_of_a_clients_own_is_found():
    """MLflow's client raises its own in place of what it was given, without `from`."""

    def call() -> None:
        try:
            raise requests.exceptions.SSLError(UNTRUSTED) from ssl.SSLCertVerificationError(UNTRUSTED)
        except requests.exceptions.SSLError as error:
            raise MlflowException(f"API request failed with exception {error}")  # noqa: B904

    explanation = explain(raised_by(call))
    assert explanation
    assert explanation.permanent


# Signals, and errors that were dealt with


@pytest.mark.parametrize("signal", [AirflowSkipException, AirflowRescheduleException, AirflowFailException])
def test_signal_stays_what_it_is_whatever_has_led_to_it(signal):
    @fail_at_once
    def task() -> None:
        try:
            raise InputError("no rows")
        except InputError as error:
            raise (signal(None) if signal is AirflowRescheduleException else signal("nothing to do")) from error

    assert type(raised_by(task)) is signal


@pytest.mark.parametrize("later", [ConnectionError, TimeoutError, AirflowException])
def test_error_that_was_dismissed_does_not_decide(later):
    @fail_at_once
    def task() -> None:
        try:
            raise InputError("no rows")
        except InputError:
            raise later("away for a second") from None

    assert type(raised_by(task)) is later


def test_outage_while_an_error_is_dealt_with_is_tried_again():
    @fail_at_once
    def task() -> None:
        try:
            raise ConfigurationError("WANDB_MODE is wrong: correct it")
        except ConfigurationError:
            raise botocore.EndpointConnectionError(endpoint_url="http://s3")  # noqa: B904

    assert isinstance(raised_by(task), botocore.EndpointConnectionError)


def test_cause_that_is_named_decides():
    @fail_at_once
    def task() -> None:
        raise AirflowException("the SDK's own") from InputError("possum.csv lacks 'taill'")

    assert str(raised_by(task)) == "possum.csv lacks 'taill'"


@pytest.mark.parametrize(
    ("message", "problem", "remedy"),
    [
        ("possum.csv lacks 'taill': add it", "possum.csv lacks 'taill'", "add it"),
        ("it refuses (HTTP 403: no: never): ask: now", "it refuses (HTTP 403: no: never)", "ask: now"),
        ("no more words", "no more words", ""),
        ("not (closed: never", "not (closed: never", ""),
    ],
)
def test_own_error_is_told_apart_into_problem_and_remedy_and_stays_as_it_is(message, problem, remedy):
    explanation = explain(InputError(message))
    assert explanation
    assert (explanation.problem, explanation.remedy) == (problem, remedy)
    assert str(explanation) == message
