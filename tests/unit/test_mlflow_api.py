"""The REST helpers against an HTTP server that answers like MLflow."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_plus

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from include import mlflow_api
from include.errors import ConfigurationError, InputError
from include.mlflow_api import MLflowApiError, call_mlflow, quoted
from include.mlflow_experiment import (
    create_or_restore_experiment,
    get_experiment_id,
    is_usable,
    list_experiments,
    require_experiment_id,
)
from include.mlflow_registry import MoveToStageOperator, find_model_version, list_registered_models
from tests.fakes.http_server import Request, Response, answering

DELETED = {"experiment_id": "7", "name": "Possum_tails", "lifecycle_stage": "deleted"}
ACTIVE = DELETED | {"lifecycle_stage": "active"}


class Server:
    """Answers each endpoint with what the test has laid down, and keeps the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.requests: list[tuple[str, dict]] = []

    def answer(self, request: Request) -> Response:
        endpoint = request.path.removeprefix("/api/2.0/mlflow/")
        body = json.loads(request.get_data() or b"{}")
        self.requests.append((endpoint, body or {"query": request.query_string.decode()}))
        status, answer = self.answers.get(endpoint, (404, {"error_code": "ENDPOINT_NOT_FOUND"}))
        return Response(answer if isinstance(answer, str) else json.dumps(answer), status)


@pytest.fixture
def mlflow(monkeypatch) -> Iterator[Server]:
    server = Server()
    with answering(server.answer) as url:
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http", "host": url}))
        yield server


def error(code: str, status: int = 400) -> tuple[int, dict]:
    return status, {"error_code": code, "message": f"it is {code}"}


@pytest.mark.parametrize("status", [401, 403])
def test_refused_login_is_a_configuration_error_that_names_connection_and_host_check(mlflow, status):
    mlflow.answers["experiments/search"] = (status, "Invalid Host header")
    with pytest.raises(ConfigurationError, match=rf"HTTP {status}.*mlflow_default.*--allowed-hosts"):
        call_mlflow("POST", "experiments/search")


def test_error_carries_mlflows_code(mlflow):
    mlflow.answers["experiments/create"] = error("RESOURCE_ALREADY_EXISTS")
    with pytest.raises(MLflowApiError, match="experiments/create with HTTP 400") as caught:
        call_mlflow("POST", "experiments/create")
    assert caught.value.code == "RESOURCE_ALREADY_EXISTS"


def test_error_that_is_no_json_has_no_code(mlflow):
    mlflow.answers["experiments/create"] = (502, "<html>Bad Gateway</html>")
    with pytest.raises(MLflowApiError, match="Bad Gateway") as caught:
        call_mlflow("POST", "experiments/create")
    assert caught.value.code == ""


def test_experiments_are_listed_with_the_deleted_ones(mlflow):
    mlflow.answers["experiments/search"] = (200, {"experiments": [ACTIVE | {"artifact_location": "s3://b/"}]})
    assert list_experiments("Possum's") == [ACTIVE]
    assert mlflow.requests[0][1]["filter"] == 'name = "Possum\'s"'
    assert mlflow.requests[0][1]["view_type"] == "ALL"


def test_no_experiments_is_an_empty_list(mlflow):
    mlflow.answers["experiments/search"] = (200, {})
    assert list_experiments("Possum_tails") == []


@pytest.mark.parametrize(
    ("existing", "usable"),
    [([], False), ([ACTIVE], True), ([DELETED], False), ([ACTIVE | {"name": "Other"}], False)],
)
def test_experiment_is_usable_when_it_is_there_and_not_deleted(existing, usable):
    assert is_usable(existing, "Possum_tails") is usable


def test_experiment_is_created_with_its_artifact_location(mlflow):
    mlflow.answers["experiments/create"] = (200, {"experiment_id": "9"})
    assert create_or_restore_experiment([], "Possum_tails", "s3://bucket/") == "9"
    assert mlflow.requests == [
        ("experiments/create", {"name": "Possum_tails", "artifact_location": "s3://bucket/"}),
    ]


def test_deleted_experiment_is_restored(mlflow):
    mlflow.answers["experiments/restore"] = (200, {})
    assert create_or_restore_experiment([DELETED], "Possum_tails", "s3://bucket/") == "7"
    assert mlflow.requests == [("experiments/restore", {"experiment_id": "7"})]


def test_experiment_that_another_run_has_just_restored_is_taken(mlflow):
    mlflow.answers["experiments/restore"] = error("RESOURCE_DOES_NOT_EXIST", 404)
    assert create_or_restore_experiment([DELETED], "Possum_tails", "s3://bucket/") == "7"


def test_experiment_that_another_run_has_just_made_is_taken(mlflow):
    mlflow.answers["experiments/create"] = error("RESOURCE_ALREADY_EXISTS")
    mlflow.answers["experiments/get-by-name"] = (200, {"experiment": ACTIVE})
    assert create_or_restore_experiment([], "Possum_tails", "s3://bucket/") == "7"


@pytest.mark.parametrize("endpoint", ["restore", "create"])
def test_other_errors_are_raised_for_the_retries(mlflow, endpoint):
    mlflow.answers[f"experiments/{endpoint}"] = error("INTERNAL_ERROR", 500)
    with pytest.raises(MLflowApiError, match="INTERNAL_ERROR"):
        create_or_restore_experiment([DELETED] if endpoint == "restore" else [], "Possum_tails", "s3://bucket/")


