import hashlib
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from include import csv_reader
from include.churn.schema import TABLES, check_csv
from include.errors import ConfigurationError, InputError

DATA = Path(__file__).parents[3] / "include" / "data"

GOOD = {
    "subscription_periods": "subscription_id,customer_id,start_date,end_date,monthly_amount\n1,7,2018-01-01,2018-03-01,25\n"
    "2,7,2019-01-15,,49.99\n3,8,2018-05-01,2018-05-01,0\n",
    "util_months": "date_month\n2018-01-01\n2018-02-01\n2018-03-01\n",
    "customers": "customer_id,first_name,last_name\n7,Ada,L.\n8,Bea,M.\n9,,\n",
    "orders": "order_id,customer_id,order_date,status\n1,7,2018-01-05,completed\n2,7,2018-02-07,placed\n3,8,2018-02-08,\n",
    "payments": "payment_id,order_id,payment_method,amount\n1,1,coupon,999\n2,1,card,0\n3,2,card,1001\n",
}

# table, what to replace in the good file, by what, and what the message must name: column, line, value, what to do
BAD = {
    "order id twice": ("orders", "\n2,7", "\n1,7", ["order_id", "line 2 ('1')", "line 3 ('1')", "more than once"]),
    "customer twice": ("customers", "\n8,", "\n7,", ["customer_id", "line 2 ('7')", "line 3 ('7')"]),
    "payment twice": ("payments", "\n3,2", "\n2,2", ["payment_id", "line 3 ('2')", "line 4 ('2')"]),
    "period twice": (
        "subscription_periods",
        "\n2,7,2019-01-15",
        "\n1,7,2018-01-01",
        ["'subscription_id' and 'start_date'", "line 2 ('1 and 2018-01-01')", "line 3"],
    ),
    "month twice": ("util_months", "2018-02-01", "2018-01-01", ["date_month", "line 2 ('2018-01-01')", "line 3"]),
    "month missing": ("util_months", "2018-02-01\n", "", ["date_month", "missing before", "line 3 ('2018-03-01')"]),
    "month's second": ("util_months", "2018-02-01", "2018-02-02", ["first day of a month", "line 3 ('2018-02-02')"]),
    "no such day": ("orders", "2018-02-07", "2018-02-30", ["order_date", "line 3 ('2018-02-30')", "2023-01-31"]),
    "local date": ("orders", "2018-02-07", "07.02.2018", ["order_date", "line 3 ('07.02.2018')"]),
    "no date": ("orders", "2018-02-07", "", ["order_date", "line 3 (empty)"]),
    "far date": ("subscription_periods", "2018-03-01", "9999-12-31", ["end_date", "line 2 ('9999-12-31')", "empty"]),
    "no start": ("subscription_periods", "2019-01-15", "", ["start_date", "line 3 (empty)"]),
    "end before start": (
        "subscription_periods",
        "2018-03-01",
        "2017-12-31",
        ["end_date", "earlier than the start", "line 2 ('2017-12-31')"],
    ),
    "negative amount": ("payments", "999", "-999", ["amount", "line 2 ('-999')", "too small: outside 0 to", "cents"]),
    "half a cent": ("payments", "1001", "1001.5", ["amount", "line 4 ('1001.5')", "whole number of cents"]),
    "words for an amount": ("payments", "1001", "ten", ["amount", "line 4 ('ten')"]),
    "no amount": ("payments", "1001", "", ["amount", "line 4 (empty)"]),
    "NaN": ("payments", "1001", "NaN", ["amount", "line 4 ('NaN')"]),
    "infinite amount": ("subscription_periods", "49.99", "inf", ["monthly_amount", "line 3 ('inf')"]),
    "negative price": ("subscription_periods", "49.99", "-1", ["monthly_amount", "line 3 ('-1')"]),
    "decimal comma": ("subscription_periods", "49.99", '"49,99"', ["monthly_amount", "line 3 ('49,99')"]),
    "no customer": ("orders", "\n2,7,", "\n2,,", ["customer_id", "line 3 (empty)", "every order needs a whole number"]),
    "no customer id": ("customers", "\n8,", "\n,", ["customer_id", "line 3 (empty)"]),
    "words for a key": ("customers", "\n8,", "\nC8,", ["customer_id", "line 3 ('C8')"]),
    "key too large": (
        "customers",
        "\n8,",
        "\n9223372036854775808,",
        ["customer_id", "line 3 ('9223372036854775808')", "too large", "to 9223372036854775807"],
    ),
    "key too small": ("customers", "\n8,", "\n-9223372036854775809,", ["customer_id", "line 3", "too small"]),
    "key of 60 digits": ("customers", "\n8,", "\n" + "9" * 60 + ",", ["customer_id", "line 3", "too large"]),
    "decimals in a key": (
        "customers",
        "\n8,",
        "\n8.0,",
        ["customer_id", "line 3 ('8.0')", "whole number", "digits only"],
    ),
    "key with an exponent": ("customers", "\n8,", "\n1e3,", ["customer_id", "line 3 ('1e3')", "whole number"]),
    "cents with decimals": ("payments", "1001", "1001.00", ["amount", "line 4 ('1001.00')", "whole number of cents"]),
    "cents with a separator": ("payments", "1001", '"1,001"', ["amount", "line 4 ('1,001')", "whole number of cents"]),
    "too many cents": ("payments", "1001", "1" + "0" * 15, ["amount", "line 4", "too large", "999999999999999 cents"]),
    "price with more digits than are kept": (
        "subscription_periods",
        "49.99",
        "49.1234567",
        ["monthly_amount", "line 3 ('49.1234567')", "6 after"],
    ),
    "price too large": ("subscription_periods", "49.99", "1" * 13, ["monthly_amount", "line 3", "12 digits before"]),
    "no such time": ("orders", "2018-02-07", "2018-02-07 25:00:00", ["order_date", "line 3 ('2018-02-07 25:00:00')"]),
    "time with more digits than are kept": (
        "orders",
        "2018-02-07",
        "2018-02-07 10:00:00.1234567",
        ["order_date", "line 3 ("],
    ),
    "date with a time zone": ("orders", "2018-02-07", "2018-02-07T10:00:00Z", ["order_date", "line 3 ("]),
    "word for a missing date": ("subscription_periods", "2018-03-01", "NA", ["end_date", "line 2 ('NA')", "empty"]),
    "column missing": ("orders", ",order_date,", ",day,", ["line 1", "'order_date'", "'day'", "Add or rename"]),
    "column capitalised": ("orders", "order_id", "ORDER_ID", ["line 1", "'order_id'", "'ORDER_ID'", "upper and lower"]),
    "column twice": ("orders", ",status", ",order_id", ["lacks 'status'"]),
    "field missing": ("orders", "2,7,2018-02-07,placed", "2,7,2018-02-07", ["4 columns", "line 3 (3 fields)"]),
    "field too many": ("orders", "2,7,2018-02-07,placed", "2,7,2018-02-07,placed,", ["line 3 (5 fields)", "comma"]),
    "other separator": ("payments", ",", ";", ["line 1", "'payment_id'", "separator seems to be ';'", "commas"]),
    "tabs": ("payments", ",", "\t", ["line 1", "'payment_id'", "tabs", "commas"]),
    "zero byte": ("customers", "Bea", "B\0ea", ["'first_name'", "line 3 ('B\\x00ea')", "zero byte"]),
    "zero byte in a column that is not loaded": (
        "orders",
        "order_id,customer_id,order_date,status\n1,7,2018-01-05,completed\n2,7,2018-02-07,placed\n3,8,2018-02-08,\n",
        "note,order_id,customer_id,order_date,status\nx,1,7,2018-01-05,completed\n\0,2,7,2018-02-07,placed\n",
        ["'note'", "line 3 (", "zero byte"],
    ),
    "long value": ("customers", "\n8,", "\n" + "x" * 300 + ",", ["customer_id", "line 3 ('" + "x" * 40 + "...')"]),
}


