"""Classifies the errors of the clients of S3, MLflow and PostgreSQL: permanent, or worth a retry.

Bad configuration and bad requests fail the same way however often they are tried. A server that is unavailable or busy may
recover. No client is imported for this: errors are recognised by the package that defines them.
"""

import errno
import re
import tempfile
from collections.abc import Callable
from typing import NamedTuple

from include.errors import ConfigurationError, InputError, chain, first_line
from include.servers.connections import how_to_define, variable_of
from include.settings import settings


class Explanation(NamedTuple):
    """What an error means."""

    problem: str
    remedy: str
    permanent: bool  # whether a retry would fail in the same way
    joint: str = ". "

    def __str__(self) -> str:
        return self.joint.join(filter(None, (self.problem, self.remedy)))


PROBLEM_AND_REMEDY = (
    r"((?:\([^()]*\)|[^(])*?): (.*)"  # in this project's own messages, split at the first colon outside parentheses
)


def explain(error: BaseException) -> Explanation | None:
    """What the error means, according to the first error in its chain that is known; None if none is."""
    return next(filter(None, map(_explain_one, chain(error))), None)


def package_of(error: BaseException) -> str:
    """The package of the client that raised the error."""
    module = type(error).__module__
    package = "mlflow" if module == "include.mlflow_api" else module.partition(".")[0]
    return {"aiobotocore": "botocore", "boto3": "botocore"}.get(package, package)


def _explain_one(error: BaseException) -> Explanation | None:
    if isinstance(error, InputError | ConfigurationError):
        parts = re.fullmatch(PROBLEM_AND_REMEDY, str(error), re.DOTALL)
        problem, remedy = parts.groups() if parts else (str(error), "")
        return Explanation(problem, remedy, permanent=True, joint=": ")
    if isinstance(error, OSError) and (explanation := _of_this_machine(error)):
        return explanation
    return CLIENTS.get(package_of(error), _of_python)(error)


# this machine


def _of_this_machine(error: OSError) -> Explanation | None:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        full = error.filename or tempfile.gettempdir()
        return Explanation(
            f"the disk is full: {full} cannot be written ({error.strerror})", "Free some space there", False
        )
    if error.errno == errno.EROFS or (isinstance(error, PermissionError) and error.filename):
        return Explanation(f"this machine refuses: {error}", "", permanent=True)
    if isinstance(error, PermissionError):  # raised by s3fs in place of an error of botocore
        remedy = f"Check login and password of {_s3()} and its permissions"
        return Explanation(f"the object store refuses: {first_line(error)}", remedy, permanent=True)
    if str(error).startswith("Could not find a suitable TLS CA"):
        return Explanation(first_line(error), "Correct the variable that names the CA file", permanent=True)
    return None


def _of_python(error: BaseException) -> Explanation | None:
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return Explanation(first_line(error), f"Write endpoint_url of {_s3()} as http://host:port", permanent=True)
    if isinstance(error, ConnectionError | TimeoutError):  # errors further down the chain were handled
        return Explanation(first_line(error) or type(error).__name__, "", permanent=False)
    return None


def _of_airflow(error: BaseException) -> Explanation | None:
    if type(error).__name__ != "AirflowNotFoundException":
        return None
    ids = (settings.aws_conn_id, settings.mlflow_conn_id, settings.postgres_conn_id)
    conn_id = next((id_ for id_ in ids if id_ in str(error)), "<ID>")
    return Explanation(str(error), how_to_define(conn_id), permanent=True, joint=": ")


def _named(conn_id: str) -> str:
    return f"connection {conn_id} ({variable_of(conn_id)})"


def _first(*rules: tuple[bool, str, str, bool]) -> Explanation | None:
    """The explanation of the first rule whose condition holds; a rule is condition, problem, remedy, permanent."""
    for holds, problem, remedy, permanent in rules:
        if holds:
            return Explanation(problem, remedy, permanent)
    return None


def _bad_tls(error: BaseException, kind: str) -> bool:
    """Whether certificates or protocols do not match, rather than the connection being interrupted."""
    words = r"certificate[ _]verify[ _]failed|hostname mismatch|doesn't match|wrong[ _]version[ _]number|unsupported protocol"
    alerts = r"unknown[ _]ca|certificate[ _]required|bad[ _]certificate"
    return kind == "SSLError" and bool(re.search(f"{words}|{alerts}", str(error), re.IGNORECASE))


