"""How a CSV gets into the warehouse, a real PostgreSQL: the file's values, all of them, or nothing."""

import csv
import datetime
import inspect
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
import sqlalchemy
from airflow.providers.postgres.hooks.postgres import PostgresHook

from include import sources
from include.churn.features import CHURNED_COLUMNS, CUSTOMER_COLUMNS, build_features
from include.churn.load import LoadCheckedFileOperator, warehouse_table
from include.churn.staging import read_columns
from include.errors import ConfigurationError, InputError
from include.object_store import sha256_hex
from include.settings import settings
from tests.helpers.dags import load_dag

SCHEMA = settings.churn.warehouse_schema
SCRIPT = Path(__file__).with_name("run_with_sdk.py")
ORDERS = "order_id,customer_id,order_date,status\n1,7,2018-01-05,completed\n"

# Texts that programs take for something else, or break at
NASTY = [
    *("NA", "N/A", "n/a", "#N/A", "#NA", "NULL", "Null", "null", "None", "nan", "NaN", "-nan", "<NA>", "inf", "True"),
    *("", " ", "  x  ", "\t", "007", "1e3", "1.0", "-0", "2018-01-01", "1,234"),
    *(
        '"',
        '""',
        "'",
        "''",
        'a"b',
        "a,b",
        "a;b",
        "\\",
        "\\N",
        "\\.",
        "\\n",
        "$$",
        "%s",
        "{{ x }}",
        "'; DROP TABLE x; --",
    ),
    *(
        "a\nb",
        "a\r\nb",
        "a\rb",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\\.\n",
        "a\x0bb",
        "\x01\x1b\x7f",
        "\x85",
        "\u2028",
        "\ufeff",
    ),
    *("Jörg Müller", "Łódź", "Ελλάδα", "山田", "\U0001f600", "e\u0301", "\ufffd", "\xa0x\xa0", "x" * 200_000),
]


def connection(socket_dir: str, **changes) -> str:
    fields = {"conn_type": "postgres", "login": "postgres", "schema": "postgres"} | changes
    return json.dumps(fields | {"extra": {"host": socket_dir, "sqlalchemy_query": {"host": socket_dir}}})


