"""Somebody has changed what the DAGs rely on: files of finished runs, the animals themselves.

After the other tests of the rounds by its name, as it removes what those look at. What else may be changed is in
tests/unit/possum: test_possum_files_gone and test_possum_alias_by_hand.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest

from include.object_store import sha256_hex
from include.settings import INCLUDE, settings
from tests.support.local_stack import RunningStack
from tests.support.possum_runs import PLOT, Round, champion_version, follow, read_csv

pytestmark = pytest.mark.faults


def fails_at_once(stack: RunningStack, dag_id: str, run: str, task_id: str) -> str:
    """Wait for the run's failure at this task's first try, and give the reason."""
    assert stack.airflow.wait(dag_id, run)["state"] == "failed"
    task = stack.airflow.task(dag_id, run, task_id)
    assert (task["state"], task["try_number"]) == ("failed", 1)
    log = stack.airflow.log(task)
    return log[log.index("AirflowFailException") :]


@dataclass(frozen=True)
class Removed:
    """Two runs of predict without the files, and the round that followed."""

    reason: str
    after: Round


@pytest.fixture(scope="module")
def removed(possum_stack: RunningStack, first: Round) -> Removed:
    """The champion's files and the objects of all runs are removed, as by lifecycle rules."""
    stack, airflow = possum_stack, possum_stack.airflow
    for bucket, prefix in (
        (settings.mlflow_artifact_bucket, "models/"),
        (settings.data_bucket_name, "features/"),
        (settings.data_bucket_name, "animals/"),
    ):
        for key in stack.keys(bucket, prefix):
            stack.s3.delete_object(Bucket=bucket, Key=key)
    reason = fails_at_once(stack, "predict", airflow.trigger("predict"), "fetch_model_run_id")
    return Removed(reason, follow(stack, airflow.trigger("feature_eng"), datetime.now(UTC)))


class TestFilesRemoved:
    def test_predict_says_at_its_first_task_which_file_is_gone_and_what_helps(self, removed):
        assert f"s3://{settings.mlflow_artifact_bucket}/models/" in removed.reason
        assert "does not exist. Trigger feature_eng" in removed.reason

    def test_feature_eng_heals_it_with_the_same_results(self, stack, first, removed):
        for name in ("features_sha256", "animals_sha256"):
            assert removed.after.features[name] == first.features[name]
        assert removed.after.trained["run_id"] != first.trained["run_id"]
        assert removed.after.trained["metrics"] == first.trained["metrics"]
        assert removed.after.model["run_id"] == removed.after.trained["run_id"]
        assert removed.after.predictions["sha256"] == first.predictions["sha256"]
        assert sha256_hex(stack.object(removed.after.predictions["uri"])) == first.predictions["sha256"]

    def test_log_says_why_the_work_was_done_again(self, stack, first, removed):
        log = stack.airflow.task_log("train", removed.after.train, "train_model")
        assert f"MLflow run {first.trained['run_id']} did the same, but cannot be used any more: s3://" in log


@dataclass(frozen=True)
class AnotherPopulation:
    """Animals whose lengths have nothing to do with their measurements, and what was published before and after."""

    reason: str
    before: dict[str, Any]
    after: dict[str, Any]
    anyway: str


@pytest.fixture(scope="module")
def another(possum_stack: RunningStack, removed: Removed) -> AnotherPopulation:
    stack, airflow = possum_stack, possum_stack.airflow
    animals = pd.read_csv(INCLUDE / settings.possum.file_path)
    animals["taill"] = animals["taill"].sample(frac=1, random_state=1).to_numpy()
    content = animals.to_csv(index=False).encode()
    stack.s3.put_object(Bucket=settings.data_bucket_name, Key="incoming/another.csv", Body=content)

    def published() -> dict[str, Any]:
        return {
            "champion": champion_version(stack),
            "plot": sha256_hex(PLOT.read_bytes()),
            "objects": {**stack.keys("data", "predictions/"), **stack.keys("data", "plots/")},
            "artifacts": stack.keys(
                settings.mlflow_artifact_bucket, f"{removed.after.model['run_id']}/artifacts/plots/"
            ),
        }

    before = published()
    source = f"s3://{settings.data_bucket_name}/incoming/another.csv"
    run = airflow.trigger_with("feature_eng", source=source)
    airflow.wait_for_success("feature_eng", run)
    train = airflow.wait_for_triggered("train", run)
    airflow.wait_for_success("train", train)
    assert airflow.task("train", train, "promote_model.champion_stays")["state"] == "success"
    reason = fails_at_once(stack, "predict", airflow.wait_for_triggered("predict", train), "fetch_model_run_id")
    after = published()
    anyway = airflow.trigger_with("predict", score_anyway=True)
    airflow.wait_for_success("predict", anyway)
    return AnotherPopulation(reason, before, after, anyway)


class TestChampionOfAnotherPopulation:
    def test_predict_refuses_it_once_and_says_what_to_do(self, another):
        assert "whose length is known and which it was not trained on" in another.reason
        assert "it is no better than the baseline" in another.reason
        assert "score_anyway" in another.reason

    def test_what_was_published_stays(self, another):
        assert another.after == another.before

    def test_with_the_param_each_row_says_so(self, stack, another):
        told = stack.airflow.xcom("predict", another.anyway, "save_predictions")
        table = read_csv(stack.object(told["uri"]))
        assert len(table) == 101
        assert not table["better_than_baseline"].any()
