import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from skops import io as skops_io

from include.churn import model as churn_model
from include.churn.model import (
    baseline_squared_errors,
    cross_validate,
    dump_model,
    evaluate,
    load_model,
    make_classifier,
    measure_learning_curve,
    predict_probability,
    score,
    split,
    squared_errors,
    train,
)
from include.errors import ConfigurationError, InputError
from include.holdout import in_holdout
from include.object_store import sha256_hex
from include.promotion import MINIMUM_HOLDOUT_ROWS

SMALL = {"n_estimators": 5}


def test_split_keeps_every_row_once_and_holds_out_whom_the_hash_picks(features):
    training, holdout = split(features)

    held_out = in_holdout(features["customer_id"], share=churn_model.HOLDOUT_SHARE, salt=churn_model.HOLDOUT_SALT)
    assert set(holdout["customer_id"]) == set(features["customer_id"][held_out])
    both = pd.concat([training, holdout]).sort_values("customer_id", ignore_index=True)
    pd.testing.assert_frame_equal(both, features.sort_values("customer_id", ignore_index=True))


def test_no_customer_changes_sides_when_others_come_leave_or_churn(features):
    _, holdout = split(features)
    fewer = features.sample(frac=0.8, random_state=0)
    newcomers = features.assign(customer_id=features["customer_id"] + 60)
    changed = pd.concat([fewer.assign(churned=1 - fewer["churned"]), newcomers])

    _, held_out_later = split(changed)

    old = held_out_later[held_out_later["customer_id"] <= 60]
    assert set(old["customer_id"]) == set(holdout["customer_id"]) & set(fewer["customer_id"])


def test_classes_are_held_out_with_the_same_share_but_for_chance():
    ids = np.arange(20_000)
    rows = pd.DataFrame(
        {
            "customer_id": ids,
            "number_of_orders": 1,
            "customer_lifetime_value": 1.0,
            "churned": (ids % 10 == 0).astype(int),
        }
    )
    _, holdout = split(rows)

    shares = holdout["churned"].value_counts() / rows["churned"].value_counts()
    assert shares.sub(churn_model.HOLDOUT_SHARE).abs().max() < 0.03


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_refused_with_both_counts(features, label):
    with pytest.raises(
        InputError, match=rf"{60 * label} of 60 customers have churned.*at least 1 of each.*choose an as-of date"
    ):
        split(features.assign(churned=label))


def test_a_part_without_a_class_or_with_too_few_rows_is_refused_with_the_counts(features):
    held_out = in_holdout(features["customer_id"], share=churn_model.HOLDOUT_SHARE, salt=churn_model.HOLDOUT_SALT)
    none_churned_is_held_out = features[~held_out | (features["churned"] == 0)]
    churned_to_train_on = features[~held_out & (features["churned"] == 1)]
    too_few = features.drop(churned_to_train_on.index[4:])

    with pytest.raises(InputError, match="holds out 0 and"):
        split(none_churned_is_held_out)
    with pytest.raises(InputError, match=r"which leaves 4 and .* Load more customers"):
        split(too_few)
    assert len(split(too_few, folds=4)[0]) == len(too_few) - held_out[too_few.index].sum()


def test_too_few_to_be_judged_are_refused_with_the_counts(features):
    """The gate judges by 10 rows or more; a model of fewer would be trained, and never become the champion."""
    held_out = in_holdout(features["customer_id"], share=churn_model.HOLDOUT_SHARE, salt=churn_model.HOLDOUT_SALT)
    nine = features.drop(features.index[held_out][9:])
    ten = features.drop(features.index[held_out][10:])

    with pytest.raises(InputError, match=r"at least 1 of each held out, and 10 in all"):
        split(nine)
    assert len(split(ten)[1]) == MINIMUM_HOLDOUT_ROWS


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.1])
def test_predictions_that_are_no_probabilities_are_refused(features, wrong):
    model = train(features, SMALL, seed=1)

    class Broken:
        classes_ = model.classes_
        feature_names_in_ = model.feature_names_in_

        def predict_proba(self, rows):
            probabilities = model.predict_proba(rows)
            probabilities[3, 1] = wrong
            return probabilities

    for use in (score, squared_errors, lambda *given: evaluate(*given, prefix="")):
        with pytest.raises(InputError, match="1 of the model's 60 predictions are no probabilities"):
            use(Broken(), features)


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5])
def test_impossible_share_is_refused(features, share):
    with pytest.raises(ConfigurationError, match="share"):
        split(features, share)


def test_classifier_takes_hyper_parameters_over_the_default():
    classifier = make_classifier({"n_estimators": 7}, seed=3)

    assert (classifier.n_estimators, classifier.random_state, classifier.n_jobs) == (7, 3, 1)
    assert classifier.max_depth == churn_model.DEFAULT_HYPER_PARAMETERS["max_depth"]


