"""What `make doctor` and the DAG `doctor` check: every connection and service, from where the tasks run.

A check is a function that returns what it has found, in one line, or raises what is wrong. ``examine`` bounds each in time,
and says how to fix it. None changes anything that stays, but for a deleted MLflow experiment "doctor".
"""

import os
import re
import shutil
import sys
import tempfile
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from include.client_errors import explain
from include.doctor_servers import (
    START,
    Trouble,
    check_artifacts,
    check_bucket,
    check_mlflow,
    check_ports,
    check_postgres,
    check_s3,
)
from include.errors import ConfigurationError, first_line
from include.settings import INCLUDE, settings

PROJECT = INCLUDE.parent
LIMIT = 40  # seconds for one check; the longest talks to a service a dozen times
XCOM_BACKEND = "include.xcom_backend.ObjectStoreXComBackend"
COORDINATOR = "include.task_process.TaskCoordinator"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; ``remedy`` is empty where all is well."""

    label: str
    found: str
    remedy: str = ""

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.remedy


def checks() -> dict[str, Callable[[], str]]:
    """All checks by label; cheap, so that a DAG file can ask for the labels."""
    buckets = dict.fromkeys(settings.buckets)
    return {
        "Versions": check_versions,
        "Airflow": check_airflow,
        "Ports": check_ports,
        "S3": check_s3,
        **{f"S3 bucket {bucket}": partial(check_bucket, bucket) for bucket in buckets},
        "MLflow": check_mlflow,
        "MLflow artifacts": check_artifacts,
        "PostgreSQL": check_postgres,
        "Weights & Biases": check_wandb,
        "Notifications": check_notifications,
    }


def examine(label: str, limit: float = LIMIT) -> Finding:
    """Run one check, for at most ``limit`` seconds."""
    outcome: list[Finding] = []

    def run() -> None:
        try:
            outcome.append(Finding(label, checks()[label]()))
        except Trouble as trouble:
            outcome.append(Finding(label, trouble.problem, trouble.remedy))
        except Exception as error:  # whatever it is: what is found must be said
            outcome.append(_finding(label, error))

    # a thread that cannot be stopped is left behind; a daemon, so that the process can end
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(limit)
    return next(iter(outcome), Finding(label, f"no result within {limit:.0f} s", f"{START}, or look at its load"))


def _finding(label: str, error: Exception) -> Finding:
    explanation = explain(error)
    if not explanation:
        reason = first_line(error) or type(error).__name__
        return Finding(label, reason, "the check did not expect this: see the log of that service")
    remedy = explanation.remedy or "correct what it names"
    return Finding(label, explanation.problem, remedy if explanation.permanent else f"{START}. {remedy}")


# Weights & Biases


def check_wandb() -> str:
    """The mode; online the server and the key, offline the folder."""
    from include.wandb_tracking.errors import TrackingUnavailable
    from include.wandb_tracking.server import log_in
    from include.wandb_tracking.target import tracking_target
    from include.wandb_tracking.workspace import runs_folder

    try:
        target = tracking_target()
    except ConfigurationError as error:
        raise Trouble("the settings of Weights & Biases are wrong", str(error)) from error
    folder = runs_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Trouble(f"{folder} cannot be written ({error.strerror})", "set WANDB_DIR to a folder that can") from error
    if not target.online:
        return f"{target}; runs are recorded in {folder}"
    try:
        return f"{target}; logged in as {log_in(target, 'asking who the key belongs to')}"
    except TrackingUnavailable as error:
        raise Trouble(f"{target.base_url} does not answer", str(error)) from error
    except ConfigurationError as error:
        raise Trouble(f"{target.base_url} does not accept the key or is another server", str(error)) from error


# this installation


def check_versions() -> str:
    """What is installed is what requirements.txt and the lock say."""
    requirements = (PROJECT / "requirements.txt").read_text()
    lines = map(str.strip, requirements.splitlines())
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    wanted = {
        each.name: str(each.specifier).removeprefix("==")
        for each in pinned
        if each.marker is None or each.marker.evaluate()
    }
    lock = tomllib.loads((PROJECT / "uv.lock").read_text())
    left_out = re.findall(r"--no-emit-package (\S+)", requirements)  # by the command that wrote it
    wanted |= {each["name"]: each["version"] for each in lock["package"] if each["name"] in left_out}
    differing = []
    for name, locked in wanted.items():
        try:
            installed = version(name)
        except PackageNotFoundError:
            installed = "missing"
        if installed.partition("+")[0] != locked:  # Astro's own build of Airflow has a local version
            differing.append(f"{name} {installed}, locked {locked}")
    if differing:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise Trouble(f"{'; '.join(differing[:5])}{more}", "make setup; in the Astro stack: astro dev restart")
    return f"{len(wanted)} packages as locked, Airflow {wanted['apache-airflow']}"


def check_airflow() -> str:
    """Airflow has the settings that the DAGs rely on, and uv for the environments of predictions."""
    from airflow.configuration import conf

    backend = conf.get("core", "xcom_backend")
    if backend != XCOM_BACKEND:
        raise Trouble(f"XComs go to {backend}", f"set AIRFLOW__CORE__XCOM_BACKEND={XCOM_BACKEND}, see .env_example")
    allowed = conf.get("core", "allowed_deserialization_classes").split()
    if not {"airflow.*", "astro.*"} <= set(allowed):
        remedy = "set AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES=airflow.* astro.*, see .env_example"
        raise Trouble(f"from XComs only {' '.join(allowed)} may be read", remedy)
    queue = conf.get("operators", "default_queue")
    name = conf.getjson("sdk", "queue_to_coordinator", fallback={}).get(queue)
    watcher = conf.getjson("sdk", "coordinators", fallback={}).get(name, {}).get("classpath")
    if watcher != COORDINATOR:
        remedy = "set AIRFLOW__SDK__COORDINATORS and AIRFLOW__SDK__QUEUE_TO_COORDINATOR as include/task_process.py says"
        raise Trouble(f"processes of tasks in queue {queue} are watched by {watcher or 'Airflow itself'}", remedy)
    if not shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])):
        raise Trouble(
            "uv, which builds the environments of predictions, is not there", "make setup, or rebuild the image"
        )
    return f"DataFrames in XComs go to bucket {settings.xcom_bucket}; uv is there"


def check_notifications() -> str:
    """PIPELINES_NOTIFY_URL, if it is set, is one that Apprise understands; nothing is sent."""
    from include.notifications import understood

    if not settings.pipelines.notify_url:
        return "failures are told in the log only (PIPELINES_NOTIFY_URL is not set)"
    if problem := understood(settings.pipelines.notify_url.get_secret_value()):
        raise Trouble(*problem)
    return "failures are told in the log and where PIPELINES_NOTIFY_URL says"
