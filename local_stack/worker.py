"""A Celery worker that shares no disk with the others: `python -m local_stack.worker NUMBER`.

It runs from a copy of the project, with folders of its own for everything that Airflow, uv's environments and W&B write,
as a worker on another machine would. Logs go to the S3 server, where the webserver finds them.
"""

import os
import shutil
import sys
from pathlib import Path

from local_stack.config import PROJECT, Stack

COPIED = ("dags", "include", "plugins")


def worker_environment(home: Path) -> dict[str, str]:
    """The stack's environment with every folder below ``home``."""
    project = home / "project"
    folders = {
        "HOME": home,
        "TMPDIR": home / "tmp",
        "AIRFLOW_HOME": home / "airflow",
        "AIRFLOW__CORE__DAGS_FOLDER": project / "dags",
        "AIRFLOW__CORE__PLUGINS_FOLDER": project / "plugins",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": home / "logs",
        "PREDICTION_VENV_CACHE": home / "prediction-venvs",
        "WANDB_DIR": home / "wandb",
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    # packages that are installed already stay where they were downloaded to: a cache, not something tasks share
    cache = os.environ.get("UV_CACHE_DIR") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    )
    paths = {name: str(folder) for name, folder in folders.items()}
    return {**os.environ, **paths, "PYTHONPATH": str(project), "UV_CACHE_DIR": cache}


def main() -> None:
    """Copy the project and become the worker."""
    number = sys.argv[1]
    home = Stack().home / "workers" / number
    shutil.rmtree(home / "project", ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        shutil.copytree(PROJECT / name, home / "project" / name, ignore=ignored)
    for name in ("uv.lock", "requirements.txt"):
        shutil.copy(PROJECT / name, home / "project")
    environment = worker_environment(home)
    os.chdir(home)
    command = ["airflow", "celery", "worker", "--concurrency", "2", "--celery-hostname", f"worker{number}@%h"]
    os.execvpe("airflow", [*command, "--skip-serve-logs", "--pid", str(home / "worker.pid")], environment)  # noqa: S606


if __name__ == "__main__":
    main()
