"""Train and score: what the tasks do around the pure functions, in the object store and in Weights & Biases."""

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from include.churn import model as churn_model
from include.churn import plots
from include.churn.champion import CARD_FILE, RUN_NAME, require_same_mode
from include.churn.model_card import render_card
from include.churn.records import Champion, StoredObject, TrainedModel, churn_folder, parse_record
from include.drift import DriftReport, compare, reference_rows, render_report
from include.errors import InputError
from include.links import ObjectsLink, WandbRunLink, object_url, record_link
from include.object_store import object_path, sha256_hex, write_object
from include.provenance import code_digest, lock_digest
from include.run_key import run_key
from include.settings import settings
from include.wandb_tracking.errors import ModelDeleted
from include.wandb_tracking.models import fetch_model, publish_model
from include.wandb_tracking.runs import TrackedRun, log_images, save_files, tracked_run
from include.wandb_tracking.target import run_id_for

log = logging.getLogger(__name__)

SEED = 42
MODEL_FILE = "model.skops"
ABOUT_FILE = "about.json"
RUN_TAGS = ("churn", "airflow")


def train(
    features: pd.DataFrame,
    dag_run: str,
    hyper_parameters: dict[str, Any],
    as_of_date: str | None,
    files: Mapping[str, str],
    *,
    dag_id: str,
) -> dict[str, Any]:
    """Train the classifier, judge it on held-out customers, and publish it; or find the one that was made of the same.

    Args:
        features: see include.churn.features.build_features; shape (n, 4).
        dag_run: the DAG run's id.
        hyper_parameters: arguments of RandomForestClassifier in place of the default ones.
        as_of_date: what the label was made with, for the record; None for the latest date in the data.
        files: SHA-256 of the CSVs by table, for the record.
        dag_id: the DAG's id; with ``dag_run`` it makes the id of the run in W&B.

    Returns:
        What later tasks need: ``about`` (address and digest of the model's record), ``reference`` of the artifact,
        ``server`` that has it, ``wandb_run_id``; and for people ``model_uri``, ``metrics``, ``plots`` (folder),
        ``wandb_run`` (link, or folder when offline).

    """
    classifier = churn_model.make_classifier(hyper_parameters, seed=SEED)  # bad ones fail before anything is recorded
    training, holdout = churn_model.split(features)
    log.info(
        "Held out by a hash of customer_id: %d of %d customers, %.0f%% of them churned; of the %d training customers %.0f%%",
        len(holdout),
        len(features),
        100 * holdout[churn_model.TARGET].mean(),
        len(training),
        100 * training[churn_model.TARGET].mean(),
    )
    config = classifier.get_params() | {
        "seed": SEED,
        "holdout_share": churn_model.HOLDOUT_SHARE,
        "holdout_salt": churn_model.HOLDOUT_SALT,
        "rows_training": len(training),
        "rows_holdout": len(holdout),
    }
    digests = digest_inputs(pd.concat([training, holdout]).sort_values(churn_model.KEY), config)
    folder = f"{churn_folder()}/models/{digests['inputs_sha256'][:16]}"
    if found := find_model(folder):
        about, contents = found
        log.info("The same customers, parameters, code and packages: using the model of run %s", about.dag_run)
    else:
        about, contents = make_model(folder, training, holdout, hyper_parameters, config, digests, dag_run)
    describe_metrics(about.metrics)
    log.info("Model: %s. Model card: %s/%s. Plots: %s/plots/", about.model.uri, folder, CARD_FILE, folder)
    record_link(ObjectsLink, object_url(f"{folder}/"))

    run_id = run_id_for(dag_id, dag_run)
    recorded = config | digests | {f"{name}_csv_sha256": digest for name, digest in files.items()}
    recorded |= {"as_of_date": as_of_date or "latest date in the data", "dag_run": dag_run}
    with tracked_run(run_id, job_type="train", group=dag_run, config=recorded, name=RUN_NAME, tags=RUN_TAGS) as tracked:
        tracked.run.log(about.metrics)
        log_images(tracked, {name: contents[name] for name in about.plots})
        card = render_card(about.model_dump(), settings.churn.artifact_name)
        reference = publish_model(
            tracked,
            {MODEL_FILE: contents[MODEL_FILE], CARD_FILE: card.encode()},
            settings.churn.artifact_name,
            metadata={
                "model_uri": about.model.uri,
                **about.digests,
                **{name: about.metrics[name] for name in ("cv_roc_auc_mean", "holdout_roc_auc", "holdout_brier")},
            },
        )
        record_link(WandbRunLink, tracked.link, said=True)
        where = tracked.link or str(tracked.folder)
        server = tracked.target.base_url if tracked.online else None
    return {
        "about": {"uri": f"{folder}/{ABOUT_FILE}", "sha256": sha256_hex(_dump(about))},
        "model_uri": about.model.uri,
        "sha256": about.model.sha256,
        "reference": asdict(reference),
        "server": server,
        "wandb_run_id": run_id,
        "wandb_run": where,
        "metrics": about.metrics,
        "plots": f"{folder}/plots/",
    }


