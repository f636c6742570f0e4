"""The ridge regression of tail length: making it, training it, and measuring it without leaks."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import metrics, model_selection
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from include.errors import ConfigurationError, InputError
from include.possum.features import feature_columns
from include.settings import settings

DEFAULT_HYPER_PARAMETERS: dict[str, Any] = {"alphas": np.logspace(-3, 1, 30).tolist()}

SITE = "site"  # the column that tells where an animal was trapped

# scikit-learn's name of a score, and ours; errors come negated there
SCORES = {"r2": "r2", "rmse_cm": "neg_root_mean_squared_error", "mae_cm": "neg_mean_absolute_error"}


def make_regressor(hyper_parameters: Mapping[str, Any] | None = None) -> RidgeCV:
    """Make an unfitted RidgeCV; it tries 30 penalties from 0.001 to 10 unless told otherwise.

    Args:
        hyper_parameters: arguments of RidgeCV that replace or extend the default ones.

    Raises:
        ConfigurationError: if an argument is unknown or RidgeCV cannot work with its value.

    """
    given = {} if hyper_parameters is None else hyper_parameters
    # "deprecated" is scikit-learn's mark for a name that is on its way out
    allowed = sorted(name for name, default in RidgeCV().get_params().items() if default != "deprecated")
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"hyper_parameters is {given!r}; it must map names to values. Names: {allowed}.")
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise ConfigurationError(f"hyper_parameters has {unknown}, unknown to RidgeCV. It knows {allowed}.")
    regressor = RidgeCV(**(DEFAULT_HYPER_PARAMETERS | dict(given)))
    _check_regressor(regressor, given)
    return regressor


def _check_regressor(regressor: RidgeCV, given: Mapping[str, Any]) -> None:
    """Fit a throw-away copy on a few made-up numbers: scikit-learn checks arguments only when it fits."""
    problem = f"hyper_parameters {dict(given)!r} do not suit RidgeCV"
    try:
        alphas = np.asarray(regressor.alphas, dtype=float)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{problem}: alphas must be a list of positive numbers.") from error
    if alphas.ndim != 1 or not alphas.size or not np.isfinite(alphas).all():
        raise ConfigurationError(f"{problem}: alphas must be a list of positive numbers.")
    numbers = np.random.default_rng(0).normal(size=(100, 3))
    try:
        RidgeCV(**regressor.get_params()).fit(numbers[:, :2], numbers[:, 2])
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{problem}: {error}") from error


def fit(regressor: RidgeCV, features: pd.DataFrame) -> RidgeCV:
    """Fit the regression of the target, in cm, on the features.

    Args:
        regressor: see make_regressor.
        features: what engineer_features returns, with the target; shape (n, 22), further columns are not looked at.

    Raises:
        InputError: if a column or a value is missing.

    """
    inputs, target = _split_target(features)
    return regressor.fit(inputs, target)


def cross_validate(
    features: pd.DataFrame,
    hyper_parameters: Mapping[str, Any] | None = None,
    *,
    folds: int = 5,
    repeats: int | None = None,
    seed: int,
) -> dict[str, float]:
    """Estimate by repeated k-fold cross-validation how well training on these rows predicts other animals.

    Args:
        features: what engineer_features returns, with the target; shape (n, 22).
        hyper_parameters: see make_regressor.
        folds: parts that take turns as test rows.
        repeats: how often to deal out the rows again, as one round alone hangs on luck; by default 20 up to 1,000 rows and
            fewer for more, because that luck shrinks as rows grow.
        seed: of the dealing; the same seed gives the same figures to the bit.

    Returns:
        Mean and standard deviation over the folds x repeats test parts: cv_r2_mean, cv_r2_std, and so on for
        rmse_cm and mae_cm, cv_baseline_rmse_cm_mean and _std of always predicting the training rows' mean, and
        cv_repeats.

    Raises:
        InputError: if a column or a value is missing, or a fold would have fewer than two rows.
        ConfigurationError: if the hyper-parameters are bad.

    """
    regressor = make_regressor(hyper_parameters)
    inputs, target = _split_target(features)
    if len(features) < 2 * folds:
        raise InputError(
            f"{folds}-fold cross-validation needs at least {2 * folds} animals, there are {len(features)}. "
            "Add animals or take fewer folds."
        )
    rounds = repeats or max(1, min(20, 20_000 // len(features)))
    splits = model_selection.RepeatedKFold(n_splits=folds, n_repeats=rounds, random_state=seed)
    model = _rescale_in_each_fold(regressor)
    with _suiting(hyper_parameters, len(features)):
        scores = model_selection.cross_validate(model, inputs, target, cv=splits, scoring=SCORES, error_score="raise")
    baseline = model_selection.cross_validate(
        DummyRegressor(strategy="mean"), inputs, target, cv=splits, scoring={"rmse_cm": SCORES["rmse_cm"]}
    )
    figures = {name: scores[f"test_{name}"] for name in SCORES} | {"baseline_rmse_cm": baseline["test_rmse_cm"]}
    summary = {"cv_repeats": float(rounds)}
    for name, values in figures.items():
        summary[f"cv_{name}_mean"] = float(values.mean() if name == "r2" else -values.mean())
        summary[f"cv_{name}_std"] = float(values.std())
    return summary


def validate_by_site(features: pd.DataFrame, hyper_parameters: Mapping[str, Any] | None = None) -> dict[str, float]:
    """Estimate how well training on these rows predicts animals of a trapping site that none of them comes from.

    Args:
        features: what engineer_features returns, with the target; shape (n, 22).
        hyper_parameters: see make_regressor.

    Returns:
        site_out_rmse_cm, the root of the mean squared error over all rows, each predicted by a model that was trained
        without its site; an empty dict where the features do not tell sites, or only one.

    Raises:
        InputError: if a column or a value is missing.
        ConfigurationError: if the hyper-parameters are bad.

    """
    model = _rescale_in_each_fold(make_regressor(hyper_parameters))
    inputs, target = _split_target(features)
    sites = inputs.filter(regex=f"^{SITE}_")
    if sites.any().sum() < 2:
        return {}
    with _suiting(hyper_parameters, len(features)):
        predicted = model_selection.cross_val_predict(
            model, inputs, target, groups=sites.idxmax(axis="columns"), cv=model_selection.LeaveOneGroupOut()
        )
    return {"site_out_rmse_cm": float(metrics.root_mean_squared_error(target, predicted))}


@contextmanager
def _suiting(hyper_parameters: Mapping[str, Any] | None, rows: int) -> Iterator[None]:
    """Arguments may suit RidgeCV and yet not so few rows, such as more folds of its own than a part has animals."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            f"hyper_parameters {dict(hyper_parameters or {})!r} do not suit RidgeCV with {rows} animals to train on: {error}"
        ) from error


