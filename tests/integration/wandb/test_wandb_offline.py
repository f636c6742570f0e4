"""Without a key: the run is on disk, and the command in the log really uploads it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

# As a .env file has them that nobody filled in.
BLANK = {"WANDB_API_KEY": "", "WANDB_BASE_URL": "", "WANDB_MODE": "", "WANDB_PROJECT": ""}


@pytest.fixture(scope="module")
def trip(module_tasks):
    """Train, tried twice, and predict."""
    first = module_tasks.run("train", BLANK)
    trained = module_tasks.run("train", BLANK)
    predicted = module_tasks.run("predict", BLANK, reference=trained.result["reference"])
    assert (first.error, trained.error, predicted.error) == (None, None, None)
    return SimpleNamespace(trained=trained, predicted=predicted, persistent=module_tasks.persistent, tasks=module_tasks)


def test_the_run_is_recorded_in_the_folder_that_persists(trip):
    folder = Path(trip.trained.result["folder"])
    assert trip.persistent in folder.parents
    assert list(folder.glob("*.wandb"))
    assert list(folder.glob("files/media/images/*.png"))
    assert trip.trained.left_behind == trip.predicted.left_behind == []
    assert trip.trained.result["reference"]["version"] is None


def test_a_second_try_replaces_the_first(trip):
    assert len(list(trip.persistent.glob("r1/train/**/*.wandb"))) == 1
    assert len(list(trip.persistent.glob("r1/predict/**/*.wandb"))) == 1


def test_the_log_says_offline_and_how_to_upload(trip):
    for outcome in (trip.trained, trip.predicted):
        lines = outcome.log.splitlines()
        assert all(" include.wandb_tracking." in line for line in lines)
        assert "offline, because WANDB_API_KEY is not set" in lines[0]
        assert lines[-1].endswith(f": {outcome.result['sync']}")
        assert outcome.result["link"] is None
    assert trip.trained.result["sync"] == f"wandb sync {trip.trained.result['folder']}"
    assert trip.predicted.result["sync"] == f"wandb sync --id r1 {trip.predicted.result['folder']}"
    assert "a second folder under the same id r1" in trip.predicted.log


def test_sync_uploads_both_folders_as_one_run_with_its_model(trip, server, online, model, png):
    trip.tasks.sync(trip.trained.result["sync"], online)
    trip.tasks.sync(trip.predicted.result["sync"], online)

    (run,) = server.runs
    assert [row.get("auc") or row.get("mean_probability") for row in run.history] == [0.75, None, 0.25]
    assert run.config["n_estimators"] == 100
    assert run.files[run.history[1]["roc"]["path"]] == png
    assert (run.summary["auc"], run.summary["baseline"], run.summary["predictions"]) == (0.75, 0.5, 100)
    (published,) = server.versions("churn_classifier")
    assert server.content(published, "model.skops") == model.encode()
    assert published.metadata["rows"] == 100
    assert published.digest == trip.trained.result["reference"]["digest"]


def test_two_tries_at_once_do_not_disturb_each_other(server, tasks, online, model, png):
    """Airflow starts a task again when it has lost sight of one that still runs; either may be the one that counts."""
    earlier = tasks.start("train", BLANK, stop="before_publish")
    earlier.reached()
    later = tasks.run("train", BLANK)
    earlier.go_on()

    for outcome in (earlier.wait(), later):
        assert outcome.error is None
        tasks.sync(outcome.result["sync"], online)
        (run,) = server.runs
        assert run.files[run.history[1]["roc"]["path"]] == png
        assert server.content(server.versions("churn_classifier")[-1], "model.skops") == model.encode()

    tasks.run("train", BLANK)
    assert len(list(tasks.persistent.glob("r1/train/**/*.wandb"))) == 1


def test_offline_can_be_chosen_in_spite_of_a_key(server, tasks, online):
    trained = tasks.run("train", {**online, "WANDB_MODE": "offline"})

    assert trained.error is None
    assert "because WANDB_MODE=offline" in trained.log
    assert server.connections == 0
