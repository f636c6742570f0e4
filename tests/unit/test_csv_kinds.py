"""How each kind of value is written, and what it becomes."""

import datetime

import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from include.csv_kinds import Amount, Category, Date, Kind, Number, Text, WholeCategory, WholeNumber

LARGEST = 2**63 - 1
DAY = datetime.datetime(2023, 1, 31)

# kind, text, value
RIGHT: list[tuple[Kind, str, object]] = [
    (WholeNumber(), "0", 0),
    (WholeNumber(), "-0", 0),
    (WholeNumber(), "007", 7),
    (WholeNumber(), "0" * 50 + "7", 7),
    (WholeNumber(), str(LARGEST), LARGEST),
    (WholeNumber(), str(-LARGEST - 1), -LARGEST - 1),
    (WholeNumber(), "1234567890123456789", 1234567890123456789),
    (WholeNumber(0, 10), "10", 10),
    (Number(0, 10, "mm"), "5.", 5.0),
    (Number(0, 10, "mm"), ".5", 0.5),
    (Number(0, 10, "mm"), "+5", 5.0),
    (Number(-1, 10, "mm"), "-1e-05", -1e-05),
    (Number(0, 10, "mm"), "0.30000000000000004", 0.1 + 0.2),
    (Amount(), "0", "0"),
    (Amount(), "49.990", "49.990"),
    (Amount(), "123456789012.123456", "123456789012.123456"),
    (Date(), "2023-01-31", DAY),
    (Date(), "2023-01-31 00:00:00", DAY),
    (Date(), "2023-01-31T23:59:59.123456", DAY.replace(hour=23, minute=59, second=59, microsecond=123456)),
    (Date(), "2024-02-29", datetime.datetime(2024, 2, 29)),
    (Date(first_of_month=True), "2023-02-01", datetime.datetime(2023, 2, 1)),
    (Category(("Vic", "other")), "Vic", "Vic"),
    (WholeCategory((1, 2)), "1", 1),
    (WholeCategory((1, 2)), "2.0", 2),
    (Text(), "NA", "NA"),
    (Text(), "", ""),
]

RIGHT_FOR_ALL = {
    WholeNumber: "7",
    Number: "7.5",
    Amount: "7.5",
    Date: "2023-02-01",
    Category: "Vic",
    WholeCategory: "1",
}

# kind, text, what is wrong
WRONG: list[tuple[Kind, str, str]] = [
    (WholeNumber(), "7.0", "not a whole number (write digits only)"),
    (WholeNumber(), "1e3", "not a whole number"),
    (WholeNumber(), "1,000", "not a whole number"),
    (WholeNumber(), "+7", "not a whole number"),
    (WholeNumber(), "1_000", "not a whole number"),
    (WholeNumber(), "\u0661", "not a whole number"),  # a digit, but an Arabic one
    (WholeNumber(), "7\n", "not a whole number"),
    (WholeNumber(), str(LARGEST + 1), f"too large: outside {-LARGEST - 1} to {LARGEST}"),
    (WholeNumber(), str(-LARGEST - 2), "too small"),
    (WholeNumber(), "9" * 5000, "too large"),
    (WholeNumber(), "-" + "9" * 39, "too small"),
    (WholeNumber(0, 10, "cents"), "11", "too large: outside 0 to 10 cents"),
    (WholeNumber(0, 10, "cents"), "-1", "too small: outside 0 to 10 cents"),
    (WholeNumber(0, 10, "cents"), "1.5", "not a whole number of cents, 0 or more"),
    (Number(0, 10, "mm"), "11", "outside 0 to 10 mm: is the unit mm?"),
    (Number(0, 10, "mm"), "-0.1", "outside 0 to 10 mm"),
    (Number(0, 10, "mm"), "5,5", "not a number of mm: write digits with a decimal point"),
    (Number(0, 10, "mm"), "nan", "not a number of mm"),
    (Number(0, 10, "mm"), "inf", "not a number of mm"),
    (Number(0, 10, "mm"), "1e999", "not a number of mm"),
    (Number(0, 10, "mm"), "0x5", "not a number of mm"),
    (Number(0, 10, "mm"), "5.00000000000000001", "more than the 17 digits that can be kept"),
    (Amount(), "-1", "not an amount of 0 or more such as 49.99"),
    (Amount(), "1e3", "not an amount"),
    (Amount(), "49,99", "not an amount"),
    (Amount(), "1.1234567", "6 after it"),
    (Amount(), "1234567890123", "12 digits before the point"),
    (Date(), "2023-02-29", "not a date such as 2023-01-31, from 1900 to 2199"),
    (Date(), "31.01.2023", "not a date"),
    (Date(), "2023-1-31", "not a date"),
    (Date(), "2023-01-31 24:00:00", "not a date"),
    (Date(), "2023-01-31 10:00", "not a date"),
    (Date(), "2023-01-31T10:00:00Z", "not a date"),
    (Date(), "2023-01-31 10:00:00.1234567", "not a date"),
    (Date(), "1899-12-31", "from 1900"),
    (Date(), "9999-12-31", "to 2199"),
    (Date(first_of_month=True), "2023-01-02", "not the first day of a month"),
    (Date(first_of_month=True), "2023-01-01 00:00:01", "not the first day of a month"),
    (Category(("Vic", "other")), "vic", "unknown category (write one of Vic, other)"),
    (WholeCategory((1, 2)), "3", "unknown category (write one of the whole numbers 1, 2)"),
    (WholeCategory((1, 2)), "1.5", "unknown category"),
]


@pytest.mark.parametrize(("kind", "text", "value"), RIGHT)
def test_right_value_becomes_what_it_says(kind, text, value):
    converted = kind.convert(pa.array([text, None, text]))

    assert converted.values.type == kind.arrow_type
    assert converted.values.to_pylist() == [value, None, value]
    assert [bad.to_pylist() for _, bad in converted.problems if pa.compute.any(bad).as_py()] == []


@pytest.mark.parametrize(("kind", "text", "problem"), WRONG)
def test_wrong_value_is_a_problem_and_those_beside_it_are_none(kind, text, problem):
    right = RIGHT_FOR_ALL[type(kind)]
    values, problems = kind.convert(pa.array([right, None, text]))

    ((said, bad),) = [each for each in problems if pa.compute.any(each[1]).as_py()]
    assert problem in said
    assert bad.fill_null(False).to_pylist() == [False, False, True]
    assert values.is_valid().to_pylist()[:2] == [True, False]
