"""A model's folder in the object store: the model, what it was made from, its plots, and the record that makes it complete."""

import logging
from typing import Any

import pandas as pd

from include.churn import model as churn_model
from include.churn import plots
from include.churn.model_card import CARD_FILE, render_card
from include.churn.records import StoredObject, TrainedModel, parse_record
from include.churn.training_rows import dump_training_rows
from include.drift import reference_rows
from include.errors import InputError
from include.object_store import object_path, write_object
from include.settings import settings

log = logging.getLogger(__name__)

SEED = 42
MODEL_FILE = "model.skops"
ABOUT_FILE = "about.json"


def find_model(folder: str, digests: dict[str, str]) -> tuple[TrainedModel, dict[str, bytes]] | None:
    """The model in the folder, and its bytes with those of its plots by name, if it is complete and as it was written.

    Args:
        folder: of the model.
        digests: of all that it is made from.

    """
    uri = f"{folder}/{ABOUT_FILE}"
    try:
        content = object_path(uri).read_bytes()
    except FileNotFoundError:
        return None
    try:
        about = parse_record(TrainedModel, content, uri)
        if content != dump_record(about) or about.digests != digests:
            raise InputError(f"{uri} has been edited")
        for each in (about.drift_reference, about.training_customers):
            each.read()
        contents = {name: plot.read() for name, plot in about.plots.items()}
        return about, contents | {MODEL_FILE: about.model.read()}
    except InputError as error:
        log.warning("There is a model made of the same, but it is damaged, so it is made again: %s", error)
        return None


def make_model(
    folder: str,
    training: pd.DataFrame,
    holdout: pd.DataFrame,
    hyper_parameters: dict[str, Any],
    config: dict[str, Any],
    digests: dict[str, str],
    dag_run: str,
) -> tuple[TrainedModel, dict[str, bytes]]:
    """Train, measure, draw, and write it all into the folder; the record comes last and makes it complete.

    Args:
        folder: of the model; what is left there of an earlier try is replaced by the same bytes.
        training: shape (n, 4).
        holdout: shape (m, 4).
        hyper_parameters: arguments of RandomForestClassifier in place of the default ones.
        config: for the record.
        digests: of all that the model is made from, for the record.
        dag_run: the DAG run's id, for the record.

    """
    metrics = churn_model.cross_validate(training, hyper_parameters, seed=SEED)
    model = churn_model.train(training, hyper_parameters, seed=SEED)
    metrics |= churn_model.evaluate(model, training, prefix="training_")
    metrics |= churn_model.evaluate(model, holdout, prefix="holdout_")
    pictures = draw_plots(model, training, holdout, hyper_parameters)
    content = churn_model.dump_model(model)
    compared = reference_rows(training, SEED)[churn_model.FEATURE_COLUMNS]
    about = TrainedModel(
        model=StoredObject.write(f"{folder}/{MODEL_FILE}", content),
        columns=churn_model.FEATURE_COLUMNS,
        training_customers=StoredObject.write(
            f"{folder}/training_customers.parquet", dump_training_rows(training, churn_model.FEATURE_COLUMNS)
        ),
        drift_reference=StoredObject.write(f"{folder}/drift_reference.parquet", compared.to_parquet(index=False)),
        dag_run=dag_run,
        digests=digests,
        config=config,
        metrics=metrics,
        plots={name: StoredObject.write(f"{folder}/plots/{name}.png", png) for name, png in pictures.items()},
    )
    write_object(f"{folder}/{CARD_FILE}", render_card(about.model_dump(), settings.churn.artifact_name).encode())
    write_object(f"{folder}/{ABOUT_FILE}", dump_record(about))
    return about, pictures | {MODEL_FILE: content}


def draw_plots(
    model: Any, training: pd.DataFrame, holdout: pd.DataFrame, hyper_parameters: dict[str, Any]
) -> dict[str, bytes]:
    """The tutorial's plots and a confusion matrix as PNGs, by name."""
    curve = churn_model.measure_learning_curve(training, hyper_parameters, seed=SEED)
    figures = {
        "class_proportions": plots.plot_class_proportions(training, holdout),
        "learning_curve": plots.plot_learning_curve(curve, len(training)),
        "roc": plots.plot_roc(model, holdout, "held-out"),
        "precision_recall": plots.plot_precision_recall(model, holdout, "held-out"),
        "feature_importances": plots.plot_feature_importances(model, training),
        "confusion_matrix": plots.plot_confusion_matrix(model, holdout, "held-out"),
    }
    return {name: plots.figure_to_png(figure) for name, figure in figures.items()}


def dump_record(about: TrainedModel) -> bytes:
    """The record as it is in the folder."""
    return about.model_dump_json(indent=1).encode()
