"""Reads a CSV by its contract: once, in blocks, checked while it streams, with the line of the file for each defect.

The file is comma-separated UTF-8, with a byte order mark or without, and lines end in LF, CRLF or CR. Python's csv module
decides what a row is. In blocks without quotes that is simple, and pyarrow does it several times as fast.
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]

from include.csv_contract import Contract
from include.csv_defects import Defects, LineMap, list_some, show
from include.csv_header import Header, read_header
from include.csv_keys import Keys
from include.errors import InputError

BLOCK_BYTES = 1024**2
LONGEST_LINE = 16 * 1024**2
csv.field_size_limit(LONGEST_LINE)  # of this process; by default a long text would be refused, but only in some blocks

RAGGED = "rows"  # the place of a defect that is in no column
NOT_UTF8 = "not UTF-8 (save the file as CSV UTF-8)"
ZERO_BYTE = "has a zero byte, which no text has (export the file again)"


@contextmanager
def open_csv(source: Path | str | bytes | BinaryIO, name: str) -> Iterator[BinaryIO]:
    """The file at a path, a content, or a file that is open already and stays so; InputError where there is no such file."""
    if isinstance(source, bytes):
        yield io.BytesIO(source)
    elif isinstance(source, Path | str):
        if not Path(source).is_file():
            raise InputError(f"{name}: there is no file at {source}. Put it there, or name another one.")
        with Path(source).open("rb") as file:
            yield file
    else:
        yield source


class CsvReader:
    """One pass over a CSV: iterating yields its rows in blocks, columns and types as the contract has them.

    Text has no nulls, other columns have them only where the contract says optional. As soon as there is a defect no
    further block is yielded, but the rest is still checked, and InputError lists all defects at the end. Until then it is not
    known whether what has been yielded can be used.

    Args:
        stream: the file, read from where it is to its end, once.
        contract: what must be in it.
        name: what messages call it.

    Attributes:
        rows: how many have been read.

    """

    def __init__(self, stream: BinaryIO, contract: Contract, name: str) -> None:
        self.rows = 0
        self._stream, self._contract, self._name = stream, contract, name
        self._digest = hashlib.sha256()
        self._next_line = 1
        self._lines = LineMap()
        self._defects = Defects()
        self._keys = Keys(contract.key)

    @property
    def sha256(self) -> str:
        """Of the bytes that have been read, in hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield tables of the contract's columns, without those that the file lacks; shape (n, columns).

        Raises:
            InputError: if anything is not as the contract has it; it lists the defects by column and line.

        """
        blocks = self._read_whole_lines()
        header = read_header(next(blocks, b""), self._contract, self._name)
        self._next_line = header.next_line
        unfinished = b""
        for block in chain([header.rest], blocks):
            text = self._parse_plain(block, header) if not unfinished else None
            if text is None:
                text, unfinished = self._parse_by_row(unfinished + block, header)
            if text.num_rows:
                table = self._convert(text)
                if not self._defects:
                    yield table
        if unfinished:
            raise InputError(
                f"{self._name}: line {self._next_line} has a quote that is not closed. Close or remove it."
            )
        self._check_keys()
        if self._defects:
            places = [RAGGED, *map(_place, [*header.wanted, *header.names]), _key_place(self._contract)]
            described = self._defects.describe(places)
            raise InputError(f"{self._name} cannot be used; correct it and run again:\n{described}")
        if not self.rows:
            raise InputError(f"{self._name} has a header but no rows. Add a line for each {self._contract.row}.")

    def _read_whole_lines(self) -> Iterator[bytes]:
        rest = b""
        chunk = self._read()
        while chunk:
            following = self._read()
            chunk = rest + chunk
            # a CR that comes last may be the first half of a line end
            end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r", 0, -1)) + 1 if following else len(chunk)
            rest = chunk[end:]
            if len(rest) > LONGEST_LINE:
                raise InputError(
                    f"{self._name} has a line of more than {LONGEST_LINE:,} bytes, so this is no CSV with a row on each line."
                )
            if end:
                yield chunk[:end]
            chunk = following

    def _read(self) -> bytes:
        chunk = self._stream.read(BLOCK_BYTES)
        self._digest.update(chunk)
        return chunk

    def _parse_plain(self, block: bytes, header: Header) -> pa.Table | None:
        """The wanted columns as text; None for a block that has a quote, a blank line or an error."""
        lines = _count_lines(block)
        if not lines or b'"' in block or b"\0" in block or len(header.names) == 1:
            return None
        positions = [str(header.names.index(name)) for name in header.wanted]
        try:
            text = pyarrow.csv.read_csv(
                pa.BufferReader(block),
                pyarrow.csv.ReadOptions(
                    use_threads=False,
                    block_size=len(block),
                    column_names=[str(position) for position in range(len(header.names))],
                ),
                pyarrow.csv.ParseOptions(quote_char=False),
                pyarrow.csv.ConvertOptions(
                    include_columns=positions, column_types=dict.fromkeys(positions, pa.string())
                ),
            )
        except pa.ArrowInvalid:
            return None
        if text.num_rows != lines:
            return None
        self._lines.add(self.rows, np.arange(self._next_line, self._next_line + lines))
        self._next_line += lines
        return text.rename_columns(header.wanted).combine_chunks()

    def _parse_by_row(self, block: bytes, header: Header) -> tuple[pa.Table, bytes]:
        """The wanted columns as text, and the beginning of a row that continues in the next block."""
        text = block.decode("utf-8", "surrogateescape")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows: list[list[str]] = []
        lines: list[int] = []
        taken, unfinished = 0, b""
        try:
            for fields in reader:
                line = self._next_line + taken
                taken = reader.line_num
                if len(fields) < 2 and not "".join(fields).strip():
                    continue
                if len(fields) == len(header.names):
                    rows.append(fields)
                    lines.append(line)
                else:
                    self._note_ragged(line, len(fields), header)
        except csv.Error as error:
            if str(error) != "unexpected end of data":
                raise InputError(
                    f"{self._name}: line {self._next_line + taken} cannot be read as CSV: {error}. Check its quotes."
                ) from error
            unfinished = "".join(list(io.StringIO(text, newline=""))[taken:]).encode("utf-8", "surrogateescape")
        self._next_line += taken
        self._lines.add(self.rows, np.array(lines, dtype=np.int64))
        if "\0" in text:
            self._note_zero_bytes(rows, lines, header)
        columns = {}
        for name in header.wanted:
            position = header.names.index(name)
            columns[name] = self._as_text(name, [fields[position] for fields in rows], lines)
        return pa.table(columns), unfinished

    def _note_ragged(self, line: int, fields: int, header: Header) -> None:
        listed = list_some(map(show, header.names), limit=20)
        problem = (
            f"not as many fields as the header's {len(header.names)} columns ({listed}): look for a comma that is missing or "
            "too many; write decimals with a point"
        )
        self._defects.add(RAGGED, problem, [(line, f"{fields} fields")], 1)

    def _note_zero_bytes(self, rows: list[list[str]], lines: list[int], header: Header) -> None:
        for position, name in enumerate(header.names):
            column = zip(lines, (fields[position] for fields in rows), strict=True)
            self._note(name, ZERO_BYTE, [(line, field) for line, field in column if "\0" in field])

    def _as_text(self, name: str, fields: list[str], lines: list[int]) -> pa.Array:
        """Null where a field is not UTF-8, which is noted."""
        try:
            return pa.array(fields, pa.string())
        except UnicodeEncodeError:
            bad = [_is_not_utf8(value) for value in fields]
            found = [(line, value) for line, value, is_bad in zip(lines, fields, bad, strict=True) if is_bad]
            self._note(name, NOT_UTF8, found)
            return pa.array([None if is_bad else value for value, is_bad in zip(fields, bad, strict=True)], pa.string())

    def _note(self, column: str, problem: str, found: list[tuple[int, str]]) -> None:
        if found:
            shown = ((line, show(value)) for line, value in found)
            self._defects.add(_place(column), problem, shown, len(found))

    def _convert(self, text: pa.Table) -> pa.Table:
        """Give the block its types, and note what is wrong with it."""
        first = self.rows
        self.rows += text.num_rows
        values = {}
        for column in self._contract.columns:
            if column.name in text.column_names:
                fields = text[column.name].combine_chunks()
                values[column.name], problems = column.convert(fields, self._contract.missing, self._contract.row)
                for problem, bad in problems:
                    self._note_rows(column.name, problem, bad, fields, first)
        table = pa.table(values)
        for rule in self._contract.rules:
            self._note_rows(rule.column, rule.problem, rule.is_broken(table), text[rule.column], first)
        self._keys.add(table)
        return table

    def _note_rows(self, column: str, problem: str, bad: pa.Array, fields: pa.Array, first: int) -> None:
        if not pc.any(bad).as_py():
            return
        rows = np.flatnonzero(pc.fill_null(bad, fill_value=False))
        shown = ((self._lines.line_of(first + int(row)), show(fields[int(row)].as_py())) for row in rows)
        self._defects.add(_place(column), problem, shown, len(rows))

    def _check_keys(self) -> None:
        """Note keys that occur twice, and, where all else is right, what breaks the rules of the keys."""
        repeated = self._keys.repeated_rows()
        if len(repeated):
            keys = self._keys.all_rows()
            shown = ((self._lines.line_of(int(row)), _show_key(keys, int(row))) for row in repeated)
            problem = f"used more than once (give every {self._contract.row} one of its own, or delete the copy)"
            self._defects.add(_key_place(self._contract), problem, shown, len(repeated))
        if not self._defects and self.rows:
            for rule in self._contract.key_rules:
                keys = self._keys.all_rows()
                broken = np.flatnonzero(rule.is_broken(keys))
                if len(broken):
                    shown = ((self._lines.line_of(int(row)), _show_key(keys, int(row))) for row in broken)
                    self._defects.add(_place(rule.column), rule.problem, shown, len(broken))


def _count_lines(block: bytes) -> int:
    """How many lines there are, the last one whether or not it ends."""
    ends = block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")
    return ends + (not block.endswith((b"\n", b"\r")) and bool(block))


def _is_not_utf8(field: str) -> bool:
    try:
        field.encode()
    except UnicodeEncodeError:
        return True
    return False


def _place(column: str) -> str:
    return f"column {show(column)}"


def _key_place(contract: Contract) -> str:
    """As in "column 'id'" and "columns 'id' and 'date'"."""
    return f"column{'s' if len(contract.key) > 1 else ''} {' and '.join(map(show, contract.key))}"


def _show_key(keys: pa.Table, row: int) -> str:
    values = (column[row].as_py() for column in keys.columns)
    return show(" and ".join(str(value).removesuffix(" 00:00:00") for value in values))
