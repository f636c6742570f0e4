"""The drift check on customers: rare false alarms, and none missed that matters."""

import numpy as np
import pandas as pd
import pytest

from include.churn import model as churn_model
from include.drift import compare, reference_rows
from include.settings import INCLUDE, settings


@pytest.fixture(scope="module")
def shipped() -> pd.DataFrame:
    """Customers of the shipped data with their two features."""
    folder = INCLUDE / settings.churn.data_dir
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("customers", "orders", "payments")}
    orders = tables["orders"]
    paid = tables["payments"].merge(orders[["order_id", "customer_id"]]).groupby("customer_id")["amount"].sum()
    features = tables["customers"][["customer_id"]].set_index("customer_id")
    features["number_of_orders"] = orders.groupby("customer_id").size()
    features["customer_lifetime_value"] = paid / 100
    return features.fillna(0).reset_index()


def check(reference, batch):
    return compare(
        reference,
        batch,
        categorical=[],
        numeric=churn_model.FEATURE_COLUMNS,
        significance=settings.pipelines.drift_significance,
    )


def test_a_thousand_batches_of_the_same_customers_raise_no_more_alarms_than_stated(shipped):
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(1000):
        parts = rng.permutation(len(shipped)) < 64
        alarms += check(shipped[parts], shipped[~parts]).drifted

    assert alarms <= 1000 * settings.pipelines.drift_significance


@pytest.mark.parametrize(
    "change",
    [lambda batch: batch.assign(customer_lifetime_value=batch["customer_lifetime_value"] + 30),
     lambda batch: batch.assign(number_of_orders=batch["number_of_orders"] + 1)],
)  # fmt: skip
def test_customers_who_buy_more_are_noticed(shipped, change):
    assert check(reference_rows(shipped), change(shipped)).drifted
