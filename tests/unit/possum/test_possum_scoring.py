"""The rows that predict scores, from files of the local file system: what is known of them, what the model wants."""

import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model, infer_signature

from include.errors import InputError
from include.object_store import write_object
from include.possum import scoring
from include.possum.animals import describe_rows, input_columns
from include.possum.features import holdout_rows
from include.possum.scoring import check_signature, read_batch, read_target

# as the pipeline does: include/mlflow_tracking.py
pytestmark = pytest.mark.filterwarnings("ignore:Hint. Inferred schema contains integer")


@pytest.fixture
def model(tmp_path, animals) -> dict[str, Any]:
    """What predict is told of a model that was trained on the first 80 animals and came with all of them."""
    first = animals.head(80).dropna()
    reference: dict[str, str] = {}
    for name, rows in (("animals", animals), ("trained_on", describe_rows(first[~holdout_rows(first)]))):
        uri = f"file://{tmp_path}/{name}.csv"
        sha256 = write_object(uri, rows.to_csv(index=False).encode())
        reference |= {f"{name}_uri": uri, f"{name}_sha256": sha256}
    inputs = animals[input_columns()].dropna()
    (tmp_path / "model").mkdir()
    Model(signature=infer_signature(inputs, np.zeros(len(inputs)))).save(tmp_path / "model" / "MLmodel")
    return reference | {"model_uri": str(tmp_path / "model")}


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Put rows where the param source of predict points to; tell the param."""
    monkeypatch.setattr("include.sources.INCLUDE", tmp_path)

    def write(rows: pd.DataFrame) -> str:
        rows.to_csv(tmp_path / "others.csv", index=False)
        return "others.csv"

    return write


@pytest.fixture
def trained_on(complete) -> set[int]:
    """The case numbers that the model was trained on: complete, among the first 80, and not held out."""
    return set(complete.loc[~holdout_rows(complete) & (complete["case"] <= 80), "case"])


class TestReadTarget:
    def test_tells_of_the_models_own_animals_which_it_was_trained_on(self, model, animals, trained_on):
        target = read_target(model, "")

        assert list(target.columns) == ["case", "taill", "used_for_training"]
        assert target[["case", "taill"]].equals(animals[["case", "taill"]])
        assert set(target.loc[target["used_for_training"], "case"]) == trained_on
        # held out, of animals after the first 80, and incomplete
        assert not target.set_index("case").loc[[1, 81, 41], "used_for_training"].any()
        assert target.set_index("case").loc[[2, 80], "used_for_training"].all()

    def test_tells_of_other_animals_by_their_numbers_and_not_by_a_hash(self, model, animals, trained_on, source):
        new = animals.assign(case=animals["case"] + 1000)
        assert not holdout_rows(new).all()  # so by a hash of their key some would be training rows
        both = pd.concat([new, animals.head(10)])

        target = read_target(model, source(both))

        assert set(target.loc[target["used_for_training"], "case"]) == trained_on & set(range(11))

    def test_takes_animals_of_another_population_for_others_although_they_have_the_same_numbers(
        self, model, animals, source
    ):
        another = animals.assign(**{column: animals[column][::-1].to_numpy() for column in ("totlngth", "belly")})

        assert not read_target(model, source(another))["used_for_training"].any()

    def test_knows_a_training_animal_again_without_its_length_and_as_somebody_else_writes_it(
        self, model, animals, trained_on, source
    ):
        """Columns in another order, whole numbers without a decimal point, more columns."""
        written = animals.drop(columns="taill")[animals.columns[::-1].drop("taill")].assign(note="x")
        written["age"] = written["age"].astype("Int64")

        target = read_target(model, source(written))

        assert set(target.loc[target["used_for_training"], "case"]) == trained_on

    def test_knows_no_true_length_where_the_file_has_none(self, model, animals, source):
        target = read_target(model, source(animals.drop(columns="taill")))

        assert target["taill"].isna().all()
        assert target["case"].tolist() == animals["case"].tolist()

    @pytest.mark.parametrize("name", ["animals", "trained_on"])
    def test_refuses_files_that_have_changed_since(self, model, animals, name):
        write_object(model[f"{name}_uri"], animals.head(50).to_csv(index=False).encode())

        with pytest.raises(InputError, match=rf"{name}\.csv has changed"):
            read_target(model, "")


class TestReadBatch:
    def test_gives_key_and_inputs_of_the_complete_animals(self, model, complete):
        pd.testing.assert_frame_equal(read_batch(model, ""), complete[["case", *input_columns()]])

    def test_checks_against_the_models_signature(self, model, animals, monkeypatch):
        fewer = [column for column in input_columns() if column != "belly"]
        monkeypatch.setattr(scoring, "input_columns", lambda: fewer)

        with pytest.raises(InputError, match=r"lack \['belly'\]"):
            read_batch(model, "")


class TestCheckSignature:
    def test_accepts_the_columns_in_any_order_and_whole_numbers_as_numbers(self, model, complete, caplog):
        batch = complete[input_columns()[::-1]].astype({"age": "int64"})

        with caplog.at_level(logging.INFO):
            check_signature(model["model_uri"], batch)

        assert "The 101 rows have all columns of the model's signature" in caplog.text

    def test_names_the_columns_that_are_missing(self, model, complete):
        with pytest.raises(
            InputError, match=rf"{model['model_uri']} takes .*lack \['sex', 'belly'\].*put them into the file"
        ):
            check_signature(model["model_uri"], complete.drop(columns=["belly", "sex"]))

    @pytest.mark.parametrize(
        ("column", "values", "message"),
        [
            ("belly", "wide", "takes column belly as double, the rows have str"),
            ("sex", 1.0, "takes column sex as string, the rows have float64"),
        ],
        ids=["text for a number", "number for a text"],
    )
    def test_names_the_column_of_another_type(self, model, complete, column, values, message):
        with pytest.raises(InputError, match=message):
            check_signature(model["model_uri"], complete.assign(**{column: values}))