def message_for(content: str | bytes, name: str) -> str:
    with pytest.raises(InputError) as caught:
        check_csv(content if isinstance(content, bytes) else content.encode(), name)
    return str(caught.value)


@pytest.mark.parametrize("name", TABLES)
def test_shipped_and_small_files_pass(name):
    assert check_csv(DATA / f"{name}.csv", name).rows == len(pd.read_csv(DATA / f"{name}.csv"))
    assert check_csv(str(DATA / f"{name}.csv"), name).rows > 0
    assert check_csv(GOOD[name].encode(), name).rows == 3


@pytest.mark.parametrize("defect", BAD)
def test_defect_is_named_with_file_column_line_and_value(defect):
    name, old, new, expected = BAD[defect]
    assert old in GOOD[name]

    message = message_for(GOOD[name].replace(old, new), name)

    assert f"{name}.csv" in message
    for part in expected:
        assert part in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"order_id,customer_id,order_date,status\n", "no rows"),
        (b"\xef\xbb\xbforder_id,customer_id,order_date,status", "no rows"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"PK\x03\x04\x00\x00", "binary"),
        ("order_id,customer_id,order_date,status\n".encode("utf-16-le"), "UTF-16"),
        ("order_id".encode("utf-16"), "UTF-16"),
        (b"order_id,customer_id,order_date,status\n1,1,2018-01-01,\xe9t\xe9\n", "'status': not UTF-8"),
        (b"order_id,customer_id,order_date,status\n1,1,2018-01-01,\xe9t\xe9\n", "line 2 ('\\xe9t\\xe9')"),
        (b'order_id,customer_id,order_date,status\n1,1,2018-01-01,"x\n2,2,2018-01-01,y\n', "orders.csv"),
        (b'order_id,customer_id,order_date,status\n1,1,2018-01-01,"x\n' + b"2,2,2018-01-01,y\n" * 9000, "orders.csv"),
    ],
)
def test_what_is_no_csv_is_named(content, expected):
    message = message_for(content, "orders")

    assert "orders.csv" in message
    assert expected in message


