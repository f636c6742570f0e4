"""The animals behind a dataset event, and the table of those that a model was trained on."""

import io
import logging
from typing import Any

import pandas as pd

from include.object_store import read_object
from include.possum.schema import complete_rows, read_animals
from include.row_digests import row_digests
from include.settings import settings

log = logging.getLogger(__name__)

TRAINED_ON = "training/animals.csv"  # artifact of a training run: see describe_rows


def input_columns() -> list[str]:
    """The columns of raw animals that the logged model takes."""
    return [*settings.possum.categorical_columns, *settings.possum.numeric_columns]


def keep_complete(animals: pd.DataFrame, *, with_target: bool = True) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the complete animals and say in the log how many were left out, and why."""
    complete, missing = complete_rows(animals, with_target=with_target)
    log.info(
        "%d animals read, %d are complete; left out for missing values: %s",
        len(animals),
        len(complete),
        {column: count for column, count in missing.items() if count},
    )
    return complete, missing


def read_complete_animals(reference: dict[str, Any]) -> pd.DataFrame:
    """The complete animals behind the features of a dataset event, verified against its digest; shape (n, 14)."""
    data = read_object(reference["animals_uri"], sha256=reference["animals_sha256"])
    animals, _ = keep_complete(read_animals(data, reference["animals_uri"]))
    return animals


def describe_rows(animals: pd.DataFrame) -> pd.DataFrame:
    """Which animals these are, by number and by content: the key and ``sha256`` of key and the model's inputs; shape (n, 2).

    The tail length does not count: whoever scores an animal may not know it.
    """
    key = settings.possum.key_column
    return animals[[key]].assign(sha256=row_digests(animals, [key, *input_columns()]))


def are_among(animals: pd.DataFrame, described: bytes) -> "pd.Series[bool]":
    """Whether each animal is one of those that describe_rows has described, given as CSV.

    An animal of another population that happens to have the same number is not.
    """
    known = pd.read_csv(io.BytesIO(described), dtype=str)
    return describe_rows(animals)["sha256"].isin(known["sha256"])
