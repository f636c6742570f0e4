"""What two and more rounds through feature_eng, train and predict leave in S3, MLflow, the database and include/plots."""

import io
import json
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from include.holdout import in_holdout
from include.mlflow_files import ADDED_PACKAGES
from include.object_store import sha256_hex
from include.possum.features import HOLDOUT_SALT, HOLDOUT_SHARE, feature_columns
from include.possum.plots import HEIGHT_PIXELS, WIDTH_PIXELS
from include.settings import INCLUDE, settings
from tests.support.local_stack import RunningStack
from tests.support.possum_runs import (
    DAGS,
    PLOT,
    Round,
    read_csv,
    versions_of_run,
)

COLUMNS = ["case", "true_taill", "predicted_taill", "used_for_training", "better_than_baseline"]
COMPLETE = 101  # animals without a missing value
HELD_OUT = 21  # of them


@pytest.fixture(scope="module")
def features(stack, first):
    return read_csv(stack.object(first.features["features_uri"]))


@pytest.fixture(scope="module")
def animals():
    """The complete animals as measured."""
    return read_csv((INCLUDE / settings.possum.file_path).read_bytes()).dropna(ignore_index=True)


@pytest.fixture(scope="module")
def version(stack, first) -> int:
    """The model version of the first round."""
    (number,) = versions_of_run(stack, first.trained["run_id"])
    return number


@pytest.fixture(scope="module")
def predictions(stack, first):
    return read_csv(stack.object(first.predictions["uri"]))


@pytest.fixture(scope="module")
def scored(stack: RunningStack, first: Round, version: int) -> dict:
    """What the registered models say in a task's process: by version, by stage, and the transformer."""
    return stack.python(f"""
import io, json
import mlflow
from include.mlflow_tracking import connect_mlflow
from include.possum.features import feature_columns
from include.possum.schema import complete_rows, read_animals
from include.settings import INCLUDE
connect_mlflow()
raw = complete_rows(read_animals(INCLUDE / "possum.csv", "possum.csv"))[0].drop(columns=["taill"])
name = "{settings.possum.registered_model_name}"
by_version = mlflow.pyfunc.load_model(f"models:/{{name}}/{version}")
inputs = by_version.metadata.signature.inputs.input_names()
transformed = mlflow.sklearn.load_model("{first.features["scaler_model_uri"]}").transform(raw)
print(json.dumps({{
    "version": by_version.predict(raw[inputs]).tolist(),
    "shuffled columns": by_version.predict(raw[inputs[::-1]]).tolist(),
    "stage": mlflow.pyfunc.load_model(f"models:/{{name}}/Staging").metadata.run_id,
    "inputs": inputs,
    "example": list(by_version.input_example.columns),
    "transformed": transformed[feature_columns()].to_numpy().tolist(),
}}))
""")


