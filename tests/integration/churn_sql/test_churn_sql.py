"""The SQL on a real PostgreSQL against an oracle in plain Python, which walks from month to month."""

import csv
import datetime
import io
import json
import os
import string
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import jinja2
import pytest
import sqlalchemy

from include.churn.schema import TABLES, check_csv
from include.churn.staging import sql_columns

hypothesis = pytest.importorskip("hypothesis", reason="needs hypothesis, which the Astro image lacks: make test")
st = hypothesis.strategies

INCLUDE = Path(__file__).parents[3] / "include"
PLACEHOLDERS = {
    "subscription_periods": "subscription_periods",
    "util_months": "util_months",
    "customers_table": "customers",
    "orders_table": "orders",
    "payments_table": "payments",
}
SQL = {
    "customer_churn_month": INCLUDE / "customer_churn_month.sql",
    "customers": INCLUDE / "customers.sql",
    "left_out": INCLUDE / "churn" / "left_out.sql",
    "unlabelled": INCLUDE / "churn" / "unlabelled.sql",
}
Row = dict[str, str]
Case = dict[str, list[Row]]


# the warehouse


def render(path):
    """Do as Astro SDK does: join the lines, put table names in, leave other parameters to be bound."""
    template = path.read_text().replace("\n", " ")
    tables = {name: f"staging.{table}" for name, table in PLACEHOLDERS.items()}
    return jinja2.Template(template, undefined=jinja2.StrictUndefined).render(tables, as_of_date=":as_of_date")


def make_staging(connection, types):
    connection.execute(sqlalchemy.text("drop schema if exists staging cascade; create schema staging"))
    for name, table in TABLES.items():
        columns = ", ".join(f"{column} {types(name, column)}" for column in table.names)
        connection.execute(sqlalchemy.text(f"create table staging.{name} ({columns})"))


def fill_staging(connection, case):
    for name, table in TABLES.items():
        content = io.StringIO()
        writer = csv.DictWriter(content, table.names)
        writer.writerows(case[name])
        cursor = connection.connection.cursor()
        cursor.execute(f"truncate staging.{name}")
        with cursor.copy(f"copy staging.{name} from stdin (format csv)") as copy:
            copy.write(content.getvalue())


def run_sql(connection, name, as_of_date=""):
    """Run one statement as a CREATE TABLE AS, the SDK's way, and return the table's rows."""
    parameters = {"as_of_date": as_of_date} | dict.fromkeys(PLACEHOLDERS, "as the SDK passes them, unused")
    connection.execute(sqlalchemy.text("drop table if exists result"))
    statement = f"CREATE TABLE IF NOT EXISTS result AS {render(SQL[name])}"
    connection.execute(sqlalchemy.text(statement), parameters)
    return [dict(row) for row in connection.execute(sqlalchemy.text("select * from result")).mappings()]


def count_left_out(connection):
    """Run the two statements that count; one row each."""
    (left_out,), (unlabelled,) = run_sql(connection, "left_out"), run_sql(connection, "unlabelled")
    return left_out | unlabelled


def as_loaded(name, column):
    """Tell the types of the staging tables."""
    return {each.name: str(each.type) for each in sql_columns(TABLES[name])}[column]


@pytest.fixture(scope="module")
def staging(engine):
    """One connection, whose transaction is never committed."""
    with engine.connect() as connection:
        make_staging(connection, as_loaded)
        yield connection


# the oracle


def day(text):
    return datetime.date.fromisoformat(text)


def next_month(month):
    return (month + datetime.timedelta(days=32)).replace(day=1)


def expect_paid_months(case, horizon):
    """Return what each customer pays in each month up to the horizon."""
    paid: dict[int, dict[datetime.date, Decimal]] = {}
    for period in case["subscription_periods"]:
        months = paid.setdefault(int(period["customer_id"]), {})
        first_day = day(period["start_date"])
        after = day(period["end_date"]) if period["end_date"] else horizon
        month = first_day.replace(day=1)
        while month < after and first_day < after:
            months[month] = months.get(month, Decimal(0)) + Decimal(period["monthly_amount"])
            month = next_month(month)
    return {who: sorted(month for month, sum_ in months.items() if sum_ > 0) for who, months in paid.items()}