def test_missing_experiment_is_an_error(mlflow):
    mlflow.answers["experiments/get-by-name"] = error("RESOURCE_DOES_NOT_EXIST", 404)
    with pytest.raises(MLflowApiError, match="RESOURCE_DOES_NOT_EXIST"):
        get_experiment_id("Possum_tails")


@pytest.mark.parametrize(("answer", "names"), [({}, []), ({"registered_models": [{"name": "m"}]}, ["m"])])
def test_registered_models_are_listed_by_name(mlflow, answer, names):
    mlflow.answers["registered-models/search"] = (200, answer)
    assert list_registered_models("m") == names


def test_oldest_version_of_a_run_is_found_by_number_and_not_by_text(mlflow):
    mlflow.answers["model-versions/search"] = (200, {"model_versions": [{"version": "10"}, {"version": "9"}]})
    assert find_model_version("m", "run") == {"version": "9"}


def test_run_without_version_has_none(mlflow):
    mlflow.answers["model-versions/search"] = (200, {})
    assert find_model_version("m", "run") is None


@pytest.mark.parametrize("name", ["Possum_tails", "Possum's", 'the "best"', "a''b", "per cent %", "back\\slash"])
def test_name_in_a_search_is_read_by_mlflow_as_it_is(name):
    from mlflow.utils.search_utils import SearchExperimentsUtils, SearchModelUtils, SearchModelVersionUtils, SearchUtils

    for parser in (SearchExperimentsUtils, SearchModelUtils, SearchModelVersionUtils):
        (condition,) = parser.parse_search_filter(f"name = {quoted(name)}")
        assert condition["value"] == name
    (condition,) = SearchUtils.parse_search_filter(f"tags.`airflow.task` = {quoted(name)}")
    assert condition["value"] == name


def test_name_with_both_kinds_of_quotes_is_refused():
    with pytest.raises(InputError, match="both kinds of quotes"):
        quoted("""the "best" possum's""")


@pytest.mark.parametrize(
    "search", [list_experiments, list_registered_models, lambda name: find_model_version(name, "run")]
)
def test_every_search_quotes_its_name(mlflow, search):
    for endpoint in ("experiments/search", "registered-models/search", "model-versions/search"):
        mlflow.answers[endpoint] = (200, {})
    search("Possum's")
    assert "Possum's" in unquote_plus(str(mlflow.requests[0][1]).replace("\\'", "'"))
    assert "Possum''s" not in unquote_plus(str(mlflow.requests[0][1]))


@pytest.mark.parametrize("status", [200, 302, 400, 404, 405])
def test_other_web_server_is_no_mlflow(mlflow, status):
    mlflow.answers["experiments/search"] = (status, "<html>Welcome to nginx</html>")
    with pytest.raises(ConfigurationError, match=rf"is no MLflow server \(HTTP {status}.*connection mlflow_default"):
        call_mlflow("POST", "experiments/search")


def test_proxy_that_wants_a_login_is_named(mlflow):
    mlflow.answers["experiments/search"] = (407, "log in")
    with pytest.raises(ConfigurationError, match=r"proxy in front of MLflow.*HTTP_PROXY"):
        call_mlflow("POST", "experiments/search")


def test_server_that_never_answers_is_given_up(monkeypatch):
    import socket

    import requests

    monkeypatch.setattr(mlflow_api, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(requests.Timeout):
            call_mlflow("POST", "experiments/search")


def test_stage_is_changed_by_the_same_way_as_everything_else(mlflow):
    mlflow.answers["model-versions/transition-stage"] = (200, {"model_version": {"name": "m", "version": "3"}})
    operator = MoveToStageOperator(
        task_id="move", name="m", version="3", stage="Staging", archive_existing_versions=True
    )
    assert operator.execute(Context())["model_version"]["version"] == "3"
    wanted = {"name": "m", "version": "3", "stage": "Staging", "archive_existing_versions": True}
    assert mlflow.requests == [("model-versions/transition-stage", wanted)]


def test_operators_fail_at_once_where_mlflow_refuses_the_login(mlflow):
    mlflow.answers["model-versions/transition-stage"] = (401, "log in")
    operator = MoveToStageOperator(task_id="move", name="m", version="3", stage="Staging")
    with pytest.raises(AirflowFailException, match=r"HTTP 401.*connection mlflow_default"):
        operator.execute(Context())


@pytest.mark.parametrize("found", [[], [DELETED]], ids=["none", "deleted"])
def test_training_without_a_usable_experiment_is_refused_with_what_brings_it_back(mlflow, found):
    mlflow.answers["experiments/search"] = (200, {"experiments": found})
    with pytest.raises(InputError, match="no experiment Possum_tails, or it is deleted: trigger feature_eng"):
        require_experiment_id("Possum_tails")


def test_training_takes_the_experiment_that_is_there(mlflow):
    mlflow.answers["experiments/search"] = (200, {"experiments": [ACTIVE]})
    mlflow.answers["experiments/get-by-name"] = (200, {"experiment": ACTIVE})
    assert require_experiment_id("Possum_tails") == "7"
