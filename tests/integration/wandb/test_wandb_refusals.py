"""A server that says no, one where somebody has deleted something, and a disk that is full: what comes of it, and when.

``hasty`` as in test_wandb_faults: what is tested here is the answer and not how often the client asks.
"""

import json
from types import SimpleNamespace

import pytest

from tests.fakes.wandb_server import KEY, FakeWandb

PERMANENT, TEMPORARY = (400, 402, 403, 404, 409, 422), (429, 503)
ECHO = json.dumps({"errors": [{"message": f"no, and your key is {KEY}"}]})  # a server that gives too much away
READ_ONLY = json.dumps({"errors": [{"message": "project is read-only"}]})


@pytest.fixture(scope="module")
def refused(module_tasks, new_server, environment):
    """Runs that the server refuses to start, each with another HTTP status, and what came of each by that."""
    with new_server() as server:
        server.faults.answers |= {f"UpsertBucket r{status}": (status, ECHO) for status in PERMANENT + TEMPORARY}
        server.faults.answers["UpsertBucket r200"] = (200, ECHO)
        run_ids = [f"r{status}" for status in (200, *PERMANENT, *TEMPORARY)]
        done = module_tasks.run("starts", environment(server) | {"WANDB__GRAPHQL_RETRY_MAX": "1"}, run_ids=run_ids)
        assert done.error is None, done.log
        assert done.left_behind == []
        yield SimpleNamespace(
            server=server, log=done.log, runs={run_id: SimpleNamespace(**came) for run_id, came in done.result.items()}
        )


@pytest.mark.parametrize("status", PERMANENT)
def test_a_refused_run_fails_at_once_with_the_servers_own_words(refused, status):
    run = refused.runs[f"r{status}"]
    assert (run.error, run.retryable) == ("ConfigurationError", False)
    assert f"answered with HTTP {status} (starting the run): no, and your key is ***" in run.message
    assert "could not be reached" not in run.message


def test_an_error_in_a_good_answer_is_a_refusal_too(refused):
    assert refused.runs["r200"].error == "ConfigurationError"
    assert "no, and your key is ***" in refused.runs["r200"].message


def test_advice_names_what_may_be_wrong(refused):
    assert "WANDB_PROJECT=customer_churn, WANDB_ENTITY, which is not set" in refused.runs["r403"].message


def test_a_run_that_was_deleted_says_so_and_what_to_do(refused):
    assert "run r409 of this DAG run was deleted in W&B" in refused.runs["r409"].message
    assert "Restore it there, or trigger a new DAG run" in refused.runs["r409"].message


@pytest.mark.parametrize("status", TEMPORARY)
def test_a_server_in_trouble_is_worth_a_retry(refused, status):
    run = refused.runs[f"r{status}"]
    assert (run.error, run.retryable) == ("TrackingUnavailable", True)
    assert f"answered with HTTP {status}" in run.message


def test_key_that_the_server_sends_back_is_in_no_log(refused):
    """Nor in wandb's own, which ``module_tasks`` looks for."""
    assert "no, and your key is ***" in refused.log
    assert KEY not in refused.log


def test_a_model_that_must_not_be_published_fails_at_once(server, tasks, hasty):
    server.faults.answers["CreateArtifact"] = (422, READ_ONLY)

    trained = tasks.run("train", hasty)

    assert (trained.error, trained.retryable) == ("ConfigurationError", False)
    assert "HTTP 422 (publishing churn_classifier): project is read-only" in trained.message


@pytest.mark.faults
@pytest.mark.parametrize("what", ["file_stream", "upload"])
def test_a_run_that_the_server_stops_taking_is_not_called_finished(server, tasks, hasty, what):
    """As when somebody deletes it while the task runs; wandb itself takes no notice."""
    task = tasks.start("train", hasty, stop="before_finish")
    task.reached()
    server.faults.answers[what] = (404, json.dumps({"errors": [{"message": "no such run"}]}))
    task.go_on()

    trained = task.wait()

    assert (trained.error, trained.retryable) == ("ConfigurationError", False)
    assert "HTTP 404 (finishing the run): no such run" in trained.message
    assert "W&B run finished" not in trained.log
    assert len(list(tasks.persistent.rglob("*.wandb"))) == 1  # what there is of it is kept


@pytest.fixture(scope="module")
def published(module_tasks, new_server, environment):
    """Two DAG runs that have trained and published the same model."""
    with new_server() as server:
        online = environment(server)
        references = {
            run_id: module_tasks.run("train", online, run_id=run_id).result["reference"] for run_id in ("r1", "r2")
        }
        yield SimpleNamespace(server=server, online=online, references=references)


def test_a_later_task_of_a_deleted_run_fails_at_once(tasks, published):
    published.server.delete_run("r2")

    predicted = tasks.run("predict", published.online, run_id="r2", reference=published.references["r2"])

    assert (predicted.error, predicted.retryable) == ("ConfigurationError", False)
    assert "does not have the run r2" in predicted.message
    assert "trigger a new DAG run" in predicted.message


@pytest.mark.faults
def test_a_retry_of_the_task_that_began_a_deleted_run_fails_at_once(tasks, published):
    trained = tasks.run("train", published.online | {"WANDB__GRAPHQL_RETRY_MAX": "1"}, run_id="r2")

    assert (trained.error, trained.retryable) == ("ConfigurationError", False)
    assert "was previously created and deleted" in trained.message


@pytest.mark.parametrize(
    ("step", "answers"),
    [
        ("predict", {"download": (404, "<Error>NoSuchKey</Error>")}),
        ("mark", {}),
        ("predict", {}),
    ],
    ids=["file", "gate", "prediction"],
)
def test_a_model_that_was_deleted_is_told_from_a_server_that_is_away(tasks, published, step, answers):
    published.server.faults.answers |= answers
    if not answers:
        published.server.delete_versions("churn_classifier")
    try:
        done = tasks.run(step, published.online, reference=published.references["r1"])
    finally:
        for operation in answers:
            del published.server.faults.answers[operation]

    assert (done.error, done.retryable) == ("ModelDeleted", False)
    assert "acme/customer_churn/churn_classifier:v0 is no longer in W&B" in done.message


def test_a_certificate_that_only_python_trusts_is_no_outage(tasks, certificate):
    """wandb-core reads SSL_CERT_FILE and not REQUESTS_CA_BUNDLE."""
    with FakeWandb(KEY, certificate=certificate) as server:
        environ = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY, "REQUESTS_CA_BUNDLE": str(certificate)}
        trained = tasks.run("train", environ)

    assert (trained.error, trained.retryable) == ("ConfigurationError", False)
    assert "set both SSL_CERT_FILE and REQUESTS_CA_BUNDLE" in trained.message


@pytest.mark.faults
@pytest.mark.parametrize(("much", "largest_file"), [(3_000_000, 1_000_000), (0, 5_000)], ids=["run", "model"])
def test_a_disk_that_is_full_is_named_and_no_server_is(tasks, much, largest_file):
    trained = tasks.run("train", {}, much=much, largest_file=largest_file, model="m" * 6_000)

    assert (trained.error, trained.retryable) == ("ConfigurationError", False)
    assert str(tasks.persistent) in trained.message
    assert "WANDB_DIR" in trained.message
    assert "http" not in trained.message