def find_dates(case):
    return [
        day(period[column])
        for period in case["subscription_periods"]
        for column in ("start_date", "end_date")
        if period[column]
    ]


def expect_churn(case, as_of_date):
    as_of = day(as_of_date) if as_of_date else max(find_dates(case))
    horizon = max([as_of, *find_dates(case)]) + datetime.timedelta(days=4000)
    window = {day(month["date_month"]) for month in case["util_months"]}
    rows = []
    for who, months in expect_paid_months(case, horizon).items():
        seen = [month for month in months if month in window]
        if not seen or any(month >= as_of.replace(day=1) for month in months):
            continue
        rows.append(
            {
                "date_month": next_month(seen[-1]),
                "customer_id": who,
                "mrr": Decimal(0),
                "is_active": False,
                "first_active_month": seen[0],
                "last_active_month": seen[-1],
                "is_first_month": False,
                "is_last_month": False,
            }
        )
    return rows


def expect_customers(case):
    rows = []
    for customer in case["customers"]:
        orders = [order for order in case["orders"] if order["customer_id"] == customer["customer_id"]]
        cents = 0
        for order in orders:
            for payment in case["payments"]:
                if payment["order_id"] == order["order_id"]:
                    cents += int(payment["amount"])
        dates = sorted(day(order["order_date"]) for order in orders)
        rows.append(
            {
                "customer_id": int(customer["customer_id"]),
                "first_name": customer["first_name"] or None,
                "last_name": customer["last_name"] or None,
                "first_order": dates[0] if dates else None,
                "most_recent_order": dates[-1] if dates else None,
                "number_of_orders": len(orders),
                "customer_lifetime_value": Decimal(cents).scaleb(-2),
            }
        )
    return rows


def expect_left_out(case):
    known = {customer["customer_id"] for customer in case["customers"]}
    orders = {order["order_id"] for order in case["orders"]}
    window = {day(month["date_month"]) for month in case["util_months"]}
    horizon = max([*find_dates(case), *window, datetime.date(2018, 1, 1)]) + datetime.timedelta(days=4000)
    paid = expect_paid_months(case, horizon)
    payers = {who: months for who, months in paid.items() if months and str(who) in known}
    return {
        "orders_of_unknown_customers": sum(order["customer_id"] not in known for order in case["orders"]),
        "payments_without_order": sum(payment["order_id"] not in orders for payment in case["payments"]),
        "periods_of_unknown_customers": sum(
            period["customer_id"] not in known for period in case["subscription_periods"]
        ),
        "customers_who_never_paid": len(known) - len(payers),
        "customers_outside_window": sum(not window & set(months) for months in payers.values()),
    }


def by_customer(rows):
    return sorted(rows, key=lambda row: row["customer_id"])


# generated cases

KNOWN_IDS = range(1, 6)
ANY_ID = st.integers(1, 7).map(str)  # 6 and 7 are nobody
FIRST, LAST = datetime.date(2017, 10, 1), datetime.date(2018, 9, 30)
DAYS = st.one_of(
    st.dates(FIRST, LAST),
    st.dates(FIRST, LAST).map(lambda date: date.replace(day=1)),
    st.dates(FIRST, datetime.date(2021, 3, 5)),
)
NAMES = st.text(string.ascii_letters + " '%:{}é", max_size=5).map(str.strip)


