"""Errors of wandb, made by hand, and what the user is told of each; those of the real client: tests/integration/wandb."""

import base64
import errno
import json
import os
import traceback
from types import SimpleNamespace

import pytest
import requests
from pydantic import BaseModel, ValidationError
from wandb.errors import AuthenticationError, CommError, UsageError
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from include.errors import ConfigurationError, InputError
from include.wandb_tracking.core_log import last_retried, not_saved, not_uploaded, rewrite, why_no_start
from include.wandb_tracking.errors import (
    ModelDeleted,
    TrackingUnavailable,
    existing,
    explained,
    explanation,
    without_key,
)
from include.wandb_tracking.target import tracking_target

KEY = "k" * 40
SERVER = "http://server"
UNREACHABLE = f"{SERVER} could not be reached or did not answer in time (testing)"
GAVE_UP = f"POST {SERVER}/graphql giving up after 3 attempt(s)"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)


@pytest.fixture
def online():
    return tracking_target({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": SERVER})


@pytest.fixture
def offline():
    return tracking_target({})


def write_log(place, *entries):
    log = place / "wandb" / "run-1-r1" / "logs" / "debug-internal.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"time": f"2026-11-27T00:00:0{number}Z", **entry}) for number, entry in enumerate(entries)]
    log.write_text("\n".join([*lines, "no JSON", '{"torn": ']))
    return log


def caused(error, cause):
    error.__cause__ = cause
    return error


def api_failure(status, message="said the server"):
    failure = WandbApiFailedError(message, SimpleNamespace(http_status=status, message=message))
    return caused(CommError(message, failure), failure)


def not_found():
    return CommError("project 'p' not found under entity 'e'", ValueError("project 'p' not found under entity 'e'"))


PERMANENT = [
    (api_failure(403), "HTTP 403"),
    (api_failure(401), "Check WANDB_API_KEY"),
    (AuthenticationError("API key verification failed"), "Check WANDB_API_KEY"),
    (
        CommError('returned error 422: {"errors": [{"message": "project is read-only"}]}'),
        "HTTP 422 .*: project is read-only",
    ),
    (CommError("input: upsertBucket permission denied\n"), "upsertBucket permission denied"),
    (UsageError("Invalid project name"), "Invalid project name"),
    (ValueError("Artifact name may only contain"), "Artifact name may only contain"),
    (TypeError("Unsupported type"), "Unsupported type"),
    (
        CommError(f"{GAVE_UP}: tls: failed to verify certificate: x509: unknown authority"),
        "set both SSL_CERT_FILE and REQ",
    ),
]
TEMPORARY = [
    (api_failure(429), "HTTP 429"),
    (api_failure(500), "HTTP 500"),
    (api_failure(500, "no space left on device"), "HTTP 500"),  # on the server's
    (CommError("returned error 503: upstream"), "HTTP 503 .*: upstream"),
    (CommError(f"{GAVE_UP}: dial tcp: connection refused"), UNREACHABLE),
    (CommError(GAVE_UP), UNREACHABLE),
    (CommError("stalled at byte 404 of 512"), UNREACHABLE),
    (CommError("read 403 rows, then permission to wait was not found"), UNREACHABLE),
    (TimeoutError("Timed out finishing run."), UNREACHABLE),
    (caused(AuthenticationError("An error occurred while verifying"), CommError("connection refused")), UNREACHABLE),
    (requests.ConnectionError(OSError(errno.EACCES, "Permission denied")), UNREACHABLE),
    (ConnectionResetError("Connection lost"), "wandb could not record the run"),  # to wandb-core
]


@pytest.mark.parametrize(("error", "said"), PERMANENT, ids=lambda value: repr(value)[:60])
def test_what_a_retry_cannot_fix_fails_at_once(error, said, online, tmp_path):
    told = explanation(error, online, "testing", tmp_path)
    assert isinstance(told, ConfigurationError)
    with pytest.raises(ConfigurationError, match=said):
        raise told
    assert "could not be reached" not in str(told)


@pytest.mark.parametrize(("error", "said"), TEMPORARY, ids=lambda value: repr(value)[:60])
def test_what_may_pass_is_worth_a_retry(error, said, online, tmp_path):
    told = explanation(error, online, "testing", tmp_path)
    assert isinstance(told, TrackingUnavailable)
    with pytest.raises(TrackingUnavailable, match=said.replace("(", r"\(").replace(")", r"\)")):
        raise told


DISK = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    PermissionError(errno.EACCES, "Permission denied", "/runs/x"),
    OSError(errno.EROFS, "Read-only file system", "/runs/x"),
    OSError(errno.ENAMETOOLONG, "File name too long", "/runs/x"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "/runs/x"),
    caused(CommError("failed"), OSError(errno.ENOSPC, "No space left on device")),
    CommError("writer: write /runs/r.wandb: no space left on device"),
]


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize("error", DISK, ids=repr)
def test_a_disk_that_cannot_be_written_is_named_and_no_server_is(error, mode, request, tmp_path):
    told = explanation(error, request.getfixturevalue(mode), "testing", tmp_path)
    assert isinstance(told, ConfigurationError)
    assert f"{tmp_path} cannot be written (testing)" in str(told)
    assert "WANDB_DIR" in str(told)
    assert SERVER not in str(told)


@pytest.mark.parametrize("error", [each for each, _ in PERMANENT + TEMPORARY], ids=lambda value: repr(value)[:60])
def test_nothing_names_a_server_offline(error, offline, tmp_path):
    said = str(explanation(error, offline, "testing", tmp_path))
    for words in ("api.wandb.ai", "could not be reached", "WANDB_BASE_URL", "WANDB_API_KEY"):
        assert words not in said


def test_a_setting_that_wandb_cannot_read_is_named_as_it_is_in_the_environment(monkeypatch, offline, tmp_path):
    class Settings(BaseModel):
        x_graphql_timeout_seconds: float

    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "ten")
    with pytest.raises(ValidationError) as raised:
        Settings(x_graphql_timeout_seconds="ten")

    told = explanation(raised.value, offline, "starting the run", tmp_path)

    assert isinstance(told, ConfigurationError)
    assert "WANDB_HTTP_TIMEOUT=ten: Input should be a valid number" in str(told)


