"""The MLflow experiment that the runs belong to."""

import logging
from typing import Any

from include.errors import InputError
from include.links import MLflowExperimentLink, experiment_url, record_link
from include.mlflow_api import ALREADY_EXISTS, DOES_NOT_EXIST, MLflowApiError, call_mlflow, quoted

log = logging.getLogger(__name__)


def list_experiments(name: str) -> list[dict[str, Any]]:
    """The experiments of that name, deleted ones too, as ``{"experiment_id", "name", "lifecycle_stage"}``."""
    condition = f"name = {quoted(name)}"
    answer = call_mlflow("POST", "experiments/search", max_results=100, filter=condition, view_type="ALL")
    wanted = ("experiment_id", "name", "lifecycle_stage")
    found = [{key: each[key] for key in wanted} for each in answer.get("experiments", [])]
    states = ", ".join(f"{each['experiment_id']} ({each['lifecycle_stage']})" for each in found)
    log.info("Experiments named %s: %s", name, states or "none")
    return found


def is_usable(experiments: list[dict[str, Any]], name: str) -> bool:
    """Whether an experiment of that name is among them and not deleted."""
    return any(each["name"] == name and each["lifecycle_stage"] == "active" for each in experiments)


def create_or_restore_experiment(existing: list[dict[str, Any]], name: str, artifact_location: str) -> str:
    """Make the experiment, or bring a deleted one of that name back, and return its id."""
    for each in existing:
        if each["name"] == name and each["lifecycle_stage"] == "deleted":
            try:
                call_mlflow("POST", "experiments/restore", experiment_id=each["experiment_id"])
            except MLflowApiError as error:
                if error.code != DOES_NOT_EXIST:  # among the deleted ones: another run has just restored it
                    raise
            log.info("Experiment %s was deleted and is back", name)
            return each["experiment_id"]
    try:
        made = call_mlflow("POST", "experiments/create", name=name, artifact_location=artifact_location)
        log.info("Experiment %s made, with its artifacts in %s", name, artifact_location)
        return made["experiment_id"]
    except MLflowApiError as error:
        if error.code != ALREADY_EXISTS:  # another run was faster
            raise
    return get_experiment_id(name)


def get_experiment_id(name: str) -> str:
    """The id of the experiment of that name; raises MLflowApiError where there is none."""
    id_ = call_mlflow("GET", "experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"]
    record_link(MLflowExperimentLink, experiment_url(id_))
    return id_


def require_experiment_id(name: str) -> str:
    """The id of the experiment of that name; raises InputError where there is none, or it is deleted."""
    if not is_usable(list_experiments(name), name):
        raise InputError(
            f"MLflow has no experiment {name}, or it is deleted: trigger feature_eng, which makes or restores it"
        )
    return get_experiment_id(name)


def describe_experiment(name: str, description: str) -> None:
    """Make the experiment's page one for training models, with a description; what someone has written there stays."""
    experiment = call_mlflow("GET", "experiments/get-by-name", experiment_name=name)["experiment"]
    present = {tag["key"] for tag in experiment.get("tags", [])}
    for key, value in {"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": description}.items():
        if key not in present:
            id_ = experiment["experiment_id"]
            call_mlflow("POST", "experiments/set-experiment-tag", experiment_id=id_, key=key, value=value)
