"""Predict tail lengths; what the DAG does, for its readers in the UI: include/docs/predict.md."""

from datetime import datetime
from typing import Any

import pandas as pd
from airflow.sdk import Param, chain, dag, task

from include.dag_defaults import DEFAULT_ARGS, MAX_ACTIVE_RUNS, MAX_ACTIVE_TASKS
from include.dataset_events import hand_over, is_triggered_by, reference_from_event
from include.datasets import DRIFT_DETECTED, MODEL_TRAINED
from include.links import (
    MLflowExperimentLink,
    MLflowModelLink,
    MLflowRunLink,
    ObjectsLink,
    add_links,
    record_model,
)
from include.run_key import run_key
from include.settings import INCLUDE, settings
from include.sources import CSV_SOURCE, RULE
from include.task_errors import fail_at_once

MODEL = {"name", "version", "model_uri", "run_id", "experiment_id", "metrics", "trained_on_uri", "trained_on_sha256"}
BASELINE = {"better_than_baseline", "unseen_rows", "champion_loss", "baseline_loss"}
NEEDED = MODEL | BASELINE | {"animals_uri", "animals_sha256"}


@dag(
    schedule=[MODEL_TRAINED],
    start_date=datetime(2023, 1, 1),
    catchup=False,
    max_active_runs=MAX_ACTIVE_RUNS,
    max_active_tasks=MAX_ACTIVE_TASKS,
    default_args=DEFAULT_ARGS,
    params={
        "source": Param(
            None,
            type=["null", "string"],
            title="A CSV of animals to score",
            pattern=CSV_SOURCE,
            description=f"A path relative to include/, or s3://bucket/key; {RULE}; empty: the animals of the training run",
        ),
        "score_anyway": Param(
            False,
            type="boolean",
            title="Score anyway",
            description="Score even though the champion is no better than the baseline on the present labelled holdout; each row "
            "then says so",
        ),
    },
    tags=["possum", "mlflow", "prediction"],
    doc_md=str(INCLUDE / "docs" / "predict.md"),
)
def predict() -> None:
    @task(inlets=[MODEL_TRAINED])
    @fail_at_once
    def fetch_model_run_id(source: str, **context: Any) -> str:
        """The model that the asset's event refers to, or by hand the champion; the tasks below use this one and no other."""
        from include.mlflow_tracking import connect_mlflow
        from include.possum.baseline import choose_model

        reference = reference_from_event(context, MODEL_TRAINED, needed=NEEDED)
        connect_mlflow()
        model = choose_model(
            reference,
            by_hand=not is_triggered_by(context, MODEL_TRAINED),
            other_animals=bool(source),
            score_anyway=context["params"]["score_anyway"],
        )
        context["ti"].xcom_push("model", model)
        record_model(model)
        return model["run_id"]

    @task
    @fail_at_once
    def fetch_feature_df_no_target(model: dict[str, Any], source: str) -> pd.DataFrame:
        """The animals' features, without what is to be predicted, checked against schema and signature."""
        from include.mlflow_tracking import connect_mlflow
        from include.possum import scoring

        connect_mlflow()
        return scoring.read_batch(model, source)

    @task
    @fail_at_once
    def fetch_target(model: dict[str, Any], source: str) -> pd.DataFrame:
        """The true tail lengths by case, as far as they are known."""
        from include.possum import scoring

        return scoring.read_target(model, source)

    @task.short_circuit
    @fail_at_once
    def check_drift(model: dict[str, Any], batch: pd.DataFrame, **context: Any) -> bool:
        """Do the animals look like those that the model was trained on? Figures and report go to MLflow."""
        from include.mlflow_tracking import connect_mlflow
        from include.possum.drift_check import check_batch

        connect_mlflow()
        return check_batch(context, model, batch).drifted

    @task(outlets=[DRIFT_DETECTED])
    def report_drift(model: dict[str, Any], *, outlet_events: Any = None, run_id: str | None = None) -> None:
        """Update the asset drift_detected, on which a retraining may be scheduled."""
        reference = {"model": model["name"], "version": model["version"], "dag_run": run_id}
        hand_over(outlet_events, DRIFT_DETECTED, reference)

    @task
    @fail_at_once
    def add_line_to_file(model: dict[str, Any]) -> str:
        """Add boto3, pandas and pyarrow, which scoring needs too, to the logged model's requirements."""
        from include.mlflow_files import ADDED_PACKAGES
        from include.mlflow_tracking import connect_mlflow
        from include.model_requirements import add_requirements

        connect_mlflow()
        return add_requirements(model["model_uri"], *ADDED_PACKAGES)

    @task
    @fail_at_once
    def run_prediction(model_uri: str, data: pd.DataFrame, **context: Any) -> pd.DataFrame:
        """Tail lengths in cm by case, from the provider's operator."""
        from include.venv_prediction import CachedVenvPredictOperator

        key = settings.possum.key_column
        operator = CachedVenvPredictOperator(
            task_id="model_load_and_predict",
            dag=context["dag"],
            mlflow_conn_id=settings.mlflow_conn_id,
            model_uri=model_uri,
            data=data.drop(columns=[key]),
        )
        return data[[key]].assign(**{f"predicted_{settings.possum.target_column}": operator.predict()})

    @task
    @fail_at_once
    def join_predictions(
        predictions: pd.DataFrame, target: pd.DataFrame, model: dict[str, Any], source: str, **context: Any
    ) -> pd.DataFrame:
        """Prediction and truth by case; refused where they are no better than the baseline."""
        from include.possum import baseline, results

        table = results.join_predictions(predictions, target)
        score_anyway = context["params"]["score_anyway"]
        return baseline.mark_predictions(table, model, other_animals=bool(source), score_anyway=score_anyway)

    @task
    @fail_at_once
    def plot_predictions(
        predictions: pd.DataFrame, model: dict[str, Any], source: str, run_id: str | None = None
    ) -> dict[str, str]:
        """The plot, into the data bucket, the model's MLflow run and include/plots."""
        from include.mlflow_tracking import connect_mlflow
        from include.possum import results

        connect_mlflow()
        key = run_key(str(run_id))
        uri = f"s3://{settings.data_bucket_name}/plots/{key}/{settings.possum.plot_file_name}"
        return results.publish_plot(predictions, uri, model, other_animals=key if source else None)

    @task
    @fail_at_once
    def save_predictions(predictions: pd.DataFrame, run_id: str | None = None) -> dict[str, Any]:
        """The predictions as CSV in the data bucket."""
        from include.possum import results

        uri = f"s3://{settings.data_bucket_name}/predictions/{run_key(str(run_id))}/{settings.possum.predictions_file_name}"
        return results.save_predictions(predictions, uri)

    source = "{{ params.source or '' }}"
    model = fetch_model_run_id(source)["model"]
    batch = fetch_feature_df_no_target(model, source)
    scores = run_prediction(add_line_to_file(model), batch)
    chain(scores, check_drift(model, batch), report_drift(model))  # the scores first: they are what is waited for
    predictions = join_predictions(scores, fetch_target(model, source), model, source)
    plot_predictions(predictions, model, source)
    save_predictions(predictions)


add_links(
    predict(),
    {
        "fetch_model_run_id": (MLflowModelLink, MLflowRunLink),
        "check_drift": (MLflowExperimentLink, MLflowRunLink),
        "plot_predictions": (MLflowRunLink, ObjectsLink),
        "save_predictions": (ObjectsLink,),
    },
)
