"""From complete animals to the model's features: who is held out, categories one-hot encoded, measurements standardised."""

import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from include.errors import InputError
from include.holdout import in_holdout
from include.possum.schema import CATEGORIES, ENOUGH_ANIMALS, MINIMUM_TRAINING_ROWS
from include.promotion import MINIMUM_HOLDOUT_ROWS
from include.settings import settings

# For include.holdout.in_holdout. The salt is an arbitrary name, not one chosen for its figures.
HOLDOUT_SALT = "possum-v1"
HOLDOUT_SHARE = 0.25

ENCODER = "categories"
SCALER = "measurements"


def feature_columns() -> list[str]:
    """Name the model's features in their order: site_1 ... site_7, Pop_Vic, Pop_other, sex_f, sex_m, age ... belly."""
    encoded = [f"{column}_{value}" for column in settings.possum.categorical_columns for value in CATEGORIES[column]]
    return [*encoded, *settings.possum.numeric_columns]


def holdout_rows(frame: pd.DataFrame) -> "pd.Series[bool]":
    """Which animals are kept out of all training, by a hash of their case number; shape (n,)."""
    return in_holdout(frame[settings.possum.key_column], share=HOLDOUT_SHARE, salt=HOLDOUT_SALT)


def split(rows: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part complete animals, or their features, into those to train on and those held out.

    Args:
        rows: with the key, shape (n, any).
        name: what messages call the rows' file.

    Returns:
        Training rows, at least 30, and holdout rows, at least the 10 that the gate can judge by; both with their old index.

    Raises:
        InputError: if either are too few: a model could be trained and never be judged.

    """
    held_out = holdout_rows(rows)
    training, holdout = rows[~held_out], rows[held_out]
    if len(holdout) < MINIMUM_HOLDOUT_ROWS or len(training) < MINIMUM_TRAINING_ROWS:
        raise InputError(
            f"{name} has too few animals for a holdout of {MINIMUM_HOLDOUT_ROWS} and {MINIMUM_TRAINING_ROWS} to train on: "
            f"{len(rows)} complete animals give {len(holdout)} holdout rows and {len(training)} training rows; about "
            f"{ENOUGH_ANIMALS} are needed. Add animals."
        )
    return training, holdout


def fit_transformer(rows: pd.DataFrame) -> ColumnTransformer:
    """Fit the encoding and the scaling on the given rows; fit it on training rows only.

    The categories are the known ones and not those that happen to occur, so the columns never change with the rows.
    The one-hot columns stay 0 and 1: they have no unit that a scaling could remove.

    Args:
        rows: complete animals, shape (n, 14).

    Returns:
        The fitted transformer, which gives pandas frames of shape (m, 20); made of scikit-learn's classes only, so
        that skops loads it without trusting anything.

    Raises:
        InputError: if a column is missing, a value is missing, or there are no rows.

    """
    _check_rows(rows)
    categorical, numeric = list(settings.possum.categorical_columns), list(settings.possum.numeric_columns)
    encoder = OneHotEncoder(categories=[list(CATEGORIES[column]) for column in categorical], sparse_output=False)
    transformer = ColumnTransformer(
        [(ENCODER, encoder, categorical), (SCALER, StandardScaler(), numeric)],
        verbose_feature_names_out=False,
    )
    return transformer.set_output(transform="pandas").fit(rows)


def engineer_features(transformer: ColumnTransformer, rows: pd.DataFrame) -> pd.DataFrame:
    """Turn animals into features.

    Args:
        transformer: fitted by fit_transformer, on these or other rows.
        rows: complete animals, with or without the target, shape (n, 14) or (n, 13).

    Returns:
        The key, the 20 features and, if given, the target in cm: shape (n, 22) or (n, 21), same order, new index.

    Raises:
        InputError: if a column is missing, a value is missing, or there are no rows.

    """
    _check_rows(rows)
    target = [settings.possum.target_column] if settings.possum.target_column in rows else []
    parts = [rows[[settings.possum.key_column]], transformer.transform(rows), rows[target]]
    return pd.concat(parts, axis=1).reset_index(drop=True)


def scaler_statistics(transformer: ColumnTransformer) -> dict[str, float]:
    """Tell what the scaler learned, both halves: mean_<column> and scale_<column>, in the column's unit."""
    scaler = transformer.named_transformers_[SCALER]
    means = {
        f"mean_{column}": float(mean)
        for column, mean in zip(settings.possum.numeric_columns, scaler.mean_, strict=True)
    }
    scales = {
        f"scale_{column}": float(scale)
        for column, scale in zip(settings.possum.numeric_columns, scaler.scale_, strict=True)
    }
    return means | scales


def _check_rows(rows: pd.DataFrame) -> None:
    needed = [settings.possum.key_column, *settings.possum.categorical_columns, *settings.possum.numeric_columns]
    absent = [column for column in needed if column not in rows]
    if absent:
        raise InputError(f"The animals lack the columns {absent}. Read them with read_animals.")
    if rows.empty:
        raise InputError("There are no animals to make features of.")
    missing = rows[needed].isna().sum()
    if missing.any():
        raise InputError(f"Values are missing: {missing[missing > 0].to_dict()}. Keep only what complete_rows returns.")
