"""The kinds of values in a CSV: how each is written, and what it becomes. include/csv_contract.py makes columns of them."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, Protocol

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

# pyarrow's exact decimals end here, far beyond any whole number that a database holds
LONGEST_EXACT = 38
# as many as it takes to write any float so that it is read as the same float again
FLOAT_DIGITS = 17


class Converted(NamedTuple):
    """A block of one column: its values, null where missing or bad, and which are bad, by what is wrong with them."""

    values: pa.Array
    problems: list[tuple[str, pa.Array]]  # each with a boolean for each row; null counts as false


class Kind(Protocol):
    """A kind of values."""

    arrow_type: ClassVar[pa.DataType]

    @property
    def words(self) -> str:
        """What is needed, as it stands behind "not"."""

    def convert(self, text: pa.Array) -> Converted:
        """Turn texts without blanks around them, null where missing, into values; never raises for a text that is wrong."""


def _matches(text: pa.Array, pattern: str) -> pa.Array:
    return pc.match_substring_regex(text, f"^(?:{pattern})$")


def _where(condition: pa.Array, values: pa.Array) -> pa.Array:
    """The values for which the condition holds, null in place of all others."""
    return pc.if_else(condition, values, pa.scalar(None, values.type))


@dataclass(frozen=True)
class Text:
    """Any text, unchanged: ``NA``, ``NULL``, leading zeros, blanks, quotes, line breaks; an empty field is ''."""

    arrow_type: ClassVar[pa.DataType] = pa.string()
    words: str = "a text"

    def convert(self, text: pa.Array) -> Converted:
        """As they are."""
        return Converted(text, [])


@dataclass(frozen=True)
class WholeNumber:
    """Digits, and a minus sign for those below 0. ``1e3``, ``7.0`` and ``1,000`` are refused: they may mean another number."""

    minimum: int = -(2**63)
    maximum: int = 2**63 - 1  # 64 bits, as PostgreSQL's bigint
    unit: str = ""
    arrow_type: ClassVar[pa.DataType] = pa.int64()

    @property
    def words(self) -> str:
        """As in: a whole number of cents, 0 or more."""
        unit = f" of {self.unit}" if self.unit else ""
        return f"a whole number{unit}{', 0 or more' if self.minimum == 0 else ''}"

    def convert(self, text: pa.Array) -> Converted:
        """64-bit integers."""
        whole = _matches(text, r"-?\d+")
        digits = _where(whole, text)
        negative = pc.starts_with(digits, "-")
        endless = pc.greater(pc.binary_length(pc.utf8_ltrim(digits, "-0")), LONGEST_EXACT)
        exact = _where(pc.invert(endless), digits).cast(pa.decimal128(LONGEST_EXACT, 0))
        too_small = pc.if_else(endless, negative, pc.less(exact, _decimal(self.minimum)))
        too_large = pc.if_else(endless, pc.invert(negative), pc.greater(exact, _decimal(self.maximum)))
        limits = f"outside {self.minimum} to {self.maximum}{' ' if self.unit else ''}{self.unit}"
        return Converted(
            _where(pc.invert(pc.or_(too_small, too_large)), exact).cast(pa.int64()),
            [
                (f"not {self.words} (write digits only)", pc.invert(whole)),
                (f"too small: {limits}", too_small),
                (f"too large: {limits}", too_large),
            ],
        )


def _decimal(number: int) -> pa.Scalar:
    return pa.scalar(Decimal(number), pa.decimal128(LONGEST_EXACT, 0))


@dataclass(frozen=True)
class Number:
    """A measurement, which a float holds: digits with a decimal point, or with an exponent as R and pandas write it."""

    minimum: float
    maximum: float
    unit: str
    arrow_type: ClassVar[pa.DataType] = pa.float64()

    @property
    def words(self) -> str:
        """As in: a number of mm."""
        return f"a number of {self.unit}"

    def convert(self, text: pa.Array) -> Converted:
        """Floats."""
        number = _matches(text, r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?")
        # all digits but leading zeros; trailing zeros count, as a program that writes them means that many digits
        digits = pc.utf8_ltrim(pc.replace_substring_regex(text, r"[eE].*$|[^0-9]", ""), "0")
        too_long = pc.and_(number, pc.greater(pc.binary_length(digits), FLOAT_DIGITS))
        values = _where(number, text).cast(pa.float64())
        outside = pc.or_(pc.less(values, self.minimum), pc.greater(values, self.maximum))
        return Converted(
            values,
            [
                (f"not {self.words}: write digits with a decimal point", pc.invert(number)),
                (f"more than the {FLOAT_DIGITS} digits that can be kept: round it", too_long),
                (f"outside {self.minimum:g} to {self.maximum:g} {self.unit}: is the unit {self.unit}?", outside),
            ],
        )


@dataclass(frozen=True)
class Amount:
    """Money in the currency's unit, 0 or more. It stays the text that it is, as a float would not be exact."""

    digits: int = 12  # before the decimal point
    decimals: int = 6
    arrow_type: ClassVar[pa.DataType] = pa.string()

    @property
    def words(self) -> str:
        """With the number of digits."""
        return (
            f"an amount of 0 or more such as 49.99, with at most {self.digits} digits before the point and "
            f"{self.decimals} after it"
        )

    def convert(self, text: pa.Array) -> Converted:
        """The same texts."""
        amount = _matches(text, rf"\d{{1,{self.digits}}}(\.\d{{1,{self.decimals}}})?")
        return Converted(_where(amount, text), [(f"not {self.words}", pc.invert(amount))])


