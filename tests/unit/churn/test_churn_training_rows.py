"""Which rows a model was trained on is told by the rows, not by their keys."""

import io
import logging

import pandas as pd
import pytest

from include.churn.model import FEATURE_COLUMNS, split
from include.churn.training_rows import dump_training_rows, mark_training_rows


@pytest.fixture
def training(features):
    return split(features)[0]


@pytest.fixture
def known(training):
    return dump_training_rows(training, FEATURE_COLUMNS)


def test_training_rows_are_told_from_the_others_of_the_shop(features, training, known):
    marked = mark_training_rows(known, features, FEATURE_COLUMNS)

    assert marked.tolist() == features["customer_id"].isin(training["customer_id"]).tolist()
    assert marked.dtype == "boolean"


def test_customers_of_another_shop_with_the_same_ids_are_none_of_them(features, known):
    other = features.assign(customer_lifetime_value=features["customer_lifetime_value"] + 0.01)

    assert mark_training_rows(known, other, FEATURE_COLUMNS).sum() == 0


def test_the_same_values_under_another_id_are_none_of_them(features, known):
    other = features.assign(customer_id=features["customer_id"] + 1000)

    assert mark_training_rows(known, other, FEATURE_COLUMNS).sum() == 0


def test_neither_label_nor_type_nor_order_matters(features, training, known):
    rows = features.drop(columns="churned").sample(frac=1, random_state=0).astype({"number_of_orders": float})

    marked = mark_training_rows(known, rows, FEATURE_COLUMNS)

    assert set(rows["customer_id"][marked]) == set(training["customer_id"])


def test_of_a_model_that_has_put_down_keys_only_nobody_knows_whose_they_are(features, training, caplog):
    keys = training[["customer_id"]].to_parquet(index=False)
    with caplog.at_level(logging.WARNING):
        marked = mark_training_rows(keys, features, FEATURE_COLUMNS)

    has_key = features["customer_id"].isin(training["customer_id"])
    assert marked[has_key].isna().all()
    assert marked[~has_key].tolist() == [False] * (~has_key).sum()
    assert f"Of {len(training)} customers nobody knows" in caplog.text
    assert "train a new model" in caplog.text


def test_what_is_put_down_names_the_customers(training, known):
    table = pd.read_parquet(io.BytesIO(known))

    assert table["customer_id"].tolist() == training["customer_id"].tolist()
    assert table["row_sha256"].str.fullmatch("[0-9a-f]{64}").all()
