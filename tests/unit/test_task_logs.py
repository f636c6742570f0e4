"""What a task's log leaves out: chatter below a warning, of Airflow's own loggers by its configuration."""

import os
import re
import subprocess
import sys
from pathlib import Path

from include import task_logs
from include.buckets import EnsureBucketOperator
from include.mlflow_api import MLflowHook
from include.venv_prediction import CachedVenvPredictOperator

PROJECT = Path(__file__).parents[2]
OPTION = "AIRFLOW__LOGGING__NAMESPACE_LEVELS"


def test_image_and_local_stack_say_the_same():
    said = re.search(rf'^ENV {OPTION}="(.*?)"', (PROJECT / "Dockerfile").read_text(encoding="utf-8"), re.M | re.S)
    assert said
    assert said[1].replace("\\\n", "").split() == task_logs.NAMESPACE_LEVELS.split()


def test_airflow_lets_through_their_warnings_only():
    code = f"""
import structlog
from airflow.sdk.log import configure_logging
configure_logging()
for name in {task_logs.AIRFLOWS!r}:
    log = structlog.get_logger(logger_name=f"{{name}}.Something")
    log.info("chatter")
    log.warning("a warning")
structlog.get_logger(logger_name="include.links").info("a word of ours")
"""
    environment = os.environ | {OPTION: task_logs.NAMESPACE_LEVELS, "PYTHONPATH": str(PROJECT)}
    environment.pop("PYTEST_VERSION", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "chatter" not in done.stdout
    assert done.stdout.count("a warning") == len(task_logs.AIRFLOWS)
    assert "a word of ours" in done.stdout


def test_names_are_those_of_the_loggers():
    """Airflow makes them of the classes' modules."""
    for kind, prefix in ((MLflowHook, "airflow.task.hooks"), (CachedVenvPredictOperator, "airflow.task.operators")):
        assert f"{prefix}.{kind.__module__}" in task_logs.AIRFLOWS
    assert not any(
        f"airflow.task.operators.{EnsureBucketOperator.__module__}".startswith(name) for name in task_logs.AIRFLOWS
    )
