"""What is wrong with a CSV, and in which lines of the file: put into one message."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

# How many lines a message lists for one kind of defect before it only counts the rest.
LISTED = 5
# How many characters of a value it shows.
SHOWN = 40


class LineMap:
    """On which line of the file each row begins, in little memory: only rows that do not follow on the next line count."""

    def __init__(self) -> None:
        self._rows, self._lines = array("q"), array("q")

    def add(self, first_row: int, lines: np.ndarray) -> None:
        """Note the lines of some rows.

        Args:
            first_row: the number of the first of them, which follows the last row noted before.
            lines: on which line each begins, rising; shape (n,).

        """
        rows = first_row + np.arange(len(lines))
        ahead = lines - rows
        before = self._lines[-1] - self._rows[-1] if self._rows else None
        jumps = np.flatnonzero(np.diff(ahead, prepend=ahead[:1] - 1 if before is None else before))
        self._rows.extend(rows[jumps].tolist())
        self._lines.extend(lines[jumps].tolist())

    def line_of(self, row: int) -> int:
        """The line on which a row begins; the first row is 0, the first line 1."""
        found = bisect_right(self._rows, row) - 1
        return self._lines[found] + row - self._rows[found]


@dataclass
class _Group:
    """Defects of one kind in one place."""

    listed: list[str] = field(default_factory=list)
    count: int = 0


class Defects:
    """Collects defects, each with its place in the table, and puts them into words."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], _Group] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, place: str, problem: str, found: Iterable[tuple[int, str]], count: int) -> None:
        """Note defects of one kind.

        Args:
            place: a column, or what else is wrong.
            problem: what is wrong and what to do.
            found: the line and the value of each; only the first few are read.
            count: how many there are.

        """
        group = self._groups.setdefault((place, problem), _Group())
        group.count += count
        for line, value in found:
            if len(group.listed) == LISTED:
                break
            group.listed.append(f"line {line} ({value})")

    def describe(self, places: list[str]) -> str:
        """A line for each kind of defect: by the order of ``places``, then as they were found."""
        ordered = sorted(self._groups.items(), key=lambda item: places.index(item[0][0]))
        return "\n".join(
            f"- {place}: {problem}: {list_some(group.listed, group.count)}" for (place, problem), group in ordered
        )


def list_some(items: Iterable[str], count: int | None = None, limit: int = LISTED) -> str:
    """The first few of them, and how many more there are; ``count`` tells how many where ``items`` are the first only."""
    listed = list(items)
    total = len(listed) if count is None else count
    shown = listed[:limit]
    return ", ".join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")


def show(value: str) -> str:
    """A value in quotes, shortened; bytes that are not UTF-8, and control characters, are written with a backslash."""
    if not value:
        return "empty"
    text = value[:SHOWN] + "..." if len(value) > SHOWN else value
    text = "".join(each if each.isprintable() or "\udc80" <= each <= "\udcff" else _escape(each) for each in text)
    return f"'{text.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')}'"


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
