"""Rounds through the three possum DAGs, and what they hand over."""

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from include.settings import INCLUDE, settings
from tests.support.local_stack import RunningStack

DAGS = ("feature_eng", "train", "predict")
PLOT = INCLUDE / "plots" / settings.possum.plot_file_name


@dataclass(frozen=True)
class Round:
    """One way through the three DAGs: run ids, what was handed over, and the registry as it was at the end."""

    began: datetime
    feature_eng: str
    train: str
    predict: str
    features: dict[str, Any]  # what feature_eng handed over
    trained: dict[str, Any]  # what train_model returned
    model: dict[str, Any]  # what predict worked with: the champion, and the references of its event
    plot: dict[str, Any]
    predictions: dict[str, Any]
    versions: dict[int, str]


def follow(stack: RunningStack, feature_eng: str, began: datetime, known: tuple[str, ...] = ()) -> Round:
    """Wait for a run of feature_eng and for the runs that follow from it, other than the known runs of train."""
    airflow = stack.airflow
    airflow.wait_for_success("feature_eng", feature_eng)
    train = airflow.wait_for_triggered("train", feature_eng, known)
    airflow.wait_for_success("train", train)
    predict = airflow.wait_for_triggered("predict", train)
    airflow.wait_for_success("predict", predict)
    return Round(
        began=began,
        feature_eng=feature_eng,
        train=train,
        predict=predict,
        features=airflow.xcom("feature_eng", feature_eng, "end"),
        trained=airflow.xcom("train", train, "train_model"),
        model=airflow.xcom("predict", predict, "fetch_model_run_id", "model"),
        plot=airflow.xcom("predict", predict, "plot_predictions"),
        predictions=airflow.xcom("predict", predict, "save_predictions"),
        versions=model_versions(stack),
    )


def model_versions(stack: RunningStack) -> dict[int, str]:
    """The registered model's versions: stage by number; none before there is a model."""
    found = stack.mlflow.search_model_versions(f"name = '{settings.possum.registered_model_name}'")
    return {int(each.version): each.current_stage for each in found}


def versions_of_run(stack: RunningStack, mlflow_run: str) -> list[int]:
    """The model versions that were made from an MLflow run."""
    return [int(each.version) for each in stack.mlflow.search_model_versions(f"run_id = '{mlflow_run}'")]


def mlflow_runs(stack: RunningStack, task: str) -> list[Any]:
    """The MLflow runs of a task (dag/run/task), not deleted, in all experiments."""
    experiments = [each.experiment_id for each in stack.mlflow.search_experiments()]
    return stack.mlflow.search_runs(experiments, f"tags.`airflow.task` = '{task}'")


def champion_version(stack: RunningStack) -> str:
    """The version with the alias champion."""
    return stack.mlflow.get_model_version_by_alias(settings.possum.registered_model_name, "champion").version


def asset_events(stack: RunningStack, name: str, source_run: str) -> list[dict[str, Any]]:
    """What the events of an asset carry that were made by a DAG run, in the order of time."""
    rows = stack.query(
        "SELECT event.extra FROM asset_event event JOIN asset ON asset.id = event.asset_id "
        "WHERE asset.name = %s AND event.source_run_id = %s ORDER BY event.timestamp",
        name,
        source_run,
    )
    return [extra for (extra,) in rows]


def what_bad_input_must_not_change(stack: RunningStack) -> dict[str, Any]:
    """Objects, artifacts, asset events, versions and the champion; not the input files."""
    objects = stack.keys(settings.data_bucket_name)
    return {
        "objects": {key: etag for key, etag in objects.items() if not key.startswith("incoming/")},
        "artifacts": stack.keys(settings.mlflow_artifact_bucket),
        "events": stack.query("SELECT count(*) FROM asset_event WHERE source_dag_id = ANY(%s)", list(DAGS)),
        "versions": model_versions(stack),
        "champion": champion_version(stack),
    }


def read_csv(data: bytes) -> pd.DataFrame:
    """The very floats that were written."""
    return pd.read_csv(io.BytesIO(data), float_precision="round_trip")
