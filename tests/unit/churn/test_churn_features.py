from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from include.churn.features import LEFT_OUT, build_features, check_features, describe_left_out
from include.errors import InputError


@pytest.fixture
def customers() -> pd.DataFrame:
    """What PostgreSQL returns: exact numbers, in any order, with columns that are no features."""
    return pd.DataFrame(
        {
            "customer_id": [3, 1, 2],
            "first_name": ["Ada", None, "Bea"],
            "first_order": [None, None, "2018-01-01"],
            "number_of_orders": [0, 2, 1],
            "customer_lifetime_value": [Decimal("0.00"), Decimal("10.01"), Decimal("0.30")],
        }
    )


def test_every_customer_has_features_and_a_label(customers):
    features = build_features(customers, pd.DataFrame({"customer_id": [1, 77], "is_active": [False, False]}))

    expected = pd.DataFrame(
        {
            "customer_id": [1, 2, 3],
            "number_of_orders": [2, 1, 0],
            "customer_lifetime_value": [10.01, 0.3, 0.0],
            "churned": [1, 0, 0],
        }
    )
    pd.testing.assert_frame_equal(features, expected)


def test_several_churn_rows_do_not_multiply_a_customer(customers):
    assert len(build_features(customers, pd.DataFrame({"customer_id": [1, 1, 1]}))) == 3


def test_nobody_churned_is_a_label_too(customers):
    assert build_features(customers, pd.DataFrame({"customer_id": []}))["churned"].tolist() == [0, 0, 0]


def test_the_given_table_is_left_alone(customers):
    before = customers.copy()

    build_features(customers, pd.DataFrame({"customer_id": [1]}))

    pd.testing.assert_frame_equal(customers, before)


@pytest.mark.parametrize("column", ["customer_id", "number_of_orders", "customer_lifetime_value"])
def test_missing_column_and_missing_value_are_named(customers, column):
    churned = pd.DataFrame({"customer_id": [1]})
    with pytest.raises(InputError, match=rf"customers lacks.*{column}"):
        build_features(customers.drop(columns=column), churned)
    with pytest.raises(InputError, match=rf"customers has missing values.*{column}"):
        build_features(customers.assign(**{column: [1, None, 2]}), churned)


def test_churn_table_without_customers_is_named(customers):
    with pytest.raises(InputError, match=r"customer_churn_month lacks.*customer_id"):
        build_features(customers, pd.DataFrame({"id": [1]}))


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("customer_id", [3, 3, 2], "customer_id: 3"),
        ("number_of_orders", [0, -2, 1], "number_of_orders: -2 of customer 1"),
        ("customer_lifetime_value", [0.0, -0.01, 1.0], "customer_lifetime_value: -0.01 of customer 1"),
        ("customer_lifetime_value", [0.0, np.inf, 1.0], "customer_lifetime_value: inf of customer 1"),
        ("customer_lifetime_value", [0.0, "much", 1.0], "no number: .*much"),
    ],
)
def test_bad_value_is_named(customers, column, values, expected):
    with pytest.raises(InputError, match=expected):
        build_features(customers.assign(**{column: values}), pd.DataFrame({"customer_id": [1]}))


def test_label_is_0_or_1(features):
    with pytest.raises(InputError, match="churned: 2"):
        check_features(features.assign(churned=2))


def test_no_rows_are_refused(features):
    with pytest.raises(InputError, match="no rows"):
        check_features(features.head(0))


def test_left_out_is_told_in_words_zero_included():
    counts = dict.fromkeys(LEFT_OUT, 0) | {"payments_without_order": 4}

    sentences = describe_left_out(counts)

    assert "4 payments belong to orders that are not in orders.csv: left out" in sentences
    assert len(sentences) == len(LEFT_OUT)
    with pytest.raises(InputError, match="payments_without_order"):
        describe_left_out({})
