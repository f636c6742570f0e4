"""The predictions' table and plot, with objects on the local file system and an MLflow store in a folder."""

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from PIL import Image

from include.errors import InputError
from include.object_store import read_object, sha256_hex
from include.possum import results
from include.settings import INCLUDE, settings

METRICS = {"rows_holdout": 21.0, "holdout_r2": 0.5, "holdout_rmse_cm": 1.5}
OLD_PICTURE = b"the model's own picture"


@pytest.fixture
def features(complete):
    return complete.drop(columns="taill").head(4)


@pytest.fixture
def target(complete):
    """Of more animals, in another order."""
    return complete[["case", "taill"]].head(6).iloc[::-1].assign(used_for_training=[True, False] * 3)


def scored(features: pd.DataFrame, *lengths: float) -> pd.DataFrame:
    """As run_prediction returns it."""
    return features[["case"]].assign(predicted_taill=lengths)


class TestJoinPredictions:
    def test_puts_prediction_and_truth_together_by_case(self, features, target):
        joined = results.join_predictions(scored(features, 36.0, 37.0, 38.0, 39.0), target)

        assert list(joined.columns) == ["case", "true_taill", "predicted_taill", "used_for_training"]
        assert joined["case"].tolist() == [1, 2, 3, 4]
        assert joined["predicted_taill"].tolist() == [36.0, 37.0, 38.0, 39.0]
        known = target.set_index("case").loc[[1, 2, 3, 4]]
        assert joined["true_taill"].tolist() == known["taill"].tolist()
        assert joined["used_for_training"].tolist() == known["used_for_training"].tolist() == [False, True] * 2
        assert joined["used_for_training"].dtype == bool

    def test_leaves_the_truth_empty_where_it_is_not_known(self, features, target):
        joined = results.join_predictions(scored(features, *[36.0] * 4), target.assign(taill=float("nan")))

        assert joined["true_taill"].isna().all()
        assert joined["used_for_training"].tolist() == [False, True] * 2

    def test_refuses_a_case_that_is_there_twice(self, features, target):
        with pytest.raises(pd.errors.MergeError, match="not a one-to-one merge"):
            results.join_predictions(scored(features, *[36.0] * 4), pd.concat([target, target]))

    def test_goes_by_the_case_whatever_the_order_of_the_predictions(self, features, target):
        by_case = results.join_predictions(scored(features, 36.0, 37.0, 38.0, 39.0), target)
        shuffled = results.join_predictions(scored(features, 36.0, 37.0, 38.0, 39.0).iloc[[2, 0, 3, 1]], target)

        assert shuffled["case"].tolist() == [3, 1, 4, 2]
        assert shuffled.sort_values("case", ignore_index=True).equals(by_case)

    def test_refuses_an_animal_that_the_file_has_no_more(self, features, target):
        with pytest.raises(InputError, match=r"has changed while it was scored, and lacks case \[3\] now"):
            results.join_predictions(scored(features, *[36.0] * 4), target[target["case"] != 3])


@pytest.fixture
def predictions(features, target):
    joined = results.join_predictions(scored(features, 36.0, 37.0, 38.0, 39.0), target)
    return joined.assign(better_than_baseline=pd.array([True] * 4, dtype="boolean"))


def test_save_predictions_writes_what_it_tells(predictions, tmp_path):
    uri = f"file://{tmp_path}/predictions.csv"

    told = results.save_predictions(predictions, uri)

    data = read_object(uri)
    assert told == {"uri": uri, "sha256": sha256_hex(data), "rows": 4}
    assert data.decode().splitlines()[:2] == [
        "case,true_taill,predicted_taill,used_for_training,better_than_baseline",
        "1,36.0,36.0,False,True",
    ]


