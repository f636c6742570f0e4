"""CSVs as people have them are loaded as what they say, from a folder as people write it."""

import csv

import pandas as pd
import pytest

FOLDER = "as people have them"
TABLE = "pred_odd"
NAMES = ["NA", "NULL", "None", "", 'Ann "Andy"', "Jörg\r\nMüller", "007", "d'Arc, Jeanne"]


@pytest.fixture(scope="module")
def named(shipped):
    """The shipped customers with other names."""
    customers = shipped()["customers"]
    return customers.assign(first_name=[NAMES[number % len(NAMES)] for number in range(len(customers))])


@pytest.fixture(scope="module")
def odd(churn, shipped, named, at_last):
    """A run on the shipped customers, whose files are written in other ways: scored by the champion, nothing is trained."""
    orders, payments = shipped()["orders"], shipped()["payments"]
    latin = orders.assign(note="été").to_csv(index=False, lineterminator="\r").encode("latin-1")
    later = payments.assign(ctid="x", note=["", *["call back"] * (len(payments) - 1)]).iloc[::-1]
    files = {
        "customers": b"\xef\xbb\xbf" + named.to_csv(index=False, lineterminator="\r\n", quoting=csv.QUOTE_ALL).encode(),
        "orders": latin,
        "payments": later.to_csv(index=False).encode(),
    }
    address = churn.put_folder(FOLDER, files)
    return churn.run(source=f"{address}/", score_only=True, predictions_table=TABLE)


def test_names_are_those_of_the_file(churn, odd, named):
    loaded = churn.table("customers", "customer_id, first_name, last_name")
    assert sorted(loaded) == [(int(key), first, last) for key, first, last in named.itertuples(index=False)]


def test_only_the_contracts_columns_are_loaded(churn, odd):
    columns = churn.columns_of("stg_orders", "stg_payments")
    assert columns["stg_orders"] == ["order_id", "customer_id", "order_date", "status"]
    assert columns["stg_payments"] == ["payment_id", "order_id", "payment_method", "amount"]


def test_customers_get_the_probabilities_that_they_got_before(churn, odd, at_last):
    columns = ["customer_id", "churn_probability"]
    pd.testing.assert_frame_equal(churn.predictions(TABLE)[columns], at_last["predictions"]["pred_churn"][columns])


def test_names_are_in_no_worker(churn, odd):
    assert list(churn.features(odd).columns) == ["customer_id", "number_of_orders", "customer_lifetime_value"]


@pytest.mark.parametrize(
    "source", ["s3://churn-incoming//data", "data//", "../data", "/etc", " data", "data\\orders", ""]
)
def test_a_source_that_would_be_no_key_is_refused_when_a_run_is_triggered(churn, source):
    with pytest.raises(AssertionError, match="Invalid input for param source"):
        churn.trigger(source=source)
