"""Train and score: what the tasks do around the pure functions, in the object store and in Weights & Biases."""

import logging
from dataclasses import asdict
from typing import Any

import pandas as pd

from include import wandb_tracking
from include.churn import model as churn_model
from include.churn import plots
from include.errors import InputError
from include.object_store import read_object, write_object
from include.run_key import run_key
from include.settings import settings

log = logging.getLogger(__name__)

SEED = 42
TEST_SHARE = 0.3
MODEL_FILE = "model.skops"


def train(
    features: pd.DataFrame, dag_run: str, hyper_parameters: dict[str, Any], as_of_date: str | None
) -> dict[str, Any]:
    """Train the classifier, judge it on held-out customers, and publish it.

    Args:
        features: see include.churn.features.build_features; shape (n, 4).
        dag_run: the DAG run's id.
        hyper_parameters: arguments of RandomForestClassifier in place of the default ones.
        as_of_date: what the label was made with, for the record; None for the latest date in the data.

    Returns:
        What predict needs: ``model_uri`` and ``sha256`` of the object, ``reference`` of the artifact, ``wandb_run_id``,
        and for people ``metrics``, ``plots`` (name to URI), ``wandb_run`` (link, or folder when offline).

    """
    classifier = churn_model.make_classifier(hyper_parameters, seed=SEED)  # bad ones fail before anything is recorded
    training, holdout = churn_model.split(features, TEST_SHARE, seed=SEED)
    metrics = churn_model.cross_validate(training, hyper_parameters, seed=SEED)
    model = churn_model.train(training, hyper_parameters, seed=SEED)
    metrics |= churn_model.evaluate(model, training, prefix="training_")
    metrics |= churn_model.evaluate(model, holdout, prefix="holdout_")
    log.info(
        "AUC %.2f ± %.2f in repeated cross-validation of the %d training customers; on the %d held-out customers AUC %.2f, "
        "accuracy %.2f (always the more frequent class: %.2f)",
        metrics["cv_roc_auc_mean"],
        metrics["cv_roc_auc_std"],
        len(training),
        len(holdout),
        metrics["holdout_roc_auc"],
        metrics["holdout_accuracy"],
        metrics["holdout_baseline_accuracy"],
    )
    content = churn_model.dump_model(model)
    sha256 = churn_model.sha256(content)
    folder = f"s3://{settings.churn_model_bucket}/{settings.churn_artifact_name}"
    model_uri = f"{folder}/{sha256}/{MODEL_FILE}"  # the same model has the same address, however often it is trained
    write_object(model_uri, content)
    pictures = draw_plots(model, training, holdout, hyper_parameters)
    plot_uris = {}
    for name, png in pictures.items():
        plot_uris[name] = f"{folder}/plots/{run_key(dag_run)}/{name}.png"
        write_object(plot_uris[name], png)
    log.info("Model: %s. Plots: %s/plots/%s/", model_uri, folder, run_key(dag_run))

    run_id = wandb_tracking.run_id_for("customer_analytics", dag_run)
    config = classifier.get_params() | {
        "seed": SEED,
        "test_share": TEST_SHARE,
        "rows_training": len(training),
        "rows_holdout": len(holdout),
        "features_sha256": churn_model.sha256(features.to_csv(index=False).encode()),
        "as_of_date": as_of_date or "latest date in the data",
        "dag_run": dag_run,
    }
    about = {"group": dag_run, "name": "customer_churn", "tags": ["churn", "airflow"]}
    with wandb_tracking.tracked_run(run_id, job_type="train", config=config, **about) as tracked:
        tracked.run.log(metrics)
        wandb_tracking.log_images(tracked, pictures)
        metadata = {"model_uri": model_uri, **{name: metrics[name] for name in ("cv_roc_auc_mean", "holdout_roc_auc")}}
        reference = wandb_tracking.publish_model(
            tracked, {MODEL_FILE: content}, settings.churn_artifact_name, metadata=metadata
        )
        where = tracked.link or str(tracked.folder)
    return {
        "model_uri": model_uri,
        "sha256": sha256,
        "reference": asdict(reference),
        "wandb_run_id": run_id,
        "wandb_run": where,
        "metrics": metrics,
        "plots": plot_uris,
    }


def draw_plots(
    model: Any, training: pd.DataFrame, holdout: pd.DataFrame, hyper_parameters: dict[str, Any]
) -> dict[str, bytes]:
    """The tutorial's plots and a confusion matrix as PNGs, by name."""
    curve = churn_model.measure_learning_curve(training, hyper_parameters, seed=SEED)
    figures = {
        "class_proportions": plots.plot_class_proportions(training, holdout),
        "learning_curve": plots.plot_learning_curve(curve),
        "roc": plots.plot_roc(model, holdout, "held-out"),
        "precision_recall": plots.plot_precision_recall(model, holdout, "held-out"),
        "feature_importances": plots.plot_feature_importances(model, training),
        "confusion_matrix": plots.plot_confusion_matrix(model, holdout, "held-out"),
    }
    return {name: plots.figure_to_png(figure) for name, figure in figures.items()}


def predict(features: pd.DataFrame, trained: dict[str, Any], dag_run: str) -> pd.DataFrame:
    """Score every customer with the very model that ``train`` published.

    Online it comes from Weights & Biases, by its version; offline from the object store. Either way its digest is checked.

    Args:
        features: what the model was trained and judged on; shape (n, 4).
        trained: what train returned.
        dag_run: the DAG run's id.

    Returns:
        customer_id, churn_probability (of churned = 1), used_for_training, model_version; sorted by customer_id, shape (n, 4).

    """
    reference = wandb_tracking.ModelReference(**trained["reference"])
    target = wandb_tracking.tracking_target()
    if target.online and reference.qualified_name is None:
        raise InputError(
            "The model was trained offline, and now there is a WANDB_API_KEY: clear task train, so that it is published"
        )
    with wandb_tracking.tracked_run(
        trained["wandb_run_id"], job_type="predict", group=dag_run, name="customer_churn", resume=True
    ) as tracked:
        if tracked.online:
            content = wandb_tracking.fetch_model(tracked, reference)
            version = f"{reference.name}:{reference.version}"
            log.info("Model %s taken from Weights & Biases", reference.qualified_name)
        else:
            content = read_object(trained["model_uri"], sha256=trained["sha256"])
            version = f"{reference.name}@sha256:{trained['sha256'][:12]}"
            log.info("Model taken from %s", trained["model_uri"])
        model = churn_model.load_model(content, trained["sha256"])
        training, _ = churn_model.split(features, TEST_SHARE, seed=SEED)
        predictions = churn_model.score(model, features)
        predictions["used_for_training"] = predictions["customer_id"].isin(training["customer_id"])
        predictions["model_version"] = version
        probability = predictions["churn_probability"]
        tracked.run.summary.update(
            {
                "predictions/rows": len(predictions),
                "predictions/mean_churn_probability": float(probability.mean()),
                "predictions/above_one_half": int((probability > 0.5).sum()),
                "predictions/table": f"{settings.warehouse_schema}.pred_churn",
            }
        )
    return predictions