def test_column_that_is_there_twice_is_named():
    content = GOOD["orders"].replace("status", "status,status").replace("completed", "completed,")

    assert "'status' more than once" in message_for(content, "orders")


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=re.escape(f"orders.csv: there is no file at {tmp_path / 'orders.csv'}")):
        check_csv(tmp_path / "orders.csv", "orders")
    with pytest.raises(InputError, match="there is no file"):
        check_csv(tmp_path, "orders")


def test_unknown_table_is_named():
    with pytest.raises(ConfigurationError, match=r"'invoices'.*orders"):
        check_csv(b"", "invoices")


def test_all_defects_of_a_file_are_listed_and_long_lists_cut_short():
    rows = "".join(f"{number},x,2018-13-01,s\n" for number in range(8))

    message = message_for("order_id,customer_id,order_date,status\n" + rows, "orders")

    assert "column 'customer_id'" in message
    assert "column 'order_date'" in message
    assert "line 6 ('x') and 3 more" in message


def test_lines_are_those_of_the_file_despite_blank_lines_and_line_breaks_in_quotes():
    content = '\nstatus,order_id,customer_id,order_date\n\n"two\nlines",1,7,2018-01-01\r\n\nplaced,2,7,2018-99-01\n\n'  # line 7

    assert "line 7 ('2018-99-01')" in message_for(content, "orders")


def test_line_is_right_in_a_later_block(monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 4096)
    rows = [f"{number},1,card,100" for number in range(1000)]
    rows[900] = "900,1,card,-1"
    header = "payment_id,order_id,payment_method,amount\n"

    assert "line 902 ('-1')" in message_for(header + "\n".join(rows), "payments")
    rows[900] = "5,1,card,1"
    assert "line 7 ('5'), line 902 ('5')" in message_for(header + "\n".join(rows), "payments")
    rows[900] = "900,1,card"
    assert "line 902 (3 fields)" in message_for(header + "\n".join(rows), "payments")


def test_further_columns_other_order_times_of_day_and_byte_order_mark_are_accepted():
    content = (
        "﻿note,status,order_date,customer_id,order_id\nx,placed,2018-01-01 00:00:00,7,1\n,,2018-01-02T10:30:00.5,7,2\n"
    )

    assert check_csv(content.encode(), "orders").rows == 2


def test_subscription_may_have_several_periods():
    content = GOOD["subscription_periods"].replace("\n2,7,2019", "\n1,7,2019")

    assert check_csv(content.encode(), "subscription_periods").rows == 3


def test_months_need_no_order():
    assert check_csv(b"date_month\n2018-03-01\n2018-01-01\n2018-02-01\n", "util_months").rows == 3


