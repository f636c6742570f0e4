"""Where wandb writes on this machine: one folder per run and job, and an environment that leads there."""

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from include.wandb_tracking.errors import disk_problem

LOCK_FILE = "lock"

# What wandb reads from the environment only, or reads in its service process too. The user's own values win.
_BOUNDS = {
    "WANDB_INIT_TIMEOUT": "20",
    "WANDB_HTTP_TIMEOUT": "10",
    "WANDB_FINISH_TIMEOUT": "30",  # without it finish() waits for ever, and a killed task leaves wandb-core behind
    # by default 20 tries up to a minute apart, which WANDB_INIT_TIMEOUT does not cut short; Airflow tries again anyway
    "WANDB__GRAPHQL_RETRY_MAX": "2",
    "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "5",
}
_ALWAYS = {
    "WANDB_FINISH_TIMEOUT_RAISES": "true",  # else data that was not uploaded is a warning
    "WANDB__DISABLE_VIEWER": "true",  # an early query outside the bounds above
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",  # this package says what matters; a task's log has no use for banners
    "WANDB_CONSOLE": "off",  # nor does the run for a copy of the task's log, which may hold data
}
# Which run it is says this project. Another program's run, sweep or service that this process was started from says nothing.
_OF_OTHER_RUNS = {
    "WANDB_FORK_FROM",
    "WANDB_LAUNCH",
    "WANDB_RESUME",
    "WANDB_RESUME_FROM",
    "WANDB_RUN_ID",
    "WANDB_SERVICE",
    "WANDB_SWEEP_ID",
    "WANDB_SWEEP_PARAM_PATH",
}
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def runs_folder() -> Path:
    """Where the runs are recorded: WANDB_DIR, which must persist, or ``wandb`` in AIRFLOW_HOME."""
    folder = os.environ.get("WANDB_DIR") or f"{os.environ.get('AIRFLOW_HOME') or '~/airflow'}/wandb"
    return Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 (Path.expanduser raises without a home folder)


def fresh_folder(run_id: str, job_type: str) -> Path:
    """Make a folder for this try; what former tries of the same job have left goes, unless one still runs.

    One does where Airflow has lost sight of a task and starts it again. Raises ConfigurationError where the folder cannot
    be written: wandb itself would silently take /tmp, which does not persist.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is not a run id: use letters, digits, - and _ (or run_id_for)")
    tries = runs_folder() / run_id / job_type
    try:
        tries.mkdir(parents=True, exist_ok=True)
        for former in tries.iterdir():
            if former.is_dir() and not _is_in_use(former):
                shutil.rmtree(former, ignore_errors=True)
        place = tries / f"try-{uuid.uuid4().hex[:8]}"
        place.mkdir()
    except OSError as error:
        raise disk_problem(tries, "making the run's folder", str(error)) from error
    return place


def _is_in_use(place: Path) -> bool:
    try:
        with FileLock(place / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True


def folders(place: Path) -> dict[str, str]:
    """Everything that wandb writes goes beneath one folder, nothing into the home folder."""
    return {
        "WANDB_DIR": str(place),
        "WANDB_DATA_DIR": str(place / "data"),
        "WANDB_CACHE_DIR": str(place / "cache"),
        "WANDB_CONFIG_DIR": str(place / "config"),
    }


@contextmanager
def environment(place: Path, *, online: bool) -> Iterator[None]:
    """Put the settings for this run into the environment, because wandb's service process reads them too."""
    before = dict(os.environ)
    removed = {key for key in before if key in _OF_OTHER_RUNS}
    # as in a .env file with nothing filled in; wandb would take them for values
    removed |= {key for key, value in before.items() if key.startswith("WANDB_") and not value}
    if not online:  # of no use, and wandb would check it
        removed |= {"WANDB_API_KEY"} & before.keys()
    for key in removed:
        del os.environ[key]
    for key, value in _BOUNDS.items():
        os.environ.setdefault(key, value)
    os.environ.update(_ALWAYS | folders(place))
    try:
        yield
    finally:
        for key in [*_BOUNDS, *_ALWAYS, *folders(place), *removed]:
            if key in before:
                os.environ[key] = before[key]
            else:
                os.environ.pop(key, None)