class TestFeatures:
    def test_object_has_all_complete_animals_with_key_features_and_target(self, features, animals):
        assert list(features.columns) == [settings.possum.key_column, *feature_columns(), settings.possum.target_column]
        assert features.shape == (COMPLETE, 22)
        assert features[["case", "taill"]].equals(animals[["case", "taill"]].astype({"taill": float}))

    def test_are_engineered_and_not_raw(self, features, animals):
        encoded = [name for name in feature_columns() if name not in settings.possum.numeric_columns]
        assert set(np.unique(features[encoded])) == {0.0, 1.0}
        assert (features[encoded].sum(axis=1) == len(settings.possum.categorical_columns)).all()
        training = ~in_holdout(features["case"], share=HOLDOUT_SHARE, salt=HOLDOUT_SALT)
        for column in settings.possum.numeric_columns:
            raw = animals[column][training]
            expected = (animals[column] - raw.mean()) / raw.std(ddof=0)
            np.testing.assert_allclose(features[column], expected, atol=1e-12)

    def test_object_is_the_one_that_the_event_names(self, stack, first):
        event = stack.airflow.events_of("train", first.train)[-1]
        assert event["name"] == "s3://data_possum.csv"
        assert event["extra"] == first.features
        for name in ("features", "animals"):
            uri, digest = event["extra"][f"{name}_uri"], event["extra"][f"{name}_sha256"]
            assert uri.startswith(f"s3://data/{name}/")
            assert sha256_hex(stack.object(uri)) == digest

    def test_animals_as_read_are_kept_beside_them(self, stack, first):
        animals = read_csv(stack.object(first.features["animals_uri"]))
        assert animals.equals(
            read_csv((INCLUDE / settings.possum.file_path).read_bytes())[list(animals)].astype(animals.dtypes)
        )
        assert set(animals) == set(settings.possum.raw_columns)

    def test_buckets_are_the_tutorials(self, stack, first):
        names = {bucket["Name"] for bucket in stack.s3.list_buckets()["Buckets"]}
        assert {"data", "mlflowdatapossums", "localxcom"} <= names

    def test_experiment_keeps_its_artifacts_in_the_artifact_bucket(self, stack, first):
        experiment = stack.mlflow.get_experiment_by_name("Possum_tails")
        assert experiment.experiment_id == first.model["experiment_id"]
        assert experiment.artifact_location.rstrip("/") == "s3://mlflowdatapossums"

    def test_scaler_run_has_means_and_scales_in_the_columns_units(self, stack, first, animals):
        run = stack.mlflow.get_run(first.features["scaler_run_id"])
        assert (run.info.run_name, run.info.status) == ("Scaler", "FINISHED")
        training = animals[~in_holdout(animals["case"], share=HOLDOUT_SHARE, salt=HOLDOUT_SALT)]
        for column in settings.possum.numeric_columns:
            assert run.data.metrics[f"mean_{column}"] == pytest.approx(training[column].mean())
            assert run.data.metrics[f"scale_{column}"] == pytest.approx(training[column].std(ddof=0))

    def test_scaler_run_names_the_source_that_was_given(self, stack, first, overlapping):
        _, fewer = overlapping
        for each, source in ((first, settings.possum.file_path), (fewer, "s3://data/incoming/fewer.csv")):
            (given,) = stack.mlflow.get_run(each.features["scaler_run_id"]).inputs.dataset_inputs
            assert given.dataset.name == "animals"
            assert json.loads(given.dataset.source)["uri"] == source

    def test_scaler_run_counts_the_animals_that_were_left_out(self, stack, first):
        run = stack.mlflow.get_run(first.features["scaler_run_id"])
        wanted = {"rows_read": 104, "rows_with_missing_values": 3, "missing_age": 2, "missing_footlgth": 1}
        assert wanted.items() <= run.data.metrics.items()
        assert run.data.metrics["rows_training"] == COMPLETE - HELD_OUT
        assert run.data.metrics["rows_holdout"] == HELD_OUT
        log = stack.airflow.task_log("feature_eng", first.feature_eng, "build_features")
        assert "104 animals read, 101 are complete" in log

    def test_logged_transformer_loads_and_gives_the_very_features(self, scored, features):
        assert np.array_equal(np.array(scored["transformed"]), features[feature_columns()].to_numpy())


