"""Train and score: what the tasks do around the pure functions, in the object store and in Weights & Biases."""

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from include.churn import model as churn_model
from include.churn.champion import RUN_NAME, require_same_mode
from include.churn.model_card import CARD_FILE, render_card
from include.churn.model_folder import ABOUT_FILE, MODEL_FILE, SEED, dump_record, find_model, make_model
from include.churn.records import Champion, HandOver, churn_folder
from include.churn.training_rows import mark_training_rows
from include.drift import DriftReport, compare, render_report
from include.errors import InputError
from include.links import ObjectsLink, WandbRunLink, object_url, record_link
from include.object_store import sha256_hex, write_object
from include.provenance import code_digest, lock_digest
from include.run_key import run_key
from include.settings import settings
from include.wandb_tracking.errors import ModelDeleted
from include.wandb_tracking.models import fetch_model, publish_model
from include.wandb_tracking.runs import TrackedRun, log_images, save_files, tracked_run
from include.wandb_tracking.target import run_id_for

log = logging.getLogger(__name__)

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
    if found := find_model(folder, digests):
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
        # a retry continues the run: what an earlier try has logged would be there twice
        if any(tracked.run.summary.get(name) != value for name, value in about.metrics.items()):
            tracked.run.log(about.metrics)
        images = {name: contents[name] for name in about.plots}
        if any(_image_digest(tracked, name) != sha256_hex(png) for name, png in images.items()):
            log_images(tracked, images)
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
        "about": {"uri": f"{folder}/{ABOUT_FILE}", "sha256": sha256_hex(dump_record(about))},
        "model_uri": about.model.uri,
        "sha256": about.model.sha256,
        "reference": asdict(reference),
        "server": server,
        "wandb_run_id": run_id,
        "wandb_run": where,
        "metrics": about.metrics,
        "plots": f"{folder}/plots/",
    }


def _image_digest(tracked: TrackedRun, name: str) -> str | None:
    """SHA-256 of the image that the run has under this name; None where it has none."""
    return (tracked.run.summary.get(name) or {}).get("sha256")


def digest_inputs(features: pd.DataFrame, config: dict[str, Any]) -> dict[str, str]:
    """Digests of all that a model is made from, each by itself and together."""
    digests = {
        "features_sha256": sha256_hex(features.to_csv(index=False).encode()),
        "code_sha256": code_digest("churn"),
        "lock_sha256": lock_digest(),
    }
    return digests | {"inputs_sha256": sha256_hex(json.dumps([digests, config], sort_keys=True).encode())}


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


def predict(
    features: pd.DataFrame, handed_over: dict[str, Any], dag_run: str, table: str, *, dag_id: str
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score every customer with the champion that was handed over, and compare them with those it was trained on.

    Online it comes from Weights & Biases, by its version; offline from the object store. Either way its digest is checked.

    Args:
        features: the customers to score, with or without label; shape (n, 3 or 4).
        handed_over: see include.churn.records.HandOver; its champion is not None.
        dag_run: the DAG run's id.
        table: where the predictions will go, for the record.
        dag_id: the DAG's id; with ``dag_run`` it makes the id of the run in W&B.

    Returns:
        The predictions, sorted by customer_id, shape (n, 5): customer_id; churn_probability (of churned = 1);
        used_for_training, whether the model was trained on this very row (missing where nobody knows); model_version;
        better_than_baseline, the same in each row (missing where there are no labels to tell). And what the drift check
        found: ``detected``, ``sentence``, ``p_value``, ``report`` (address), ``model_version``.

    """
    scorer = HandOver.model_validate(handed_over)
    champion = scorer.champion
    assert champion  # fetch_champion has seen to it
    check_contract(champion, features)
    resume = scorer.trained_online is not None
    if resume:
        require_same_mode(bool(scorer.trained_online))
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
        predictions["used_for_training"] = mark_training_rows(
            champion.trained.training_customers.read(),
            features.sort_values(churn_model.KEY, ignore_index=True),
            champion.trained.columns,
        )
        predictions["model_version"] = champion.version
        predictions["better_than_baseline"] = pd.Series(scorer.better_than_baseline, predictions.index, dtype="boolean")
        probability = predictions["churn_probability"]
        tracked.run.summary.update(
            {
                "predictions/rows": len(predictions),
                "predictions/mean_churn_probability": float(probability.mean()),
                "predictions/above_one_half": int((probability > 0.5).sum()),
                "predictions/table": f"{settings.churn.warehouse_schema}.{table}",
                "predictions/model_version": champion.version,
                **({"predictions/doubt": scorer.doubt} if scorer.doubt else {}),
                **{f"drift/{name.removeprefix('drift_')}": value for name, value in drift.metrics().items()},
                "drift/finding": drift.sentence,
                "drift/report": report,
            }
        )
        if drift.drifted:
            tracked.run.tags = tuple(dict.fromkeys((*(tracked.run.tags or ()), "drift")))  # a retry may find it there
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
    """Compare the customers with those that the champion was trained on; the report is an HTML page in UTF-8."""
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
