"""Folders and environment of a run."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from include.errors import ConfigurationError
from include.wandb_tracking import workspace
from include.wandb_tracking.workspace import environment, fresh_folder, runs_folder


@pytest.mark.parametrize("run_id", ["", "../r", "a/b", "a:b", "x" * 65])
def test_a_run_id_that_cannot_be_a_folder_is_refused(tmp_path, monkeypatch, run_id):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="run_id_for"):
        fresh_folder(run_id, "train")


@pytest.mark.parametrize("folder", ["file", "file/below", "n" * 300], ids=["file", "below-a-file", "too-long"])
def test_a_folder_that_cannot_be_written_is_an_error_and_not_slash_tmp(tmp_path, monkeypatch, folder):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / folder))

    with pytest.raises(ConfigurationError, match="WANDB_DIR") as raised:
        fresh_folder("r1", "train")

    assert str(tmp_path / folder / "r1" / "train") in str(raised.value)


@pytest.mark.parametrize(
    ("wandb_dir", "airflow_home", "folder"),
    [
        ("/runs", "/airflow", "/runs"),
        ("~/runs", "/airflow", "/root-of-user/runs"),
        ("~nobody-has-this-name/runs", "/airflow", "/here/~nobody-has-this-name/runs"),
        ("runs", "/airflow", "/here/runs"),
        ("", "/airflow", "/airflow/wandb"),
        (None, "~/home", "/root-of-user/home/wandb"),
        (None, "", "/root-of-user/airflow/wandb"),
        (None, None, "/root-of-user/airflow/wandb"),
    ],
)
def test_runs_lie_in_the_folder_that_is_set_or_in_airflows(monkeypatch, wandb_dir, airflow_home, folder):
    monkeypatch.setenv("HOME", "/root-of-user")
    monkeypatch.setattr(os, "getcwd", lambda: "/here")
    for name, value in (("WANDB_DIR", wandb_dir), ("AIRFLOW_HOME", airflow_home)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)

    assert runs_folder() == Path(folder)


def test_a_second_try_starts_with_an_empty_folder_and_spares_the_other_job(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    trained, predicted = fresh_folder("r1", "train"), fresh_folder("r1", "predict")
    for former in (trained, predicted):
        (former / "old").touch()

    place = fresh_folder("r1", "predict")

    assert list(place.iterdir()) == []
    assert (trained / "old").exists()
    assert not predicted.exists()


def test_a_try_that_still_runs_keeps_its_folder_until_it_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    former = fresh_folder("r1", "train")

    with FileLock(former / workspace.LOCK_FILE):
        fresh_folder("r1", "train")
        assert former.exists()

    fresh_folder("r1", "train")
    assert not former.exists()


@pytest.mark.parametrize(("online", "key"), [(True, "k"), (False, None)])
def test_the_environment_is_as_before_afterwards_and_has_no_key_offline(tmp_path, monkeypatch, online, key):
    monkeypatch.setenv("WANDB_DIR", "/before")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "7")
    monkeypatch.setenv("WANDB_ENTITY", "")
    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    before = dict(os.environ)

    with environment(tmp_path, online=online):
        assert os.environ["WANDB_DIR"] == str(tmp_path)
        assert os.environ["WANDB_FINISH_TIMEOUT"] == "7"  # the user's own wins
        assert os.environ["WANDB_INIT_TIMEOUT"] == workspace._BOUNDS["WANDB_INIT_TIMEOUT"]
        assert "WANDB_ENTITY" not in os.environ
        assert os.environ.get("WANDB_API_KEY") == key

    assert dict(os.environ) == before


def test_an_empty_key_is_put_back_too(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "")
    with environment(tmp_path, online=False):
        assert "WANDB_API_KEY" not in os.environ
    assert os.environ["WANDB_API_KEY"] == ""


def test_the_run_of_another_program_changes_nothing(tmp_path, monkeypatch):
    """A stray WANDB_SWEEP_ID gives the run another id and another project."""
    others = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_RESUME", "WANDB_SERVICE")
    for name in others:
        monkeypatch.setenv(name, "other")
    with environment(tmp_path, online=True):
        assert [name for name in others if name in os.environ] == []
    assert [os.environ[name] for name in others] == ["other"] * len(others)
