"""`predict` by hand with animals of the user's own: scored with the champion, beside its own pictures, and checked for drift."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from include.datasets import DRIFT_DETECTED
from include.holdout import in_holdout
from include.object_store import sha256_hex
from include.possum.features import HOLDOUT_SALT, HOLDOUT_SHARE
from include.run_key import run_key
from include.settings import INCLUDE, settings
from tests.support.local_stack import RunningStack
from tests.support.possum_runs import (
    PLOT,
    asset_events,
    champion_version,
    mlflow_runs,
    read_csv,
    what_bad_input_must_not_change,
)

COLUMNS = ["case", "true_taill", "predicted_taill", "used_for_training"]
SOURCE = f"s3://{settings.data_bucket_name}/incoming/others.csv"


KNOWN = 40  # of the animals are those that the champion knows, or has held out


def other_animals() -> pd.DataFrame:
    """40 animals as they are known; then others, fatter ones, half of them under case numbers of known ones; no tail lengths."""
    animals = read_csv((INCLUDE / settings.possum.file_path).read_bytes()).dropna(ignore_index=True)
    others = animals.index >= KNOWN
    new = animals["case"].where(animals.index < 70, animals["case"] + 1000)
    return animals.assign(case=new, belly=animals["belly"] + 8 * others).drop(columns="taill")


def bad_file(name: str) -> bytes:
    animals = other_animals()
    if name == "missing-column":
        animals = animals.drop(columns="belly")
    else:
        animals.loc[9, "skullw"] = 5.7  # line 11 of the file, in centimetres
    return animals.to_csv(index=False).encode()


# words that the message must have
BAD_FILES = {
    "missing-column": ["line 1", "lacks 'belly'"],
    "out-of-range": ["'skullw'", "outside 30 to 100 mm", "line 11", "'5.7'"],
}


def champions_pictures(stack: RunningStack) -> dict[str, str]:
    """Digests of the picture of the champion's own animals, where a user looks for it."""
    champion = stack.mlflow.get_model_version(settings.possum.registered_model_name, champion_version(stack))
    artifact = (
        f"s3://{settings.mlflow_artifact_bucket}/{champion.run_id}/artifacts/plots/{settings.possum.plot_file_name}"
    )
    return {"include": sha256_hex(PLOT.read_bytes()), "artifact": sha256_hex(stack.object(artifact))}


@dataclass(frozen=True)
class Scored:
    """What a run of predict has left; all of it must be the same after it has run again."""

    model: dict[str, Any]
    predictions: dict[str, Any]
    plot: dict[str, Any]
    objects: dict[str, str]
    artifacts: dict[str, str]
    drift_checks: list[str]


def left_by(stack: RunningStack, run: str) -> Scored:
    key, airflow = run_key(run), stack.airflow
    model = airflow.xcom("predict", run, "fetch_model_run_id", "model")
    folders = [f"{folder}/{key}/" for folder in ("predictions", "plots", "features", "animals")]
    return Scored(
        model=model,
        predictions=airflow.xcom("predict", run, "save_predictions"),
        plot=airflow.xcom("predict", run, "plot_predictions"),
        objects={
            key: etag for folder in folders for key, etag in stack.keys(settings.data_bucket_name, folder).items()
        },
        artifacts=stack.keys(settings.mlflow_artifact_bucket, f"{model['run_id']}/artifacts/"),
        drift_checks=[check.info.run_id for check in mlflow_runs(stack, f"predict/{run}/check_drift")],
    )


@dataclass(frozen=True)
class OtherAnimals:
    """The runs, and what there was before and after them."""

    bad_runs: dict[str, str]
    before_bad_runs: dict[str, Any]
    after_bad_runs: dict[str, Any]
    champion_before: str
    champion_after: str
    pictures_before: dict[str, str]
    pictures_after: dict[str, str]
    run: str
    scored: Scored
    scored_again: Scored  # after the run was cleared