class TestTraining:
    def test_mlflow_run_tells_parameters_data_and_metrics_by_the_rows_they_are_of(self, stack, first):
        run = stack.mlflow.get_run(first.trained["run_id"])
        assert run.info.status == "FINISHED"
        assert len(json.loads(run.data.params["alphas"])) == 30
        assert run.data.tags["features_sha256"] == first.features["features_sha256"]
        assert run.data.tags["animals_sha256"] == first.features["animals_sha256"]
        assert run.data.tags["scaler_run_id"] == first.features["scaler_run_id"]
        assert {f"{rows}_{figure}" for rows in ("training", "holdout") for figure in ("r2", "rmse_cm", "mae_cm")} | {
            "cv_r2_mean",
            "cv_rmse_cm_mean",
            "holdout_baseline_rmse_cm",
            "best_alpha",
        } <= run.data.metrics.keys()
        rows_named = ("training_", "holdout_", "cv_", "site_out_", "rows_", "best_alpha")
        assert [name for name in run.data.metrics if not name.startswith(rows_named)] == []
        assert (run.data.metrics["rows_training"], run.data.metrics["rows_holdout"]) == (COMPLETE - HELD_OUT, HELD_OUT)

    def test_metrics_are_those_of_the_predictions(self, stack, first, predictions):
        metrics = stack.mlflow.get_run(first.model["run_id"]).data.metrics
        trained_on = predictions["used_for_training"]
        for rows, chosen in (("holdout", ~trained_on), ("training", trained_on)):
            table = predictions[chosen]
            assert len(table) == metrics[f"rows_{rows}"]
            errors = table["predicted_taill"] - table["true_taill"]
            assert metrics[f"{rows}_rmse_cm"] == pytest.approx(float(np.sqrt((errors**2).mean())))
            assert metrics[f"{rows}_mae_cm"] == pytest.approx(float(errors.abs().mean()))
        # a model that is worse than none would be a broken pipeline
        assert metrics["holdout_rmse_cm"] < metrics["holdout_baseline_rmse_cm"]

    def test_mlflow_run_has_the_two_sets_of_rows_as_inputs_with_digests(self, stack, first):
        inputs = stack.mlflow.get_run(first.trained["run_id"]).inputs.dataset_inputs
        assert sorted(each.dataset.name for each in inputs) == ["holdout", "training"]
        assert len({each.dataset.digest for each in inputs}) == 2
        assert all(first.features["features_uri"] in each.dataset.source for each in inputs)

    def test_model_has_signature_and_input_example_with_the_animals_columns(self, scored):
        assert scored["inputs"] == [*settings.possum.categorical_columns, *settings.possum.numeric_columns]
        assert scored["example"] == scored["inputs"]

    def test_version_loads_from_the_registry_and_predicts_what_the_csv_has(self, scored, predictions):
        np.testing.assert_allclose(scored["version"], predictions["predicted_taill"], rtol=1e-12)
        assert scored["shuffled columns"] == scored["version"]  # by name, not by place

    def test_staging_is_the_newest_version_alone(self, first, version):
        assert version == max(first.versions)
        assert [number for number, stage in first.versions.items() if stage == "Staging"] == [version]

    def test_first_version_is_the_champion_that_predict_uses(self, stack, first, version):
        assert (first.model["run_id"], first.model["version"]) == (first.trained["run_id"], str(version))
        tags = stack.mlflow.get_model_version(settings.possum.registered_model_name, str(version)).tags
        assert tags["gate.decision"] == "promoted"

    def test_stage_loads_the_run_of_the_version_in_it(self, stack, scored):
        found = stack.mlflow.search_model_versions(f"name = '{settings.possum.registered_model_name}'")
        assert [scored["stage"]] == [each.run_id for each in found if each.current_stage == "Staging"]

    def test_each_mlflow_run_has_one_version(self, stack, first, overlapping):
        for each in (first, *overlapping):
            assert len(versions_of_run(stack, each.trained["run_id"])) == 1

    def test_same_data_again_find_the_run_and_the_version_that_are_there(self, stack, first, overlapping):
        same_data, _ = overlapping
        assert same_data.trained == first.trained
        assert same_data.features["scaler_run_id"] == first.features["scaler_run_id"]
        log = stack.airflow.task_log("train", same_data.train, "train_model")
        assert f"using the model of MLflow run {first.trained['run_id']}" in log

    def test_other_data_make_a_newer_version(self, stack, overlapping, version):
        _, fewer = overlapping
        assert versions_of_run(stack, fewer.trained["run_id"])[0] > version


