"""The data dictionary of the animals' table, and the only way in for a CSV: whatever breaks it stops the run at once.

Source: the table ``possum`` of R's DAAG package. Lindenmayer, Viggers, Cunningham and Donnelly (1995), Morphological
variation among columns of the mountain brushtail possum, Australian Journal of Zoology 43: 449-458.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from include.csv_contract import Column, Contract
from include.csv_kinds import Category, Kind, Number, WholeCategory, WholeNumber
from include.csv_reader import CsvReader, open_csv
from include.errors import ConfigurationError, InputError
from include.settings import settings

log = logging.getLogger(__name__)


class Measurement(NamedTuple):
    """What a number column measures, in which unit, and between which limits a possum is plausible."""

    unit: str
    minimum: float
    maximum: float
    meaning: str


# Wide enough for any adult brushtail possum, narrow enough that mm in place of cm, or the reverse, fall outside.
MEASUREMENTS = {
    "age": Measurement("years", 0, 20, "age"),
    "hdlngth": Measurement("mm", 50, 140, "head length"),
    "skullw": Measurement("mm", 30, 100, "skull width"),
    "totlngth": Measurement("cm", 45, 140, "total length, tail included"),
    "taill": Measurement("cm", 15, 70, "tail length"),
    "footlgth": Measurement("mm", 35, 120, "foot length"),
    "earconch": Measurement("mm", 25, 90, "length of the ear conch"),
    "eye": Measurement("mm", 7, 30, "distance between the corners of the right eye"),
    "chest": Measurement("cm", 12, 50, "chest girth"),
    "belly": Measurement("cm", 14, 60, "belly girth"),
}

CATEGORIES: dict[str, tuple[int, ...] | tuple[str, ...]] = {
    "site": (1, 2, 3, 4, 5, 6, 7),  # Cambarville, Bellbird, Whian Whian, Byrangery, Conondale, Allyn River, Bulburin
    "Pop": ("Vic", "other"),
    "sex": ("f", "m"),
}

# More animals to train on than the model's 20 features, and six for each of five folds; features.split checks it.
MINIMUM_TRAINING_ROWS = 30
# Of so many complete animals, the holdout gets the 10 that the gate needs with a probability of 95 %.
ENOUGH_ANIMALS = 60

# Beyond it a float, which pandas and JSON now and then make of a whole number, no longer tells two keys apart.
LARGEST_KEY = 2**53 - 1

# An empty field, and what R and pandas write for a missing value; compared in upper case.
MISSING = ("", "NA", "NAN")


def build_schema(*, with_target: bool = True) -> Contract:
    """Build the contract of the animals' CSV, one column for each that the settings name.

    The key is a unique whole number, categories are known ones, measurements are floats within their limits or missing.

    Args:
        with_target: whether the target must be there; if not, it is checked where it is.

    Raises:
        ConfigurationError: if the settings name a column that this module does not describe.

    """
    undescribed = [column for column in settings.possum.categorical_columns if column not in CATEGORIES]
    undescribed += [
        column
        for column in (*settings.possum.numeric_columns, settings.possum.target_column)
        if column not in MEASUREMENTS
    ]
    if undescribed:
        raise ConfigurationError(
            f"The settings name the columns {undescribed}, which include/possum/schema.py does not describe. Describe "
            f"their values there, or set POSSUM_CATEGORICAL_COLUMNS to some of {list(CATEGORIES)} and POSSUM_NUMERIC_COLUMNS and "
            f"POSSUM_TARGET_COLUMN to some of {list(MEASUREMENTS)}."
        )
    columns = [Column(settings.possum.key_column, WholeNumber(0, LARGEST_KEY), description="the animal's number")]
    columns += [Column(column, _category(column)) for column in settings.possum.categorical_columns]
    columns += [_measurement(column) for column in settings.possum.numeric_columns]
    columns.append(_measurement(settings.possum.target_column, may_be_absent=not with_target))
    return Contract(tuple(columns), key=(settings.possum.key_column,), row="animal", missing=MISSING)


def _category(column: str) -> Kind:
    known = CATEGORIES[column]
    return WholeCategory(known) if isinstance(known[0], int) else Category(known)


def _measurement(column: str, *, may_be_absent: bool = False) -> Column:
    unit, minimum, maximum, meaning = MEASUREMENTS[column]
    return Column(
        column,
        Number(minimum, maximum, unit),
        optional=True,
        may_be_absent=may_be_absent,
        hint="leave the field empty if the value is unknown",
        description=f"{meaning} [{unit}]",
    )


def read_animals(source: Path | str | bytes, name: str, *, with_target: bool = True) -> pd.DataFrame:
    """Parse the animals' CSV and check it against the schema.

    The file is comma-separated UTF-8 with a header. A missing measurement is an empty field, NA or NaN. Columns come in
    any order; columns beyond those that the settings name are not looked at, so that a table may carry notes.

    Args:
        source: the file's path, or its content.
        name: what messages call the file.
        with_target: whether tail lengths are needed. If not, the target's column may be absent, but if it is there it
            is checked and returned like any other.

    Returns:
        One row per animal in the file's order, columns in the settings' order: key and site int64, Pop and sex str,
        measurements float64 in the units of ``MEASUREMENTS`` with NaN where missing.

    Raises:
        InputError: if anything in the file is not as described; it lists the defects by column and line.
        ConfigurationError: if the settings name a column that the data dictionary lacks.

    """
    contract = build_schema(with_target=with_target)
    with open_csv(source, name) as stream:
        reader = CsvReader(stream, contract, name)
        animals = pa.concat_tables(list(reader)).to_pandas()
    if with_target and animals[settings.possum.target_column].isna().all():
        raise InputError(
            f"{name}: column '{settings.possum.target_column}' has no value in any of the {len(animals)} lines. A model "
            "cannot be trained without it: fill it in."
        )
    log.info("%s: %d animals checked, SHA-256 %s", name, reader.rows, reader.sha256)
    return animals


def complete_rows(animals: pd.DataFrame, *, with_target: bool = True) -> tuple[pd.DataFrame, dict[str, int]]:
    """Keep the animals that have a value in every column of the model.

    Args:
        animals: a table as read_animals returns it.
        with_target: True for training, which needs the target and MINIMUM_TRAINING_ROWS animals; False for predicting,
            which needs neither.

    Returns:
        The complete rows in the same order with a new index, and how many values each column with gaps is missing.

    Raises:
        InputError: if too few rows are left.

    """
    needed = [
        column for column in settings.possum.raw_columns if with_target or column != settings.possum.target_column
    ]
    missing = {str(column): int(count) for column, count in animals[needed].isna().sum().items() if count}
    complete = animals.dropna(subset=needed).reset_index(drop=True)
    minimum = MINIMUM_TRAINING_ROWS if with_target else 1
    if len(complete) < minimum:
        purpose = "training" if with_target else "predicting"
        with_holdout = f", about {ENOUGH_ANIMALS} with those held out" if with_target else ""
        counts = ", ".join(f"{column} in {count}" for column, count in missing.items()) or "nowhere"
        raise InputError(
            f"{len(complete)} of {len(animals)} animals have a value in every column of the model, {purpose} needs at "
            f"least {minimum}{with_holdout}. Values are missing: {counts}. Fill them in or add animals."
        )
    return complete, missing
