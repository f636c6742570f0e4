"""What a CSV must hold: its columns, each with the kind of its values, and rules over several of them.

Nothing here knows a file, a pipeline or the settings; include/csv_reader.py reads by a contract.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from include.csv_kinds import Converted, Kind, Text


@dataclass(frozen=True)
class Column:
    """A column of a contract.

    Args:
        name: as in the header.
        kind: of its values.
        optional: whether a value may be missing, which is null then. A text is never missing, but may be empty.
        may_be_absent: whether the file may lack the whole column.
        hint: what to do about a value that is wrong, if more than correcting it.
        description: what it means.

    """

    name: str
    kind: Kind
    optional: bool = False
    may_be_absent: bool = False
    hint: str = ""
    description: str = ""

    def convert(self, text: pa.Array, missing: tuple[str, ...], row: str) -> Converted:
        """Read a block of texts as they are in the file; see Contract for the other two."""
        if isinstance(self.kind, Text):
            return self.kind.convert(text)
        trimmed = pc.utf8_trim_whitespace(text)
        is_missing = pc.is_in(pc.utf8_upper(trimmed), pa.array(missing, pa.string()))
        values, problems = self.kind.convert(pc.if_else(is_missing, pa.scalar(None, pa.string()), trimmed))
        problems = [(f"{problem} ({self.hint})" if self.hint else problem, bad) for problem, bad in problems]
        if not self.optional:
            problem = f"missing: every {row} needs {self.kind.words} (fill it in or delete the line)"
            problems.append((problem, is_missing))
        return Converted(values, problems)


class Rule(NamedTuple):
    """What must hold over several columns of a row, or over the keys of all rows."""

    column: str  # whose value a message shows
    problem: str
    is_broken: Callable[
        [pa.Table], pa.Array
    ]  # a boolean for each row; null, as where a value is missing, counts as false


@dataclass(frozen=True)
class Contract:
    """What a CSV must hold. Further columns may be in the file, in any order; they are not looked at.

    Args:
        columns: in the order in which they are read.
        key: the columns that together are unique.
        row: what a row is, such as "order".
        missing: what stands for a missing value in any column but texts, in capitals.
        rules: over the columns of each row.
        key_rules: over the key columns of all rows, in the file's order.

    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    row: str
    missing: tuple[str, ...] = ("",)
    rules: tuple[Rule, ...] = ()
    key_rules: tuple[Rule, ...] = ()

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return [column.name for column in self.columns]

    @property
    def arrow_schema(self) -> pa.Schema:
        """Names and types of the columns."""
        return pa.schema([(column.name, column.kind.arrow_type) for column in self.columns])