class TestPrediction:
    def test_csv_has_true_and_predicted_length_by_case(self, predictions, animals):
        assert list(predictions.columns) == COLUMNS
        assert predictions["case"].tolist() == animals["case"].tolist()
        assert predictions["true_taill"].tolist() == animals["taill"].tolist()
        assert predictions["predicted_taill"].between(25, 50).all()
        assert predictions["predicted_taill"].nunique() > 90

    def test_csv_tells_which_animals_the_model_was_trained_on_all_but_the_holdout(self, predictions):
        held_out = in_holdout(predictions["case"], share=HOLDOUT_SHARE, salt=HOLDOUT_SALT)
        assert predictions["used_for_training"].tolist() == (~held_out).tolist()
        assert held_out.sum() == HELD_OUT

    def test_csv_and_event_say_that_the_model_is_better_than_the_baseline(self, first, predictions):
        assert predictions["better_than_baseline"].all()
        assert first.model["better_than_baseline"] is True
        metrics = first.model["metrics"]
        assert first.model["champion_loss"] == pytest.approx(metrics["holdout_rmse_cm"] ** 2)
        assert first.model["baseline_loss"] == pytest.approx(metrics["holdout_baseline_rmse_cm"] ** 2)
        assert first.model["unseen_rows"] == HELD_OUT

    def test_csv_is_the_one_that_the_task_tells(self, stack, first):
        assert first.predictions["uri"].startswith("s3://data/predictions/")
        assert sha256_hex(stack.object(first.predictions["uri"])) == first.predictions["sha256"]
        assert first.predictions["rows"] == COMPLETE

    def test_plot_is_one_picture_in_bucket_and_mlflow_run(self, stack, first):
        data = stack.object(first.plot["uri"])
        assert sha256_hex(data) == first.plot["sha256"]
        picture = Image.open(io.BytesIO(data))
        picture.load()
        assert (picture.format, picture.size) == ("PNG", (WIDTH_PIXELS, HEIGHT_PIXELS))
        assert len(np.unique(np.asarray(picture))) > 100  # not an empty sheet
        artifacts = stack.keys(settings.mlflow_artifact_bucket, f"{first.model['run_id']}/artifacts/plots/")
        # the run by hand may have put its picture of the same model there since, and runs with other animals theirs into
        # folders of their own
        own = [key for key in artifacts if key.count("/") == 3]
        assert own == [f"{first.model['run_id']}/artifacts/plots/possum_tails.png"]

    def test_plot_is_in_include_plots_too(self, first):
        assert datetime.fromtimestamp(PLOT.stat().st_mtime, UTC) > first.began
        assert Image.open(PLOT).size == (WIDTH_PIXELS, HEIGHT_PIXELS)

    def test_model_event_names_run_version_and_features(self, stack, first):
        event = stack.airflow.events_of("predict", first.predict)[-1]
        assert event["name"] == "model_trained"
        assert event["extra"] == first.model
        assert first.features.items() <= first.model.items()
        assert first.model["run_id"] == first.trained["run_id"]  # the champion is the round's own model
        trained_on = stack.object(first.model["trained_on_uri"])
        assert first.model["trained_on_uri"].endswith(f"/{first.model['run_id']}/artifacts/training/animals.csv")
        assert sha256_hex(trained_on) == first.model["trained_on_sha256"]
        (registered,) = stack.mlflow.search_model_versions(f"run_id = '{first.model['run_id']}'")
        assert (registered.name, registered.version) == (first.model["name"], first.model["version"])
        assert registered.source == first.model["model_uri"]

    def test_requirements_got_what_scoring_needs_once_however_often_it_ran(self, stack, first, by_hand):
        champion = stack.airflow.xcom("predict", by_hand, "fetch_model_run_id", "model")
        for model in (first.model, champion):
            lines = stack.object(f"{model['model_uri']}/requirements.txt").decode().splitlines()
            names = [line.split("==")[0] for line in lines]
            assert len(names) == len(set(names))
            assert {*ADDED_PACKAGES, "scikit-learn", "skops"} <= set(names)
        assert "added boto3==" in stack.airflow.task_log("predict", first.predict, "add_line_to_file")
        assert "nothing to add" in stack.airflow.task_log("predict", by_hand, "add_line_to_file")

    def test_virtual_environment_is_built_once(self, stack, first, overlapping, by_hand):
        assert "Building the virtual env" in stack.airflow.task_log("predict", first.predict, "run_prediction")
        for run in (*(each.predict for each in overlapping), by_hand):
            log = stack.airflow.task_log("predict", run, "run_prediction")
            assert "Using the virtual env" in log
            assert "Building the virtual env" not in log