@pytest.fixture(scope="module")
def others(possum_stack: RunningStack, by_hand: str) -> OtherAnimals:
    stack, airflow = possum_stack, possum_stack.airflow
    champion = champion_version(stack)
    pictures = champions_pictures(stack)

    before = what_bad_input_must_not_change(stack)
    bad_runs = {}
    for name in BAD_FILES:
        stack.s3.put_object(Bucket=settings.data_bucket_name, Key=f"incoming/others-{name}.csv", Body=bad_file(name))
        source = f"s3://{settings.data_bucket_name}/incoming/others-{name}.csv"
        bad_runs[name] = airflow.trigger_with("predict", source=source)
    ended = {name: airflow.wait("predict", run)["state"] for name, run in bad_runs.items()}
    assert set(ended.values()) == {"failed"}, ended
    after = what_bad_input_must_not_change(stack)

    content = other_animals().to_csv(index=False).encode()
    stack.s3.put_object(Bucket=settings.data_bucket_name, Key="incoming/others.csv", Body=content)
    run = airflow.trigger_with("predict", source=SOURCE)
    airflow.wait_for_success("predict", run)
    scored = left_by(stack, run)
    airflow.clear("predict", run)
    airflow.wait_for_success("predict", run)
    return OtherAnimals(
        bad_runs=bad_runs,
        before_bad_runs=before,
        after_bad_runs=after,
        champion_before=champion,
        champion_after=champion_version(stack),
        pictures_before=pictures,
        pictures_after=champions_pictures(stack),
        run=run,
        scored=scored,
        scored_again=left_by(stack, run),
    )


class TestScoring:
    def test_champion_scores_and_its_alias_does_not_move(self, others):
        assert others.champion_before == others.scored.model["version"] == others.champion_after

    def test_csv_has_all_rows_and_no_true_lengths(self, stack, others):
        uri = others.scored.predictions["uri"]
        assert uri == f"s3://data/predictions/{run_key(others.run)}/possum_predictions.csv"
        table = read_csv(stack.object(uri))
        assert list(table.columns) == [*COLUMNS, "better_than_baseline"]
        assert table["case"].tolist() == other_animals()["case"].tolist()
        assert others.scored.predictions["rows"] == len(table) == 101
        assert table["true_taill"].isna().all()
        assert table["better_than_baseline"].isna().all()  # without tail lengths nobody knows
        assert table["predicted_taill"].between(25, 60).all()
        assert table["predicted_taill"].nunique() > 90

    def test_csv_tells_of_each_animal_whether_the_champion_was_trained_on_it(self, stack, others):
        table = read_csv(stack.object(others.scored.predictions["uri"]))
        held_out = in_holdout(table["case"], share=HOLDOUT_SHARE, salt=HOLDOUT_SALT)
        assert table["used_for_training"].tolist() == [*~held_out[:KNOWN], *[False] * (len(table) - KNOWN)]
        assert table["used_for_training"].sum() > 20
        assert not table.set_index("case").loc[[1, 3, 10], "used_for_training"].any()  # held out
        # of the others, hash and number alone would take many for training rows
        trained_on = read_csv(stack.object(others.scored.model["trained_on_uri"]))
        assert table.loc[KNOWN:, "case"].isin(trained_on["case"]).sum() > 20
        assert (~held_out[KNOWN:]).sum() > 30

    def test_picture_lies_in_folders_of_the_run(self, stack, others):
        key, plot = run_key(others.run), others.scored.plot
        assert plot["uri"] == f"s3://data/plots/{key}/possum_tails.png"
        assert plot["artifact"] == f"plots/{key}/possum_tails.png"
        data = stack.object(plot["uri"])
        assert sha256_hex(data) == plot["sha256"]
        artifact = (
            f"s3://{settings.mlflow_artifact_bucket}/{others.scored.model['run_id']}/artifacts/{plot['artifact']}"
        )
        assert stack.object(artifact) == data
        assert Image.open(io.BytesIO(data)).format == "PNG"

    def test_pictures_of_the_champions_own_animals_stay_as_they_are(self, others):
        assert others.pictures_after == others.pictures_before
        assert others.scored.plot["sha256"] not in others.pictures_before.values()