def _rescale_in_each_fold(regressor: RidgeCV) -> Pipeline:
    """Precede the regressor by a standardisation that undoes the one by all rows, test parts included.

    Both steps are affine in each column, so the second one's result is exactly what standardising the raw measurements by
    the fold's own training rows gives. The one-hot columns use no statistics.
    """
    rescaling = ColumnTransformer(
        [("rescale", StandardScaler(), list(settings.possum.numeric_columns))], remainder="passthrough"
    )
    return Pipeline([("rescaling", rescaling), ("regressor", regressor)])


def evaluate(y_true: ArrayLike, y_pred: ArrayLike, *, prefix: str = "") -> dict[str, float]:
    """Compare predicted with true tail lengths.

    Args:
        y_true: true lengths in cm, shape (n,).
        y_pred: predicted lengths in cm, shape (n,), same order.
        prefix: of each name in the result; it should tell the rows, such as "training_" or "holdout_".

    Returns:
        <prefix>r2, <prefix>rmse_cm and <prefix>mae_cm; r2 is NaN for a single animal, where it is not defined.

    Raises:
        InputError: if there are no rows, lengths differ, or a value is missing.

    """
    true, predicted = np.asarray(y_true, dtype=float), np.asarray(y_pred, dtype=float)
    if true.ndim != 1 or true.shape != predicted.shape or not true.size:
        raise InputError(
            f"Cannot compare {predicted.shape} predictions with {true.shape} true values: give one for each."
        )
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise InputError("Cannot compare predictions where a value is missing or infinite: leave those animals out.")
    return {
        f"{prefix}r2": float(metrics.r2_score(true, predicted)) if true.size > 1 else float("nan"),
        f"{prefix}rmse_cm": float(metrics.root_mean_squared_error(true, predicted)),
        f"{prefix}mae_cm": float(metrics.mean_absolute_error(true, predicted)),
    }


def evaluate_baseline(training_target: pd.Series, y_true: ArrayLike, *, prefix: str = "baseline_") -> dict[str, float]:
    """Evaluate always predicting the mean of the training rows' target, what any model has to beat; see evaluate."""
    return evaluate(y_true, np.full(np.shape(y_true), training_target.mean()), prefix=prefix)


def _split_target(features: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    columns = [*feature_columns(), settings.possum.target_column]
    absent = [column for column in columns if column not in features]
    if absent:
        raise InputError(f"The features lack the columns {absent}. Make them with engineer_features.")
    missing = features[columns].isna().sum()
    if missing.any():
        raise InputError(f"Values are missing: {missing[missing > 0].to_dict()}. Keep only what complete_rows returns.")
    return features[feature_columns()], features[settings.possum.target_column]