@pytest.mark.parametrize(
    "bad",
    [
        {"trees": 5},
        {"random_state": 1},
        {"n_jobs": 2},
        {"n_estimators": 0},
        {"n_estimators": "many"},
        {"max_depth": -1},
    ],
)
def test_bad_hyper_parameters_are_named(bad):
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        make_classifier(bad, seed=1)


def test_hyper_parameters_that_are_no_mapping_are_refused():
    with pytest.raises(ConfigurationError, match="map names to values"):
        make_classifier(["n_estimators"], seed=1)  # type: ignore[arg-type]


def test_training_gives_the_same_bits_whatever_the_order(features):
    first = dump_model(train(features, SMALL, seed=1))
    again = dump_model(train(features.sample(frac=1, random_state=0), SMALL, seed=1))
    other = dump_model(train(features, SMALL, seed=2))

    assert first == again
    assert first != other


def test_training_gives_the_same_bits_in_another_process(features, tmp_path):
    features.to_csv(tmp_path / "features.csv", index=False)
    code = (
        "import sys, pandas as pd; from include.churn.model import *; from include.object_store import sha256_hex;"
        "print(sha256_hex(dump_model(train(pd.read_csv(sys.argv[1]), {'n_estimators': 5}, seed=1))))"
    )

    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "features.csv")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.strip() == sha256_hex(dump_model(train(features, SMALL, seed=1)))


def test_training_refuses_one_class_and_missing_columns(features):
    with pytest.raises(InputError, match="60 customers have churned"):
        train(features.assign(churned=1), seed=1)
    with pytest.raises(InputError, match="number_of_orders"):
        train(features.drop(columns="number_of_orders"), seed=1)


def test_cross_validation_finds_what_there_is_and_nothing_in_noise(features):
    found = cross_validate(features, SMALL, seed=1)
    shuffled = features.assign(churned=np.random.default_rng(0).permutation(features["churned"]))
    noise = cross_validate(shuffled, SMALL, seed=1)

    assert found["cv_roc_auc_mean"] > 0.75
    assert abs(noise["cv_roc_auc_mean"] - 0.5) < 0.2
    assert found["cv_roc_auc_std"] > 0
    assert found["cv_parts"] == 25
    assert found == cross_validate(features.sample(frac=1, random_state=0), SMALL, seed=1)


def test_cross_validation_deals_less_often_when_told(features):
    assert cross_validate(features, SMALL, seed=1, folds=3, repeats=2)["cv_parts"] == 6


def test_cross_validation_refuses_fewer_rows_than_folds(features):
    rows = pd.concat([features[features["churned"] == 0], features[features["churned"] == 1].head(4)])
    with pytest.raises(InputError, match="at least 5 of each"):
        cross_validate(rows, SMALL, seed=1)


def test_learning_curve_measures_growing_shares_of_each_fold(features):
    points = measure_learning_curve(features, SMALL, seed=1, folds=4)

    assert points["rows"].tolist() == [11, 22, 34, 45] * 4
    assert points["fold"].nunique() == 4
    aucs = points[["training_roc_auc", "validation_roc_auc"]].to_numpy()
    assert ((aucs >= 0) & (aucs <= 1)).all()


def test_learning_curve_leaves_out_shares_of_one_class(features):
    rows = pd.concat([features[features["churned"] == 0], features[features["churned"] == 1].head(3)])

    points = measure_learning_curve(rows, SMALL, seed=1, folds=3)

    assert points["validation_roc_auc"].isna().any()
    assert points.loc[points["share"] == 1, "validation_roc_auc"].notna().all()


def test_learning_curve_of_many_rows_draws_some(features, monkeypatch):
    monkeypatch.setattr(churn_model, "LEARNING_CURVE_ROWS", 40)

    points = measure_learning_curve(features, SMALL, seed=1)

    assert points["rows"].max() == 32
    pd.testing.assert_frame_equal(points, measure_learning_curve(features, SMALL, seed=1))


def test_losses_are_the_terms_of_the_brier_score(features):
    model = train(features, SMALL, seed=1)
    figures = evaluate(model, features, prefix="")

    assert squared_errors(model, features).mean() == pytest.approx(figures["brier"])
    assert baseline_squared_errors(features, features).mean() == pytest.approx(figures["baseline_brier"])
    assert baseline_squared_errors(features.assign(churned=1), features).tolist() == [
        (1 - label) ** 2 for label in features["churned"]
    ]


