"""A champion that is no better than the baseline scores nobody unnoticed."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest

from include.errors import InputError
from include.possum import results
from include.possum.baseline import choose_model, compare_with_baseline, mark_predictions
from include.possum.champion import describe_champion
from include.possum.plots import plot_predictions


def another_population(animals: pd.DataFrame) -> pd.DataFrame:
    """The same measurements, and lengths that have nothing to do with them."""
    return animals.assign(taill=animals["taill"].sample(frac=1, random_state=1).to_numpy())


@pytest.fixture(scope="module")
def told(possums, animals) -> dict[str, Any]:
    """A good champion, on its own animals."""
    return possums.whole_round(animals)


@pytest.fixture(scope="module")
def of_no_use(possums, animals, told) -> dict[str, Any]:
    """What is handed over after a training on another population: the new model was rejected, and the champion stays."""
    reference = possums.feature_eng(another_population(animals))
    version = possums.register(possums.train(reference))
    assert possums.judge(reference, version).outcome == "worse_than_baseline"
    return possums.hand_over(reference)


def test_what_is_handed_over_says_whether_the_champion_is_better(told, of_no_use):
    assert told["better_than_baseline"] is True
    assert told["champion_loss"] < told["baseline_loss"]
    assert told["unseen_rows"] == 21
    assert of_no_use["version"] == told["version"]
    assert of_no_use["better_than_baseline"] is False
    assert of_no_use["champion_loss"] >= of_no_use["baseline_loss"]


@pytest.mark.parametrize("by_hand", [True, False])
def test_predict_refuses_it_and_says_what_to_do(of_no_use, by_hand):
    words = r"has an RMSE of \d\.\d\d cm on the 21 of these animals .*; predicting the mean has \d\.\d\d cm: it is no better"
    with pytest.raises(InputError, match=words) as refused:
        choose_model(of_no_use, by_hand=by_hand, other_animals=False, score_anyway=False)
    assert "score_anyway" in str(refused.value)


@pytest.mark.parametrize("by_hand", [True, False])
def test_the_param_lets_it_through_with_a_warning(of_no_use, by_hand, caplog):
    with caplog.at_level(logging.WARNING):
        model = choose_model(of_no_use, by_hand=by_hand, other_animals=False, score_anyway=True)

    assert model == of_no_use
    assert "no better than the baseline" in caplog.text


def test_it_may_score_other_animals_which_are_judged_by_themselves(of_no_use):
    model = choose_model(of_no_use, by_hand=True, other_animals=True, score_anyway=False)

    assert model["version"] == of_no_use["version"]
    assert model["better_than_baseline"] is None


def test_a_champion_of_a_rejected_version_that_somebody_gave_the_alias_is_found_out(possums, animals, told):
    possums.begin_afresh()
    reference = possums.feature_eng(another_population(animals))
    version = possums.register(possums.train(reference))
    assert not possums.judge(reference, version).promoted
    possums.client.set_registered_model_alias(possums.name, "champion", version)

    assert possums.judge(reference, version).outcome == "champion_already"  # the next training on the same animals
    assert possums.tags(version)["gate.outcome"] == "worse_than_baseline"
    with pytest.raises(InputError, match="no better than the baseline"):
        choose_model(possums.hand_over(reference), by_hand=False, other_animals=False, score_anyway=False)


def test_animals_without_a_column_of_the_champions_are_refused(possums, animals, monkeypatch):
    possums.begin_afresh()
    told = possums.whole_round(animals)
    monkeypatch.setattr(
        "include.possum.baseline.read_complete_animals",
        lambda _: animals.dropna(ignore_index=True).drop(columns="belly"),
    )

    with pytest.raises(InputError, match=r"the rows lack \['belly'\]"):
        compare_with_baseline(describe_champion(), told)


# Predictions


def table(rows: int, *, error: float, trained_on: int = 0, known: bool = True) -> pd.DataFrame:
    """Lengths of 30 cm and more, each predicted with an error of that many cm."""
    true = 30.0 + np.arange(rows)
    return pd.DataFrame(
        {
            "case": range(rows),
            "true_taill": true if known else np.nan,
            "predicted_taill": true + error,
            "used_for_training": np.arange(rows) < trained_on,
        }
    )


MODEL = {"name": "m", "version": "3"}


def marked(predictions: pd.DataFrame, *, score_anyway: bool = False) -> list[bool | None]:
    found = mark_predictions(predictions, MODEL, other_animals=True, score_anyway=score_anyway)
    assert found["better_than_baseline"].dtype == "boolean"
    return [None if pd.isna(each) else bool(each) for each in found["better_than_baseline"].unique()]


class TestOtherAnimals:
    def test_better_ones_are_marked(self):
        assert marked(table(20, error=1)) == [True]

    def test_worse_ones_are_refused_unless_the_param_says_otherwise(self):
        worse = table(20, error=40)
        with pytest.raises(InputError, match=r"Version 3 of m has an RMSE of 40\.00 cm on the 20 of these animals"):
            marked(worse)
        assert marked(worse, score_anyway=True) == [False]

    @pytest.mark.parametrize(
        "predictions",
        [table(9, error=40), table(20, error=40, trained_on=11), table(20, error=40, known=False)],
        ids=["few", "trained on", "unknown"],
    )
    def test_where_too_few_tell_nothing_is_said(self, predictions):
        assert marked(predictions) == [None]

    def test_animals_that_the_model_was_trained_on_do_not_speak_for_it(self):
        half = table(40, error=0, trained_on=20)
        half.loc[20:, "predicted_taill"] += 40
        with pytest.raises(InputError, match="on the 20 of these animals"):
            marked(half)

    def test_the_baseline_of_each_does_not_know_its_own_length(self):
        """One far off the others: the mean of all would be nearer to it than what could be known."""
        predictions = table(10, error=0).assign(true_taill=[30.0] * 9 + [40.0])
        predictions["predicted_taill"] = predictions["true_taill"]
        predictions.loc[9, "predicted_taill"] = 30.5  # 9.5 cm off; the mean of all is 9.0 off, that of the others 10.0
        assert marked(predictions) == [True]

    def test_what_nobody_knows_is_an_empty_field_in_the_csv(self, tmp_path):
        unknown = mark_predictions(table(2, error=1, known=False), MODEL, other_animals=True, score_anyway=False)
        results.save_predictions(unknown, f"file://{tmp_path}/predictions.csv")

        assert (tmp_path / "predictions.csv").read_text().splitlines() == [
            "case,true_taill,predicted_taill,used_for_training,better_than_baseline",
            "0,,31.0,False,",
            "1,,32.0,False,",
        ]


@pytest.mark.parametrize("better", [True, False])
def test_the_events_animals_have_the_gates_word_in_each_row(better):
    found = mark_predictions(
        table(5, error=1), MODEL | {"better_than_baseline": better}, other_animals=False, score_anyway=True
    )
    assert found["better_than_baseline"].tolist() == [better] * 5


@pytest.mark.parametrize("better", [True, False, None])
def test_the_plot_says_so(monkeypatch, tmp_path, possums, better):
    subtitles: list[str] = []

    def plot(*arguments: Any, subtitle: str) -> Any:
        subtitles.append(subtitle)
        return plot_predictions(*arguments, subtitle=subtitle)

    monkeypatch.setattr(results, "plot_predictions", plot)
    run = possums.client.create_run(possums.experiment)
    metrics = {"rows_holdout": 21.0, "holdout_r2": 0.5, "holdout_rmse_cm": 1.5}
    model = MODEL | {"run_id": run.info.run_id, "experiment_id": possums.experiment, "metrics": metrics}
    predictions = table(5, error=1).assign(better_than_baseline=pd.array([better] * 5, dtype="boolean"))

    results.publish_plot(predictions, f"file://{tmp_path}/plot.png", model, other_animals="others")

    assert subtitles[0].endswith(", no better here than predicting the mean") is (better is False)