def _proxy(error: BaseException, server: str) -> Explanation:
    """A proxy that answers with a 4xx status refuses for good; one that does not answer may be restarting."""
    refused = re.search(r"Tunnel connection failed: (\d+ [\w ]+)", str(error))
    said = f"refuses ({refused[1].strip()})" if refused else f"does not answer: {first_line(error)}"
    permanent = refused is not None and refused[1].startswith("4")
    remedy = "Correct HTTP_PROXY and HTTPS_PROXY, or name the server in NO_PROXY"
    return Explanation(f"the proxy in front of {server} {said}", remedy, permanent)


# S3

S3_REFUSALS = {"403", "AccessDenied", "Forbidden", "RequestTimeTooSkewed"}
S3_LOGIN_REFUSALS = {
    "401",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidToken",
    "SignatureDoesNotMatch",
}
# What is wrong with a bucket, by the server's error code; object_store.about_bucket adds the bucket and its variable
BUCKET_PROBLEMS = {
    "BucketAlreadyExists": "belongs to somebody else",
    "InvalidBucketName": "has a name that the server does not accept",
    "TooManyBuckets": "cannot be made, as the account has as many buckets as it may have",
    "301": "is in another region or at another endpoint",
    "PermanentRedirect": "is in another region or at another endpoint",
    "AuthorizationHeaderMalformed": "is in another region or at another endpoint",
    "IllegalLocationConstraintException": "cannot be made in this region by this endpoint",
    "InvalidLocationConstraint": "cannot be made in this region by this endpoint",
}
# requests that the server will never accept
S3_BAD_REQUESTS = {
    "400",
    "BadRequest",
    "InvalidArgument",
    "InvalidRequest",
    "InvalidURI",
    "KeyTooLongError",
    "MethodNotAllowed",
    "NoSuchBucket",
}


def s3_code(error: BaseException) -> str:
    """The S3 server's error code, such as NoSuchBucket, from the first error in the chain that has one."""
    for each in chain(error):
        if package_of(each) == "botocore":
            if code := (getattr(each, "response", None) or {}).get("Error", {}).get("Code"):
                return str(code)
            if type(each).__name__ == "ParamValidationError" and "bucket name" in str(each):
                return "InvalidBucketName"
    return ""


def _s3() -> str:
    return _named(settings.aws_conn_id)


def _of_s3(error: BaseException) -> Explanation | None:
    said, kind = first_line(error), type(error).__name__
    response = getattr(error, "response", None) or {}
    code = str(response.get("Error", {}).get("Code", ""))
    in_trouble = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500 or code == "SlowDown"
    no_login = code in S3_LOGIN_REFUSALS or "Credentials" in kind or kind in ("ProfileNotFound", "TokenRetrievalError")
    bad_request = code in BUCKET_PROBLEMS or code in S3_BAD_REQUESTS or kind == "ParamValidationError"
    broken_off = kind in ("EndpointConnectionError", "ConnectionClosedError", "SSLError") or "Timeout" in kind
    login = f"Check login and password of {_s3()}"
    ca_file = f'Write the path of its CA file as "verify" in extra of {_s3()}, or set AWS_CA_BUNDLE'
    if kind == "ProxyConnectionError":
        return _proxy(error, "the object store")
    return _first(
        (no_login, f"the object store does not accept the login: {said}", login, True),
        (code in S3_REFUSALS, f"the object store refuses: {said}", f"{login} and its permissions", True),
        (bad_request, f"the object store rejects the request: {said}", f"Check bucket, key and {_s3()}", True),
        (_bad_tls(error, kind), f"the object store's certificate is not accepted: {said}", ca_file, True),
        (in_trouble, f"the object store is in trouble: {said}", f"Look at the server of {_s3()}", False),
        (broken_off, f"the object store does not answer: {said}", f"Look at the endpoint_url of {_s3()}", False),
    )


# MLflow

MLFLOW_REFUSALS = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
MLFLOW_BAD_REQUESTS = {"BAD_REQUEST", "INVALID_PARAMETER_VALUE", "MALFORMED_REQUEST", "FEATURE_DISABLED"}


def _mlflow() -> str:
    return _named(settings.mlflow_conn_id)


