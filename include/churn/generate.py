"""Seeded generator of the five CSVs of a shop with subscriptions: any number of customers, in bounded memory.

``python -m include.churn.generate --customers 100 --seed 926 --out include/data`` writes the files of this repository
again, to the byte (a seed with as many rows as the tutorial's files and an ordinary AUC). Everything is invented. What
holds in it, so that a model has something to find and something that it cannot:

- A customer has an *activity*, which no file shows. The more active, the more orders, the larger the payments, and the
  less likely the subscription ends.
- The rest is chance: some of the active leave, some without any order stay.
- Some never subscribed, some left before the calendar in util_months begins, some began before it.
- Periods have gaps, overlap (an add-on beside the main one), are free of charge (trials), begin or end within a month,
  and stay open (no end date).
"""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv

FIRST_MONTH = np.datetime64("2018-01", "M")
MONTHS = 63
CHUNK = 100_000

# fmt: off
FIRST_NAMES = [
    "Ada", "Amir", "Anna", "Anton", "Bea", "Ben", "Carla", "Chen", "Clara", "Dana", "David", "Dora", "Elif", "Emil",
    "Erik", "Eva", "Farid", "Flora", "Frida", "Gita", "Greta", "Hana", "Hugo", "Ida", "Ines", "Ivan", "Jan", "Jana",
    "Jonas", "Julia", "Kai", "Karim", "Lara", "Lena", "Leo", "Lin", "Luis", "Maja", "Marta", "Max", "Mei", "Mila",
    "Nadia", "Nils", "Nora", "Olga", "Omar", "Otto", "Paula", "Petra", "Rafael", "Rosa", "Ruth", "Sara", "Simon",
    "Sofia", "Tara", "Theo", "Tom", "Uma", "Vera", "Viktor", "Wanda", "Yara", "Yusuf", "Zoe",
]
# fmt: on
INITIALS = [f"{letter}." for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
PLANS = ["9.99", "19.5", "25", "49.99", "75"]
ADD_ONS = ["5", "7.45", "12.01"]
STATUSES = ["completed", "shipped", "placed", "returned", "return_pending"]
STATUS_SHARES = [0.67, 0.13, 0.13, 0.04, 0.03]
METHODS = ["credit_card", "bank_transfer", "coupon", "gift_card"]
METHOD_SHARES = [0.5, 0.28, 0.12, 0.1]

NEVER_SUBSCRIBED = 0.06
LEFT_BEFORE_WINDOW = 0.02
BEGAN_BEFORE_WINDOW = 0.05
EARLIER_PERIOD = 0.2
ADD_ON = 0.09
TRIAL = 0.05
OPEN_ENDED = 0.7  # of those who stay; the others' last period ends within the last month of the calendar
# log-odds of leaving = LEAVE_BASE - LEAVE_SLOPE * activity; the features then reach an AUC of about 0.74
LEAVE_BASE = -0.3
LEAVE_SLOPE = 5.0


def write_tables(customers: int, seed: int, out: Path, payments_per_order: float = 1.14) -> dict[str, int]:
    """Write the five CSVs into the folder ``out``, which is created where it does not exist.

    Args:
        customers: how many, 1 or more.
        seed: the same seed gives the same bytes.
        out: the folder; files of the same names in it are replaced.
        payments_per_order: payments of an order on average, 1 or more.

    Returns:
        How many rows each table has.

    Raises:
        ValueError: if a number is too small.

    """
    if customers < 1 or payments_per_order < 1:
        raise ValueError("customers and payments_per_order must be 1 or more")
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, int] = {}
    with ExitStack() as stack:
        writers: dict[str, csv.CSVWriter] = {}
        for name, table in make_tables(customers, seed, payments_per_order):
            if name not in writers:
                options = csv.WriteOptions(quoting_style="none", quoting_header="none")
                writer = csv.CSVWriter(out / f"{name}.csv", table.schema, write_options=options)
                writers[name] = stack.enter_context(writer)
            writers[name].write_table(table)
            rows[name] = rows.get(name, 0) + table.num_rows
    return rows


def make_tables(customers: int, seed: int, payments_per_order: float) -> Iterator[tuple[str, pa.Table]]:
    """Yield (name, rows) for each table, in chunks of ``CHUNK`` customers; keys go on from chunk to chunk."""
    yield "util_months", pa.table({"date_month": _days(FIRST_MONTH + np.arange(MONTHS))})
    order_id = payment_id = subscription_id = 1
    for number, first in enumerate(range(1, customers + 1, CHUNK)):
        rng = np.random.default_rng([seed, number])
        customer_id = np.arange(first, min(first + CHUNK, customers + 1))
        activity = rng.normal(size=len(customer_id))
        yield "customers", make_customers(rng, customer_id)
        periods = make_subscription_periods(rng, customer_id, activity, subscription_id)
        yield "subscription_periods", periods
        orders, order_activity = make_orders(rng, customer_id, activity, order_id)
        yield "orders", orders
        payments = make_payments(rng, orders["order_id"].to_numpy(), order_activity, payment_id, payments_per_order)
        yield "payments", payments
        subscription_id += periods.num_rows
        order_id += orders.num_rows
        payment_id += payments.num_rows


def make_customers(rng: np.random.Generator, customer_id: np.ndarray) -> pa.Table:
    """Return customer_id, first_name and last_name (an initial) of each customer."""
    size = len(customer_id)
    return pa.table(
        {
            "customer_id": customer_id,
            "first_name": _pick(rng, FIRST_NAMES, size),
            "last_name": _pick(rng, INITIALS, size),
        }
    )


