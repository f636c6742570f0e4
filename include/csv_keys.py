"""Whether a key occurs twice in a table of any length."""

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]


class Keys:
    """The key columns of all rows, block by block. Of a date only the day counts."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._blocks: list[pa.Table] = []
        self._last: pa.Scalar | None = None
        self._rising = len(names) == 1

    def add(self, table: pa.Table) -> None:
        """Keep a block's keys; null where one is bad."""
        keys = pa.table({name: _day_of(table[name]) for name in self._names})
        self._blocks.append(keys)
        if self._rising:  # as most exports are: then no key can occur twice, and nothing needs to be sorted
            column = keys.column(0)
            rising = pc.less(column.slice(0, len(column) - 1), column.slice(1))
            follows = self._last is None or pc.less(self._last, column[0]).as_py()
            self._rising = bool(follows and not column.null_count and pc.all(rising, min_count=0).as_py())
            self._last = column[-1]

    def all_rows(self) -> pa.Table:
        """The keys of all rows, in the file's order."""
        return pa.concat_tables(self._blocks)

    def repeated_rows(self) -> np.ndarray:
        """The numbers of all rows whose key another row has too; rows without a key are none of them."""
        if self._rising or not self._blocks:
            return np.array([], dtype=np.int64)
        keys = self.all_rows()
        if keys.num_columns == 1 and not keys.column(0).null_count:
            # sorting takes a third of the memory of a table of all keys, and mostly that is all there is to do
            ordered = np.sort(keys.column(0))
            twice = ordered[1:][ordered[1:] == ordered[:-1]]
            return np.flatnonzero(np.isin(keys.column(0), twice)) if len(twice) else np.array([], dtype=np.int64)
        whole = np.logical_and.reduce([np.array(column.is_valid()) for column in keys.columns])
        # without nulls, for which pandas would make floats of whole numbers
        frame = keys.filter(pa.array(whole)).to_pandas()
        return np.flatnonzero(whole)[frame.duplicated(keep=False)]


def _day_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.floor_temporal(column, unit="day") if pa.types.is_timestamp(column.type) else column
