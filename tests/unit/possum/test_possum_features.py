import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone

from include.errors import InputError
from include.possum.features import (
    engineer_features,
    feature_columns,
    fit_transformer,
    holdout_rows,
    scaler_statistics,
    split,
)
from include.possum.model import cross_validate
from include.possum.schema import ENOUGH_ANIMALS, MINIMUM_TRAINING_ROWS
from include.promotion import MINIMUM_HOLDOUT_ROWS, decide
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


class TestSplit:
    def test_parts_the_shipped_animals_by_the_hash(self, complete):
        training, holdout = split(complete, "possum.csv")

        assert (len(training), len(holdout)) == (80, 21)
        assert holdout.index.equals(complete.index[holdout_rows(complete)])
        assert pd.concat([training, holdout]).sort_index().equals(complete)

    def test_thirty_animals_are_too_few_to_train_and_to_judge(self, complete):
        message = (
            "possum.csv has too few animals for a holdout of 10 and 30 to train on: 30 complete animals give "
            "6 holdout rows and 24 training rows; about 60 are needed. Add animals."
        )
        with pytest.raises(InputError, match=message):
            split(complete.head(30), "possum.csv")

    @pytest.mark.parametrize(("held_out", "trained_on"), [(9, 80), (21, 29)])
    def test_either_part_can_be_too_small(self, complete, held_out, trained_on):
        chosen = holdout_rows(complete)
        rows = pd.concat([complete[chosen].head(held_out), complete[~chosen].head(trained_on)])
        with pytest.raises(InputError, match=f"{held_out} holdout rows and {trained_on} training rows"):
            split(rows, "few.csv")

    def test_what_is_enough_can_be_judged_and_cross_validated(self, complete):
        """So that nothing is trained that is never judged: the least that passes here passes there."""
        chosen = holdout_rows(complete)
        rows = pd.concat([complete[chosen].head(10), complete[~chosen].head(30)])
        training, holdout = split(rows, "enough.csv")

        features = engineer_features(fit_transformer(training), training)
        assert cross_validate(features, seed=1)["cv_repeats"] == 20
        assert decide(np.full(len(holdout), 1.0), np.full(len(holdout), 2.0)).outcome == "first_model"


def test_sixty_animals_are_enough_for_nearly_every_set_of_keys():
    shares = []
    for first in range(0, 20_000, ENOUGH_ANIMALS):
        held_out = holdout_rows(pd.DataFrame({"case": range(first, first + ENOUGH_ANIMALS)})).sum()
        shares.append(held_out >= MINIMUM_HOLDOUT_ROWS and ENOUGH_ANIMALS - held_out >= MINIMUM_TRAINING_ROWS)
    assert np.mean(shares) > 0.9
