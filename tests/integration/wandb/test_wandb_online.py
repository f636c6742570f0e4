"""Train and predict against a server, as two processes: what arrives there, and what comes back."""

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def trip(module_tasks, new_server, environment):
    """Train; meanwhile another run publishes a newer version; predict; a second try of train."""
    with new_server() as server:
        online = environment(server)
        trained = module_tasks.run("train", online)
        other = module_tasks.run("train", online, run_id="r2", model="another")
        predicted = module_tasks.run("predict", online, reference=trained.result["reference"])
        assert (trained.error, other.error, predicted.error) == (None, None, None)
        yield SimpleNamespace(
            server=server, online=online, trained=trained, predicted=predicted, persistent=module_tasks.persistent
        )


def test_predict_uses_the_very_model_of_train_although_latest_moved(trip):
    first, second = trip.server.versions("churn_classifier")
    assert trip.predicted.result["same"]
    assert second.aliases == ["latest"]
    assert (first.used_by, second.used_by) == (["r1"], [])
    assert sorted(trip.server.downloads) == ["card.json", "model.skops"]  # from the server, not out of a cache


def test_predict_continues_the_run_of_train(trip):
    run = trip.server.run("r1")
    assert trip.predicted.result["link"] == trip.trained.result["link"]
    assert (run.summary["baseline"], run.summary["predictions"]) == (0.5, 100)
    assert [row["_step"] for row in run.history] == [0, 1, 2]
    assert (run.job_type, run.state) == ("train", "finished")


def test_train_uploads_config_metrics_and_plots(trip, png):
    run = trip.server.run("r1")
    assert run.config == {"n_estimators": 100, "test_share": 0.3}
    assert run.history[0]["auc"] == 0.75
    assert run.files[run.history[1]["roc"]["path"]] == png
    assert (run.group, run.tags) == ("g", ["churn"])
    assert run.output == ""  # the task's log stays with Airflow


def test_train_publishes_the_model(trip, model):
    published, _ = trip.server.versions("churn_classifier")
    reference = trip.trained.result["reference"]
    assert trip.server.content(published, "model.skops") == model.encode()
    assert published.type == "model"
    assert published.metadata == {"sha256": reference["sha256"], "rows": 100}
    assert (
        (reference["version"], reference["digest"]) == (published.version, published.digest) == ("v0", published.digest)
    )


def test_the_log_says_online_and_where_without_noise(trip):
    for outcome in (trip.trained, trip.predicted):
        lines = outcome.log.splitlines()
        assert all(" include.wandb_tracking." in line for line in lines)
        assert f"online at {trip.server.url}, because WANDB_API_KEY is set" in lines[0]
        assert lines[-1].endswith(outcome.result["link"])


def test_neither_files_nor_processes_are_left(trip):
    assert [path for path in trip.persistent.rglob("*") if path.is_file()] == []
    assert trip.trained.left_behind == trip.predicted.left_behind == []


def test_a_second_try_continues_the_run(server, tasks, online):
    tasks.run("train", online)

    again = tasks.run("train", online, n_estimators=50)

    assert again.error is None
    assert server.run("r1").config["n_estimators"] == 50
    assert again.result["reference"]["version"] == "v0"  # the same bytes are the same version


def test_two_tries_at_once_upload_all_plots(server, tasks, online, png):
    """Airflow starts a task again when it has lost sight of one that still runs."""
    tries = [tasks.start("train", online, stop="before_publish") for _ in range(2)]
    for each in tries:
        each.reached()
    for each in tries:
        each.go_on()
        assert each.wait().error is None

    run = server.run("r1")
    assert run.files[run.history[1]["roc"]["path"]] == png
    assert run.state == "finished"
    assert [path for path in tasks.persistent.rglob("*") if path.is_file()] == []


def test_a_task_that_fails_marks_the_run_as_failed_and_keeps_its_own_error(server, tasks, online):
    failed = tasks.run("fail", online)

    assert (failed.error, failed.message) == ("ArithmeticError", "the task's own error")
    assert server.run("r1").state == "failed"
    assert failed.left_behind == []


def test_entity_and_project_are_configurable_and_an_alias_can_be_given_later(server, tasks, online):
    elsewhere = {**online, "WANDB_PROJECT": "elsewhere", "WANDB_ENTITY": "team"}
    trained = tasks.run("train", elsewhere)
    name = trained.result["reference"]["qualified_name"]

    promoted = tasks.run("promote", elsewhere, name=name)

    assert (server.run("r1").entity, server.run("r1").project) == ("team", "elsewhere")
    assert name == "team/elsewhere/churn_classifier:v0"
    assert "champion" in promoted.result
    assert server.versions("churn_classifier")[0].aliases == ["latest", "champion"]