def digest_inputs(features: pd.DataFrame, config: dict[str, Any]) -> dict[str, str]:
    """Digests of all that a model is made from, each by itself and together."""
    digests = {
        "features_sha256": sha256_hex(features.to_csv(index=False).encode()),
        "code_sha256": code_digest("churn"),
        "lock_sha256": lock_digest(),
    }
    return digests | {"inputs_sha256": sha256_hex(json.dumps([digests, config], sort_keys=True).encode())}


def find_model(folder: str) -> tuple[TrainedModel, dict[str, bytes]] | None:
    """The model in the folder with its plots by name, if it is complete and undamaged."""
    uri = f"{folder}/{ABOUT_FILE}"
    try:
        content = object_path(uri).read_bytes()
    except FileNotFoundError:
        return None
    try:
        about = parse_record(TrainedModel, content, uri)
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
    """Train, measure, draw, and write it all into the folder; the record comes last and makes it complete."""
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
            f"{folder}/training_customers.parquet", training[[churn_model.KEY]].to_parquet(index=False)
        ),
        drift_reference=StoredObject.write(f"{folder}/drift_reference.parquet", compared.to_parquet(index=False)),
        dag_run=dag_run,
        digests=digests,
        config=config,
        metrics=metrics,
        plots={name: StoredObject.write(f"{folder}/plots/{name}.png", png) for name, png in pictures.items()},
    )
    write_object(f"{folder}/{CARD_FILE}", render_card(about.model_dump(), settings.churn.artifact_name).encode())
    write_object(f"{folder}/{ABOUT_FILE}", _dump(about))
    return about, pictures | {MODEL_FILE: content}


def describe_metrics(metrics: dict[str, float]) -> None:
    """Say in the log how good the model is."""
    log.info(
        "AUC %.2f ± %.2f in repeated cross-validation of the %d training customers; on the %d held-out customers AUC %.2f, "
        "accuracy %.2f (always the more frequent class: %.2f), Brier score %.3f (always their churned share: %.3f)",
        metrics["cv_roc_auc_mean"],
        metrics["cv_roc_auc_std"],
        metrics["training_rows"],
        metrics["holdout_rows"],
        metrics["holdout_roc_auc"],
        metrics["holdout_accuracy"],
        metrics["holdout_baseline_accuracy"],
        metrics["holdout_brier"],
        metrics["holdout_baseline_brier"],
    )


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


