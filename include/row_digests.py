"""Which rows are the same: by what they say, not by their key alone."""

import hashlib
import json
from collections.abc import Sequence

import pandas as pd


def row_digests(rows: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """SHA-256 (hex) over the values of each row in these columns.

    Two rows have the same digest where they have the same values, on any machine and whatever the types: 3 and 3.0 are the
    same value, and so are all missing values.

    Args:
        rows: shape (n, at least these columns).
        columns: the columns that count, key included, in this order.

    Returns:
        Strings with the index of ``rows``, shape (n,).

    """
    values = zip(*(rows[column].map(_plain) for column in columns), strict=True)
    return pd.Series([_digest(row) for row in values], index=rows.index, dtype=object)


def _plain(value: object) -> str | None:
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _digest(row: tuple[str | None, ...]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()
