"""Features for the possum model; what the DAG does, for its readers in the UI: include/docs/feature_eng.md."""

import include.legacy_packages

from datetime import datetime
from typing import Any

import pandas as pd
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, chain, dag, task, task_group
from astro import sql as aql
from astro.files import File

from include.buckets import EnsureBucketOperator
from include.dag_defaults import DEFAULT_ARGS, MAX_ACTIVE_RUNS, MAX_ACTIVE_TASKS
from include.dataset_events import hand_over
from include.datasets import POSSUM_FEATURES
from include.links import MLflowExperimentLink, MLflowRunLink, ObjectsLink, add_links
from include.run_key import run_key
from include.settings import INCLUDE, settings
from include.sources import CSV_SOURCE, RULE
from include.task_errors import fail_at_once


def data_file(folder: str) -> File:
    """An object of this run in the data bucket."""
    path = f"s3://{settings.data_bucket_name}/{folder}/{{{{ run_key(run_id) }}}}/{settings.possum.file_path}"
    return File(path=path, conn_id=settings.aws_conn_id)


FEATURES_FILE = data_file("features")
ANIMALS_FILE = data_file("animals")
EXPERIMENT_NOTE = """\
Tail length of possums. Runs *Scaler* turn animals into features (DAG feature_eng), runs *RidgeCV* are trained models with their
figures, model card and plot (train, predict), runs *Drift check* compare scored animals with those trained on (predict)."""


@dag(
    schedule=None,
    start_date=datetime(2023, 1, 1),
    catchup=False,
    max_active_runs=MAX_ACTIVE_RUNS,
    max_active_tasks=MAX_ACTIVE_TASKS,
    default_args=DEFAULT_ARGS,
    user_defined_macros={"run_key": run_key},
    params={
        "source": Param(
            settings.possum.file_path,
            type="string",
            title="The animals' CSV",
            pattern=CSV_SOURCE,
            description=f"A path relative to include/, or s3://bucket/key; {RULE}",
        )
    },
    tags=["possum", "mlflow", "feature engineering"],
    doc_md=str(INCLUDE / "docs" / "feature_eng.md"),
)
def feature_eng() -> None:
    start = EmptyOperator(task_id="start", doc_md="Where the way of the data begins.")

    create_buckets_if_not_exists = EnsureBucketOperator.partial(
        task_id="create_buckets_if_not_exists",
        aws_conn_id=settings.aws_conn_id,
        map_index_template="{{ task.bucket_name }}",
        doc_md="Make the three buckets, one task each; those that are there stay as they are.",
    ).expand(bucket_name=[settings.data_bucket_name, settings.mlflow_artifact_bucket, settings.xcom_bucket])

    @task_group
    def prepare_mlflow_experiment() -> Any:
        @task
        @fail_at_once
        def list_existing_experiments() -> list[dict[str, Any]]:
            """All experiments of the wanted name, deleted ones too."""
            from include.mlflow_experiment import list_experiments

            return list_experiments(settings.possum.experiment_name)

        @task.branch
        def check_if_experiment_exists(experiments: list[dict[str, Any]]) -> str:
            """Is there an experiment of that name that is not deleted?"""
            from include.mlflow_experiment import is_usable

            chosen = (
                "experiment_exists" if is_usable(experiments, settings.possum.experiment_name) else "create_experiment"
            )
            return f"prepare_mlflow_experiment.{chosen}"

        experiment_exists = EmptyOperator(task_id="experiment_exists", doc_md="Nothing to do: it is there.")

        @task
        @fail_at_once
        def create_experiment(experiments: list[dict[str, Any]]) -> str:
            """Make the experiment with its artifacts in the artifact bucket, or bring a deleted one back."""
            from include.mlflow_experiment import create_or_restore_experiment

            location = f"s3://{settings.mlflow_artifact_bucket}/"
            return create_or_restore_experiment(experiments, settings.possum.experiment_name, location)

        @task(trigger_rule="none_failed_min_one_success")
        @fail_at_once
        def get_current_experiment_id() -> str:
            """The experiment's id, whichever way it came to be."""
            from include.mlflow_experiment import describe_experiment, get_experiment_id

            describe_experiment(settings.possum.experiment_name, EXPERIMENT_NOTE)
            return get_experiment_id(settings.possum.experiment_name)

        experiments = list_existing_experiments()
        experiment_id = get_current_experiment_id()
        chain(
            check_if_experiment_exists(experiments),
            [experiment_exists, create_experiment(experiments)],
            experiment_id,
        )
        return experiment_id

    @aql.dataframe
    @fail_at_once
    def extract_data(source: str) -> pd.DataFrame:
        """The animals of the CSV, checked against the schema, and enough to train on and to judge by."""
        from include.possum.features import split
        from include.possum.schema import complete_rows, read_animals
        from include.sources import read_source

        content, name = read_source(source)
        animals = read_animals(content, name)
        split(complete_rows(animals)[0], name)
        return animals

    @aql.dataframe
    @fail_at_once
    def build_features(animals: pd.DataFrame, experiment_id: str) -> pd.DataFrame:
        """One-hot categories and scaled measurements of the complete animals; the transformer goes to MLflow."""
        from airflow.sdk import get_current_context

        from include.mlflow_tracking import connect_mlflow
        from include.possum import tracking

        connect_mlflow()
        context = get_current_context()
        features, scaler = tracking.build_features(context, experiment_id, animals)
        context["ti"].xcom_push("scaler", scaler)
        return features

    @task(outlets=[POSSUM_FEATURES])
    @fail_at_once
    def end(
        features_file: File, animals_file: File, scaler: dict[str, str], *, outlet_events: Any = None
    ) -> dict[str, str]:
        """Tell the asset's consumers which objects and which transformer to take, and how to verify them."""
        from include.object_store import read_object, sha256_hex

        reference = scaler | {
            "features_uri": features_file.path,
            "features_sha256": sha256_hex(read_object(features_file.path)),
            "animals_uri": animals_file.path,
            "animals_sha256": sha256_hex(read_object(animals_file.path)),
        }
        hand_over(outlet_events, POSSUM_FEATURES, reference)
        return reference

    animals = extract_data("{{ params.source }}")
    features = build_features(animals, prepare_mlflow_experiment())
    save_data_to_s3 = export("save_data_to_s3", features, FEATURES_FILE, "The features, as CSV in the data bucket.")
    save_animals_to_s3 = export("save_animals_to_s3", animals, ANIMALS_FILE, "The checked animals, as CSV beside them.")
    chain(start, create_buckets_if_not_exists, animals)
    end(save_data_to_s3, save_animals_to_s3, features["scaler"])


def export(task_id: str, frame: Any, file: File, doc: str) -> Any:
    """Astro SDK's export_file, without the asset that the SDK would name by the path's template."""
    return aql.export_file(
        task_id=task_id, input_data=frame, output_file=file, if_exists="replace", inlets=[], outlets=[], doc_md=doc
    )


add_links(
    feature_eng(),
    {
        "create_buckets_if_not_exists": (ObjectsLink,),
        "prepare_mlflow_experiment.get_current_experiment_id": (MLflowExperimentLink,),
        "build_features": (MLflowExperimentLink, MLflowRunLink),
        "save_data_to_s3": (ObjectsLink,),
        "save_animals_to_s3": (ObjectsLink,),
    },
)
