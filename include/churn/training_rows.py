"""Which rows a model was trained on: kept beside it as digests of the rows, as another shop has customers with the same ids."""

import io
import logging

import pandas as pd

from include.churn.model import KEY
from include.row_digests import row_digests

log = logging.getLogger(__name__)

DIGEST = "row_sha256"


def dump_training_rows(training: pd.DataFrame, columns: list[str]) -> bytes:
    """Put down the rows as Parquet: customer_id, and row_sha256 over it and the columns that the model takes.

    Args:
        training: shape (n, at least customer_id and these columns).
        columns: those that the model takes.

    """
    return training[[KEY]].assign(**{DIGEST: _digest(training, columns)}).to_parquet(index=False, compression="zstd")


def mark_training_rows(content: bytes, rows: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Tell of each row whether the model was trained on it: on this customer_id with these values.

    Args:
        content: what dump_training_rows has returned, or an earlier version, which put down the customer_id only.
        rows: shape (n, at least customer_id and these columns).
        columns: those that the model takes.

    Returns:
        Booleans with the index of ``rows``, shape (n,). Missing for a customer_id that an earlier version has put down: the
        customer may be another one.

    """
    known = pd.read_parquet(io.BytesIO(content))
    if DIGEST in known:
        return _digest(rows, columns).isin(known[DIGEST]).astype("boolean")
    same_key = rows[KEY].isin(known[KEY])
    log.warning(
        "Of %d customers nobody knows whether the model was trained on them, as an earlier version of this DAG has put down no "
        "more than their customer_id: train a new model",
        same_key.sum(),
    )
    return same_key.astype("boolean").mask(same_key)


def _digest(rows: pd.DataFrame, columns: list[str]) -> pd.Series:
    return row_digests(rows, [KEY, *columns])
