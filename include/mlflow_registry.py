"""The provider's registry operators on call_mlflow, safe to run again: what is there already is used, not made twice."""

import include.legacy_packages

import logging
from typing import Any

from airflow.sdk import Context
from mlflow_provider.operators.registry import (
    CreateModelVersionOperator,
    CreateRegisteredModelOperator,
    TransitionModelVersionStageOperator,
)

from include.mlflow_api import ALREADY_EXISTS, MLflowApiError, call_mlflow, quoted
from include.task_errors import fail_at_once

log = logging.getLogger(__name__)


def list_registered_models(name: str) -> list[str]:
    """The names of the registered models with that name: one or none."""
    answer = call_mlflow("GET", "registered-models/search", filter=f"name = {quoted(name)}")
    found = [each["name"] for each in answer.get("registered_models", [])]
    log.info("Registered models named %s: %s", name, "one" if found else "none")
    return found


def find_model_version(name: str, run_id: str) -> dict[str, Any] | None:
    """The oldest version of the model that was made from the run."""
    answer = call_mlflow("GET", "model-versions/search", filter=f"name = {quoted(name)} and run_id = {quoted(run_id)}")
    return min(answer.get("model_versions", []), key=lambda version: int(version["version"]), default=None)


class EnsureRegisteredModelOperator(CreateRegisteredModelOperator):
    """CreateRegisteredModelOperator that is content where another run has just made the model."""

    @fail_at_once
    def execute(self, context: Context) -> Any:  # noqa: ARG002
        """Make the registered model unless it exists, and return it."""
        try:
            return call_mlflow(
                "POST",
                "registered-models/create",
                name=self.name,
                tags=self.tags or [],
                description=self.description or "",
            )
        except MLflowApiError as error:
            if error.code != ALREADY_EXISTS:
                raise
        self.log.info("%s has been registered meanwhile", self.name)
        return call_mlflow("GET", "registered-models/get", name=self.name)


class EnsureModelVersionOperator(CreateModelVersionOperator):
    """CreateModelVersionOperator that makes one version for each MLflow run, however often the task runs."""

    @fail_at_once
    def execute(self, context: Context) -> Any:  # noqa: ARG002
        """Return ``{"model_version": ...}``, as MLflow does: the version of this run, made if it is missing."""
        if existing := find_model_version(self.name, self.run_id or ""):
            self.log.info("Version %s of %s is of this run already", existing["version"], self.name)
            return {"model_version": existing}
        self.log.info("New version of %s from %s, of MLflow run %s", self.name, self.source, self.run_id)
        made = call_mlflow("POST", "model-versions/create", name=self.name, source=self.source, run_id=self.run_id)
        version = made["model_version"]["version"]
        first = find_model_version(self.name, self.run_id or "")
        if first is None or first["version"] == version:
            return made
        self.log.info("Version %s has been made meanwhile: using it, and deleting %s", first["version"], version)
        call_mlflow("DELETE", "model-versions/delete", name=self.name, version=version)
        return {"model_version": first}


class MoveToStageOperator(TransitionModelVersionStageOperator):
    """TransitionModelVersionStageOperator that reaches the server, and fails, as the others do."""

    @fail_at_once
    def execute(self, context: Context) -> Any:  # noqa: ARG002
        """Put the version into the stage, and return it as MLflow does."""
        return call_mlflow(
            "POST",
            "model-versions/transition-stage",
            name=self.name,
            version=self.version,
            stage=self.stage,
            archive_existing_versions=self.archive_existing_versions,
        )
