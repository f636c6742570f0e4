"""What the possum pipeline records in MLflow: the fitted transformer, the trained model, the plot."""

import hashlib
import io
import json
import logging
from importlib.metadata import version
from typing import Any

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature

from include.holdout import in_holdout
from include.mlflow_tracking import find_finished_run, task_run
from include.object_store import read_object
from include.possum import features as possum_features
from include.possum import model as possum_model
from include.possum.schema import complete_rows
from include.settings import settings

log = logging.getLogger(__name__)

SEED = 42  # of the cross-validation's splits
SCALER_RUN = "Scaler"
TRAINING_RUN = "RidgeCV"
# What it takes to load the models; boto3 and pandas, which scoring needs too, are what predict's add_line_to_file adds.
MODEL_PACKAGES = ("mlflow-skinny", "numpy", "scikit-learn", "scipy", "skops")


def pinned(*packages: str) -> list[str]:
    """The packages as requirement lines with the versions installed here."""
    return [f"{package}=={version(package)}" for package in packages]


def holdout_rows(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which animals are kept out of all training, by a hash of their case number."""
    return in_holdout(
        frame[settings.key_column], share=possum_features.HOLDOUT_SHARE, salt=possum_features.HOLDOUT_SALT
    )


def build_features(context: Any, experiment_id: str, animals: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Fit the transformer on the training animals, record it, and turn all complete animals into features.

    Args:
        context: of the Airflow task.
        experiment_id: MLflow experiment for the run.
        animals: checked animals, shape (n, 14).

    Returns:
        The features with key and target, shape (complete animals, 22), and the id of the MLflow run.

    """
    complete, missing = keep_complete(animals)
    held_out = holdout_rows(complete)
    transformer = possum_features.fit_transformer(complete[~held_out])
    engineered = possum_features.engineer_features(transformer, complete)
    inputs = hashlib.sha256(animals.to_csv(index=False).encode()).hexdigest()
    if done := find_finished_run(context, experiment_id, inputs):
        log.info("MLflow run %s has recorded this transformer already", done.info.run_id)
        return engineered, done.info.run_id
    with task_run(context, experiment_id, SCALER_RUN, inputs=inputs, tags={"step": "feature engineering"}) as run:
        mlflow.log_params(
            {
                "categorical_columns": ", ".join(settings.categorical_columns),
                "numeric_columns": ", ".join(settings.numeric_columns),
                "holdout_share": possum_features.HOLDOUT_SHARE,
                "holdout_salt": possum_features.HOLDOUT_SALT,
            }
        )
        mlflow.log_metrics(
            possum_features.scaler_statistics(transformer)
            | {f"missing_{column}": count for column, count in missing.items() if count}
            | {
                "rows_read": len(animals),
                "rows_with_missing_values": len(animals) - len(complete),
                "rows_training": int((~held_out).sum()),
                "rows_holdout": int(held_out.sum()),
            }
        )
        mlflow.log_input(
            mlflow.data.from_pandas(animals, source=settings.file_path, name="animals", targets=settings.target_column),
            context="feature engineering",
        )
        raw_inputs = complete.drop(columns=[settings.target_column])
        mlflow.sklearn.log_model(
            transformer,
            name="scaler",
            pyfunc_predict_fn="transform",
            signature=infer_signature(raw_inputs, transformer.transform(raw_inputs)),
            input_example=raw_inputs.head(3),
            pip_requirements=pinned(*MODEL_PACKAGES, "pandas"),
        )
        return engineered, run.info.run_id


def keep_complete(animals: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the complete animals and say in the log how many were left out, and why."""
    complete, missing = complete_rows(animals)
    log.info(
        "%d animals read, %d are complete; left out for missing values: %s",
        len(animals),
        len(complete),
        {column: count for column, count in missing.items() if count},
    )
    return complete, missing


def read_features(reference: dict[str, Any]) -> pd.DataFrame:
    """The features that a dataset event refers to, verified against its digest; shape (n, 22)."""
    data = read_object(reference["features_uri"], sha256=reference["features_sha256"])
    # round_trip: the very floats that were written
    features = pd.read_csv(io.BytesIO(data), float_precision="round_trip")
    log.info("%d rows of features from %s (SHA-256 verified)", len(features), reference["features_uri"])
    return features


def train_model(
    context: Any,
    experiment_id: str,
    features: pd.DataFrame,
    reference: dict[str, Any],
    hyper_parameters: dict[str, Any],
) -> dict[str, Any]:
    """Train on the training animals, judge on the others, and record all of it in one MLflow run.

    Args:
        context: of the Airflow task.
        experiment_id: MLflow experiment for the run.
        features: all rows with key and target, shape (n, 22).
        reference: where they came from, as in the dataset event.
        hyper_parameters: arguments of RidgeCV in place of the default ones.

    Returns:
        What later tasks need: see describe_training.

    """
    held_out = holdout_rows(features)
    training, holdout = features[~held_out], features[held_out]
    regressor = possum_model.make_regressor(hyper_parameters)  # bad ones fail before anything is recorded
    inputs = hashlib.sha256(
        json.dumps([reference["features_sha256"], hyper_parameters, SEED], sort_keys=True).encode()
    ).hexdigest()
    if done := find_finished_run(context, experiment_id, inputs):
        log.info("MLflow run %s has trained this model already", done.info.run_id)
        return describe_training(done.info.run_id)

    columns, target = possum_features.feature_columns(), settings.target_column
    cross_validated = possum_model.cross_validate(training, hyper_parameters, seed=SEED)
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, log_post_training_metrics=False, silent=True)
    tags = {"step": "training", "features_uri": reference["features_uri"], "scaler_run_id": reference["scaler_run_id"]}
    with task_run(context, experiment_id, TRAINING_RUN, inputs=inputs, tags=tags) as run:
        regressor.fit(training[columns], training[target])
        mlflow.sklearn.autolog(disable=True)
        mlflow.log_params({"seed": SEED, "features_sha256": reference["features_sha256"]})
        mlflow.log_metrics(
            cross_validated
            | possum_model.evaluate(training[target], regressor.predict(training[columns]), prefix="training_")
            | possum_model.evaluate(holdout[target], regressor.predict(holdout[columns]), prefix="holdout_")
            | possum_model.evaluate_baseline(training[target], holdout[target], prefix="holdout_baseline_")
            | {"best_alpha": float(regressor.alpha_), "rows_training": len(training), "rows_holdout": len(holdout)}
        )
        source = reference["features_uri"]
        for rows, use in ((training, "training"), (holdout, "holdout")):
            mlflow.log_input(mlflow.data.from_pandas(rows, source=source, name=use, targets=target), context=use)
        mlflow.sklearn.log_model(
            regressor,
            name="model",
            signature=infer_signature(training[columns], regressor.predict(training[columns])),
            input_example=training[columns].head(3),
            pip_requirements=pinned(*MODEL_PACKAGES),
        )
    return describe_training(run.info.run_id)


def describe_training(run_id: str) -> dict[str, Any]:
    """What a finished training run left in MLflow: ``run_id``, ``model_id``, ``source`` (s3://) and ``metrics``."""
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    model_id = run.outputs.model_outputs[0].model_id
    metrics = run.data.metrics
    log.info(
        "R² %.2f ± %.2f, RMSE %.2f cm in repeated cross-validation of the %d training animals; on the %d holdout animals "
        "R² %.2f, RMSE %.2f cm (predicting the mean: %.2f cm)",
        metrics["cv_r2_mean"],
        metrics["cv_r2_std"],
        metrics["cv_rmse_cm_mean"],
        metrics["rows_training"],
        metrics["rows_holdout"],
        metrics["holdout_r2"],
        metrics["holdout_rmse_cm"],
        metrics["holdout_baseline_rmse_cm"],
    )
    return {
        "run_id": run_id,
        "model_id": model_id,
        "source": client.get_logged_model(model_id).artifact_location,
        "metrics": metrics,
    }