class TestDrift:
    @pytest.fixture(scope="class")
    def check(self, stack, others):
        (check,) = mlflow_runs(stack, f"predict/{others.run}/check_drift")
        return check

    def test_run_in_mlflow_says_what_was_found(self, check, others):
        assert (check.info.run_name, check.info.status) == ("Drift check", "FINISHED")
        assert check.info.experiment_id == others.scored.model["experiment_id"]
        model = {"model_version": others.scored.model["version"], "model_run_id": others.scored.model["run_id"]}
        assert check.data.tags.items() >= ({"drift": "detected"} | model).items()
        assert "differs from the training rows" in check.data.tags["mlflow.note.content"]
        assert "the least likely column is belly" in check.data.tags["mlflow.note.content"]

    def test_figures_are_those_of_the_animals_against_the_training_animals(self, stack, others, check):
        known = read_csv((INCLUDE / settings.possum.file_path).read_bytes())
        trained_on = read_csv(stack.object(others.scored.model["trained_on_uri"]))
        training = known[known["case"].isin(trained_on["case"])]
        found = check.data.metrics
        for column in settings.possum.numeric_columns:
            expected = stats.ks_2samp(training[column], other_animals()[column]).pvalue
            assert found[f"drift_p_{column}"] == pytest.approx(expected, rel=1e-9)
        columns = [*settings.possum.categorical_columns, *settings.possum.numeric_columns]
        assert found["drift_p_value"] == pytest.approx(min(found[f"drift_p_{c}"] for c in columns) * len(columns))
        assert found["drift_p_value"] < settings.pipelines.drift_significance
        assert found["drift_detected"] == 1

    def test_report_is_an_artifact(self, stack, others, check):
        uri = f"s3://{settings.mlflow_artifact_bucket}/{check.info.run_id}/artifacts/drift/report.html"
        page = stack.object(uri).decode()
        version = others.scored.model["version"]
        assert f"Drift of 101 animals against {settings.possum.registered_model_name} version {version}" in page
        assert "differs from the training rows" in page
        assert "data:image/png;base64," in page

    def test_asset_event_names_model_and_run(self, stack, others):
        model = others.scored.model
        expected = {"model": model["name"], "version": model["version"], "dag_run": others.run}
        events = asset_events(stack, DRIFT_DETECTED.name, others.run)
        assert events == [expected] * 2  # of the run, and of the run again

    def test_the_champions_own_animals_are_no_drift(self, stack, first):
        (check,) = mlflow_runs(stack, f"predict/{first.predict}/check_drift")
        assert check.data.tags["drift"] == "none"
        assert check.data.metrics["drift_detected"] == 0
        assert stack.airflow.task("predict", first.predict, "report_drift")["state"] == "skipped"
        assert asset_events(stack, DRIFT_DETECTED.name, first.predict) == []


class TestClearedRun:
    def test_leaves_the_same_objects_and_artifacts_and_one_check(self, others):
        assert others.scored_again == others.scored
        assert len(others.scored.objects) == 2
        assert len(others.scored.drift_checks) == 1

    def test_says_that_the_check_is_there_already(self, stack, others):
        log = stack.airflow.task_log("predict", others.run, "check_drift")
        assert "An earlier attempt of this task has recorded the check" in log
        assert "The batch differs from the training rows" in log


@pytest.mark.parametrize("name", BAD_FILES)
class TestBadFile:
    def test_fails_at_once_and_names_file_and_column(self, stack, others, name):
        tasks = {task["task_id"]: task for task in stack.airflow.tasks("predict", others.bad_runs[name])}
        for task_id in ("fetch_feature_df_no_target", "fetch_target"):
            assert (tasks[task_id]["state"], tasks[task_id]["try_number"]) == ("failed", 1)
            log = stack.airflow.log(tasks[task_id])
            message = log[log.index("AirflowFailException") :]
            for word in (f"s3://{settings.data_bucket_name}/incoming/others-{name}.csv", *BAD_FILES[name]):
                assert word in message
        later = ("run_prediction", "check_drift", "join_predictions", "plot_predictions", "save_predictions")
        assert {tasks[task_id]["state"] for task_id in later} == {"upstream_failed"}

    def test_leaves_nothing(self, stack, others, name):
        assert others.after_bad_runs == others.before_bad_runs
        assert mlflow_runs(stack, f"predict/{others.bad_runs[name]}/check_drift") == []


def test_shifted_measurements_are_within_the_limits_of_the_schema():
    """So it is the drift check that finds them, and not the check of the file."""
    assert np.all(other_animals()["belly"] <= 60)