@st.composite
def periods(draw):
    rows = []
    for number in range(draw(st.integers(1, 10))):
        start = draw(DAYS)
        # mostly short: few days, some months, no end at all
        length = draw(
            st.one_of(st.none(), st.integers(0, 40), st.integers(0, 250), st.sampled_from([0, 1, 28, 31, 365]))
        )
        end = "" if length is None else str(start + datetime.timedelta(days=length))
        if length is not None and draw(st.booleans()):
            end = max(str(start), end[:8] + "01")
        rows.append(
            {
                "subscription_id": str(number),
                "customer_id": draw(ANY_ID),
                "start_date": str(start),
                "end_date": end,
                "monthly_amount": draw(st.sampled_from(["0", "0.00", "0.01", "25", "49.99"])),
            }
        )
    return rows


@st.composite
def cases(draw) -> Case:
    first_month = draw(
        st.sampled_from([datetime.date(2017, 12, 1), datetime.date(2018, 1, 1), datetime.date(2018, 4, 1)])
    )
    months = [first_month]
    for _ in range(draw(st.integers(0, 14))):
        months.append(next_month(months[-1]))
    orders = [
        {
            "order_id": str(number),
            "customer_id": draw(ANY_ID),
            "order_date": str(draw(st.dates(FIRST, LAST))),
            "status": draw(NAMES),
        }
        for number in range(draw(st.integers(0, 8)))
    ]
    payments = [
        {
            "payment_id": str(number),
            "order_id": str(draw(st.integers(0, 9))),  # some of them orders that do not exist
            "payment_method": draw(NAMES),
            "amount": str(draw(st.one_of(st.integers(0, 1999), st.sampled_from([1, 99, 10**15 - 1])))),
        }
        for number in range(draw(st.integers(0, 12)))
    ]
    return {
        "subscription_periods": draw(periods()),
        "util_months": [{"date_month": str(month)} for month in months],
        "customers": [
            {"customer_id": str(number), "first_name": draw(NAMES), "last_name": draw(NAMES)} for number in KNOWN_IDS
        ],
        "orders": orders,
        "payments": payments,
    }


