"""The random forest that says who is likely to leave: splitting, training, measuring, scoring, storing."""

import io
import json
import zipfile
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np
import pandas as pd
from sklearn import metrics, model_selection
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

from include import skops_io
from include.churn.features import check_features
from include.errors import ConfigurationError, InputError
from include.holdout import in_holdout
from include.object_store import sha256_hex
from include.promotion import MINIMUM_HOLDOUT_ROWS

KEY = "customer_id"
FEATURE_COLUMNS = ["number_of_orders", "customer_lifetime_value"]
TARGET = "churned"

# Which customers are held out: part of every model's identity. Another salt would put old holdout rows into training.
HOLDOUT_SHARE = 0.3
HOLDOUT_SALT = "churn-v1"

# The learning curve is only a picture: beyond this many rows it takes minutes and shows a flat line.
LEARNING_CURVE_ROWS = 20_000

# shallow trees with large leaves: two features and few rows carry no more; eight times as many rank no better when
# cross-validated
DEFAULT_HYPER_PARAMETERS: dict[str, Any] = {"n_estimators": 25, "max_depth": 3, "min_samples_leaf": 5}

# What skops does not trust by itself and a random forest needs; a type that is not listed is never built.
TRUSTED_TYPES = ("sklearn.tree._tree.Tree",)