def test_a_setting_that_wandb_fails_to_read_is_named_too(monkeypatch, offline, tmp_path):
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "ten")
    error = ValueError("invalid literal for int() with base 10: 'ten'")
    assert "Check WANDB_HTTP_TIMEOUT" in str(explanation(error, offline, "starting the run", tmp_path))


def test_the_reason_that_wandb_hides_comes_from_its_log(online, tmp_path):
    retried = {"msg": "api: retrying HTTP error", "url": f"{SERVER}/graphql", "status": 409, "body": "gone"}
    other = {**retried, "url": f"{SERVER}/files/file_stream", "status": 503}
    write_log(tmp_path, {**retried, "status": 500}, retried, other)

    assert "HTTP 409 (testing): gone" in str(explanation(CommError(GAVE_UP), online, "testing", tmp_path))
    # here the log's answers are not the reason
    refused = CommError(f"{GAVE_UP}: dial tcp: connection refused")
    assert isinstance(explanation(refused, online, "testing", tmp_path), TrackingUnavailable)


def test_what_wandb_core_logs_is_read(tmp_path):
    assert (why_no_start(tmp_path), last_retried(tmp_path, SERVER), not_uploaded(tmp_path), not_saved(tmp_path)) == (
        None,
    ) * 4
    write_log(
        tmp_path,
        {"msg": "runupserter: failed to init run", "error": "returned error 403: {}"},
        {"msg": "runupserter: failed to upload changes", "error": "returned error 404: {}"},
        {"msg": "writer: failed to save record: no space left on device"},
    )
    assert why_no_start(tmp_path) == "returned error 403: {}"
    assert not_uploaded(tmp_path) == "runupserter: failed to upload changes: returned error 404: {}"
    assert not_saved(tmp_path) == "writer: failed to save record: no space left on device"


@pytest.mark.parametrize("secret", [KEY, base64.b64encode(f"api:{KEY}".encode()).decode()], ids=["key", "header"])
def test_the_key_is_in_no_message_no_traceback_and_no_log(online, tmp_path, secret):
    log = write_log(tmp_path, {"msg": "api: HTTP error", "body": f"your key is {secret}"})
    with pytest.raises(ConfigurationError, match=r"401 for \*\*\*") as raised, explained(online, "testing", tmp_path):
        raise UsageError("an error occurred") from RuntimeError(f"401 for {secret}")
    rewrite(tmp_path, without_key)

    assert secret not in "".join(traceback.format_exception(raised.value))
    assert secret not in log.read_text()
    assert "your key is ***" in log.read_text()


def test_no_part_of_the_key_is_in_a_message_that_is_cut(online, tmp_path):
    for blanks in range(250, 310):
        said = str(explanation(CommError(f"returned error 403: {'x' * blanks}{KEY}"), online, "testing", tmp_path))
        assert "kkk" not in said


def test_an_error_without_the_key_keeps_its_cause(online, tmp_path):
    with pytest.raises(ConfigurationError) as raised, explained(online, "testing", tmp_path):
        raise UsageError("wrong")
    assert isinstance(raised.value.__cause__, UsageError)


@pytest.mark.parametrize(
    "error", [TimeoutError("the database"), ValueError("of a table"), OSError("of a bucket")], ids=repr
)
def test_an_error_of_somebody_else_is_not_blamed_on_wandb(online, tmp_path, error):
    with pytest.raises(type(error), match=str(error)), explained(online, "tracking", tmp_path, of_others=True):
        raise error


@pytest.mark.parametrize(
    "error", [InputError("x"), ConfigurationError("x"), TrackingUnavailable("x"), KeyError("ours")]
)
def test_what_is_explained_already_or_is_a_mistake_of_ours_stays_as_it_is(online, tmp_path, error):
    with pytest.raises(type(error)) as raised, explained(online, "testing", tmp_path):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("error", [not_found(), api_failure(404), api_failure(410)], ids=repr)
def test_a_version_that_the_server_does_not_have_was_deleted(online, tmp_path, error):
    with (
        pytest.raises(ModelDeleted, match="e/p/m:v3 is no longer in W&B"),
        explained(online, "using e/p/m:v3", tmp_path),
        existing("e/p/m:v3"),
    ):
        raise error


@pytest.mark.parametrize("error", [api_failure(403), api_failure(503), CommError(GAVE_UP)], ids=repr)
def test_a_version_that_cannot_be_had_now_was_not_deleted(online, tmp_path, error):
    with (
        pytest.raises((ConfigurationError, TrackingUnavailable)),
        explained(online, "x", tmp_path),
        existing("e/p/m:v3"),
    ):
        raise error


def test_wandbs_words_for_a_full_disk_are_those_of_this_system():
    """The message of Go, in which wandb-core is written, as ``explanation`` looks for it."""
    assert os.strerror(errno.ENOSPC).lower() == "no space left on device"