@dataclass(frozen=True)
class Date:
    """A day such as 2023-01-31, with a time of day behind it or without; no time zone, no local spelling."""

    earliest: int = 1900  # years
    latest: int = 2199
    first_of_month: bool = False
    arrow_type: ClassVar[pa.DataType] = pa.timestamp("us")

    @property
    def words(self) -> str:
        """With an example and the years."""
        day = "the first day of a month such as 2023-01-01" if self.first_of_month else "a date such as 2023-01-31"
        return f"{day}, from {self.earliest} to {self.latest}"

    def convert(self, text: pa.Array) -> Converted:
        """Timestamps."""
        written = _where(_matches(text, r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}:\d{2}(\.\d{1,6})?)?"), text)
        values = _timestamps(written)
        year = pc.year(values)
        right = pc.and_(pc.greater_equal(year, self.earliest), pc.less_equal(year, self.latest))
        if self.first_of_month:
            right = pc.and_(right, pc.equal(values, pc.floor_temporal(values, unit="month")))
        wrong = pc.and_(pc.is_valid(text), pc.invert(pc.fill_null(right, fill_value=False)))
        return Converted(_where(pc.invert(wrong), values), [(f"not {self.words}", wrong)])


def _timestamps(written: pa.Array) -> pa.Array:
    """Null where there is no such day or time, as 2023-02-30."""
    try:
        return written.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:  # it says which is wrong of the first only
        found = written.dictionary_encode()
        values = pa.array([_timestamp(text) for text in found.dictionary], pa.timestamp("us"))
        return values.take(found.indices)


def _timestamp(text: pa.Scalar) -> Any:
    try:
        return text.cast(pa.timestamp("us")).as_py()
    except pa.ArrowInvalid:
        return None


@dataclass(frozen=True)
class Category:
    """One of a few words, in just these letters."""

    values: tuple[str, ...]
    arrow_type: ClassVar[pa.DataType] = pa.string()

    @property
    def words(self) -> str:
        """All of them."""
        return f"one of {', '.join(self.values)}"

    def convert(self, text: pa.Array) -> Converted:
        """The same texts."""
        known = pc.is_in(text, pa.array(self.values, pa.string()))
        unknown = pc.and_(pc.is_valid(text), pc.invert(known))
        return Converted(_where(known, text), [(f"unknown category (write {self.words})", unknown)])


@dataclass(frozen=True)
class WholeCategory:
    """One of a few whole numbers. ``1.0`` is the category 1: pandas writes it so where another value is missing."""

    values: tuple[int, ...]
    arrow_type: ClassVar[pa.DataType] = pa.int64()

    @property
    def words(self) -> str:
        """All of them."""
        return f"one of the whole numbers {', '.join(map(str, self.values))}"

    def convert(self, text: pa.Array) -> Converted:
        """64-bit integers."""
        whole = pc.replace_substring_regex(text, r"\.0+$", "")
        values, problems = Category(tuple(map(str, self.values))).convert(whole)
        return Converted(
            values.cast(pa.int64()), [(f"unknown category (write {self.words})", unknown) for _, unknown in problems]
        )
