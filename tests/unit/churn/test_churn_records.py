"""The records of models, and the card that is made from them."""

import json

import pytest

from include.churn.model_card import render_card
from include.churn.records import Champion, HandOver, StoredObject, TrainedModel, parse_record
from include.errors import InputError
from include.wandb_tracking.models import ModelReference

FIGURES = ("roc_auc", "accuracy", "baseline_accuracy", "brier", "baseline_brier", "churn_share", "rows")


SHA256 = "0123456789abcdef" * 4


def stored(name):
    return StoredObject(uri=f"s3://churnmodels/churn_classifier/models/abc/{name}", sha256=SHA256)


@pytest.fixture
def trained():
    metrics = {f"{rows}_{figure}": 0.25 for rows in ("training", "holdout") for figure in FIGURES}
    return TrainedModel(
        model=stored("model.skops"),
        columns=["number_of_orders", "customer_lifetime_value"],
        training_customers=stored("training_customers.parquet"),
        drift_reference=stored("drift_reference.parquet"),
        dag_run="manual__2026",
        digests={name: name[:4] for name in ("features_sha256", "code_sha256", "lock_sha256", "inputs_sha256")},
        config={"n_estimators": 50, "max_depth": 3, "min_samples_leaf": 5, "holdout_salt": "churn-v1"},
        metrics=metrics | {"cv_roc_auc_mean": 0.7412, "cv_roc_auc_std": 0.1, "cv_parts": 25, "training_rows": 1234567},
        plots={"roc": stored("plots/roc.png")},
    )


@pytest.fixture
def champion(trained):
    return Champion(
        trained=trained,
        reference=ModelReference("churn_classifier", "model.skops", "d", SHA256),
        server=None,
        wandb_run="/somewhere",
        outcome="first_model",
        reason="promoted: beats the trivial answer",
        figures={"holdout_rows": 36.0},
        dag_run="manual__2026",
    )


def test_a_champion_is_read_as_it_was_written(champion):
    assert parse_record(Champion, champion.model_dump_json(), "champion.json") == champion


def test_what_is_handed_over_is_small_and_enough_to_score_with(champion):
    handed_over = HandOver(champion=champion, trained_online=False, better_than_baseline=False, doubt="no better")

    again = HandOver.model_validate(json.loads(json.dumps(handed_over.dump())))
    assert again.champion

    assert (again.trained_online, again.better_than_baseline, again.doubt) == (False, False, "no better")
    assert again.champion.version == champion.version
    assert again.champion.trained.model == champion.trained.model
    assert (again.champion.trained.metrics, again.champion.trained.plots) == ({}, {})
    assert len(str(handed_over.dump())) < 2500


def test_a_champion_that_nobody_can_read_is_handed_over_as_none():
    assert HandOver.model_validate(HandOver(champion=None, doubt="damaged").dump()).champion is None


def test_a_champion_of_an_earlier_version_is_read(champion):
    earlier = json.loads(champion.model_dump_json())
    del earlier["champion_before"]

    assert parse_record(Champion, json.dumps(earlier), "champion.json").champion_before == "unknown"


@pytest.mark.parametrize(
    "uri", ["nowhere", "/etc/hostname", "gs://bucket/model", "s3://", "s3://bucket", "s3://bucket/"]
)
def test_what_is_no_object_of_the_store_is_no_record(champion, uri):
    edited = json.loads(champion.model_dump_json())
    edited["trained"]["model"]["uri"] = uri

    with pytest.raises(InputError, match=r"champion.json is not what this project has written: trained.model.uri"):
        parse_record(Champion, json.dumps(edited), "champion.json")


def test_version_is_that_of_wandb_or_else_the_digest(champion):
    online = ModelReference(
        "churn_classifier", "model.skops", "d", "0" * 64, "v3", "acme/customer_churn/churn_classifier:v3"
    )

    assert champion.version == "churn_classifier@sha256:0123456789ab"
    assert champion.model_copy(update={"reference": online}).version == "churn_classifier:v3"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"trained": {}}', b"\xff"])
def test_what_is_no_record_is_named(content):
    with pytest.raises(InputError, match=r"champion.json is not what this project has written"):
        parse_record(Champion, content, "champion.json")


def test_a_models_folder_is_where_it_lies(trained):
    assert trained.folder == "s3://churnmodels/churn_classifier/models/abc"


def test_card_is_made_of_the_models_own_figures(trained):
    card = render_card(trained.model_dump(), "churn_classifier")

    assert card.startswith("# churn_classifier, model inpu\n")
    assert "| 1,234,567 training customers, cross-validated in 25 parts | 0.74 ± 0.10 |" in card
    assert "50 trees, depth 3, at least 5 customers in a leaf" in card
    assert "number_of_orders, customer_lifetime_value" in card
    assert "about 74% of the cases" in card
    assert "judged after it was published" in card
    assert "the log of task left_out.describe counts them" in card
    assert "{" not in card


def test_card_tells_the_gates_reason_once_there_is_one(trained):
    assert "| Gate | rejected: worse |" in render_card(trained.model_dump(), "churn_classifier", "rejected: worse")
