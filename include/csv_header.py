"""The header of a CSV: whether all columns are there, and if not, what kind of file this is instead."""

import csv
import io
from typing import NamedTuple

from include.csv_contract import Contract
from include.csv_defects import list_some, show
from include.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Header(NamedTuple):
    """A header that has what the contract asks for."""

    names: list[str]  # of all columns, without blanks around them
    wanted: list[str]  # those of the contract, in its order
    next_line: int  # the number of the line that follows
    rest: bytes  # what has been read beyond the header


def read_header(start: bytes, contract: Contract, name: str) -> Header:
    """Separate the header from what follows it.

    Args:
        start: the file's first lines, whole ones.
        contract: the columns that must be there.
        name: what messages call the file.

    Raises:
        InputError: if the file is empty or no CSV, or the header lacks a column of the contract or has it twice.

    """
    start = start.removeprefix(BYTE_ORDER_MARK)
    if start.startswith(UTF_16):
        raise InputError(f"{name}: line 1 begins a UTF-16 text, as Excel's 'Unicode Text'. Save the file as CSV UTF-8.")
    if not start.strip():
        raise InputError(f"{name} is empty. It needs a header and a line for each {contract.row}.")
    text = io.StringIO(start.decode("utf-8", "surrogateescape"), newline="")
    line, next_line, names = _read_first_row(text, start, name)
    missing = [column.name for column in contract.columns if column.name not in names and not column.may_be_absent]
    if missing:
        raise InputError(_describe_missing(missing, names, line, start, name))
    repeated = [column for column in contract.names if names.count(column) > 1]
    if repeated:
        raise InputError(
            f"{name}: line {line}, the header, has {', '.join(map(show, repeated))} more than once. Keep the right one."
        )
    if zero := [column for column in names if "\0" in column]:
        raise InputError(f"{name}: line {line}, the header, has a zero byte in {show(zero[0])}. Export the file again.")
    wanted = [column for column in contract.names if column in names]
    return Header(names, wanted, next_line, text.read().encode("utf-8", "surrogateescape"))


def _read_first_row(text: io.StringIO, start: bytes, name: str) -> tuple[int, int, list[str]]:
    """The line on which the first row that is not blank begins, the line behind it, and its fields."""
    reader = csv.reader(text, strict=True)
    line = 1
    try:
        for fields in reader:
            names = [field.strip() for field in fields]
            if any(names):
                return line, reader.line_num + 1, names
            line = reader.line_num + 1
    except csv.Error as error:
        _refuse_other_formats(start, line, name)
        raise InputError(f"{name}: line {line} cannot be read as CSV: {error}. Check its quotes.") from error
    raise InputError(f"{name}: the header is empty. Name the columns in line 1.")


def _describe_missing(missing: list[str], names: list[str], line: int, start: bytes, name: str) -> str:
    _refuse_other_formats(start, line, name)
    separators = [sign for sign in SEPARATORS if sign in "".join(names)]
    hint = "Add or rename it"
    if separators:
        hint = f"The separator seems to be {separators[0]!r} ({SEPARATORS[separators[0]]}): save the file with commas"
    return (
        f"{name}: line {line}, the header, lacks {', '.join(map(show, missing))}; it has "
        f"{list_some(map(show, names), limit=20)}. {hint} (upper and lower case count)."
    )


def _refuse_other_formats(start: bytes, line: int, name: str) -> None:
    if b"\0" in start:
        raise InputError(
            f"{name} is no CSV but a binary file or UTF-16: line {line} begins {start[:20]!r}. Save it as CSV UTF-8."
        )
    if start.lstrip().startswith(b"<"):
        raise InputError(
            f"{name}: line {line} begins with '<', so this is a web page (HTML) or XML, not a CSV. Download the raw file."
        )