def rows_of(content: str | bytes, name: str) -> list[dict]:
    """The rows as they go on to the warehouse."""
    blocks: list[pa.Table] = []
    check_csv(content if isinstance(content, bytes) else content.encode(), name, keep=blocks.append)
    return pa.concat_tables(blocks).to_pylist()


def test_keys_of_64_bits_are_kept():
    rows = rows_of(
        "customer_id,first_name,last_name\n1234567890123456789,Ada,L.\n-9223372036854775808,Bea,M.\n", "customers"
    )

    assert [row["customer_id"] for row in rows] == [1234567890123456789, -(2**63)]


@pytest.mark.parametrize(
    "word", ["NA", "NULL", "None", "nan", "n/a", "#N/A", "-", "", "0012", " x ", "'x'", "x\ty", "Jörg", "\x07"]
)
def test_text_stays_as_it_is(word):
    rows = rows_of(f"customer_id,first_name,last_name\n7,{word},Lee\n8,x,{word}\n", "customers")

    assert rows == [
        {"customer_id": 7, "first_name": word, "last_name": "Lee"},
        {"customer_id": 8, "first_name": "x", "last_name": word},
    ]


def test_money_stays_exact_and_missing_end_dates_are_missing():
    periods = rows_of(GOOD["subscription_periods"].replace("25\n", "123456789012.123456\n"), "subscription_periods")

    assert [period["monthly_amount"] for period in periods] == ["123456789012.123456", "49.99", "0"]
    assert [str(period["end_date"]) for period in periods] == ["2018-03-01 00:00:00", "None", "2018-05-01 00:00:00"]


def test_time_of_day_is_kept_but_makes_no_other_key():
    content = GOOD["subscription_periods"].replace("2018-01-01,", "2018-01-01T10:30:00.5,")

    assert str(rows_of(content, "subscription_periods")[0]["start_date"]) == "2018-01-01 10:30:00.500000"
    again = "1,7,2018-01-01 09:00:00,2018-03-01,25\n"
    assert "used more than once" in message_for(content + again, "subscription_periods")


@pytest.mark.parametrize(
    "column",
    [
        "note",
        "ctid",
        "tableoid",
        "xmin",
        "oid",
        "order",
        "STATUS",
        "",
        '"quoted, name"',
        "Größe" * 30,
        'a"b',
        "two\u2028lines",
    ],
)
@pytest.mark.parametrize(
    "values", [("", "text"), ("1", "text"), ("2018-01-01", "1e400"), ('"a\nb"', '"a""b"'), ("é", "x" * 10**6)]
)
def test_a_column_that_the_contract_does_not_name_is_not_looked_at(column, values):
    lines = GOOD["orders"].splitlines()[:3]
    content = "\n".join(f"{field},{line}" for field, line in zip((column, *values), lines, strict=True)) + "\n"

    rows = rows_of(content, "orders")

    assert rows == rows_of("\n".join(lines), "orders")
    assert list(rows[0]) == ["order_id", "customer_id", "order_date", "status"]


def test_bytes_that_are_no_utf8_do_no_harm_in_a_column_that_is_not_loaded():
    content = "Größe,order_id,customer_id,order_date,status\né,1,7,2018-01-05,completed\n".encode("latin-1")

    assert rows_of(content, "orders")[0]["status"] == "completed"


def test_contract_needs_no_more_than_its_columns_in_the_header():
    message = message_for(GOOD["orders"].replace("order_date", "dat\0e"), "orders")

    assert "binary file or UTF-16" in message
    message = message_for(
        GOOD["orders"].replace("status", "status,no\0te").replace("completed", "completed,"), "orders"
    )
    assert "zero byte in 'no\\x00te'" in message


def test_defects_of_all_blocks_are_counted(monkeypatch):
    monkeypatch.setattr(csv_reader, "BLOCK_BYTES", 4096)
    rows = [f"{number},1,card,-1" for number in range(1000)]

    assert "and 995 more" in message_for("payment_id,order_id,payment_method,amount\n" + "\n".join(rows), "payments")


def test_digest_is_that_of_the_file():
    content = b"\xef\xbb\xbf" + GOOD["orders"].encode()

    assert check_csv(content, "orders").sha256 == hashlib.sha256(content).hexdigest()