@pytest.fixture(autouse=True)
def warehouse(socket_dir, monkeypatch, tmp_path):
    """The connection to the server, and tmp_path in place of include/."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{settings.postgres_conn_id.upper()}", connection(socket_dir))
    monkeypatch.setattr(sources, "INCLUDE", tmp_path)


@pytest.fixture
def query(engine):
    """Runs a statement of its own transaction, and returns its rows as tuples."""

    def run(statement: str, **parameters) -> list[tuple]:
        with engine.begin() as connection:
            result = connection.execute(sqlalchemy.text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    return run


@pytest.fixture
def load(tmp_path):
    """Loads a content as a table, as the DAG's task does, and returns the task's XComs."""

    def run(name: str, content: str | bytes | None = None) -> dict[str, str]:
        if content is not None:
            (tmp_path / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        pushed: dict[str, str] = {}
        operator = LoadCheckedFileOperator(task_id=f"load_{name}", name=name, source=f"{name}.csv")
        # without Airflow's watch over calls of execute, which expects a task instance
        execute = inspect.unwrap(LoadCheckedFileOperator.execute)
        try:
            execute(operator, {"ti": SimpleNamespace(xcom_push=pushed.__setitem__)})
        finally:
            assert not Path(operator.input_file.path).exists()
        return pushed

    return run


def as_csv(*rows, **style) -> str:
    content = io.StringIO(newline="")
    csv.writer(content, **style).writerows(rows)
    return content.getvalue()


@pytest.mark.parametrize("style", [{}, {"quoting": csv.QUOTE_ALL, "lineterminator": "\n"}])
def test_texts_come_back_to_the_letter(load, query, style):
    numbers = range(len(NASTY))
    rows = [(number, text, f"x{text}x") for number, text in zip(numbers, NASTY, strict=True)]

    load("customers", as_csv(("customer_id", "first_name", "last_name"), *rows, **style))

    assert query(f"SELECT customer_id, first_name, last_name FROM {SCHEMA}.stg_customers ORDER BY 1") == rows


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("orders", "order_id,customer_id,order_date,status\n1,7,2018-01-05,\n2,7,2018-01-06,NULL\n", ["", "NULL"]),
        ("payments", "payment_id,order_id,payment_method,amount\n1,1,None,5\n2,1,,5\n", ["None", ""]),
    ],
)
def test_other_texts_are_no_missing_values_either(load, query, name, content, expected):
    load(name, content)

    column = {"orders": "status", "payments": "payment_method"}[name]
    assert [row[0] for row in query(f"SELECT {column} FROM {SCHEMA}.stg_{name} ORDER BY 1")] == sorted(expected)


def test_numbers_dates_and_gaps_come_back_as_they_were(load, query):
    load(
        "subscription_periods",
        "subscription_id,customer_id,start_date,end_date,monthly_amount\n"
        "1234567890123456789,-9223372036854775808,2018-01-01,2018-02-01 10:30:00.123456,123456789012.123456\n"
        "2,007,2018-01-01T00:00:00,,49.990\n",
    )

    day = datetime.datetime(2018, 1, 1)
    assert query(f"SELECT * FROM {SCHEMA}.stg_subscription_periods ORDER BY monthly_amount DESC") == [
        (
            1234567890123456789,
            -(2**63),
            day,
            datetime.datetime(2018, 2, 1, 10, 30, 0, 123456),
            Decimal("123456789012.123456"),
        ),
        (2, 7, day, None, Decimal("49.990")),
    ]


def test_tables_have_the_types_of_the_data_dictionary(load, query):
    load("orders", ORDERS)

    columns = query(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_schema = :schema "
        "AND table_name = 'stg_orders' ORDER BY ordinal_position",
        schema=SCHEMA,
    )
    assert columns == [
        ("order_id", "bigint", "NO"),
        ("customer_id", "bigint", "NO"),
        ("order_date", "timestamp without time zone", "NO"),
        ("status", "text", "NO"),
    ]


# A column that no contract names: what it is called, and its values. By the first thousand it looks like numbers, or empty.
EXTRA = {
    "text, where others guess numbers": ("note", [*["1"] * 1100, "call back"]),
    "filled later": ("discount_until", [*[""] * 1100, "2018-02-01"]),
    "latin-1": ("note", ["caf\xe9"] * 1101),
    "system columns": ("ctid", ["x"] * 1101),
    "long name": ("n" * 200, ["x"] * 1101),
    "no name": ("", ["x"] * 1101),
    "line breaks": ("note", ['"a\r\nb"'] * 1101),
}


@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize("first", [True, False])
def test_a_column_that_the_contract_does_not_name_is_not_loaded(load, query, extra, first):
    column, values = EXTRA[extra]
    lines = ["order_id,customer_id,order_date,status", *(f"{number},7,2018-01-05,placed" for number in range(1101))]
    pairs = zip(lines, [column, *values], strict=True)
    content = "\n".join(f"{value},{line}" if first else f"{line},{value}" for line, value in pairs)

    load("orders", content.encode("latin-1"))

    assert query(f"SELECT * FROM {SCHEMA}.stg_orders ORDER BY order_id LIMIT 1") == [
        (0, 7, datetime.datetime(2018, 1, 5), "placed")
    ]
    assert query(f"SELECT count(*) FROM {SCHEMA}.stg_orders") == [(1101,)]


def test_a_file_that_is_wrong_leaves_the_former_table(load, query):
    load("orders", ORDERS)
    rows = "".join(f"{number},7,2018-01-05,placed\n" for number in range(2, 200_000))

    with pytest.raises(InputError, match=r"include/orders\.csv cannot be used.*\n.*line 200001"):
        load("orders", ORDERS + rows + "x,7,2018-01-05,placed\n")

    assert query(f"SELECT order_id, status FROM {SCHEMA}.stg_orders") == [(1, "completed")]


def test_a_table_that_something_depends_on_is_not_replaced_and_says_so(load, query):
    load("orders", ORDERS)
    query(f"CREATE VIEW {SCHEMA}.open_orders AS SELECT * FROM {SCHEMA}.stg_orders")
    try:
        with pytest.raises(ConfigurationError, match=rf"table {SCHEMA}\.stg_orders .*depend.*open_orders"):
            load("orders", ORDERS.replace("1,7", "2,7"))
        assert query(f"SELECT order_id FROM {SCHEMA}.stg_orders") == [(1,)]
    finally:
        query(f"DROP VIEW {SCHEMA}.open_orders")


def test_a_load_that_is_killed_leaves_the_former_table(load, query, monkeypatch):
    class KilledCursor(psycopg.Cursor):
        @contextmanager
        def copy(self, *arguments, **options):
            with super().copy(*arguments, **options) as rows:
                yield rows
            raise ConnectionError("killed")

    def connect(hook):
        made = get_conn(hook)
        made.cursor_factory = KilledCursor
        return made

    load("orders", ORDERS)
    get_conn = PostgresHook.get_conn
    monkeypatch.setattr(PostgresHook, "get_conn", connect)

    with pytest.raises(ConnectionError):
        load("orders", ORDERS.replace("1,7", "2,7"))

    assert query(f"SELECT order_id FROM {SCHEMA}.stg_orders") == [(1,)]


def test_the_source_is_read_once(load, query, tmp_path):
    os.mkfifo(tmp_path / "orders.csv")
    content = ORDERS.encode() + b"".join(b"%d,7,2018-01-05,placed\n" % number for number in range(2, 100_000))
    writer = threading.Thread(target=(tmp_path / "orders.csv").write_bytes, args=[content], daemon=True)
    writer.start()

    pushed = load("orders")

    assert pushed == {"sha256": sha256_hex(content)}
    assert query(f"SELECT count(*) FROM {SCHEMA}.stg_orders") == [(99_999,)]


def test_database_that_lacks_a_character_is_named(load, query, engine, monkeypatch, socket_dir):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection_:
        connection_.execute(sqlalchemy.text("DROP DATABASE IF EXISTS latin"))
        connection_.execute(
            sqlalchemy.text("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        )
    monkeypatch.setenv(f"AIRFLOW_CONN_{settings.postgres_conn_id.upper()}", connection(socket_dir, schema="latin"))

    load("orders", ORDERS.replace("completed", "Jörg"))
    with pytest.raises(ConfigurationError, match=r"encoding.*ENCODING 'UTF8'"):
        load("orders", ORDERS.replace("completed", "Łódź"))


def test_long_keys_and_empty_names_come_through_to_the_features(load, query, tmp_path):
    """In a process whose environment has another encoding for everything."""
    key = 1234567890123456789
    files = {
        "customers": f"customer_id,first_name,last_name\n{key},Jörg,Müller\n{key + 1},,\n",
        "orders": f"order_id,customer_id,order_date,status\n{key},{key + 1},2018-01-05,\n",
        "payments": f"payment_id,order_id,payment_method,amount\n{key},{key},None,999\n",
        "subscription_periods": "subscription_id,customer_id,start_date,end_date,monthly_amount\n"
        f"{key},{key},2018-01-01,2018-02-01,5\n{key},{key + 1},2018-03-01,,5\n",
        "util_months": "date_month\n2018-01-01\n2018-02-01\n",
    }
    for name, content in files.items():
        (tmp_path / f"{name}.csv").write_bytes(b"\xef\xbb\xbf" + content.encode())
    variable = f"AIRFLOW_CONN_{settings.postgres_conn_id.upper()}"
    environment = {
        "LC_ALL": "",
        "LC_CTYPE": "",
        "LANG": "C",  # which Python makes UTF-8 when it starts; the script makes it ASCII
        "PYTHONUTF8": "0",
        "PGCLIENTENCODING": "LATIN1",
        "PGDATESTYLE": "German",
        "PYTHONPATH": str(Path(__file__).parents[3]),
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_WAREHOUSE": os.environ[variable],
        "POSTGRES_CONN_ID": "warehouse",
    }
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), "2018-06-01", str(tmp_path / "result.json")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr

    assert query(f"SELECT * FROM {SCHEMA}.stg_customers ORDER BY 1") == [(key, "Jörg", "Müller"), (key + 1, "", "")]
    customers = read_columns(warehouse_table("customers"), CUSTOMER_COLUMNS)
    features = build_features(customers, read_columns(warehouse_table("customer_churn_month"), CHURNED_COLUMNS))
    assert features.to_dict(orient="records") == [
        {"customer_id": key, "number_of_orders": 0, "customer_lifetime_value": 0.0, "churned": 1},
        {"customer_id": key + 1, "number_of_orders": 1, "customer_lifetime_value": 9.99, "churned": 0},
    ]


def test_task_features_works_for_a_role_that_may_not_read_names(query, socket_dir, monkeypatch):
    query(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}; DROP ROLE IF EXISTS modeller; CREATE ROLE modeller LOGIN")
    query(f"DROP TABLE IF EXISTS {SCHEMA}.customers, {SCHEMA}.customer_churn_month")
    query(
        f"CREATE TABLE {SCHEMA}.customers AS SELECT 7 AS customer_id, 'Ada' AS first_name, 'L.' AS last_name, "
        "3 AS number_of_orders, 9.99 AS customer_lifetime_value"
    )
    query(f"CREATE TABLE {SCHEMA}.customer_churn_month AS SELECT 7 AS customer_id, false AS is_active")
    query(
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO modeller; GRANT SELECT (customer_id) ON {SCHEMA}.customer_churn_month TO modeller; "
        f"GRANT SELECT (customer_id, number_of_orders, customer_lifetime_value) ON {SCHEMA}.customers TO modeller"
    )
    monkeypatch.setenv(f"AIRFLOW_CONN_{settings.postgres_conn_id.upper()}", connection(socket_dir, login="modeller"))
    task = load_dag("customer_analytics").get_task("features")
    made = []
    try:
        for churned in (warehouse_table("customer_churn_month"), None):  # None: skipped with score_only
            task.op_kwargs = {"customers": warehouse_table("customers"), "churned": churned}
            made.append(inspect.unwrap(type(task).execute)(task, {}).to_dict(orient="records"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            read_columns(warehouse_table("customers"), ["first_name"])
    finally:
        query("DROP OWNED BY modeller; DROP ROLE modeller")

    row = {"customer_id": 7, "number_of_orders": 3, "customer_lifetime_value": 9.99}
    assert made == [[row | {"churned": 1}], [row]]


def test_top_risks_have_names_or_numbers(query, engine, socket_dir, monkeypatch):
    from local_stack import demo
    from local_stack.config import Stack

    query(f"DROP TABLE IF EXISTS {SCHEMA}.pred_churn, {SCHEMA}.customers, {SCHEMA}.customer_churn_month")
    query(
        f"CREATE TABLE {SCHEMA}.pred_churn AS SELECT * FROM (VALUES (1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)) "
        "AS t (customer_id, churn_probability)"
    )
    query(
        f"CREATE TABLE {SCHEMA}.customers AS SELECT * FROM (VALUES (1, '', ''), (2, 'Ada', ''), (3, NULL, 'L.'), (4, 'x', 'y')) "
        "AS t (customer_id, first_name, last_name)"
    )
    query(f"CREATE TABLE {SCHEMA}.customer_churn_month (customer_id bigint)")
    monkeypatch.setattr(
        demo.postgres, "connect", lambda *_: psycopg.connect(host=socket_dir, user="postgres", dbname="postgres")
    )

    assert [name for name, _ in demo.top_risks(Stack())] == ["customer 1", "Ada", "L."]
