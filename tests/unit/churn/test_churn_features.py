from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from include.churn.features import LEFT_OUT, UNLABELLED, build_features, check_features, describe_left_out
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


@pytest.mark.parametrize("words", [LEFT_OUT, UNLABELLED])
def test_left_out_is_told_in_words_zero_included(words):
    first, *others = words

    sentences = describe_left_out(dict.fromkeys(others, 0) | {first: 4})

    assert sentences[-1] == f"4 {words[first]}"
    assert [sentence[:2] for sentence in sentences[:-1]] == ["0 "] * len(others)


def test_an_unknown_count_is_named():
    with pytest.raises(InputError, match="payments_without_customer"):
        describe_left_out({"payments_without_customer": 1})


def test_customers_to_be_scored_have_no_label(customers):
    features = build_features(customers)

    assert list(features.columns) == ["customer_id", "number_of_orders", "customer_lifetime_value"]
    assert features["customer_id"].tolist() == [1, 2, 3]
    with pytest.raises(InputError, match=r"features lacks.*churned"):
        check_features(features)
