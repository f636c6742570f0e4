"""Buttons in Airflow's UI that lead from a task to what it has made.

A task records an address as a small XCom, under the key of one of the classes below; the button reads it from there.
So tasks of any kind can have buttons: ``add_links`` at the end of a DAG file says which. As long as nothing is recorded,
Airflow shows the button disabled. One that can lead nowhere as things are configured is left out. Addresses are those that
the user's browser finds.
"""

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from include.errors import ConfigurationError
from include.settings import settings

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)


class RecordedLink(BaseOperatorLink):
    """A button to the address that the task has recorded under ``key``."""

    key: ClassVar[str]

    @property
    def xcom_key(self) -> str:
        """Where Airflow's web server looks: at once, and not only where Airflow puts it when the task has ended."""
        return self.key

    def get_link(self, operator: Any, *, ti_key: "TaskInstanceKey") -> str:  # noqa: ARG002 (Airflow's signature)
        """The address, or an empty string where there is none; Airflow asks and stores it again when the task has ended."""
        from airflow.sdk.execution_time.xcom import XCom

        return XCom.get_value(ti_key=ti_key, key=self.key) or ""

    @classmethod
    def is_possible(cls) -> bool:
        """Whether there can be an address at all, as things are configured."""
        return True


class MLflowExperimentLink(RecordedLink):
    """The experiment, with its table of runs."""

    name, key = "MLflow experiment", "link.mlflow_experiment"


class MLflowRunLink(RecordedLink):
    """The run that the task has made or used."""

    name, key = "MLflow run", "link.mlflow_run"


class MLflowModelLink(RecordedLink):
    """The registered model, or its version."""

    name, key = "MLflow model", "link.mlflow_model"


class WandbRunLink(RecordedLink):
    """The run in Weights & Biases; recorded offline it has no page, and the task's log names its folder."""

    name, key = "W&B run", "link.wandb_run"

    @classmethod
    def is_possible(cls) -> bool:
        """Only online."""
        from include.wandb_tracking.target import tracking_target

        with suppress(ConfigurationError):  # the task that uses it will say so
            return tracking_target().online
        return False


class ObjectsLink(RecordedLink):
    """The object that the task has written, or the folder or bucket, in a browser's view of the object store."""

    name, key = "Objects", "link.objects"

    @classmethod
    def is_possible(cls) -> bool:
        """Only where the settings say how a browser finds objects."""
        return bool(settings.pipelines.object_ui_url)


LINKS: tuple[type[RecordedLink], ...] = (
    MLflowExperimentLink,
    MLflowRunLink,
    MLflowModelLink,
    WandbRunLink,
    ObjectsLink,
)


def add_links(dag: "DAG", links: dict[str, tuple[type[RecordedLink], ...]]) -> None:
    """Give tasks their buttons: link classes by task id."""
    for task_id, classes in links.items():
        # setattr: Airflow declares it for classes of operators, reads it from each task
        setattr(dag.get_task(task_id), "operator_extra_links", tuple(each() for each in classes if each.is_possible()))  # noqa: B010


def record_link(link: type[RecordedLink], url: str | None, *, said: bool = False) -> None:
    """Record the address for the running task, and say it in its log unless that has been ``said``.

    Outside of a task nothing is recorded.
    """
    if not url:
        return
    if not said:
        log.info("%s: %s", link.name, url)
    from airflow.sdk import get_current_context

    with suppress(RuntimeError):  # no task
        _push_link(get_current_context()["ti"], link, url)


def record_model(model: dict[str, Any]) -> None:
    """Record a registered version and its run: ``name``, ``version``, ``run_id`` and ``experiment_id``."""
    record_link(MLflowModelLink, model_url(model["name"], model["version"]))
    record_link(MLflowRunLink, run_url(model["experiment_id"], model["run_id"]))


def record_outcome(context: Any, result: Any = None) -> None:
    """Record the links that a task's result tells, and log where it is; for tasks whose code is not this project's.

    It is every task's ``post_execute`` (include/dag_defaults.py), so the work is done when it runs: it never fails a task.
    Understood are what the Astro SDK and the MLflow provider return, and an operator with a ``bucket_name``.
    """
    try:
        for link, url in _links_of(context["task"], result):
            _push_link(context["ti"], link, url)
    except Exception:
        log.warning("The links to what this task has written could not be recorded", exc_info=True)


def _links_of(task: Any, result: Any) -> Iterator[tuple[type[RecordedLink], str]]:
    kind = type(result).__name__ if type(result).__module__.startswith("astro.") else ""
    if bucket := getattr(task, "bucket_name", None):
        yield ObjectsLink, object_url(f"s3://{bucket}")
    elif kind == "File" and str(result.path).startswith("s3://"):
        log.info("Written to %s", result.path)
        yield ObjectsLink, object_url(result.path)
    elif kind in ("Table", "TempTable"):
        log.info("Written to table %s.%s", result.metadata.schema, result.name)
    elif isinstance(result, dict):
        for answer in (result.get("registered_model"), result.get("model_version")):
            if isinstance(answer, dict) and isinstance(answer.get("name"), str):  # any task may return such a key
                url = model_url(answer["name"], answer.get("version"))
                log.info("%s: %s", MLflowModelLink.name, url)
                yield MLflowModelLink, url


def _push_link(ti: Any, link: type[RecordedLink], url: str) -> None:
    """Nothing where there is no page: an empty XCom would say no more than none. A missing button fails no task."""
    if url:
        try:
            ti.xcom_push(link.key, url)
        except Exception:
            log.warning("The button %s could not be recorded", link.name, exc_info=True)


# addresses


def experiment_url(experiment_id: str) -> str:
    """The page of an MLflow experiment, as the user's browser finds it."""
    return f"{settings.pipelines.mlflow_ui_url.rstrip('/')}/#/experiments/{experiment_id}"


def run_url(experiment_id: str, run_id: str) -> str:
    """The page of an MLflow run, as the user's browser finds it."""
    return f"{experiment_url(experiment_id)}/runs/{run_id}"


def model_url(name: str, version: str | None = None) -> str:
    """The page of a registered model or of its version, as the user's browser finds it."""
    page = f"{settings.pipelines.mlflow_ui_url.rstrip('/')}/#/models/{quote(name, safe='')}"
    return f"{page}/versions/{version}" if version else page


def object_url(uri: str) -> str:
    """The page of ``s3://bucket/key``, as the user's browser finds it; an empty string where there is none."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return (
        (settings.pipelines.object_ui_url or "")
        .replace("{bucket}", quote(bucket))
        .replace("{key}", quote(key, safe=""))
    )
