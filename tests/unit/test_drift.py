"""When a batch counts as drifted."""

import numpy as np
import pandas as pd
import pytest

from include.drift import REFERENCE_ROWS, compare, reference_rows, render_report
from include.errors import InputError
from include.possum.schema import complete_rows, read_animals
from include.settings import INCLUDE, settings

CATEGORICAL, NUMERIC = list(settings.possum.categorical_columns), list(settings.possum.numeric_columns)
SIGNIFICANCE = 0.01


@pytest.fixture(scope="module")
def animals() -> pd.DataFrame:
    return complete_rows(read_animals(INCLUDE / settings.possum.file_path, settings.possum.file_path))[0]


def check(reference: pd.DataFrame, batch: pd.DataFrame):
    return compare(reference, batch, categorical=CATEGORICAL, numeric=NUMERIC, significance=SIGNIFICANCE)


def test_the_shipped_animals_do_not_drift_from_themselves(animals):
    assert not check(animals, animals).drifted


def test_resamples_of_the_shipped_animals_raise_no_more_false_alarms_than_the_stated_rate(animals):
    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(1000):
        # two disjoint halves in random order: what a training set and a later batch of the same population are
        order = rng.permutation(len(animals))
        alarms += check(animals.iloc[order[:50]], animals.iloc[order[50:]]).drifted

    assert alarms / 1000 <= SIGNIFICANCE


def test_a_shift_of_one_measurement_is_found_and_named(animals):
    batch = animals.assign(belly=animals["belly"] + 4)

    report = check(animals, batch)

    assert report.drifted
    assert "belly" in report.sentence
    assert report.metrics()["drift_detected"] == 1


def test_the_same_batch_is_drift_or_not_by_the_significance_alone(animals):
    batch = animals.assign(belly=animals["belly"] + 1.5)

    strict, lax = (
        compare(animals, batch, categorical=CATEGORICAL, numeric=NUMERIC, significance=significance)
        for significance in (0.001, 0.2)
    )

    assert 0.001 < strict.p_value == lax.p_value < 0.2
    assert (strict.drifted, lax.drifted) == (False, True)
    assert (strict.metrics()["drift_detected"], lax.metrics()["drift_detected"]) == (0, 1)
    assert "looks like the training rows" in strict.sentence
    assert "drift below 0.001" in strict.sentence
    assert "differs from the training rows" in lax.sentence
    assert "drift below 0.2" in lax.sentence


def test_a_batch_of_one_site_only_is_found_by_its_category(animals):
    report = check(animals, animals[animals["site"] == 7])

    assert report.drifted
    assert report.columns.set_index("column").loc["site", "p_value"] < SIGNIFICANCE / len(report.columns)


def test_a_single_animal_is_no_drift(animals):
    assert not check(animals, animals.head(1)).drifted


def test_a_category_that_never_varies_is_no_drift():
    same = pd.DataFrame({"kind": ["a"] * 20, "size": range(20)})

    report = compare(same, same, categorical=["kind"], numeric=["size"], significance=SIGNIFICANCE)

    assert report.p_value == 1


@pytest.mark.parametrize("column", ["site", "belly"])
def test_a_missing_column_is_named(animals, column):
    with pytest.raises(InputError, match=f"batch.*{column}"):
        check(animals, animals.drop(columns=[column]))


def test_an_empty_batch_is_refused(animals):
    with pytest.raises(InputError, match=r"batch.*no rows"):
        check(animals, animals.head(0))


def test_the_report_shows_finding_figures_and_plots_and_nothing_is_fetched_from_elsewhere(animals):
    batch = animals.assign(belly=animals["belly"] + 4)

    page = render_report(animals, batch, check(animals, batch), "Drift of <101> animals")

    assert "differs from the training rows" in page
    assert "&lt;101&gt;" in page
    assert "data:image/png;base64," in page
    assert "http" not in page


def test_a_large_training_set_keeps_a_bounded_reference_that_is_the_same_each_time():
    rows = pd.DataFrame({"x": np.arange(REFERENCE_ROWS * 2)})

    kept = reference_rows(rows)

    assert len(kept) == REFERENCE_ROWS
    assert kept.equals(reference_rows(rows))


# Checks fail closed


@pytest.mark.parametrize("side", ["reference", "batch"])
@pytest.mark.parametrize(
    ("column", "value"), [("totlngth", np.nan), ("totlngth", np.inf), ("sex", None), ("sex", np.nan)]
)
def test_a_value_that_is_missing_or_not_finite_is_refused_and_never_passes(animals, side, column, value):
    tables = {"reference": animals, "batch": animals.assign(totlngth=animals["totlngth"] + 1000)}
    tables[side] = tables[side].astype({column: object})
    tables[side].loc[tables[side].index[3], column] = value
    with pytest.raises(InputError, match=rf"The {side} .*\{{'{column}': 1\}}"):
        check(**tables)


def test_no_columns_are_no_pass(animals):
    with pytest.raises(InputError, match="no columns"):
        compare(animals, animals, categorical=[], numeric=[], significance=SIGNIFICANCE)
