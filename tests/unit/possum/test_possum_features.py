import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone

from include.errors import InputError
from include.possum.features import engineer_features, feature_columns, fit_transformer, scaler_statistics
from include.possum.tracking import holdout_rows
from include.settings import settings

HELD_OUT = [1, 3, 10, 12, 19, 30, 48, 71, 75, 76, 79, 84, 86, 87, 89, 90, 98, 100, 101, 102, 104]
ENCODED = [*(f"site_{site}" for site in range(1, 8)), "Pop_Vic", "Pop_other", "sex_f", "sex_m"]


def test_21_of_the_101_complete_animals_are_held_out_and_always_the_same_ones(complete):
    # written down once: another salt, share or hash would put animals into training that models were judged on
    held_out = holdout_rows(complete)

    assert complete.loc[held_out, "case"].tolist() == HELD_OUT
    assert (held_out.sum(), len(complete)) == (21, 101)


def test_feature_columns_are_the_known_categories_and_the_measurements():
    assert feature_columns() == [*ENCODED, *settings.possum.numeric_columns]
    assert len(feature_columns()) == 20


def test_engineer_features_gives_key_features_and_raw_target(features, complete):
    assert list(features.columns) == ["case", *feature_columns(), "taill"]
    assert features["case"].tolist() == complete["case"].tolist()
    assert features["taill"].tolist() == complete["taill"].tolist()
    assert features["case"].dtype == "int64"
    assert (features.drop(columns="case").dtypes == "float64").all()


def test_engineer_features_standardises_measurements_only(features):
    numeric = features[list(settings.possum.numeric_columns)]

    np.testing.assert_allclose(numeric.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(numeric.std(ddof=0), 1)
    assert set(np.unique(features[ENCODED])) == {0.0, 1.0}
    assert (features[ENCODED].sum(axis=1) == 3).all()


def test_engineer_features_applies_what_other_rows_taught(complete):
    transformer = fit_transformer(complete.head(60))

    late = engineer_features(transformer, complete.tail(41))

    assert late.index.tolist() == list(range(41))
    known = complete["age"].head(60)
    expected = (complete["age"].tail(41) - known.mean()) / known.std(ddof=0)
    np.testing.assert_allclose(late["age"], expected)


def test_engineer_features_has_the_same_columns_for_animals_of_one_site_without_target(complete):
    one = complete.head(1).drop(columns="taill")

    features = engineer_features(fit_transformer(complete), one)

    assert list(features.columns) == ["case", *feature_columns()]


def test_fit_transformer_knows_categories_that_do_not_occur(complete):
    transformer = fit_transformer(complete[complete["site"] == 1])

    assert engineer_features(transformer, complete)["site_7"].sum() == (complete["site"] == 7).sum()


@pytest.mark.parametrize("function", [fit_transformer, lambda rows: engineer_features(fit_transformer(rows), rows)])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows.drop(columns=["eye", "sex"]), r"\['sex', 'eye'\]"),
        (lambda rows: rows.assign(eye=float("nan")), r"missing.*'eye': 101"),
        (lambda rows: rows.head(0), "no animals"),
    ],
    ids=["missing column", "missing value", "no rows"],
)
def test_features_refuse_rows_that_are_not_complete(complete, function, spoil, message):
    with pytest.raises(InputError, match=message):
        function(spoil(complete))


def test_engineer_features_checks_its_own_rows(complete):
    with pytest.raises(InputError, match="'eye'"):
        engineer_features(fit_transformer(complete), complete.drop(columns="eye"))


def test_transformer_survives_skops_without_trusting_anything(complete):
    transformer = fit_transformer(complete)
    dumped = skops.io.dumps(transformer)

    assert skops.io.get_untrusted_types(data=dumped) == []
    loaded = skops.io.loads(dumped)
    pd.testing.assert_frame_equal(engineer_features(loaded, complete), engineer_features(transformer, complete))


def test_scaler_statistics_let_the_raw_values_be_restored(complete, features):
    statistics = scaler_statistics(fit_transformer(complete))

    assert len(statistics) == 18
    for column in settings.possum.numeric_columns:
        restored = features[column] * statistics[f"scale_{column}"] + statistics[f"mean_{column}"]
        np.testing.assert_allclose(restored, complete[column])


def test_scaler_statistics_refuse_an_unfitted_transformer(complete):
    with pytest.raises(AttributeError, match="transformers_"):
        scaler_statistics(clone(fit_transformer(complete)))