def _of_mlflow(error: BaseException) -> Explanation | None:
    """None for INTERNAL_ERROR: the client uses it to wrap other errors, which come next in the chain."""
    said = first_line(error)
    code = str(
        getattr(error, "error_code", "") or getattr(error, "code", "")
    )  # of MLflow's client, or of MLflowApiError
    host = (
        "; with 'Invalid Host header' add the host to the server's --allowed-hosts"
        if "host header" in said.lower()
        else ""
    )
    missing = code == "RESOURCE_DOES_NOT_EXIST" and type(error).__name__ == "MLflowApiError"
    old = code in ("ENDPOINT_NOT_FOUND", "NOT_IMPLEMENTED")
    # another attempt of the task has deleted the run: the next attempt makes its own
    bad_request = code in MLFLOW_BAD_REQUESTS and "must be in the 'active' state" not in str(error)
    return _first(
        (code in MLFLOW_REFUSALS, f"MLflow refuses: {said}", f"Check login and password of {_mlflow()}{host}", True),
        (old, f"the MLflow server is too old: {said}", f"Use a server of MLflow 3, or correct {_mlflow()}", True),
        (
            missing,
            f"MLflow does not have what was asked for: {said}",
            "Run the DAG that makes it: feature_eng the experiment, train models",
            True,
        ),
        (bad_request, f"MLflow rejects the request: {said}", "", True),
    )


def _of_requests(error: BaseException) -> Explanation | None:
    said, kind = first_line(error), type(error).__name__
    bad_address = kind in ("InvalidURL", "InvalidSchema", "MissingSchema", "InvalidHeader")
    broken_off = kind in ("ConnectionError", "SSLError", "ChunkedEncodingError") or "Timeout" in kind
    ca_file = (
        f'Write the path of its CA file as "verify" in extra of {_mlflow()}, or set MLFLOW_TRACKING_SERVER_CERT_PATH'
    )
    if kind == "ProxyError":
        return _proxy(error, "MLflow")
    return _first(
        (bad_address, f"MLflow cannot be called: {said}", f"Correct host, login and password of {_mlflow()}", True),
        (kind == "InvalidProxyURL", f"MLflow cannot be called: {said}", "Correct HTTP_PROXY and HTTPS_PROXY", True),
        (_bad_tls(error, kind), f"MLflow's certificate is not accepted: {said}", ca_file, True),
        (broken_off, f"MLflow does not answer: {said}", f"Look at the host of {_mlflow()}", False),
    )


# PostgreSQL

# what libpq and psycopg say if it cannot connect; these errors have no code
POSTGRES_OPTIONS = (
    r"does not support SSL|certificate|sslmode|invalid connection option|private key|(invalid|bad) .*value"
)
POSTGRES_LOGIN_REFUSALS = r"authentication failed|no password supplied|role .* does not exist|not permitted to log in"
POSTGRES_REFUSALS = r"no pg_hba.conf entry|permission denied|does not exist|unsupported startup parameter"
POSTGRES_BAD_REQUESTS = (
    "22",
    "23",
    "42",
    "0A",
)  # classes of SQLSTATE: data, constraints, syntax and names, unsupported
# two sessions create the same thing at once: the next attempt finds it
POSTGRES_RACES = ("42P01", "42P06", "42P07", "42710")


def _of_postgres(error: BaseException) -> Explanation | None:
    said, name = first_line(error), _named(settings.postgres_conn_id)
    code = str(getattr(error, "sqlstate", None) or "")

    def start(pattern: str) -> bool:
        return not code and bool(re.search(pattern, said))

    refused = code in ("42501", "3F000") or start(POSTGRES_REFUSALS)
    race = code in POSTGRES_RACES or (code == "23505" and "pg_" in said)
    unavailable = type(error).__name__ in ("OperationalError", "InterfaceError")
    options = f"Correct extra of {name}: sslmode, sslrootcert (the CA file), and other options of libpq"
    return _first(
        (start(POSTGRES_OPTIONS), f"PostgreSQL cannot be reached with these options: {said}", options, True),
        (
            start(POSTGRES_LOGIN_REFUSALS),
            f"PostgreSQL does not accept the login: {said}",
            f"Check login and password of {name}",
            True,
        ),
        (
            start("database .* does not exist"),
            f"PostgreSQL has no such database: {said}",
            f"Make it, or correct the schema of {name}, which names the database",
            True,
        ),
        (refused, f"PostgreSQL refuses: {said}", f"Check login, password and rights of {name}", True),
        (
            code == "53100",
            f"the disk of the PostgreSQL server is full: {said}",
            f"Free some space there: {name}",
            False,
        ),
        (code[:2] in POSTGRES_BAD_REQUESTS and not race, f"PostgreSQL rejects the statement: {said}", "", True),
        (unavailable, f"PostgreSQL does not answer: {said}", f"Look at host and port of {name}", False),
    )


CLIENTS: dict[str, Callable[[BaseException], Explanation | None]] = {
    "airflow": _of_airflow,
    "botocore": _of_s3,
    "mlflow": _of_mlflow,
    "requests": _of_requests,
    "psycopg": _of_postgres,
}
