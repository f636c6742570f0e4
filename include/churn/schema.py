"""The data dictionary of the shop's five CSVs and of the features, and the check that a CSV passes before it is loaded.

A check reads a file in blocks and keeps only its keys, so that 10^7 payments take seconds and stay far below 1 GB. What
spans two files (an order of an unknown customer, a payment without an order) is no error: left_out.sql counts it once
they are loaded.
"""

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pyarrow  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]

from include.errors import ConfigurationError, InputError

BLOCK_BYTES = 8 * 1024**2

# How many lines a message lists for one kind of defect before it only counts the rest.
LISTED = 5

DAY = r"\d{4}-\d{2}-\d{2}"
EARLIEST, LATEST = pd.Timestamp("1900-01-01"), pd.Timestamp("2199-12-31")


class Kind(NamedTuple):
    """A kind of column: which texts are right, in the words of an error message, and what pandas loads it as."""

    is_right: Callable[[pd.Series], pd.Series]
    problem: str
    load_dtype: str


def _matches(pattern: str) -> Callable[[pd.Series], pd.Series]:
    return lambda text: text.str.fullmatch(pattern).astype(bool)


def _is_day(text: pd.Series) -> pd.Series:
    return text.str.fullmatch(rf"{DAY}([ T]\d{{2}}:\d{{2}}:\d{{2}}(\.\d+)?)?").astype(bool) & parse_days(text).notna()


def parse_days(text: pd.Series) -> pd.Series:
    """Turn texts that begin like 2023-01-31 into timestamps; NaT where there is no such day from 1900 to 2199."""
    days = pd.to_datetime(text.str.slice(0, 10).astype(object), format="%Y-%m-%d", errors="coerce")
    return days.where(days.between(EARLIEST, LATEST))


TEXT = "string[pyarrow]"
KEY = Kind(_matches(r"-?\d{1,18}"), "not a whole number", "int64")
DATE = Kind(_is_day, "not a date such as 2023-01-31, from 1900 to 2199", TEXT)
END_DATE = Kind(
    lambda text: (text == "").astype(bool) | _is_day(text),
    "not a date such as 2023-01-31, from 1900 to 2199 (leave it empty for a subscription that goes on)",
    TEXT,
)
MONTH = Kind(lambda text: _is_day(text) & (parse_days(text).dt.day == 1), "not the first day of a month", TEXT)
CENTS = Kind(_matches(r"\d{1,15}"), "not a whole number of cents, 0 or more", "int64")
# loaded as text: the database turns it into an exact number, a float would not be one
AMOUNT = Kind(_matches(r"\d{1,12}(\.\d{1,6})?"), "not an amount of 0 or more such as 49.99", TEXT)
ANYTHING = Kind(lambda text: text.notna(), "missing", TEXT)


class Table(NamedTuple):
    """A CSV's columns, each with its kind, and those that identify a row."""

    columns: dict[str, Kind]
    key: tuple[str, ...]


