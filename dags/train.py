"""Train the possum model; what the DAG does, for its readers in the UI: include/docs/train.md."""

from datetime import datetime
from typing import Any

import pandas as pd
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, chain, dag, task, task_group

from include.dag_defaults import DEFAULT_ARGS, MAX_ACTIVE_RUNS, MAX_ACTIVE_TASKS
from include.dataset_events import hand_over, reference_from_event
from include.datasets import MODEL_TRAINED, POSSUM_FEATURES
from include.links import MLflowExperimentLink, MLflowModelLink, MLflowRunLink, add_links
from include.mlflow_registry import EnsureModelVersionOperator, EnsureRegisteredModelOperator, MoveToStageOperator
from include.settings import INCLUDE, settings
from include.task_errors import fail_at_once

MODEL = {"mlflow_conn_id": settings.mlflow_conn_id, "name": settings.possum.registered_model_name}
VERSION = "{{ ti.xcom_pull(task_ids='register_model.create_model_version')['model_version']['version'] }}"
NEEDED = {"features_uri", "features_sha256", "animals_uri", "animals_sha256", "scaler_run_id", "scaler_model_uri"}

# What the trigger form checks; the task knows all arguments, and refuses the others with a list of them
RIDGE_ARGUMENTS = {
    "alphas": {"type": "array", "minItems": 1, "items": {"type": "number", "exclusiveMinimum": 0}},
    "fit_intercept": {"type": "boolean"},
}


@dag(
    schedule=[POSSUM_FEATURES],
    start_date=datetime(2023, 1, 1),
    catchup=False,
    max_active_runs=MAX_ACTIVE_RUNS,
    max_active_tasks=MAX_ACTIVE_TASKS,
    default_args=DEFAULT_ARGS,
    params={
        "hyper_parameters": Param(
            {},
            type="object",
            title="Hyperparameters",
            properties=RIDGE_ARGUMENTS,
            description='Arguments of scikit-learn\'s RidgeCV in place of the default ones, such as {"alphas": [0.1, 1, 10]}',
        )
    },
    tags=["possum", "mlflow", "training"],
    doc_md=str(INCLUDE / "docs" / "train.md"),
)
def train() -> None:
    @task(inlets=[POSSUM_FEATURES])
    @fail_at_once
    def fetch_feature_df(**context: Any) -> pd.DataFrame:
        """The features that the asset's event refers to."""
        from include.possum.tracking import read_features

        reference = reference_from_event(context, POSSUM_FEATURES, needed=NEEDED)
        context["ti"].xcom_push("reference", reference)
        return read_features(reference)

    @task
    @fail_at_once
    def fetch_experiment_id() -> str:
        """The id of the MLflow experiment."""
        from include.mlflow_experiment import require_experiment_id

        return require_experiment_id(settings.possum.experiment_name)

    @task
    @fail_at_once
    def train_model(
        feature_df: pd.DataFrame,
        reference: dict[str, str],
        experiment_id: str,
        hyper_parameters: dict[str, Any],
        **context: Any,
    ) -> dict[str, Any]:
        """Fit RidgeCV to the training animals, judge it on the holdout ones, log all to MLflow."""
        from include.mlflow_tracking import connect_mlflow
        from include.possum import tracking

        connect_mlflow()
        hyper_parameters = hyper_parameters | context["params"]["hyper_parameters"]
        return tracking.train_model(context, experiment_id, feature_df, reference, hyper_parameters)

    @task_group
    def register_model(trained: Any) -> None:
        @task.branch
        @fail_at_once
        def check_if_model_already_registered() -> str:
            """Does the registry know a model of that name?"""
            from include.mlflow_registry import list_registered_models

            known = list_registered_models(settings.possum.registered_model_name)
            return f"register_model.{'model_already_registered' if known else 'create_registered_model'}"

        model_already_registered = EmptyOperator(
            task_id="model_already_registered", doc_md="Nothing to do: the registry knows the model."
        )
        create_registered_model = EnsureRegisteredModelOperator(
            task_id="create_registered_model",
            doc_md="Make the registered model; its description and tags are written by `compare_with_champion`.",
            **MODEL,
        )
        create_model_version = EnsureModelVersionOperator(
            task_id="create_model_version",
            source=trained["source"],
            run_id=trained["run_id"],
            trigger_rule="none_failed_min_one_success",
            doc_md="Register the run's model as a new version, once for each run.",
            **MODEL,
        )
        transition_model = MoveToStageOperator(
            task_id="transition_model",
            version=VERSION,
            stage="Staging",
            archive_existing_versions=True,
            doc_md="Put the new version into the stage Staging, and archive the one that was there.",
            **MODEL,
        )
        chain(
            check_if_model_already_registered(),
            [model_already_registered, create_registered_model],
            create_model_version,
            transition_model,
        )

    @task_group
    def promote_model(reference: Any) -> Any:
        # one at a time: two challengers that are both compared with the same champion would not be compared with each other
        @task.branch(max_active_tis_per_dag=1)
        @fail_at_once
        def compare_with_champion(reference: dict[str, str], version: str) -> list[str]:
            """Is the new version good enough to become the champion? Writes tags and model card, and moves the alias."""
            from include.mlflow_tracking import connect_mlflow
            from include.possum.champion import judge
            from include.possum.model_card import write_model_card

            connect_mlflow()
            decision = judge(reference, version, before_alias=write_model_card)
            return [f"promote_model.{'new_champion' if decision.promoted else 'champion_stays'}", "end"]

        decided = compare_with_champion(reference, VERSION)
        chain(
            decided,
            [
                EmptyOperator(task_id="new_champion", doc_md="The new version is the champion now."),
                EmptyOperator(task_id="champion_stays", doc_md="The new version was not good enough."),
            ],
        )
        return decided  # what follows need not wait for the sign

    @task(outlets=[MODEL_TRAINED])
    @fail_at_once
    def end(features: dict[str, str], *, outlet_events: Any = None) -> None:
        """Tell the asset's consumers which model to use, the champion, on which animals, and whether it is of use for them."""
        from airflow.sdk.exceptions import AirflowSkipException

        from include.mlflow_tracking import connect_mlflow
        from include.possum.baseline import compare_with_baseline
        from include.possum.champion import describe_champion

        connect_mlflow()
        champion = describe_champion()
        if not champion:
            raise AirflowSkipException(
                "No version has been good enough to be the champion yet: nothing to predict with"
            )
        hand_over(outlet_events, MODEL_TRAINED, features | champion | compare_with_baseline(champion, features))

    feature_df = fetch_feature_df()
    reference = feature_df["reference"]
    trained = train_model(feature_df, reference, fetch_experiment_id(), hyper_parameters={})
    chain(trained, register_model(trained), promote_model(reference), end(reference))


add_links(
    train(),
    {
        "fetch_experiment_id": (MLflowExperimentLink,),
        "train_model": (MLflowExperimentLink, MLflowRunLink),
        "register_model.create_registered_model": (MLflowModelLink,),
        "register_model.create_model_version": (MLflowModelLink,),
        "register_model.transition_model": (MLflowModelLink,),
        "promote_model.compare_with_champion": (MLflowModelLink, MLflowRunLink),
        "end": (MLflowModelLink,),
    },
)