# 1980 is the first year that a zip archive can hold
ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def split(features: pd.DataFrame, share: float = HOLDOUT_SHARE, *, folds: int = 5) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Set rows aside for the final test: those whose customer_id a hash picks, so that no customer ever changes sides.

    What the two parts must hold for a model to be trained, measured, and judged by the gate is checked here.

    Stratified as far as a hash allows: it knows nothing of the label, so each class is held out with the same expected
    share, and the shares that come out differ by chance, the less the more customers there are. Anything that evens them
    out would have to look at the other rows, or move a customer when the label changes.

    Args:
        features: what build_features returns, in any order; shape (n, 4).
        share: expected share of the rows to set aside, between 0 and 1.
        folds: how many parts cross_validate will deal the training rows into; each needs both classes.

    Returns:
        Training rows and held-out rows, each sorted by customer_id.

    Raises:
        InputError: if the features are bad, of one class only, or too few in either part: to train on, for the folds, or
            to be judged by (MINIMUM_HOLDOUT_ROWS).
        ConfigurationError: if share is not between 0 and 1.

    """
    if not 0 < share < 1:
        raise ConfigurationError(f"The holdout's share is {share}; it must lie between 0 and 1.")
    rows = check_features(features).sort_values(KEY, ignore_index=True)
    held_out = in_holdout(rows[KEY], share=share, salt=HOLDOUT_SALT)
    training, holdout = rows[~held_out].reset_index(drop=True), rows[held_out].reset_index(drop=True)
    (stayed, churned), (stayed_out, churned_out) = (_count_classes(part) for part in (training, holdout))
    if len(holdout) < MINIMUM_HOLDOUT_ROWS or min(stayed, churned) < folds or min(stayed_out, churned_out) < 1:
        raise InputError(
            f"Column churned: {churned + churned_out} of {len(rows)} customers have churned (1), {stayed + stayed_out} have "
            f"not (0). Of these a hash of customer_id holds out {churned_out} and {stayed_out}, which leaves {churned} and "
            f"{stayed} to train on. Needed are at least 1 of each held out, and {MINIMUM_HOLDOUT_ROWS} in all, for the "
            f"comparison with the champion, and {folds} of each to train on, for a cross-validation in {folds} parts. Load "
            "more customers, or choose an as-of date at which some have churned and others have not."
        )
    return training, holdout


def _count_classes(rows: pd.DataFrame) -> tuple[int, int]:
    """How many have not churned, and how many have."""
    churned = int(rows[TARGET].sum())
    return len(rows) - churned, churned


def make_classifier(hyper_parameters: Mapping[str, Any] | None = None, *, seed: int) -> RandomForestClassifier:
    """Make an unfitted random forest that gives the same trees to the bit whenever it is fitted to the same rows.

    Args:
        hyper_parameters: arguments of RandomForestClassifier that replace or extend DEFAULT_HYPER_PARAMETERS.
        seed: of the trees.

    Raises:
        ConfigurationError: if an argument is unknown, or RandomForestClassifier cannot work with its value.

    """
    given = {} if hyper_parameters is None else hyper_parameters
    # one process and one seed are what makes the trees repeatable, so neither is for callers to set here
    allowed = sorted(set(RandomForestClassifier().get_params()) - {"random_state", "n_jobs", "warm_start"})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"hyper_parameters is {given!r}; it must map names to values. Names: {allowed}.")
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise ConfigurationError(
            f"hyper_parameters has {unknown}, unknown to RandomForestClassifier or fixed here. Allowed: {allowed}."
        )
    parameters = DEFAULT_HYPER_PARAMETERS | dict(given)
    _check_values(parameters)
    return RandomForestClassifier(**parameters, random_state=seed, n_jobs=1)


def _check_values(parameters: dict[str, Any]) -> None:
    """Fit a small forest to a few made-up rows: scikit-learn checks values only when it fits."""
    trees = parameters["n_estimators"]
    small = {"n_estimators": min(trees, 2)} if isinstance(trees, int) else {}
    numbers = np.arange(200.0).reshape(100, 2)
    try:
        RandomForestClassifier(**(parameters | small), random_state=0).fit(numbers, np.arange(100) % 2)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"hyper_parameters {parameters!r} do not suit RandomForestClassifier: {error}"
        ) from error


def train(
    training_rows: pd.DataFrame, hyper_parameters: Mapping[str, Any] | None = None, *, seed: int
) -> RandomForestClassifier:
    """Fit the forest of make_classifier to the training rows (shape (n, 4), as split returns them, in any order).

    Raises:
        InputError: if the rows are bad or of one class only.
        ConfigurationError: if the hyper-parameters are bad.

    """
    classifier = make_classifier(hyper_parameters, seed=seed)
    rows = _check_both_classes(training_rows, "training").sort_values(KEY)
    return classifier.fit(rows[FEATURE_COLUMNS], rows[TARGET])


def cross_validate(
    training_rows: pd.DataFrame,
    hyper_parameters: Mapping[str, Any] | None = None,
    *,
    seed: int,
    folds: int = 5,
    repeats: int | None = None,
) -> dict[str, float]:
    """Estimate by repeated stratified cross-validation how well training on these rows ranks other customers.

    Args:
        training_rows: shape (n, 4), as split returns them.
        hyper_parameters: see make_classifier.
        seed: of the dealing and of the trees.
        folds: parts that take turns as test rows.
        repeats: how often to deal anew; by default 5 up to 2,000 rows, fewer for more, because the luck of the dealing
            that repeats even out shrinks as rows grow.

    Returns:
        cv_roc_auc_mean and cv_roc_auc_std, mean and standard deviation over the folds x repeats test parts, and
        cv_parts, how many these are.

    Raises:
        InputError: if the rows are bad, or fewer rows than folds are of one class.
        ConfigurationError: if the hyper-parameters are bad.

    """
    classifier = make_classifier(hyper_parameters, seed=seed)
    rows = _check_both_classes(training_rows, "training", at_least=folds).sort_values(KEY)
    rounds = repeats or max(1, min(5, 10_000 // len(rows)))
    parts = model_selection.RepeatedStratifiedKFold(n_splits=folds, n_repeats=rounds, random_state=seed)
    scores = model_selection.cross_val_score(
        classifier, rows[FEATURE_COLUMNS], rows[TARGET], scoring="roc_auc", cv=parts, error_score="raise"
    )
    return {
        "cv_roc_auc_mean": float(scores.mean()),
        "cv_roc_auc_std": float(scores.std()),
        "cv_parts": float(len(scores)),
    }


def measure_learning_curve(
    training_rows: pd.DataFrame,
    hyper_parameters: Mapping[str, Any] | None = None,
    *,
    seed: int,
    folds: int = 5,
) -> pd.DataFrame:
    """Measure how the AUC grows with the number of training rows, by one round of stratified cross-validation.

    Args:
        training_rows: shape (n, 4), as split returns them; of more than LEARNING_CURVE_ROWS that many are drawn.
        hyper_parameters: see make_classifier.
        seed: of the dealing and of the trees.
        folds: parts that take turns as test rows.

    Returns:
        A row for each fold and each of four shares of its training rows: fold, share, rows, training_roc_auc and
        validation_roc_auc; both are NaN where the share holds one class only.

    Raises:
        InputError: if the rows are bad, or fewer rows than folds are of one class.
        ConfigurationError: if the hyper-parameters are bad.

    """
    classifier = make_classifier(hyper_parameters, seed=seed)
    rows = _check_both_classes(training_rows, "training", at_least=folds).sort_values(KEY, ignore_index=True)
    if len(rows) > LEARNING_CURVE_ROWS:
        rows, _ = model_selection.train_test_split(
            rows, train_size=LEARNING_CURVE_ROWS, stratify=rows[TARGET], random_state=seed
        )
        rows = rows.sort_values(KEY, ignore_index=True)
    rng = np.random.default_rng(seed)
    parts = model_selection.StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    points = []
    for fold, (train_index, test_index) in enumerate(parts.split(rows, rows[TARGET])):
        shuffled = rng.permutation(train_index)
        for share in (0.25, 0.5, 0.75, 1.0):
            known, unseen = rows.loc[shuffled[: round(share * len(shuffled))]], rows.loc[test_index]
            aucs = (float("nan"), float("nan"))
            if known[TARGET].nunique() == 2:
                model = clone(classifier).fit(known[FEATURE_COLUMNS], known[TARGET])
                aucs = (_measure_auc(model, known), _measure_auc(model, unseen))
            points.append((fold, share, len(known), *aucs))
    return pd.DataFrame(points, columns=["fold", "share", "rows", "training_roc_auc", "validation_roc_auc"])


def _measure_auc(model: RandomForestClassifier, rows: pd.DataFrame) -> float:
    return float(metrics.roc_auc_score(rows[TARGET], predict_probability(model, rows)))


def predict_probability(model: RandomForestClassifier, features: pd.DataFrame) -> np.ndarray:
    """Predict for each row the probability of churned = 1, found by the class and not by its place; 0 to 1, shape (n,).

    Raises:
        InputError: if the model does not know the class 1, was trained on other columns, or predicts anything but
            probabilities.

    """
    classes = list(model.classes_)
    if 1 not in classes:
        raise InputError(f"The model knows the classes {classes}, but not churned = 1. Train it again.")
    columns = list(getattr(model, "feature_names_in_", []))
    if columns != FEATURE_COLUMNS:
        raise InputError(f"The model was trained on the columns {columns}, not on {FEATURE_COLUMNS}. Train it again.")
    probability = model.predict_proba(features[FEATURE_COLUMNS])[:, classes.index(1)]
    if wrong := int((~((probability >= 0) & (probability <= 1))).sum()):  # so is NaN
        raise InputError(f"{wrong} of the model's {len(probability)} predictions are no probabilities. Train it again.")
    return probability


def evaluate(model: RandomForestClassifier, rows: pd.DataFrame, *, prefix: str) -> dict[str, float]:
    """Measure the model on the rows, beside what a constant answer reaches on the very same rows.

    Args:
        model: what train returns.
        rows: shape (n, 4), with the label; both classes.
        prefix: of each name in the result; it should tell the rows, such as "training_" or "holdout_".

    Returns:
        <prefix>rows, <prefix>churn_share; roc_auc, accuracy, f1 (churned when the probability is above 0.5), log_loss
        and brier; and of the constant answers on these rows baseline_accuracy (the more frequent class) and
        baseline_log_loss and baseline_brier (the churn share as probability). The constant's AUC is 0.5 and its f1 that
        of the class it names.

    Raises:
        InputError: if the rows are bad or of one class only, where the AUC is not defined.

    """
    checked = _check_both_classes(rows, prefix.rstrip("_"))
    truth, probability = checked[TARGET], predict_probability(model, checked)
    predicted = (probability > 0.5).astype(int)
    share = float(truth.mean())
    figures = {
        "rows": len(checked),
        "churn_share": share,
        "roc_auc": metrics.roc_auc_score(truth, probability),
        "accuracy": metrics.accuracy_score(truth, predicted),
        "f1": metrics.f1_score(truth, predicted, zero_division=0.0),
        "log_loss": metrics.log_loss(truth, probability, labels=[0, 1]),
        "brier": metrics.brier_score_loss(truth, probability),
        "baseline_accuracy": max(share, 1 - share),
        "baseline_log_loss": metrics.log_loss(truth, np.full(len(truth), share), labels=[0, 1]),
        "baseline_brier": share * (1 - share),
    }
    return {f"{prefix}{name}": float(value) for name, value in figures.items()}


def squared_errors(model: RandomForestClassifier, rows: pd.DataFrame) -> np.ndarray:
    """Loss of each row: the square of what the probability of churn is away from 0 or 1.

    Its mean is the Brier score, which is best for the true probabilities and nothing else, and which, unlike an AUC, is
    made of one term for each row, so that two models can be compared row by row.

    Args:
        model: what train or load_model returns.
        rows: shape (n, 4), with the label.

    Returns:
        0 to 1, shape (n,).

    """
    return (predict_probability(model, rows) - rows[TARGET].to_numpy()) ** 2


def baseline_squared_errors(training_rows: pd.DataFrame, rows: pd.DataFrame) -> np.ndarray:
    """The same of the baseline, the share of the churned among the training rows for everybody; 0 to 1, shape (n,)."""
    return (training_rows[TARGET].mean() - rows[TARGET].to_numpy()) ** 2


def score(model: RandomForestClassifier, features: pd.DataFrame) -> pd.DataFrame:
    """Score each customer.

    Args:
        model: what train or load_model returns.
        features: customer_id and the feature columns; the label may be absent. Shape (n, 3 or more).

    Returns:
        customer_id and churn_probability (of churned = 1, 0 to 1), sorted by customer_id; shape (n, 2).

    Raises:
        InputError: if the features are bad or are not what the model was trained on.

    """
    rows = check_features(features, with_label=False).sort_values(KEY, ignore_index=True)
    return pd.DataFrame({KEY: rows[KEY], "churn_probability": predict_probability(model, rows)})


def _check_both_classes(rows: pd.DataFrame, name: str, at_least: int = 1) -> pd.DataFrame:
    checked = check_features(rows)
    counts = {label: int((checked[TARGET] == label).sum()) for label in (0, 1)}
    if min(counts.values()) < at_least:
        raise InputError(
            f"Column churned of the {name} rows: {counts[1]} customers have churned (1), {counts[0]} have not (0); at "
            f"least {at_least} of each are needed. Load more customers, or choose another as-of date."
        )
    return checked


def dump_model(model: RandomForestClassifier) -> bytes:
    """Turn a model into a skops archive, which holds no code; equal models give equal bytes in any process."""
    return _normalise_archive(skops_io.dumps(model))


def load_model(content: bytes, expected_sha256: str) -> RandomForestClassifier:
    """Rebuild a model from what dump_model returned, after making sure that it is the very same bytes.

    Args:
        content: the archive.
        expected_sha256: its digest, noted when the model was published; hexadecimal.

    Raises:
        InputError: if the digest differs, the archive is none of ours, or it holds a type that is not in TRUSTED_TYPES.

    """
    digest = sha256_hex(content)
    if digest != expected_sha256:
        raise InputError(
            f"The model's digest is {digest}, expected was {expected_sha256}: the object was replaced or damaged. "
            "Do not use it; train again."
        )
    try:
        untrusted = sorted(set(skops_io.get_untrusted_types(data=content)) - set(TRUSTED_TYPES))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise InputError(f"The model is no skops archive: {error}. Train again.") from error
    if untrusted:
        raise InputError(
            f"The model holds the types {untrusted}, which are not to be trusted. Do not use it; train again."
        )
    model = skops_io.loads(content, trusted=list(TRUSTED_TYPES))
    if not isinstance(model, RandomForestClassifier):
        raise InputError(f"The model is a {type(model).__name__}, expected was a RandomForestClassifier. Train again.")
    return model


def _normalise_archive(content: bytes) -> bytes:
    """Replace what differs from process to process: the time, and memory addresses as ids and names of arrays."""
    ids = count()
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(result, "w") as target:

        def write(name: str, data: bytes) -> None:
            target.writestr(zipfile.ZipInfo(name, ZIP_DATE), data, zipfile.ZIP_DEFLATED)

        def rename(node: Any) -> Any:
            if isinstance(node, list):
                return [rename(item) for item in node]
            if not isinstance(node, dict):
                return node
            renamed = {name: rename(item) for name, item in node.items()}
            if "__id__" in node:
                # one for each mention, because which objects are one and the same in memory is chance
                renamed["__id__"] = next(ids)
            if node.get("type") == "numpy":
                array = _zero_padding(source.read(node["file"]))
                renamed["file"] = f"{sha256_hex(array)}.npy"
                if renamed["file"] not in target.namelist():
                    write(renamed["file"], array)
            return renamed

        write("schema.json", json.dumps(rename(json.loads(source.read("schema.json")))).encode())
    return result.getvalue()


def _zero_padding(content: bytes) -> bytes:
    """Save an array again with zeros between the fields of its records, where memory leaves whatever was there."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    clean = np.zeros(array.shape, array.dtype)
    if array.dtype.names:
        for name in array.dtype.names:
            clean[name] = array[name]
    else:
        clean[...] = array
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()
