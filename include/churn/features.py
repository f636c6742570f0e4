"""One row for each customer: the two features, and the label beside them."""

from collections.abc import Hashable, Mapping

import pandas as pd
import pandera.pandas as pa

from include.churn.schema import FEATURES
from include.errors import InputError

# What the log says of each count, by the SQL file that counts
LEFT_OUT = {
    "orders_of_unknown_customers": "orders belong to customers who are not in customers.csv: left out",
    "payments_without_order": "payments belong to orders that are not in orders.csv: left out",
}
UNLABELLED = {
    "periods_of_unknown_customers": "subscription periods belong to customers who are not in customers.csv: left out",
    "customers_who_never_paid": "customers never paid for a subscription: labelled as not churned",
    "customers_outside_window": "customers paid only for months outside util_months.csv: labelled as not churned",
}

LABEL = "churned"
# What build_features takes of the two tables
CUSTOMER_COLUMNS = ["customer_id", "number_of_orders", "customer_lifetime_value"]
CHURNED_COLUMNS = ["customer_id"]


def build_features(customers: pd.DataFrame, churned: pd.DataFrame | None = None) -> pd.DataFrame:
    """Join features and label.

    Every customer of the shop gets a label, as in the tutorial: churned = 1 for those in ``churned``, 0 for all others.
    Among the latter are some who had nothing to cancel and some whose subscription ended before the calendar begins;
    unlabelled.sql counts both and describe_left_out puts them into words.

    Args:
        customers: CUSTOMER_COLUMNS of what customers.sql returns, the lifetime value in the currency's unit; shape
            (n, 3), further columns are not used.
        churned: CHURNED_COLUMNS of what customer_churn_month.sql returns; None for customers who are only to be scored.

    Returns:
        customer_id, number_of_orders, customer_lifetime_value and, where it is known, churned as FEATURES describes
        them, sorted by customer_id, shape (n, 4 or 3).

    Raises:
        InputError: if a column or a value is missing, a customer is there twice, or a number is negative.

    """
    features = _take_columns(customers, CUSTOMER_COLUMNS, "customers")
    if churned is not None:
        churners = _take_columns(churned, CHURNED_COLUMNS, "customer_churn_month")["customer_id"]
        features[LABEL] = features["customer_id"].isin(churners.astype("int64"))
    return check_features(features, with_label=churned is not None).sort_values("customer_id", ignore_index=True)


def check_features(features: pd.DataFrame, *, with_label: bool = True) -> pd.DataFrame:
    """Give the columns of FEATURES their types and check the values.

    Args:
        features: a table with at least those columns; shape (n, 4 or more).
        with_label: whether ``churned`` is among the columns; otherwise it is neither needed nor returned.

    Returns:
        Those columns only, in that order, n rows in the same order.

    Raises:
        InputError: if the table is not as FEATURES says; the message names column, customer and value.

    """
    contract = FEATURES if with_label else FEATURES.remove_columns([LABEL])
    table = _take_columns(features, list(contract.columns), "features")
    if table.empty:
        raise InputError("Table features has no rows. Load customers.csv first.")
    types = {name: str(column.dtype) for name, column in contract.columns.items()}
    try:
        return contract.validate(table.astype(types), lazy=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"Table features has a value that is no number: {error}. Correct its source.") from error
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        listed = "; ".join(
            f"column {column}: {value} of customer {table['customer_id'].loc[row]} fails {check}"
            for column, value, row, check in cases[["column", "failure_case", "index", "check"]]
            .head(5)
            .itertuples(index=False)
        )
        raise InputError(f"Table features has {len(cases)} bad values. {listed}. Correct their source.") from error


def describe_left_out(counts: Mapping[Hashable, int]) -> list[str]:
    """Put the row that left_out.sql or unlabelled.sql returns into sentences for the log, also those with a count of 0.

    Raises:
        InputError: if there is a count that neither of the two has.

    """
    words = LEFT_OUT | UNLABELLED
    if unknown := [name for name in counts if name not in words]:
        raise InputError(
            f"The counts {unknown} are unknown. Take them from include/churn/left_out.sql or unlabelled.sql."
        )
    return [f"{int(count)} {words[str(name)]}" for name, count in counts.items()]


def _take_columns(table: pd.DataFrame, columns: list[str], name: str) -> pd.DataFrame:
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(f"Table {name} lacks the columns {missing}; it has {list(table.columns)}.")
    taken = table[columns]
    gaps = taken.isna().sum()
    if gaps.any():
        raise InputError(f"Table {name} has missing values: {gaps[gaps > 0].to_dict()}. Correct its source.")
    return taken.copy()
