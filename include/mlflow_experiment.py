"""The MLflow experiment that the runs belong to."""

from typing import Any

from include.mlflow_api import ALREADY_EXISTS, DOES_NOT_EXIST, MLflowApiError, call_mlflow


def list_experiments(name: str) -> list[dict[str, Any]]:
    """The experiments of that name, deleted ones too, as ``{"experiment_id", "name", "lifecycle_stage"}``."""
    quoted = name.replace("'", "''")
    answer = call_mlflow("POST", "experiments/search", max_results=100, filter=f"name = '{quoted}'", view_type="ALL")
    wanted = ("experiment_id", "name", "lifecycle_stage")
    return [{key: each[key] for key in wanted} for each in answer.get("experiments", [])]


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
            return each["experiment_id"]
    try:
        return call_mlflow("POST", "experiments/create", name=name, artifact_location=artifact_location)[
            "experiment_id"
        ]
    except MLflowApiError as error:
        if error.code != ALREADY_EXISTS:  # another run was faster
            raise
    return get_experiment_id(name)


def get_experiment_id(name: str) -> str:
    """The id of the experiment of that name; raises MLflowApiError where there is none."""
    return call_mlflow("GET", "experiments/get-by-name", experiment_name=name)["experiment"]["experiment_id"]
