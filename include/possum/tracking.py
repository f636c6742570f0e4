"""What the possum pipeline records in MLflow: the fitted transformer and the trained model."""

import io
import json
import logging
from importlib.metadata import version
from typing import Any

import mlflow
import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.pipeline import Pipeline

import include.skops_io
from include.drift import reference_rows
from include.errors import InputError
from include.mlflow_files import find_damage
from include.mlflow_tracking import find_finished_run, record_run, task_run
from include.model_safety import require_safe
from include.object_store import read_object, sha256_hex
from include.possum import features as possum_features
from include.possum import model as possum_model
from include.possum.animals import TRAINED_ON, describe_rows, input_columns, keep_complete, read_complete_animals
from include.possum.features import holdout_rows
from include.provenance import code_digest, lock_digest
from include.settings import settings

log = logging.getLogger(__name__)

PIPELINE = "possum"  # the package whose code makes the models
DRIFT_REFERENCE = "drift/reference.csv"  # artifact of a training run: the rows that later batches are compared with
SEED = 42  # of the cross-validation's splits
# What a model's run and version say about its data; keys of the dataset event
TRACED = ("features_uri", "features_sha256", "animals_uri", "animals_sha256", "scaler_run_id")
SCALER_RUN = "Scaler"
TRAINING_RUN = "RidgeCV"
# The runs' descriptions, which MLflow shows as Markdown
SCALER_NOTE = """\
Turns raw animals into features: one-hot categories, and measurements brought to mean 0 and standard deviation 1. Fitted to
the {training} training animals of {complete} complete ones, of {read} in the file; means and scales are the metrics, the fitted
transformer is the logged model."""
TRAINING_NOTE = """\
Ridge regression of tail length on {rows_training:.0f} animals, with the penalty alpha = {best_alpha:.3g}.

| | R² | RMSE |
|---|---|---|
| cross-validated | {cv_r2_mean:.2f} ± {cv_r2_std:.2f} | {cv_rmse_cm_mean:.2f} ± {cv_rmse_cm_std:.2f} cm |
| {rows_holdout:.0f} holdout animals | {holdout_r2:.2f} | {holdout_rmse_cm:.2f} cm |
| predicting the mean for these | | {holdout_baseline_rmse_cm:.2f} cm |

Artifacts: `model_card.md` (after registration), `plots/` (after the first prediction), `drift/reference.csv`,
`training/animals.csv`."""
# What it takes to load the models; what scoring needs too, predict's add_line_to_file adds: mlflow_files.ADDED_PACKAGES.
MODEL_PACKAGES = ("mlflow-skinny", "numpy", "scikit-learn", "scipy", "skops")


def pinned(*packages: str) -> list[str]:
    """The packages as requirement lines with the versions installed here."""
    return [f"{package}=={version(package)}" for package in packages]