TABLES = {
    "subscription_periods": Table(
        {
            "subscription_id": KEY,
            "customer_id": KEY,
            "start_date": DATE,  # the first day of the period
            "end_date": END_DATE,  # the first day after it
            "monthly_amount": AMOUNT,  # in the currency's unit
        },
        ("subscription_id", "start_date"),  # a subscription may have several periods
    ),
    "util_months": Table({"date_month": MONTH}, ("date_month",)),
    "customers": Table({"customer_id": KEY, "first_name": ANYTHING, "last_name": ANYTHING}, ("customer_id",)),
    "orders": Table({"order_id": KEY, "customer_id": KEY, "order_date": DATE, "status": ANYTHING}, ("order_id",)),
    "payments": Table(
        {"payment_id": KEY, "order_id": KEY, "payment_method": ANYTHING, "amount": CENTS}, ("payment_id",)
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


class Defect(NamedTuple):
    """One bad field: its column, what is wrong, the row (0 is the first one below the header), its text."""

    column: str
    problem: str
    row: int
    value: str


def load_dtypes(name: str) -> dict[str, str]:
    """Tell as which types pandas should read a table's columns on the way to the database.

    Left to guess, Astro SDK takes the types from the first 1,000 rows: an end date that is empty in all of them would
    become a float column that cannot take the first date.

    Raises:
        ConfigurationError: if there is no such table.

    """
    return {column: kind.load_dtype for column, kind in _get_table(name).columns.items()}


def check_csv(source: Path | str | bytes, name: str) -> int:
    """Check one CSV before it is loaded: comma-separated UTF-8 with the columns of TABLES; others are ignored.

    Args:
        source: the file's path, or its content.
        name: the table, such as "orders"; messages call the file <name>.csv.

    Returns:
        How many rows the file has.

    Raises:
        InputError: if anything is not as it should be; the message lists the defects by column and line. A file that
        cannot be
            taken apart into rows, then bad fields, then ends before starts, then keys used twice: the first of these
            that there is hides the later ones, and only the first block with bad fields is listed.
        ConfigurationError: if there is no such table.

    """
    table = _get_table(name)
    file_name = f"{name}.csv"
    header = _read_header(source, file_name)
    _check_header(header, table.columns, file_name)
    _check_quotes(source, file_name)
    schema = _build_schema(table)
    rows = 0
    keys: list[pd.DataFrame] = []
    for text in _read_blocks(source, list(table.columns), file_name):
        text.index = pd.RangeIndex(rows, rows + len(text))
        rows += len(text)
        defects = _find_bad_fields(schema, text) or _find_early_ends(text)
        _raise_defects(defects, source, file_name)
        keys.append(_take_keys(text, table))
    if not rows:
        raise InputError(f"{file_name} has a header but no rows. Add them.")
    all_keys = pd.concat(keys, ignore_index=True)
    _raise_defects(_find_repeated_keys(all_keys), source, file_name)
    if name == "util_months":
        _raise_defects(_find_month_gaps(all_keys["date_month"]), source, file_name)
    return rows


def _get_table(name: str) -> Table:
    if name not in TABLES:
        raise ConfigurationError(f"There is no table '{name}'. The tables are {', '.join(TABLES)}.")
    return TABLES[name]


def _open(source: Path | str | bytes, file_name: str) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return Path(source).open("rb")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(f"{file_name}: there is no file at {source}. Put it there, or set CHURN_DATA_DIR.") from error


def _read_header(source: Path | str | bytes, file_name: str) -> list[str]:
    with _open(source, file_name) as file:
        start = file.read(4096)
    if not start.strip():
        raise InputError(f"{file_name} is empty. It needs a header and rows.")
    if b"\0" in start or start.lstrip().startswith(b"<"):
        what = "a binary file or UTF-16" if b"\0" in start else "a web page or XML"
        raise InputError(
            f"{file_name} is no CSV but {what}: its line 1 begins {start[:20]!r}. Save it as CSV in UTF-8."
        )
    # utf-8-sig: spreadsheets put a byte order mark in front, which is no part of the first column's name
    lines = start.decode("utf-8-sig", errors="replace").splitlines()
    return next(csv.reader(line for line in lines if line.strip()))


def _check_header(header: list[str], columns: Collection[str], file_name: str) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        hint = "Separate the columns by commas" if len(header) == 1 and len(columns) > 1 else "Add or rename them"
        raise InputError(
            f"{file_name}: line 1, the header, lacks {', '.join(map(repr, missing))}; it has "
            f"{_list_some(map(repr, header), 20)}. {hint} (upper and lower case and blanks count)."
        )
    repeated = sorted({column for column in columns if header.count(column) > 1})
    if repeated:
        raise InputError(
            f"{file_name}: line 1, the header, has {', '.join(map(repr, repeated))} twice. Keep one of each."
        )


def _check_quotes(source: Path | str | bytes, file_name: str) -> None:
    """Refuse a quote that is opened and never closed: parsers take all that follows for one field, without a word."""
    with _open(source, file_name) as file:
        quotes = sum(block.count(b'"') for block in iter(lambda: file.read(BLOCK_BYTES), b""))
    if quotes % 2:
        line = max(line for line, _ in _read_lines(source, file_name))
        raise InputError(
            f"{file_name}: line {line} or one above it has a quote that is not closed. Close or remove it."
        )


def _build_schema(table: Table) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(
        {
            column: pa.Column(checks=pa.Check(kind.is_right, error=kind.problem))
            for column, kind in table.columns.items()
        }
    )


def _read_blocks(source: Path | str | bytes, columns: list[str], file_name: str) -> Iterator[pd.DataFrame]:
    """Yield the wanted columns as text, block by block; blank lines are left out."""
    ragged: list[int] = []

    def note_ragged(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    text = pyarrow.string()
    try:
        with (
            _open(source, file_name) as file,
            pyarrow.csv.open_csv(
                file,
                pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note_ragged),
                pyarrow.csv.ConvertOptions(include_columns=columns, column_types=dict.fromkeys(columns, text)),
            ) as reader,
        ):
            for batch in reader:
                if ragged:
                    break
                yield batch.to_pandas(types_mapper={text: pd.ArrowDtype(text)}.get)
    except pyarrow.ArrowInvalid as error:
        if "Empty CSV" in str(error):  # its word for a header that no line break follows
            return
        raise InputError(
            f"{file_name} cannot be read as CSV in UTF-8: {error}. Save it again as CSV in UTF-8."
        ) from error
    if ragged:
        raise InputError(_describe_ragged(source, file_name))


def _describe_ragged(source: Path | str | bytes, file_name: str) -> str:
    lines = _read_lines(source, file_name)
    width = len(next(lines)[1])
    listed = (f"line {line} ({len(fields)} fields)" for line, fields in lines if len(fields) != width)
    return (
        f"{file_name}: not as many fields as the header's {width} columns in {_list_some(listed)}. "
        "Look for a comma that is missing or too many, or for a quote that is not closed."
    )


def _read_lines(source: Path | str | bytes, file_name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row, the header first, with the line of the file where it begins; slow, for messages only."""
    with io.TextIOWrapper(_open(source, file_name), "utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        first = 1
        try:
            for fields in reader:
                if fields:
                    yield first, fields
                first = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{file_name}: line {first} cannot be read: {error}. Check its quotes.") from error


def _find_bad_fields(schema: pa.DataFrameSchema, text: pd.DataFrame) -> list[Defect]:
    try:
        schema.validate(text, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        return [
            Defect(column, problem, int(row), str(value))
            for column, problem, row, value in zip(
                cases["column"], cases["check"], cases["index"], cases["failure_case"], strict=True
            )
        ]
    return []


def _find_early_ends(text: pd.DataFrame) -> list[Defect]:
    if "end_date" not in text:
        return []
    early = text[parse_days(text["end_date"]) < parse_days(text["start_date"])]
    return [
        Defect("end_date", "earlier than the start date", row, value)
        for row, value in early[["end_date"]].itertuples(name=None)
    ]


def _take_keys(text: pd.DataFrame, table: Table) -> pd.DataFrame:
    return pd.DataFrame(
        {
            column: text[column].astype("int64") if table.columns[column] is KEY else parse_days(text[column])
            for column in table.key
        }
    )


def _find_repeated_keys(keys: pd.DataFrame) -> list[Defect]:
    repeated = keys[keys.duplicated(keep=False)]
    return [
        Defect(" and ".join(keys.columns), "used more than once", int(row), " and ".join(_show(key) for key in fields))
        for row, *fields in repeated.itertuples(name=None)
    ]


def _find_month_gaps(months: pd.Series) -> list[Defect]:
    ordered = months.sort_values().to_frame().itertuples(name=None)
    return [
        Defect("date_month", "months are missing before it (list them without gaps)", row, _show(month))
        for (_, before), (row, month) in pairwise(ordered)
        if month != before + pd.DateOffset(months=1)
    ]


def _show(key: object) -> str:
    return f"{key:%Y-%m-%d}" if isinstance(key, pd.Timestamp) else str(key)


def _raise_defects(defects: list[Defect], source: Path | str | bytes, file_name: str) -> None:
    """Raise one InputError for all defects: a line for each column and problem, with the file's own line numbers."""
    if not defects:
        return
    groups: dict[tuple[str, str], list[Defect]] = {}
    for defect in sorted(defects, key=lambda defect: defect.row):
        groups.setdefault((defect.column, defect.problem), []).append(defect)
    listed_rows = {defect.row for group in groups.values() for defect in group[:LISTED]}
    lines = _find_lines(listed_rows, source, file_name)
    message = [
        f"- column {column}: {problem}: "
        + _list_some((f"line {lines.get(defect.row)} ({_quote(defect.value)})" for defect in group), LISTED)
        for (column, problem), group in groups.items()
    ]
    raise InputError("\n".join([f"{file_name} cannot be used; correct it and run again:", *message]))


def _find_lines(rows: set[int], source: Path | str | bytes, file_name: str) -> dict[int, int]:
    lines = {}
    for row, (line, _) in enumerate(_read_lines(source, file_name), start=-1):
        if row in rows:
            lines[row] = line
            if len(lines) == len(rows):
                break
    return lines


def _quote(value: str, length: int = 40) -> str:
    if not value:
        return "empty"
    return repr(value if len(value) <= length else f"{value[:length]}...")


def _list_some(items: Iterable[str], limit: int = LISTED) -> str:
    listed = list(items)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
