"""After the first rounds: runs that are cleared, a model that is not good enough, an event that somebody has made by hand."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from include.datasets import MODEL_TRAINED, POSSUM_FEATURES
from include.object_store import sha256_hex
from include.run_key import run_key
from include.settings import settings
from tests.support.local_stack import RunningStack, await_that
from tests.support.possum_runs import (
    Round,
    asset_events,
    champion_version,
    follow,
    mlflow_runs,
    model_versions,
    read_csv,
    versions_of_run,
)

pytestmark = pytest.mark.faults


def mlflow_runs_named(stack: RunningStack, name: str) -> set[str]:
    experiment = stack.mlflow.get_experiment_by_name(settings.possum.experiment_name)
    assert experiment
    found = stack.mlflow.search_runs([experiment.experiment_id], f"attributes.run_name = '{name}'")
    return {run.info.run_id for run in found}


@dataclass(frozen=True)
class State:
    """What a run of feature_eng that is repeated must not add to."""

    objects: dict[str, str]
    scaler_runs: set[str]
    training_runs: set[str]
    versions: set[int]


def state(stack: RunningStack, feature_eng: str) -> State:
    key = run_key(feature_eng)
    return State(
        objects={
            name: etag
            for folder in ("features", "animals")
            for name, etag in stack.keys(settings.data_bucket_name, f"{folder}/{key}").items()
        },
        scaler_runs=mlflow_runs_named(stack, "Scaler"),
        training_runs=mlflow_runs_named(stack, "RidgeCV"),
        versions=set(model_versions(stack)),
    )


@dataclass(frozen=True)
class FeaturesAgain:
    """The first round's run of feature_eng, cleared and run again, and the runs that followed."""

    before: State
    after: State
    round: Round


@dataclass(frozen=True)
class TrainAgain:
    """The first round's train run, cleared and run again, and the predict run that followed."""

    trained: dict[str, Any]
    predict: str
    versions: dict[int, str]


@pytest.fixture(scope="module")
def newer(possum_stack: RunningStack, first: Round, fewer_animals: str) -> Round:
    """A round on other animals."""
    run = possum_stack.airflow.trigger_with("feature_eng", source=fewer_animals)
    return follow(possum_stack, run, datetime.now(UTC))


@pytest.fixture(scope="module")
def cleared(possum_stack: RunningStack, first: Round, newer: Round) -> tuple[FeaturesAgain, TrainAgain]:
    """The first round's runs of feature_eng and of train are cleared at the same time, after a newer round."""
    airflow, run = possum_stack.airflow, first.feature_eng
    before = state(possum_stack, run)
    airflow.clear("feature_eng", run)
    airflow.clear("train", first.train)
    round_again = follow(possum_stack, run, datetime.now(UTC), known=(first.train,))
    airflow.wait_for_success("train", first.train)
    predict = airflow.wait_for_triggered("predict", first.train, known=(first.predict,))
    airflow.wait_for_success("predict", predict)
    trained = airflow.xcom("train", first.train, "train_model")
    return (
        FeaturesAgain(before, state(possum_stack, run), round_again),
        TrainAgain(trained, predict, model_versions(possum_stack)),
    )


@pytest.fixture(scope="module")
def features_again(cleared: tuple[FeaturesAgain, TrainAgain]) -> FeaturesAgain:
    return cleared[0]


@pytest.fixture(scope="module")
def train_again(cleared: tuple[FeaturesAgain, TrainAgain]) -> TrainAgain:
    return cleared[1]


class TestTrainAgain:
    def test_finds_its_mlflow_run_and_makes_no_version(self, stack, first, features_again, train_again):
        assert train_again.trained == first.trained
        assert len(mlflow_runs(stack, f"train/{first.train}/train_model")) == 1
        assert set(train_again.versions) == features_again.before.versions

    def test_predict_that_follows_uses_that_runs_animals(self, stack, first, newer, train_again):
        model = stack.airflow.xcom("predict", train_again.predict, "fetch_model_run_id", "model")
        assert first.features.items() <= model.items()
        assert model["animals_sha256"] != newer.model["animals_sha256"]

    def test_one_version_is_in_staging(self, train_again):
        assert list(train_again.versions.values()).count("Staging") == 1