def test_evaluation_is_named_for_its_rows_and_stands_beside_the_constant_answer(features):
    model = train(features, SMALL, seed=1)

    figures = evaluate(model, features, prefix="holdout_")

    assert all(name.startswith("holdout_") for name in figures)
    assert figures["holdout_rows"] == 60
    assert figures["holdout_churn_share"] == pytest.approx(1 / 3)
    assert figures["holdout_baseline_accuracy"] == pytest.approx(2 / 3)
    assert figures["holdout_baseline_brier"] == pytest.approx(2 / 9)
    assert figures["holdout_roc_auc"] > 0.8
    assert figures["holdout_log_loss"] < figures["holdout_baseline_log_loss"]


def test_evaluation_figures_are_those_counted_by_hand(features):
    model = train(features, SMALL, seed=1)
    probability, truth = predict_probability(model, features), features["churned"].to_numpy()
    pairs = [(p > q) + 0.5 * (p == q) for p in probability[truth == 1] for q in probability[truth == 0]]
    called = probability > 0.5

    figures = evaluate(model, features, prefix="")

    assert figures["roc_auc"] == pytest.approx(np.mean(pairs))
    assert figures["accuracy"] == pytest.approx(np.mean(called == truth))
    assert figures["brier"] == pytest.approx(np.mean((probability - truth) ** 2))
    assert figures["f1"] == pytest.approx(2 * np.sum(called & (truth == 1)) / (called.sum() + truth.sum()))


def test_evaluation_refuses_rows_of_one_class(features):
    model = train(features, SMALL, seed=1)
    with pytest.raises(InputError, match="of the holdout rows: 0 customers have churned"):
        evaluate(model, features[features["churned"] == 0], prefix="holdout_")


def test_score_is_the_probability_of_churn_for_each_customer_with_or_without_label(features):
    model = train(features, SMALL, seed=1)

    scores = score(model, features)

    assert list(scores.columns) == ["customer_id", "churn_probability"]
    assert scores["customer_id"].tolist() == list(range(1, 61))
    assert scores["churn_probability"].between(0, 1).all()
    by_label = features.merge(scores, on="customer_id").groupby("churned")["churn_probability"].mean()
    assert by_label[1] > by_label[0]
    pd.testing.assert_frame_equal(scores, score(model, features.drop(columns="churned")))


def test_score_finds_the_class_by_its_name_and_not_by_its_place(features):
    model = train(features, SMALL, seed=1)

    class Reversed:
        classes_ = np.array([1, 0])
        feature_names_in_ = model.feature_names_in_

        def predict_proba(self, rows):
            return model.predict_proba(rows)[:, ::-1]

    pd.testing.assert_frame_equal(score(Reversed(), features), score(model, features))


def test_score_refuses_a_model_of_other_classes_or_columns(features):
    inputs = features[churn_model.FEATURE_COLUMNS]
    with pytest.raises(InputError, match="not churned = 1"):
        score(RandomForestClassifier(2).fit(inputs, ["no", "yes"] * 30), features)
    with pytest.raises(InputError, match=r"trained on the columns \['customer_lifetime_value'\]"):
        score(RandomForestClassifier(2).fit(inputs[["customer_lifetime_value"]], features["churned"]), features)


def test_loaded_model_scores_as_the_dumped_one(features):
    model = train(features, seed=1)
    content = dump_model(model)

    loaded = load_model(content, sha256_hex(content))

    pd.testing.assert_frame_equal(score(loaded, features), score(model, features))
    assert dump_model(loaded) == content


def test_other_bytes_are_refused_with_both_digests(features):
    content = dump_model(train(features, SMALL, seed=1))
    changed = content[:-1] + bytes([content[-1] ^ 1])

    with pytest.raises(InputError, match=f"{sha256_hex(changed)}.*{sha256_hex(content)}"):
        load_model(changed, sha256_hex(content))


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_what_is_no_archive_is_refused(content):
    with pytest.raises(InputError, match="no skops archive"):
        load_model(content, sha256_hex(content))


def test_archive_without_a_schema_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.json", "{}")
    content = buffer.getvalue()
    with pytest.raises(InputError, match="no skops archive"):
        load_model(content, sha256_hex(content))


class Stranger:
    """A type of which loading a model must not build an instance."""

    def __init__(self):
        self.value = 1


def test_strange_types_are_named_and_not_built(features):
    model = train(features, SMALL, seed=1)
    model.note = Stranger()
    content = skops_io.dumps(model)

    with pytest.raises(InputError, match="Stranger"):
        load_model(content, sha256_hex(content))


@pytest.mark.parametrize("other", [LogisticRegression(), DummyClassifier()])
def test_another_kind_of_model_is_refused(features, other):
    other.fit(features[churn_model.FEATURE_COLUMNS], features["churned"])
    content = skops_io.dumps(other)

    with pytest.raises(InputError, match=type(other).__name__):
        load_model(content, sha256_hex(content))