@pytest.mark.filterwarnings("ignore")
@hypothesis.settings(max_examples=300, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(case=cases(), as_of_date=st.one_of(st.just(""), st.none(), DAYS.map(str)))
def test_tables_are_those_of_the_oracle(staging, case, as_of_date):
    fill_staging(staging, case)

    assert by_customer(run_sql(staging, "customer_churn_month", as_of_date)) == by_customer(
        expect_churn(case, as_of_date)
    )
    assert by_customer(run_sql(staging, "customers")) == by_customer(expect_customers(case))
    assert count_left_out(staging) == expect_left_out(case)


# one case by hand for each rule, so that oracle and SQL cannot err alike

MONTHS = [{"date_month": f"2018-{month:02}-01"} for month in range(1, 13)]


def churn_of(staging, as_of_date, *spans, amount="10"):
    """Return the churn rows of customer 1, who has a period for each (start, end) or (start, end, amount)."""
    case: Case = {name: [] for name in TABLES} | {"util_months": MONTHS}
    for number, (start, end, *price) in enumerate(spans):
        case["subscription_periods"].append(
            {
                "subscription_id": str(number),
                "customer_id": "1",
                "start_date": start,
                "end_date": end,
                "monthly_amount": price[0] if price else amount,
            }
        )
    fill_staging(staging, case)
    assert by_customer(run_sql(staging, "customer_churn_month", as_of_date)) == expect_churn(case, as_of_date)
    return [
        (str(row["first_active_month"]), str(row["last_active_month"]), str(row["date_month"]))
        for row in run_sql(staging, "customer_churn_month", as_of_date)
    ]


@pytest.mark.parametrize(
    ("as_of_date", "spans", "expected"),
    [
        ("2018-06-01", [("2018-02-01", "2018-05-01")], [("2018-02-01", "2018-04-01", "2018-05-01")]),
        ("2018-05-01", [("2018-02-01", "2018-05-01")], [("2018-02-01", "2018-04-01", "2018-05-01")]),
        ("2018-04-30", [("2018-02-01", "2018-05-01")], []),  # ends after the as-of date
        ("2018-06-01", [("2018-02-01", "2018-05-02")], [("2018-02-01", "2018-05-01", "2018-06-01")]),
        ("2018-05-31", [("2018-02-01", "2018-05-02")], []),  # the last paid month is not over
        ("2018-06-01", [("2018-02-15", "2018-02-20")], [("2018-02-01", "2018-02-01", "2018-03-01")]),
        ("2018-06-01", [("2018-02-15", "2018-02-15")], []),  # pays for nothing
        ("2018-06-01", [("2018-02-01", "")], []),  # open-ended
        ("2018-06-01", [("2018-02-01", "2018-03-01"), ("2018-05-01", "")], []),  # a gap is not churn
        ("2018-04-01", [("2018-02-01", "2018-03-01"), ("2018-07-01", "2018-08-01")], []),  # pays again later
        (
            "2018-12-01",
            [("2018-02-01", "2018-03-01"), ("2018-07-01", "2018-08-01"), ("2018-01-01", "2018-07-15")],
            [("2018-01-01", "2018-07-01", "2018-08-01")],
        ),
        (
            "2018-06-01",
            [("2018-02-01", "2018-03-01"), ("2018-02-01", "", "0")],
            [("2018-02-01", "2018-02-01", "2018-03-01")],
        ),
        ("2018-06-01", [("2018-02-01", "", "0")], []),  # never paid
        ("2018-06-01", [("2017-02-01", "2018-01-01")], []),  # before the window
        ("2018-06-01", [("2017-02-01", "2018-01-02")], [("2018-01-01", "2018-01-01", "2018-02-01")]),
        ("2019-06-01", [("2018-11-01", "2019-03-01")], [("2018-11-01", "2018-12-01", "2019-01-01")]),
        ("2019-06-01", [("2019-01-01", "2019-03-01")], []),  # after the window
        ("", [("2018-02-01", "2018-05-01")], [("2018-02-01", "2018-04-01", "2018-05-01")]),  # as of 2018-05-01
        ("", [("2018-02-01", "2018-04-15"), ("2018-06-10", "", "0")], [("2018-02-01", "2018-04-01", "2018-05-01")]),
        (None, [("2018-02-01", "2018-05-02")], []),  # as of 2018-05-02
        (datetime.date(2018, 6, 1), [("2018-02-01", "2018-02-02")], [("2018-02-01", "2018-02-01", "2018-03-01")]),
    ],
)
def test_churn_rule(staging, as_of_date, spans, expected):
    assert churn_of(staging, str(as_of_date) if as_of_date else as_of_date, *spans) == expected


def test_lifetime_value_is_exact_to_the_cent_and_nothing_is_counted_twice(staging):
    case: Case = {name: [] for name in TABLES} | {"util_months": MONTHS}
    case["customers"] = [{"customer_id": str(who), "first_name": "Ada", "last_name": "L."} for who in (1, 2, 3)]
    case["orders"] = [
        {"order_id": str(number), "customer_id": who, "order_date": f"2018-01-{number:02}", "status": ""}
        for number, who in [(1, "1"), (2, "1"), (3, "3"), (4, "9")]
    ]
    case["payments"] = [
        {"payment_id": str(number), "order_id": order, "payment_method": "", "amount": amount}
        for number, (order, amount) in enumerate([("1", "101"), ("1", "99"), ("2", "1"), ("4", "500"), ("8", "700")])
    ]
    fill_staging(staging, case)

    rows = by_customer(run_sql(staging, "customers"))

    assert [row["number_of_orders"] for row in rows] == [2, 0, 1]
    assert [str(row["customer_lifetime_value"]) for row in rows] == ["2.01", "0.00", "0.00"]
    assert [str(row["first_order"]) for row in rows] == ["2018-01-01", "None", "2018-01-03"]
    left_out = count_left_out(staging)
    assert (left_out["orders_of_unknown_customers"], left_out["payments_without_order"]) == (1, 1)
    assert left_out["customers_who_never_paid"] == 3


@pytest.mark.parametrize("bad", ["some day", "2018-02-30", "'; drop table staging.orders; --"])
def test_as_of_date_is_bound_and_never_formatted(staging, bad):
    with pytest.raises(sqlalchemy.exc.DataError, match="date"), staging.begin_nested():
        run_sql(staging, "customer_churn_month", bad)


# the shipped data, in whatever types they were staged


def read_shipped() -> Case:
    case = {}
    for name in TABLES:
        path = INCLUDE / "data" / f"{name}.csv"
        assert check_csv(path, name).rows
        with path.open(newline="", encoding="utf-8") as file:
            case[name] = list(csv.DictReader(file))
    return case


def as_guessed(name, column):
    """Tell the types that Astro SDK comes to by itself."""
    if "date" in column:
        return "text"
    return {"monthly_amount": "double precision"}.get(column, as_loaded(name, column))


def as_dates(name, column):
    return "date" if "date" in column else as_loaded(name, column)


@pytest.mark.parametrize("types", [as_loaded, as_guessed, as_dates, lambda name, column: "text"])
@pytest.mark.parametrize("as_of_date", ["", "2020-06-15"])
def test_shipped_data_give_what_the_oracle_gives(staging, types, as_of_date):
    case = read_shipped()
    savepoint = staging.begin_nested()
    make_staging(staging, types)
    fill_staging(staging, case)

    churned = run_sql(staging, "customer_churn_month", as_of_date)
    customers = run_sql(staging, "customers")
    left_out = count_left_out(staging)
    savepoint.rollback()

    assert by_customer(churned) == by_customer(expect_churn(case, as_of_date))
    assert by_customer(customers) == by_customer(expect_customers(case))
    assert left_out == expect_left_out(case)
    assert len(churned) == {"": 46, "2020-06-15": 9}[as_of_date]
    assert list(churned[0]) == [
        "date_month",
        "customer_id",
        "mrr",
        "is_active",
        "first_active_month",
        "last_active_month",
        "is_first_month",
        "is_last_month",
    ]
    assert list(customers[0]) == [
        "customer_id",
        "first_name",
        "last_name",
        "first_order",
        "most_recent_order",
        "number_of_orders",
        "customer_lifetime_value",
    ]


def test_astro_sdk_loads_and_transforms_to_the_same(socket_dir, tmp_path):
    case = read_shipped()
    # more open-ended periods in front than the SDK would look at to guess types; their customers are nobody
    nobody = {"start_date": "2019-01-01", "end_date": "", "monthly_amount": "5"}
    many = [{"subscription_id": str(10**6 + number), "customer_id": "1000", **nobody} for number in range(1100)]
    case["subscription_periods"] = many + case["subscription_periods"]
    for name, table in TABLES.items():
        with (tmp_path / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, table.names)
            writer.writeheader()
            writer.writerows(case[name])
    connection = {
        "conn_type": "postgres",
        "login": "postgres",
        "schema": "postgres",
        "extra": {"host": socket_dir, "sqlalchemy_query": {"host": socket_dir}},
    }
    environment = {
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_WAREHOUSE": json.dumps(connection),
        "POSTGRES_CONN_ID": "warehouse",
        "PYTHONPATH": str(INCLUDE.parent),
    }
    script, result = Path(__file__).with_name("run_with_sdk.py"), tmp_path / "result.json"

    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "2021-06-15", str(result)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    tables = json.loads(result.read_text())
    churn = {(row["customer_id"], row["date_month"]) for row in tables["customer_churn_month"]}
    assert churn == {(str(row["customer_id"]), str(row["date_month"])) for row in expect_churn(case, "2021-06-15")}
    values = {row["customer_id"]: Decimal(row["customer_lifetime_value"]) for row in tables["customers"]}
    assert values == {str(row["customer_id"]): row["customer_lifetime_value"] for row in expect_customers(case)}
    counted = tables["left_out"][0] | tables["unlabelled"][0]
    assert counted == {name: str(number) for name, number in expect_left_out(case).items()}