@pytest.fixture
def model(experiment, tmp_path, monkeypatch):
    """A model's run with its own picture, and include/plots with the same picture."""
    client = mlflow.MlflowClient()
    run = client.create_run(experiment)
    monkeypatch.setattr(results, "INCLUDE", tmp_path)
    (tmp_path / settings.possum.picture_path).symlink_to(INCLUDE / settings.possum.picture_path)
    (tmp_path / "plots").mkdir()
    own = tmp_path / "plots" / settings.possum.plot_file_name
    own.write_bytes(OLD_PICTURE)
    client.log_artifact(run.info.run_id, str(own), "plots")
    return {"run_id": run.info.run_id, "experiment_id": experiment, "name": "m", "version": "3", "metrics": METRICS}


class TestPublishPlot:
    @pytest.fixture
    def publish(self, predictions, model, tmp_path):
        """Publish with a value of other_animals; gives the answer, and the three places where a picture can be."""

        def publish(other_animals: str | None) -> tuple[dict[str, str], dict[str, Path]]:
            uri = f"file://{tmp_path}/plot.png"
            told = results.publish_plot(predictions, uri, model, other_animals=other_animals)
            artifacts = Path(mlflow.MlflowClient().get_run(model["run_id"]).info.artifact_uri)
            places = {
                "object": tmp_path / "plot.png",
                "artifact": artifacts / "plots" / settings.possum.plot_file_name,
                "include": tmp_path / "plots" / settings.possum.plot_file_name,
                "batch": artifacts / "plots" / "run-7" / settings.possum.plot_file_name,
            }
            return told, places

        return publish

    def test_of_the_models_animals_replaces_the_models_picture(self, publish):
        told, places = publish(None)

        picture = places["object"].read_bytes()
        assert Image.open(places["object"]).format == "PNG"
        assert told["sha256"] == sha256_hex(picture)
        assert told["artifact"] == f"plots/{settings.possum.plot_file_name}"
        assert places["artifact"].read_bytes() == places["include"].read_bytes() == picture
        assert not places["batch"].exists()

    def test_of_other_animals_lies_beside_the_models_picture(self, publish):
        told, places = publish("run-7")

        picture = places["object"].read_bytes()
        assert Image.open(places["object"]).format == "PNG"
        assert told["sha256"] == sha256_hex(picture)
        assert told["artifact"] == f"plots/run-7/{settings.possum.plot_file_name}"
        assert places["batch"].read_bytes() == picture
        assert places["artifact"].read_bytes() == places["include"].read_bytes() == OLD_PICTURE

    def test_does_without_an_include_folder_that_can_be_written(self, publish, tmp_path):
        own = tmp_path / "plots" / settings.possum.plot_file_name
        own.unlink()
        own.parent.rmdir()
        own.parent.write_text("a file where the folder should be")

        told, places = publish(None)

        assert sha256_hex(places["artifact"].read_bytes()) == told["sha256"]


def test_table_and_plot_follow_the_settings_of_key_and_target():
    """In a process of its own, as the settings are read once, when it begins."""
    code = """
import pandas as pd
from include.possum.plots import plot_predictions
from include.possum.results import join_predictions

animals = pd.DataFrame({"animal": [7, 8], "totlngth": [90.0, 85.0], "used_for_training": [True, False]})
table = join_predictions(animals[["animal"]].assign(predicted_totlngth=[86.0, 84.0]), animals)
print(list(table))
axes = plot_predictions(table, None, subtitle="").axes[0]
print([label.get_text() for label in axes.get_xticklabels()])
print({line.get_label(): line.get_ydata().tolist() for line in axes.get_lines()})
"""
    names = {"POSSUM_KEY_COLUMN": "animal", "POSSUM_TARGET_COLUMN": "totlngth"}

    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        env=os.environ | names,
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.splitlines()[-3:] == [
        "['animal', 'true_totlngth', 'predicted_totlngth', 'used_for_training']",
        "['8', '7']",
        "{'true length': [85.0, 90.0], 'predicted, trained on (1 animals)': [86.0], "
        "'predicted, not trained on (1 animals)': [84.0]}",
    ]
