"""What include.wandb_tracking decides without talking to anybody; the rest is in tests/integration/wandb."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from include import wandb_tracking as tracking
from include.errors import ConfigurationError

KEY = "k" * 40


@pytest.mark.parametrize(
    ("environ", "online", "reason"),
    [
        ({}, False, "WANDB_API_KEY is not set"),
        ({"WANDB_API_KEY": ""}, False, "WANDB_API_KEY is not set"),
        ({"WANDB_API_KEY": KEY}, True, "WANDB_API_KEY is set"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": ""}, True, "WANDB_API_KEY is set"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, True, "WANDB_MODE=online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, False, "WANDB_MODE=offline"),
        ({"WANDB_MODE": "offline"}, False, "WANDB_MODE=offline"),
    ],
)
def test_the_environment_decides_and_the_reason_is_given(environ, online, reason):
    target = tracking.tracking_target(environ)

    assert (target.online, target.reason) == (online, reason)
    assert KEY not in str(target)


def test_online_without_a_key_is_an_error_that_says_where_to_get_one():
    with pytest.raises(ConfigurationError, match=r"WANDB_API_KEY.*https://wandb.ai/authorize"):
        tracking.tracking_target({"WANDB_MODE": "online"})


@pytest.mark.parametrize("mode", ["disabled", "dryrun", "shared", "Online"])
def test_other_modes_are_refused(mode):
    with pytest.raises(ConfigurationError, match=f"WANDB_MODE={mode}"):
        tracking.tracking_target({"WANDB_MODE": mode, "WANDB_API_KEY": KEY})


def test_the_base_url_is_the_hosted_one_unless_given():
    assert tracking.tracking_target({}).base_url == "https://api.wandb.ai"
    assert tracking.tracking_target({"WANDB_BASE_URL": "http://here"}).base_url == "http://here"


def test_a_run_id_is_the_same_for_the_same_parts_only():
    made = tracking.run_id_for("customer_analytics", "scheduled__2026-11-20T00:00:00+00:00")

    assert made == tracking.run_id_for("customer_analytics", "scheduled__2026-11-20T00:00:00+00:00")
    assert made != tracking.run_id_for("customer_analyticss", "cheduled__2026-11-20T00:00:00+00:00")
    assert tracking._RUN_ID.fullmatch(made)


@pytest.mark.parametrize("run_id", ["", "../r", "a/b", "a:b", "x" * 65])
def test_a_run_id_that_cannot_be_a_folder_is_refused(tmp_path, monkeypatch, run_id):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    with pytest.raises(ValueError, match="run_id_for"):
        tracking._fresh_folder(run_id, "train")


def test_a_folder_that_cannot_be_written_is_an_error_and_not_slash_tmp(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "file"))

    with pytest.raises(ConfigurationError, match="WANDB_DIR"):
        tracking._fresh_folder("r1", "train")


@pytest.mark.parametrize(
    ("wandb_dir", "airflow_home", "folder"),
    [
        ("/runs", "/airflow", "/runs"),
        ("", "/airflow", "/airflow/wandb"),
        (None, "~/home", "/root-of-user/home/wandb"),
        (None, "", "/root-of-user/airflow/wandb"),
        (None, None, "/root-of-user/airflow/wandb"),
    ],
)
def test_runs_lie_in_the_folder_that_is_set_or_in_airflows(monkeypatch, wandb_dir, airflow_home, folder):
    monkeypatch.setenv("HOME", "/root-of-user")
    for name, value in (("WANDB_DIR", wandb_dir), ("AIRFLOW_HOME", airflow_home)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)

    assert tracking.runs_folder() == Path(folder)


def test_a_second_try_starts_with_an_empty_folder_and_spares_the_other_job(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    trained, predicted = tracking._fresh_folder("r1", "train"), tracking._fresh_folder("r1", "predict")
    for former in (trained, predicted):
        (former / "old").touch()

    place = tracking._fresh_folder("r1", "predict")

    assert list(place.iterdir()) == []
    assert (trained / "old").exists()
    assert not predicted.exists()


def test_a_try_that_still_runs_keeps_its_folder_until_it_ends(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    former = tracking._fresh_folder("r1", "train")

    with FileLock(former / tracking.LOCK_FILE):
        tracking._fresh_folder("r1", "train")
        assert former.exists()

    tracking._fresh_folder("r1", "train")
    assert not former.exists()


def test_the_environment_is_as_before_afterwards(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", "/before")
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "7")
    monkeypatch.setenv("WANDB_ENTITY", "")
    monkeypatch.delenv("WANDB_SILENT", raising=False)
    before = dict(tracking.os.environ)

    with tracking._environment(tmp_path):
        assert tracking.os.environ["WANDB_DIR"] == str(tmp_path)
        assert tracking.os.environ["WANDB_FINISH_TIMEOUT"] == "7"  # the user's own wins
        assert tracking.os.environ["WANDB_INIT_TIMEOUT"] == tracking._BOUNDS["WANDB_INIT_TIMEOUT"]
        assert "WANDB_ENTITY" not in tracking.os.environ

    assert dict(tracking.os.environ) == before


@pytest.mark.parametrize(("appends", "options"), [(False, ""), (True, "--append ")])
def test_the_sync_command_can_be_pasted(appends, options):
    run = SimpleNamespace(dir="/my runs/offline-run-1/files")
    tracked = tracking.TrackedRun(run, tracking.tracking_target({}), Path("/my runs"), appends)

    assert tracked.sync_command == f"wandb sync {options}'/my runs/offline-run-1'"
    assert tracked.link is None


def test_a_time_out_of_somebody_else_is_not_blamed_on_wandb():
    with (
        pytest.raises(TimeoutError, match="the database"),
        tracking._explained(tracking.tracking_target({}), "tracking"),
    ):
        raise TimeoutError("the database")


def test_an_explanation_never_shows_the_key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    cause = RuntimeError(f"401 for {KEY}")
    error = RuntimeError("an error occurred")
    error.__cause__ = cause

    explained = tracking._explanation(error, tracking.tracking_target({}), "testing")

    assert isinstance(explained, ConfigurationError)
    assert KEY not in str(explained)
    assert "401 for ***" in str(explained)


def test_a_base_url_that_is_none_is_an_error_of_configuration():
    target = tracking.tracking_target({"WANDB_BASE_URL": "wandb.example.com", "WANDB_API_KEY": KEY})

    with pytest.raises(ConfigurationError, match="WANDB_BASE_URL"):
        tracking._check_reachable(target)


def test_importing_the_module_does_not_import_wandb():
    code = "import sys, include.wandb_tracking; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