class TestFeatureEngAgain:
    def test_leaves_the_same_objects_mlflow_runs_and_versions(self, features_again):
        assert len(features_again.before.objects) == 2
        assert features_again.after == features_again.before

    def test_objects_are_still_what_the_events_say(self, stack, first, features_again):
        assert features_again.round.features == first.features
        for name in ("features", "animals"):
            assert sha256_hex(stack.object(first.features[f"{name}_uri"])) == first.features[f"{name}_sha256"]

    def test_its_second_event_says_the_same(self, stack, first, features_again):
        assert asset_events(stack, POSSUM_FEATURES.name, first.feature_eng) == [first.features] * 2

    def test_says_which_transformer_it_uses(self, stack, first, features_again):
        log = stack.airflow.task_log("feature_eng", first.feature_eng, "build_features")
        assert f"using the transformer of MLflow run {first.features['scaler_run_id']}" in log

    def test_training_that_follows_finds_the_model(self, first, features_again):
        assert features_again.round.trained == first.trained


@dataclass(frozen=True)
class Rejected:
    """A run of train by hand, with a penalty under which hardly anything is learned, and the run of predict that followed."""

    champion_before: str
    run: str
    trained: dict[str, Any]
    predict: str

    @property
    def task(self) -> tuple[str, str, str]:
        return "train", self.run, "promote_model.compare_with_champion"


@pytest.fixture(scope="module")
def rejected(possum_stack: RunningStack, features_again: FeaturesAgain) -> Rejected:
    airflow = possum_stack.airflow
    champion = champion_version(possum_stack)
    run = airflow.trigger_with("train", hyper_parameters={"alphas": [1e6]})
    airflow.wait_for_success("train", run)
    predict = airflow.wait_for_triggered("predict", run)
    airflow.wait_for_success("predict", predict)
    return Rejected(champion, run, airflow.xcom("train", run, "train_model"), predict)


@pytest.fixture(scope="module")
def version(stack, rejected):
    """The version that was not good enough."""
    (number,) = versions_of_run(stack, rejected.trained["run_id"])
    return stack.mlflow.get_model_version(settings.possum.registered_model_name, str(number))


