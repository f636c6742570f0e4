"""The data dictionary of the shop's five CSVs and of the features, and the check that a CSV passes before it is loaded.

What spans two files (an order of an unknown customer, a payment without an order) is no error: left_out.sql counts it once
they are loaded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandera.pandas as pa
import pyarrow  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from include.csv_contract import Column, Contract, Rule
from include.csv_kinds import Amount, Date, Text, WholeNumber
from include.csv_reader import CsvReader, open_csv
from include.errors import ConfigurationError

KEY = WholeNumber()
CENTS = WholeNumber(minimum=0, maximum=10**15 - 1, unit="cents")
ANY_TEXT = Text()


def _ends_early(periods: pyarrow.Table) -> pyarrow.Array:
    return pc.less(pc.floor_temporal(periods["end_date"]), pc.floor_temporal(periods["start_date"]))


def _follows_a_gap(months: pyarrow.Table) -> np.ndarray:
    found = months["date_month"].to_numpy().astype("datetime64[M]")
    ordered = np.sort(found)
    after_gap = ordered[1:][np.diff(ordered) != np.timedelta64(1, "M")]
    return np.isin(found, after_gap)


TABLES = {
    "subscription_periods": Contract(
        columns=(
            Column("subscription_id", KEY),
            Column("customer_id", KEY),
            Column("start_date", Date(), description="the first day of the period"),
            Column(
                "end_date",
                Date(),
                optional=True,
                hint="leave it empty for a subscription that goes on",
                description="the first day after it",
            ),
            Column("monthly_amount", Amount()),
        ),
        key=("subscription_id", "start_date"),  # a subscription may have several periods
        row="period",
        rules=(Rule("end_date", "earlier than the start date", _ends_early),),
    ),
    "util_months": Contract(
        columns=(Column("date_month", Date(first_of_month=True)),),
        key=("date_month",),
        row="month",
        key_rules=(Rule("date_month", "months are missing before it (list them without gaps)", _follows_a_gap),),
    ),
    "customers": Contract(
        columns=(Column("customer_id", KEY), Column("first_name", ANY_TEXT), Column("last_name", ANY_TEXT)),
        key=("customer_id",),
        row="customer",
    ),
    "orders": Contract(
        columns=(
            Column("order_id", KEY),
            Column("customer_id", KEY),
            Column("order_date", Date()),
            Column("status", ANY_TEXT),
        ),
        key=("order_id",),
        row="order",
    ),
    "payments": Contract(
        columns=(
            Column("payment_id", KEY),
            Column("order_id", KEY),
            Column("payment_method", ANY_TEXT),
            Column("amount", CENTS),
        ),
        key=("payment_id",),
        row="payment",
    ),
}

FEATURES = pa.DataFrameSchema(
    {
        "customer_id": pa.Column("int64", unique=True),
        "number_of_orders": pa.Column("int64", pa.Check.ge(0), description="orders since the shop opened"),
        "customer_lifetime_value": pa.Column(
            "float64", [pa.Check.ge(0), pa.Check.lt(np.inf)], description="sum of payments in the currency's unit"
        ),
        "churned": pa.Column("int64", pa.Check.isin([0, 1]), description="1 = churned"),
    }
)


class CheckedCsv(NamedTuple):
    """A CSV that is as TABLES says: how many rows it has, and the SHA-256 (hex) of its bytes."""

    rows: int
    sha256: str


def check_csv(
    source: Path | str | bytes | BinaryIO,
    table: str,
    *,
    name: str | None = None,
    keep: Callable[[pyarrow.Table], object] | None = None,
) -> CheckedCsv:
    """Check one CSV: comma-separated UTF-8 with the columns of TABLES in any order; others are not looked at.

    The file is read once, in blocks, with little memory.

    Args:
        source: the file's path, its content, or the open file.
        table: which one it is, such as "orders".
        name: what messages call the file; without it <table>.csv.
        keep: called with each block of rows, columns and types as TABLES has them; until this function has returned,
            it is not known whether the rest of the file is right.

    Raises:
        InputError: if anything is not as it should be; the message lists the defects by column and line.
        ConfigurationError: if there is no such table.

    """
    if table not in TABLES:
        raise ConfigurationError(f"There is no table '{table}'. The tables are {', '.join(TABLES)}.")
    name = name or f"{table}.csv"
    with open_csv(source, name) as stream:
        reader = CsvReader(stream, TABLES[table], name)
        for block in reader:
            if keep:
                keep(block)
    return CheckedCsv(reader.rows, reader.sha256)