def make_orders(
    rng: np.random.Generator, customer_id: np.ndarray, activity: np.ndarray, first_id: int
) -> tuple[pa.Table, np.ndarray]:
    """Return the orders, about one per customer and by date, and of each order the activity of who placed it."""
    counts = rng.poisson(np.exp(-0.68 + 1.15 * activity))
    buyer = np.repeat(np.arange(len(customer_id)), counts)
    day = FIRST_MONTH.astype("M8[D]") + rng.integers(0, _window_days(), len(buyer))
    by_date = np.argsort(day, kind="stable")
    buyer, day = buyer[by_date], day[by_date]
    orders = pa.table(
        {
            "order_id": first_id + np.arange(len(buyer)),
            "customer_id": customer_id[buyer],
            "order_date": day,
            "status": _pick(rng, STATUSES, len(buyer), STATUS_SHARES),
        }
    )
    return orders, activity[buyer]


def make_payments(
    rng: np.random.Generator,
    order_id: np.ndarray,
    order_activity: np.ndarray,
    first_id: int,
    payments_per_order: float,
) -> pa.Table:
    """Return the payments, one or more for each order; amounts are whole cents and larger for the active."""
    order = np.repeat(np.arange(len(order_id)), 1 + rng.poisson(payments_per_order - 1, len(order_id)))
    amount = np.exp(rng.normal(7.0 + 0.35 * order_activity[order], 0.6)).astype(np.int64)
    return pa.table(
        {
            "payment_id": first_id + np.arange(len(order)),
            "order_id": order_id[order],
            "payment_method": _pick(rng, METHODS, len(order), METHOD_SHARES),
            "amount": amount,
        }
    )


def make_subscription_periods(
    rng: np.random.Generator, customer_id: np.ndarray, activity: np.ndarray, first_id: int
) -> pa.Table:
    """Return the periods: a main one for each subscriber, for some an earlier one, a trial or an add-on beside it."""
    size = len(customer_id)
    kind = rng.random(size)
    left_early = (kind >= NEVER_SUBSCRIBED) & (kind < NEVER_SUBSCRIBED + LEFT_BEFORE_WINDOW)
    began_early = left_early | (rng.random(size) < BEGAN_BEFORE_WINDOW)
    leaves = left_early | (rng.random(size) < 1 / (1 + np.exp(LEAVE_SLOPE * activity - LEAVE_BASE)))

    # months are counted from FIRST_MONTH; who leaves has left by the month before the last of the calendar
    start = np.where(began_early, -rng.integers(3, 12, size), rng.integers(0, MONTHS - 8, size))
    end = np.minimum(start + 1 + rng.geometric(0.07, size), MONTHS - 2)
    end = np.where(left_early, np.minimum(end, start + 2), end)
    stays_open = ~leaves & (rng.random(size) < OPEN_ENDED)

    start_day = _days(FIRST_MONTH + start) + _odd_days(rng, size)
    end_day = _days(FIRST_MONTH + end) + _odd_days(rng, size)
    last_month = _days(FIRST_MONTH + np.full(size, MONTHS - 1)) + rng.integers(1, 31, size)
    end_day = np.where(leaves, end_day, last_month)
    end_day = np.where(stays_open, np.datetime64("NaT"), end_day)
    plan = _pick(rng, PLANS, size)

    gap = rng.integers(0, 7, size)
    earlier_end = _days(FIRST_MONTH + start - gap)
    earlier_start = _days(FIRST_MONTH + start - gap - rng.integers(1, 9, size))
    trial_start = _days(FIRST_MONTH + start - 1)
    add_on_end = _days(FIRST_MONTH + start + 1)

    parts = [
        (kind >= NEVER_SUBSCRIBED, start_day, end_day, plan),
        (rng.random(size) < EARLIER_PERIOD, earlier_start, earlier_end, _pick(rng, PLANS, size)),
        (rng.random(size) < TRIAL, trial_start, start_day, np.full(size, "0")),
        (rng.random(size) < ADD_ON, start_day, add_on_end, _pick(rng, ADD_ONS, size)),
    ]
    chosen = [np.flatnonzero(part[0] & (kind >= NEVER_SUBSCRIBED)) for part in parts]
    who = np.concatenate(chosen)
    starts, ends, amounts = (
        np.concatenate([part[column][rows] for part, rows in zip(parts, chosen, strict=True)]) for column in (1, 2, 3)
    )
    order = np.lexsort((starts, who))
    return pa.table(
        {
            "subscription_id": first_id + np.arange(len(order)),
            "customer_id": customer_id[who[order]],
            "start_date": starts[order],
            "end_date": ends[order],
            "monthly_amount": amounts[order],
        }
    )


def _pick(rng: np.random.Generator, values: list[str], size: int, shares: list[float] | None = None) -> np.ndarray:
    return np.array(values)[rng.choice(len(values), size, p=shares)]


def _days(months: np.ndarray) -> np.ndarray:
    return months.astype("M8[D]")


def _odd_days(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return 0 for most, days 1 to 27 for a fifth: periods that begin or end within a month."""
    return np.where(rng.random(size) < 0.2, rng.integers(1, 28, size), 0)


def _window_days() -> int:
    return int(((FIRST_MONTH + MONTHS).astype("M8[D]") - FIRST_MONTH.astype("M8[D]")).astype(int))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m include.churn.generate", description=__doc__.partition("\n")[0])
    parser.add_argument("--customers", type=int, default=100)
    parser.add_argument("--seed", type=int, default=926)
    parser.add_argument("--out", type=Path, default=Path("include/data"))
    parser.add_argument("--payments-per-order", type=float, default=1.14)
    options = parser.parse_args()
    rows = write_tables(options.customers, options.seed, options.out, options.payments_per_order)
    print(", ".join(f"{name} {count}" for name, count in rows.items()))  # noqa: T201


if __name__ == "__main__":
    main()