class TestRejectedModel:
    def test_hyper_parameters_arrive_in_mlflow(self, stack, first, rejected):
        assert rejected.trained["run_id"] != first.trained["run_id"]
        run = stack.mlflow.get_run(rejected.trained["run_id"])
        assert json.loads(run.data.params["alphas"]) == [1e6]
        assert run.data.metrics["best_alpha"] == 1e6

    def test_run_ends_at_champion_stays(self, stack, rejected):
        states = {task["task_id"]: task["state"] for task in stack.airflow.tasks("train", rejected.run)}
        assert states["promote_model.champion_stays"] == "success"
        assert states["promote_model.new_champion"] == "skipped"
        assert states["end"] == "success"

    def test_tags_of_the_version_say_what_was_decided_and_on_which_figures(self, version, rejected):
        tags, metrics = version.tags, rejected.trained["metrics"]
        assert (tags["gate.decision"], tags["gate.outcome"]) == ("rejected", "worse")
        assert tags["gate.reason"].startswith("rejected: worse by more than the margin of ")
        assert tags["gate.champion_before"] == rejected.champion_before
        figures = {name: float(tags[f"gate.{name}"]) for name in ("newcomer_loss", "baseline_loss", "champion_loss")}
        assert figures["newcomer_loss"] == pytest.approx(metrics["holdout_rmse_cm"] ** 2, rel=1e-5)
        assert figures["baseline_loss"] == pytest.approx(metrics["holdout_baseline_rmse_cm"] ** 2, rel=1e-5)
        assert figures["champion_loss"] < figures["newcomer_loss"] < figures["baseline_loss"]
        assert float(tags["gate.loss_difference"]) > float(tags["gate.loss_margin"]) > 0
        assert tags["gate.holdout_rows"] == "21"

    def test_log_and_model_card_say_so(self, stack, version, rejected):
        reason = version.tags["gate.reason"]
        log = stack.airflow.task_log(*rejected.task)
        assert f"Version {version.version} of {settings.possum.registered_model_name} is {reason}" in log
        card = stack.object(f"s3://{settings.mlflow_artifact_bucket}/{version.run_id}/artifacts/model_card.md").decode()
        assert card.startswith(f"# {settings.possum.registered_model_name}, version {version.version}\n")
        assert f"| Gate | {reason} |" in card
        assert "alpha = 1e+06" in card

    def test_champion_stays_and_staging_is_the_newest(self, stack, version, rejected):
        assert champion_version(stack) == rejected.champion_before != version.version
        assert version.aliases == []
        assert version.current_stage == "Staging"

    def test_predict_that_follows_uses_the_champion(self, stack, first, version, rejected, features_again):
        model = stack.airflow.xcom("predict", rejected.predict, "fetch_model_run_id", "model")
        assert model["version"] == rejected.champion_before
        assert model["run_id"] != version.run_id
        assert first.features.items() <= model.items()
        # the same animals by the same model, before the training and after it
        after = stack.airflow.xcom("predict", rejected.predict, "save_predictions")
        assert features_again.round.predictions["sha256"] == after["sha256"]
        assert (
            read_csv(stack.object(after["uri"]))["predicted_taill"].std() > 1
        )  # the stiff model says much the same of all


@dataclass(frozen=True)
class EventByHand:
    """An event without a reference, the run that it triggered, and a run by hand after it."""

    event: dict[str, Any]
    triggered: str
    by_hand: str


@pytest.fixture(scope="module")
def event_by_hand(possum_stack: RunningStack, rejected: Rejected) -> EventByHand:
    airflow = possum_stack.airflow
    (asset,) = airflow.get("/assets", name_pattern=MODEL_TRAINED.name)["assets"]
    event = airflow.post("/assets/events", asset_id=asset["id"], extra={})

    def triggered_by_it() -> str | None:
        for run in airflow.get("/dags/predict/dagRuns", order_by="-run_after", limit=5)["dag_runs"]:
            run_id = run["dag_run_id"]
            if run["run_type"] == "asset_triggered" and event["id"] in (
                each["id"] for each in airflow.events_of("predict", run_id)
            ):
                return run_id
        return None

    triggered = await_that(triggered_by_it, seconds=60, every=0.5)
    assert airflow.wait("predict", triggered)["state"] == "failed"
    run = airflow.trigger("predict")
    airflow.wait_for_success("predict", run)
    return EventByHand(event, triggered, run)


class TestEventByHand:
    def test_run_that_it_triggers_fails_at_once_and_says_what_to_do(self, stack, event_by_hand):
        task = stack.airflow.task("predict", event_by_hand.triggered, "fetch_model_run_id")
        assert (task["state"], task["try_number"]) == ("failed", 1)
        log = stack.airflow.log(task)
        message = log[log.index("AirflowFailException") :]
        assert "lacks animals_sha256, animals_uri, baseline_loss, better_than_baseline" in message
        assert "it was probably made by hand: run the DAG that updates the asset" in message

    def test_run_by_hand_passes_it_over_and_says_so(self, stack, rejected, event_by_hand):
        before, used = (
            stack.airflow.xcom("predict", run, "fetch_model_run_id", "model")
            for run in (rejected.predict, event_by_hand.by_hand)
        )
        assert used == before
        log = stack.airflow.task_log("predict", event_by_hand.by_hand, "fetch_model_run_id")
        assert f"newer ones, which say too little, are passed over: from run {rejected.run} of train" in log
