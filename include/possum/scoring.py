"""The rows that predict scores, and what must hold before it does."""

import logging
from typing import Any

import mlflow.models
import pandas as pd
from mlflow.models import ModelSignature

from include.errors import InputError
from include.object_store import read_object
from include.possum.animals import are_among, input_columns, keep_complete
from include.possum.schema import read_animals
from include.settings import settings
from include.sources import read_source

log = logging.getLogger(__name__)


def read_batch(model: dict[str, Any], source: str) -> pd.DataFrame:
    """The complete animals that are to be scored: checked against the schema, then against the model's signature.

    Args:
        model: of the dataset event: ``model_uri``, ``animals_uri``, ``animals_sha256``.
        source: a CSV of other animals; empty for those of the event.

    Returns:
        The key and the model's input columns, shape (n, 13).

    Raises:
        InputError: if the file is not as it should be, or the model wants other columns.

    """
    animals = _read(model, source)
    complete, _ = keep_complete(
        animals.drop(columns=[settings.possum.target_column], errors="ignore"), with_target=False
    )
    batch = complete[[settings.possum.key_column, *input_columns()]]
    check_signature(model["model_uri"], batch)
    return batch


def read_target(model: dict[str, Any], source: str) -> pd.DataFrame:
    """What is known of the same animals beside the model's inputs.

    Args:
        model: of the dataset event: ``animals_uri``, ``animals_sha256``, ``trained_on_uri``, ``trained_on_sha256``.
        source: as for read_batch.

    Returns:
        Key, true tail length in cm (missing where the file has none), and ``used_for_training``: whether the model was
        trained on this very animal, with the same number and the same measurements.

    Raises:
        InputError: if a file is not as it should be.

    """
    key, target = settings.possum.key_column, settings.possum.target_column
    animals = _read(model, source)
    if target not in animals:
        animals[target] = float("nan")
    trained_on = read_object(model["trained_on_uri"], sha256=model["trained_on_sha256"])
    return animals[[key, target]].assign(used_for_training=are_among(animals, trained_on))


def _read(model: dict[str, Any], source: str) -> pd.DataFrame:
    if source:
        content, name = read_source(source)
    else:
        name = model["animals_uri"]
        content = read_object(name, sha256=model["animals_sha256"])
    return read_animals(content, name, with_target=False)


def check_signature(model_uri: str, batch: pd.DataFrame) -> None:
    """Raise InputError where the rows lack a column that the model's signature names, or have it with another type."""
    require_columns(mlflow.models.get_model_info(model_uri).signature, model_uri, batch)


def require_columns(signature: ModelSignature, model_uri: str, batch: pd.DataFrame) -> None:
    """The same for a model that is loaded."""
    wanted = {column.name: column.type for column in signature.inputs.inputs}
    if missing := [name for name in wanted if name not in batch]:
        raise InputError(
            f"The model {model_uri} takes the columns {list(wanted)}, the rows lack {missing}: use a version that was trained "
            "on these columns, or put them into the file"
        )
    for name, kind in wanted.items():
        numeric = pd.api.types.is_numeric_dtype(kind.to_pandas())
        if numeric != pd.api.types.is_numeric_dtype(batch[name].dtype):
            raise InputError(
                f"The model {model_uri} takes column {name} as {kind.name}, the rows have {batch[name].dtype}"
            )
    log.info("The %d rows have all columns of the model's signature", len(batch))