class TestReferences:
    def test_overlapping_rounds_do_not_mix(self, stack, overlapping):
        same_data, fewer = overlapping
        assert same_data.features["animals_sha256"] != fewer.features["animals_sha256"]
        assert fewer.predictions["rows"] == COMPLETE - 18
        for each in overlapping:
            assert each.features.items() <= each.model.items()
            tags = stack.mlflow.get_run(each.trained["run_id"]).data.tags
            for name in ("features", "animals"):
                digest = each.features[f"{name}_sha256"]
                assert sha256_hex(stack.object(each.features[f"{name}_uri"])) == digest
                assert tags[f"{name}_sha256"] == digest
            scored = read_csv(stack.object(each.predictions["uri"]))
            used = read_csv(stack.object(each.features["features_uri"]))
            assert scored["case"].tolist() == used["case"].tolist()

    @pytest.fixture(scope="class")
    def newest(self, stack, overlapping) -> Round:
        """The round whose training was the last to end."""
        return max(overlapping, key=lambda each: stack.airflow.events_of("predict", each.predict)[-1]["timestamp"])

    def test_run_by_hand_takes_the_newest_event_and_says_so(self, stack, newest, by_hand):
        assert stack.airflow.events_of("predict", by_hand) == []
        assert stack.airflow.xcom("predict", by_hand, "fetch_model_run_id", "model") == newest.model
        log = stack.airflow.task_log("predict", by_hand, "fetch_model_run_id")
        assert (
            f"that is the newest, as this run was started by hand and not by an asset: from run {newest.train}" in log
        )

    @pytest.mark.parametrize("task", ["save_predictions", "plot_predictions"])
    def test_repeated_predictions_are_the_same_to_the_bit(self, stack, newest, by_hand, task):
        digests = {stack.airflow.xcom("predict", run, task)["sha256"] for run in (newest.predict, by_hand)}
        assert len(digests) == 1


class TestMetadataDatabase:
    def test_xcoms_hold_addresses_and_no_data(self, stack, by_hand):
        rows = stack.query(
            "SELECT dag_id, task_id, key, octet_length(value::text), value FROM xcom WHERE dag_id = ANY(%s)", list(DAGS)
        )
        large = [row[:4] for row in rows if row[3] > 4000]
        assert large == []
        frames = {(row[0], row[1]) for row in rows if "__dataframe__" in json.dumps(row[4])}
        assert {
            ("feature_eng", "extract_data"),
            ("feature_eng", "build_features"),
            ("train", "fetch_feature_df"),
            ("predict", "fetch_feature_df_no_target"),
            ("predict", "fetch_target"),
            ("predict", "run_prediction"),
            ("predict", "join_predictions"),
        } <= frames
        folders = {tuple(key.split("/")[::2][:2]) for key in stack.keys(settings.xcom_bucket)}
        assert frames <= folders

    def test_each_asset_event_carries_address_and_digest(self, stack, by_hand):
        rows = stack.query(
            "SELECT source_dag_id, extra FROM asset_event WHERE source_dag_id IN ('feature_eng', 'train')"
        )
        assert {row[0] for row in rows} == {"feature_eng", "train"}
        for _, extra in rows:
            assert extra["features_uri"].startswith("s3://data/features/")
            assert len(extra["features_sha256"]) == 64
