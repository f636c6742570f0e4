"""What goes wrong at the server: each task ends in bounded time, says what it was, and leaves no process behind.

The bounds are in seconds of a whole process. Where a test waits for a time-out its task is ``hasty``: a task's own bounds
are wider (``_BOUNDS`` in include.wandb_tracking).
"""

import socket
import time
from types import SimpleNamespace

import pytest


def test_wrong_key(tasks, online):
    trained = tasks.run("train", {**online, "WANDB_API_KEY": "f" * 40})

    assert trained.error == "ConfigurationError"
    assert "WANDB_API_KEY" in trained.message
    assert "https://wandb.ai/authorize" in trained.message
    assert trained.seconds < 30
    assert trained.left_behind == []


def test_a_key_that_cannot_be_one_is_not_shown(tasks, online):
    trained = tasks.run("train", {**online, "WANDB_API_KEY": "my-secret-word"})

    assert trained.error == "ConfigurationError"
    assert "my-secret-word" not in trained.log
    assert trained.left_behind == []


@pytest.mark.parametrize(
    ("url", "seconds"),
    # a resolver that drops packets takes 10 s and more for each look-up
    [("http://127.0.0.1:9", 20), ("http://no-such-host.invalid", 60)],
    ids=["closed-port", "unknown-host"],
)
def test_server_away(tasks, online, url, seconds):
    trained = tasks.run("train", {**online, "WANDB_BASE_URL": url})

    assert trained.error == "TrackingUnavailable"
    assert trained.retryable
    assert url in trained.message
    assert trained.seconds < seconds
    assert trained.left_behind == []


@pytest.mark.faults
def test_server_accepts_but_never_answers(tasks, online):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        trained = tasks.run("train", {**online, "WANDB_BASE_URL": url})

    assert trained.error == "TrackingUnavailable"
    assert url in trained.message
    assert trained.seconds < 30
    assert trained.left_behind == []


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["before_publish", "before_finish"])
def test_server_dies_during_the_run(server, tasks, hasty, moment):
    task = tasks.start("train", hasty, stop=moment)
    task.reached()
    server.die()
    task.go_on()

    trained = task.wait()

    assert trained.error == "TrackingUnavailable"
    assert trained.retryable
    assert server.url in trained.message
    assert trained.seconds < 30
    assert trained.left_behind == []
    assert len(list(tasks.persistent.rglob("*.wandb"))) == 1  # what could not be uploaded is kept


def test_server_dies_while_the_model_is_published(server, tasks, hasty):
    server.faults.die_at = "CommitArtifact"

    trained = tasks.run("train", hasty)

    assert trained.error == "TrackingUnavailable"
    assert "publishing churn_classifier" in trained.message
    assert trained.seconds < 30
    assert trained.left_behind == []


@pytest.mark.faults
def test_an_upload_that_hangs_is_given_up(server, tasks, hasty):
    server.faults.hang_uploads = True

    trained = tasks.run("train", hasty, timeout=5)

    assert trained.error == "TrackingUnavailable"
    assert trained.retryable
    assert "publishing churn_classifier" in trained.message
    assert trained.seconds < 60
    assert trained.left_behind == []
    assert server.versions("churn_classifier") == []
    assert len(list(tasks.persistent.rglob("*.wandb"))) == 1  # what could not be uploaded is kept


def test_a_killed_task_leaves_no_process_although_the_server_is_dead(server, tasks, hasty):
    task = tasks.start("train", hasty, stop="before_finish")
    task.reached()
    assert len(task.processes_left(grace=0)) > 1  # its own and wandb's, so whatever is left would be found
    server.die()
    task.kill()

    assert task.processes_left(grace=10) == []


@pytest.fixture(scope="module")
def published(module_tasks, new_server, environment):
    """A model that was trained and published; each test may switch faults on."""
    with new_server() as server:
        online = environment(server)
        yield SimpleNamespace(
            server=server, online=online, reference=module_tasks.run("train", online).result["reference"]
        )


@pytest.fixture
def faults(published):
    yield published.server.faults
    published.server.faults.hang_downloads = False
    published.server.faults.tampered.clear()


@pytest.mark.faults
def test_a_download_that_hangs_is_given_up(tasks, published, faults):
    faults.hang_downloads = True

    predicted = tasks.run("predict", published.online, reference=published.reference, timeout=5)

    assert predicted.error == "TrackingUnavailable"
    assert "within 5 s" in predicted.message
    assert predicted.seconds < 25
    assert predicted.left_behind == []


@pytest.mark.faults
def test_a_download_ends_by_itself_when_its_task_was_killed(tasks, published, faults):
    faults.hang_downloads = True
    asked_before = len(published.server.downloads)
    task = tasks.start("predict", published.online, reference=published.reference, timeout=20)
    while len(published.server.downloads) == asked_before:
        assert task.process.is_alive()
        time.sleep(0.02)
    task.kill()

    assert task.processes_left(grace=0) != []
    assert task.processes_left(grace=40) == []


def test_a_model_that_was_tampered_with_is_refused(tasks, published, faults):
    faults.tampered["model.skops"] = b"evil"

    predicted = tasks.run("predict", published.online, reference=published.reference)

    assert predicted.error == "InputError"
    assert "model.skops" in predicted.message


def test_a_version_that_is_not_what_train_published_is_refused(tasks, published):
    predicted = tasks.run("predict", published.online, reference={**published.reference, "digest": "0" * 32})

    assert predicted.error == "InputError"
    assert "its digest differs" in predicted.message