def predict(
    features: pd.DataFrame, handed_over: dict[str, Any], dag_run: str, table: str, *, dag_id: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score every customer with the champion that was handed over, and compare them with those it was trained on.

    Online it comes from Weights & Biases, by its version; offline from the object store. Either way its digest is checked.

    Args:
        features: the customers to score, with or without label; shape (n, 3 or 4).
        handed_over: ``champion`` as Champion.handed_over gives it; ``trained_online`` whether this DAG run has trained a
            model online or offline, None where it has trained none and so has no run in W&B yet.
        dag_run: the DAG run's id.
        table: where the predictions will go, for the record.
        dag_id: the DAG's id; with ``dag_run`` it makes the id of the run in W&B.

    Returns:
        The predictions: customer_id, churn_probability (of churned = 1), used_for_training, model_version; sorted by
        customer_id, shape (n, 4). And what the drift check found: ``detected``, ``sentence``, ``p_value``, ``report``
        (address), ``model_version``.

    """
    champion = Champion.model_validate(handed_over["champion"])
    check_contract(champion, features)
    resume = handed_over["trained_online"] is not None
    if resume:
        require_same_mode(handed_over["trained_online"])
    config = None if resume else {"dag_run": dag_run, "model_version": champion.version}
    run_id = run_id_for(dag_id, dag_run)
    with tracked_run(
        run_id, job_type="predict", group=dag_run, resume=resume, config=config, name=RUN_NAME, tags=RUN_TAGS
    ) as tracked:
        model = churn_model.load_model(fetch_champion(tracked, champion), champion.trained.model.sha256)
        drift, page = check_drift(champion, features)
        report = f"{churn_folder()}/drift/{run_key(dag_run)}/report.html"
        write_object(report, page)
        log.info("Drift report: %s", report)
        record_link(ObjectsLink, object_url(report))
        record_link(WandbRunLink, tracked.link, said=True)
        predictions = churn_model.score(model, features)
        known = pd.read_parquet(io.BytesIO(champion.trained.training_customers.read()))
        predictions["used_for_training"] = predictions[churn_model.KEY].isin(known[churn_model.KEY])
        predictions["model_version"] = champion.version
        probability = predictions["churn_probability"]
        tracked.run.summary.update(
            {
                "predictions/rows": len(predictions),
                "predictions/mean_churn_probability": float(probability.mean()),
                "predictions/above_one_half": int((probability > 0.5).sum()),
                "predictions/table": f"{settings.churn.warehouse_schema}.{table}",
                "predictions/model_version": champion.version,
                **{f"drift/{name.removeprefix('drift_')}": value for name, value in drift.metrics().items()},
                "drift/finding": drift.sentence,
                "drift/report": report,
            }
        )
        if drift.drifted:
            tracked.run.tags = (*(tracked.run.tags or ()), "drift")
        save_files(tracked, {"drift_report.html": page})
    found = {
        "detected": drift.drifted,
        "sentence": drift.sentence,
        "p_value": drift.p_value,
        "report": report,
        "model_version": champion.version,
    }
    return predictions, found


def check_contract(champion: Champion, features: pd.DataFrame) -> None:
    """Raise InputError where the champion takes columns that the features do not have."""
    if missing := [column for column in champion.trained.columns if column not in features]:
        raise InputError(
            f"The champion {champion.version} takes the columns {champion.trained.columns}, the features lack {missing}: run "
            "customer_analytics without score_only, which trains a model on the present columns"
        )
    log.info("The %d customers have all columns that %s takes", len(features), champion.version)


def fetch_champion(tracked: TrackedRun, champion: Champion) -> bytes:
    """The champion's bytes, verified: from the W&B server that has it, otherwise from the object store."""
    if tracked.online and champion.server == tracked.target.base_url:
        try:
            content = fetch_model(tracked, champion.reference)
        except ModelDeleted as error:
            log.warning("%s. The copy in the object store is used instead", error)
        else:
            log.info("Model %s taken from Weights & Biases", champion.reference.qualified_name)
            return content
    elif tracked.online:
        where = f"at {champion.server}" if champion.server else "offline"
        log.info("The champion %s was published %s, so W&B cannot record that it is used here", champion.version, where)
    log.info("Model %s taken from %s", champion.version, champion.trained.model.uri)
    return champion.trained.model.read()


def check_drift(champion: Champion, features: pd.DataFrame) -> tuple[DriftReport, bytes]:
    """Compare the customers with those that the champion was trained on; the report is an HTML page."""
    reference = pd.read_parquet(io.BytesIO(champion.trained.drift_reference.read()))
    report = compare(
        reference,
        features,
        categorical=[],
        numeric=champion.trained.columns,
        significance=settings.pipelines.drift_significance,
    )
    (log.warning if report.drifted else log.info)(report.sentence)
    title = f"Drift of {len(features):,} customers against {champion.version}"
    return report, render_report(reference, features, report, title).encode()


def _dump(about: TrainedModel) -> bytes:
    return about.model_dump_json(indent=1).encode()