def build_features(context: Any, experiment_id: str, animals: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Fit the transformer on the training animals, record it, and turn all complete animals into features.

    Args:
        context: of the Airflow task.
        experiment_id: MLflow experiment for the run.
        animals: checked animals, shape (n, 14).

    Returns:
        The features with key and target, shape (complete animals, 22), and the MLflow run and model of the transformer,
        ``{"scaler_run_id", "scaler_model_uri"}``.

    """
    complete, missing = keep_complete(animals)
    training, holdout = possum_features.split(complete, context["params"]["source"])
    transformer = possum_features.fit_transformer(training)
    engineered = possum_features.engineer_features(transformer, complete)
    inputs = digest_of_inputs(sha256_hex(animals.to_csv(index=False).encode()))
    if done := find_finished_run(context, experiment_id, SCALER_RUN, inputs):
        log.info("The same animals, code and packages: using the transformer of MLflow run %s", done.info.run_id)
        record_run(done)
        return engineered, _describe_scaler(done.info.run_id)
    note = SCALER_NOTE.format(read=len(animals), complete=len(complete), training=len(training))
    tags = {"step": "feature engineering", "mlflow.note.content": note} | provenance()
    with task_run(context, experiment_id, SCALER_RUN, inputs=inputs, tags=tags) as run:
        mlflow.log_params(
            {
                "categorical_columns": ", ".join(settings.possum.categorical_columns),
                "numeric_columns": ", ".join(settings.possum.numeric_columns),
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
                "rows_training": len(training),
                "rows_holdout": len(holdout),
            }
        )
        mlflow.log_input(
            mlflow.data.from_pandas(
                animals, source=context["params"]["source"], name="animals", targets=settings.possum.target_column
            ),
            context="feature engineering",
        )
        raw_inputs = complete.drop(columns=[settings.possum.target_column])
        # to be loaded by mlflow.sklearn.load_model: MLflow's pyfunc flavour knows no transformers, and without it MLflow
        # cannot validate an input example
        mlflow.sklearn.log_model(
            transformer,
            name="scaler",
            signature=infer_signature(raw_inputs, transformer.transform(raw_inputs)),
            pip_requirements=pinned(*MODEL_PACKAGES, "pandas"),
        )
    log.info("%d columns made of %d, for %d animals", engineered.shape[1], animals.shape[1], len(engineered))
    done = find_finished_run(context, experiment_id, SCALER_RUN, inputs) or run
    return engineered, _describe_scaler(done.info.run_id)


def digest_of_inputs(*parts: Any) -> str:
    """One digest of what a run was made from: the given parts, this project's code and its locked packages."""
    return sha256_hex(json.dumps([*parts, code_digest(PIPELINE), lock_digest()], sort_keys=True).encode())


def provenance() -> dict[str, str]:
    """Tags that name the code and the packages that made a run or a model."""
    return {"code_sha256": code_digest(PIPELINE), "lock_sha256": lock_digest()}


def _describe_scaler(run_id: str) -> dict[str, str]:
    client = mlflow.MlflowClient()
    model_id = client.get_run(run_id).outputs.model_outputs[0].model_id
    return {"scaler_run_id": run_id, "scaler_model_uri": client.get_logged_model(model_id).artifact_location}


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

    The model that is logged takes raw animals: the transformer that made the features, then the regression.

    Args:
        context: of the Airflow task.
        experiment_id: MLflow experiment for the run.
        features: all rows with key and target, shape (n, 22).
        reference: where they came from, as in the dataset event.
        hyper_parameters: arguments of RidgeCV in place of the default ones.

    Returns:
        What later tasks need: see describe_training.

    """
    training, holdout = possum_features.split(features, reference["features_uri"])
    regressor = possum_model.make_regressor(hyper_parameters)  # bad ones fail before anything is recorded
    inputs = digest_of_inputs(reference["features_sha256"], reference["animals_sha256"], hyper_parameters, SEED)
    if done := find_finished_run(context, experiment_id, TRAINING_RUN, inputs):
        log.info("The same features, parameters, code and packages: using the model of MLflow run %s", done.info.run_id)
        record_run(done)
        return describe_training(done.info.run_id)

    columns, target = possum_features.feature_columns(), settings.possum.target_column
    cross_validated = possum_model.cross_validate(training, hyper_parameters, seed=SEED)
    cross_validated |= possum_model.validate_by_site(training, hyper_parameters)
    mlflow.sklearn.autolog(log_models=False, log_datasets=False, log_post_training_metrics=False, silent=True)
    tags = {"step": "training"} | {name: reference[name] for name in TRACED} | provenance()
    with task_run(context, experiment_id, TRAINING_RUN, inputs=inputs, tags=tags) as run:
        possum_model.fit(regressor, training)
        mlflow.sklearn.autolog(disable=True)
        mlflow.log_params({"seed": SEED, "holdout_salt": possum_features.HOLDOUT_SALT})
        mlflow.log_metrics(
            cross_validated
            | possum_model.evaluate(training[target], regressor.predict(training[columns]), prefix="training_")
            | possum_model.evaluate(holdout[target], regressor.predict(holdout[columns]), prefix="holdout_")
            | possum_model.evaluate_baseline(training[target], holdout[target], prefix="holdout_baseline_")
            | {
                "best_alpha": float(regressor.alpha_),
                "rows_training": len(training),
                "rows_holdout": len(holdout),
                "training_target_mean_cm": float(training[target].mean()),
            }
        )
        source = reference["features_uri"]
        for rows, use in ((training, "training"), (holdout, "holdout")):
            mlflow.log_input(mlflow.data.from_pandas(rows, source=source, name=use, targets=target), context=use)
        log_pipeline(regressor, reference)
        metrics = mlflow.MlflowClient().get_run(run.info.run_id).data.metrics
        mlflow.set_tag("mlflow.note.content", TRAINING_NOTE.format(**metrics))
    done = find_finished_run(context, experiment_id, TRAINING_RUN, inputs) or run
    return describe_training(done.info.run_id)


def log_pipeline(regressor: Any, reference: dict[str, Any]) -> None:
    """Log transformer and regression as one model of raw animals, with signature, example and requirements.

    Raises InputError where the transformer is not what feature_eng has written.
    """
    if damage := find_damage(reference["scaler_run_id"]):
        raise InputError(f"The transformer cannot be used: {damage}. Trigger feature_eng, which makes it again")
    require_safe(reference["scaler_model_uri"])
    transformer = mlflow.sklearn.load_model(reference["scaler_model_uri"])
    pipeline = Pipeline([("features", transformer), ("regression", regressor)])
    animals = read_complete_animals(reference)
    trained_on = animals[~holdout_rows(animals)]
    training = trained_on[input_columns()]
    mlflow.sklearn.log_model(
        pipeline,
        name="model",
        signature=infer_signature(training, pipeline.predict(training)),
        input_example=training.head(3),
        pip_requirements=pinned(*MODEL_PACKAGES),
    )
    log.info("Model of %d raw columns logged, with signature, input example and requirements", len(training.columns))
    mlflow.log_text(reference_rows(training).to_csv(index=False), DRIFT_REFERENCE)
    mlflow.log_text(describe_rows(trained_on).to_csv(index=False), TRAINED_ON)


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
