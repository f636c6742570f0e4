"""The promotion gate and the model card on a real MLflow: each outcome, with what it leaves at the version."""

import logging
import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from botocore.exceptions import BotoCoreError
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from include.errors import InputError
from include.mlflow_tracking import connect_mlflow
from include.object_store import write_object
from include.possum import champion, tracking
from include.possum.schema import read_animals
from include.promotion import Decision
from include.settings import INCLUDE, PossumSettings, Settings, settings
from include.task_errors import hopeless
from tests.support.local_stack import RunningStack, free_ports

TARGET = settings.possum.target_column


class Registry:
    """A registered model of its own for one test, and versions of chosen quality."""

    def __init__(self, stack: RunningStack, name: str) -> None:
        self.stack, self.name = stack, name
        self.client = stack.mlflow
        self.client.create_registered_model(name)
        experiment = self.client.create_experiment(f"gate-{name}", artifact_location="s3://gate-tests/")
        mlflow.set_experiment(experiment_id=experiment)
        self.animals, _ = tracking.keep_complete(
            read_animals(INCLUDE / settings.possum.file_path, settings.possum.file_path)
        )
        uri = f"s3://gate-tests/{name}/animals.csv"
        sha256 = write_object(uri, self.animals.to_csv(index=False).encode())
        self.reference = {"animals_uri": uri, "animals_sha256": sha256}

    def add_version(self, noise: float, columns: list[str] | None = None) -> str:
        """Register a linear model of the training animals whose lengths were blurred by so many cm."""
        training = self.animals[~tracking.holdout_rows(self.animals)]
        inputs = training[columns or tracking.input_columns()]
        numeric = [column for column in inputs if column in settings.possum.numeric_columns]
        lengths = training[TARGET] + np.random.default_rng(3).normal(0, noise, len(training))
        model: BaseEstimator = Pipeline(
            [
                ("take", ColumnTransformer([("numeric", "passthrough", numeric)])),
                ("line", LinearRegression()),
            ]
        ).fit(inputs, lengths)
        with mlflow.start_run() as run:
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(inputs, model.predict(inputs)),
                pip_requirements=tracking.pinned(*tracking.MODEL_PACKAGES),
            )
        source = self.client.get_logged_model(info.model_id).artifact_location
        return self.client.create_model_version(self.name, source, run.info.run_id).version

    def champion(self) -> str | None:
        found = champion.find_champion(self.client)
        return found.version if found else None

    def tags(self, version: str) -> dict[str, Any]:
        return self.client.get_model_version(self.name, version).tags


@pytest.fixture
def registry(stack_connections: RunningStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    before = dict(os.environ)
    connect_mlflow()
    existing = {bucket["Name"] for bucket in stack_connections.s3.list_buckets()["Buckets"]}
    if "gate-tests" not in existing:
        stack_connections.s3.create_bucket(Bucket="gate-tests")
    name = f"gate-{uuid.uuid4().hex[:8]}"
    monkeypatch.setattr(champion, "settings", Settings(possum=PossumSettings(registered_model_name=name)))
    yield Registry(stack_connections, name)
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def judged(registry: Registry, caplog: pytest.LogCaptureFixture) -> Callable[..., Decision]:
    """Judge a version; the log must say what was decided of it, and why."""

    def judge(version: str, reference: dict[str, Any] | None = None) -> Decision:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            decision = champion.judge(reference or registry.reference, version)
        verdict = "promoted" if decision.promoted else "rejected"
        assert decision.reason.startswith(f"{verdict}: ")
        assert f"Version {version} of {registry.name} is {decision.reason}" in caplog.messages
        tags = registry.tags(version)
        assert (tags["gate.decision"], tags["gate.outcome"]) == (verdict, decision.outcome)
        assert tags["gate.reason"] == decision.reason
        assert {key: float(tags[f"gate.{key}"]) for key in decision.figures} == pytest.approx(
            decision.figures, rel=1e-5
        )
        return decision

    return judge


def test_the_first_model_becomes_champion_and_its_tags_say_why(registry: Registry, judged):
    version = registry.add_version(noise=0)

    decision = judged(version)

    assert decision.outcome == "first_model"
    assert decision.reason == "promoted: beats the trivial answer, and there is no champion"
    assert registry.champion() == version
    assert registry.tags(version)["gate.champion_before"] == "none"
    assert decision.figures["newcomer_loss"] < decision.figures["baseline_loss"]
    assert decision.figures["holdout_rows"] == tracking.holdout_rows(registry.animals).sum() == 21


def test_a_better_model_takes_the_champions_place(registry: Registry, judged):
    judged(registry.add_version(noise=3))
    better = registry.add_version(noise=0)

    decision = judged(better)

    assert decision.outcome == "better"
    assert decision.reason.startswith("promoted: better (mean holdout loss ")
    assert decision.figures["loss_difference"] < 0
    assert registry.champion() == better
    assert registry.tags(better)["gate.champion_before"] == "1"


def test_a_model_within_the_margin_takes_the_champions_place(registry: Registry, judged):
    judged(registry.add_version(noise=0))
    newcomer = registry.add_version(noise=2)

    decision = judged(newcomer)

    assert decision.outcome == "not_worse"
    assert decision.reason.startswith("promoted: within the margin of ")
    assert 0 < decision.figures["loss_difference"] < decision.figures["loss_margin"]
    assert registry.champion() == newcomer


def test_a_model_that_beats_the_trivial_answer_but_not_the_champion_is_rejected(registry: Registry, judged):
    good = registry.add_version(noise=0)
    judged(good)
    worse = registry.add_version(noise=6)

    decision = judged(worse)

    assert decision.outcome == "worse"
    assert decision.reason.startswith("rejected: worse by more than the margin of ")
    assert decision.figures["newcomer_loss"] < decision.figures["baseline_loss"]
    assert decision.figures["loss_difference"] > decision.figures["loss_margin"] > 0
    assert registry.champion() == good


def test_a_model_worse_than_the_trivial_answer_is_rejected(registry: Registry, judged):
    good = registry.add_version(noise=0)
    judged(good)
    bad = registry.add_version(noise=40)

    decision = judged(bad)

    assert decision.outcome == "worse_than_baseline"
    assert "the trivial answer's" in decision.reason
    assert registry.champion() == good


def test_a_first_model_worse_than_the_trivial_answer_leaves_no_champion(registry: Registry, judged):
    assert judged(registry.add_version(noise=40)).outcome == "worse_than_baseline"
    assert registry.champion() is None


def test_an_equal_model_takes_the_champions_place(registry: Registry, judged):
    judged(registry.add_version(noise=0))
    twin = registry.add_version(noise=0)

    decision = judged(twin)

    assert decision.outcome == "equal"
    assert decision.reason.startswith("promoted: on the holdout it is the champion's equal")
    assert registry.champion() == twin


def test_the_champion_itself_judged_again_stays_and_keeps_its_tags(
    registry: Registry, judged, caplog: pytest.LogCaptureFixture
):
    version = registry.add_version(noise=0)
    judged(version)
    before = registry.tags(version)

    with caplog.at_level(logging.INFO):
        assert champion.judge(registry.reference, version).outcome == "champion_already"

    assert f"Version {version} of {registry.name} is the champion already" in caplog.messages
    assert registry.champion() == version
    assert registry.tags(version) == before


def remove_all(registry: Registry, keys: list[str]) -> None:
    for key in keys:
        registry.stack.s3.delete_object(Bucket="gate-tests", Key=key)


def remove_model_file(registry: Registry, keys: list[str]) -> None:
    (key,) = (key for key in keys if key.endswith("/model.skops"))
    registry.stack.s3.delete_object(Bucket="gate-tests", Key=key)


def cut_off_model_file(registry: Registry, keys: list[str]) -> None:
    (key,) = (key for key in keys if key.endswith("/model.skops"))
    half = registry.stack.object(f"s3://gate-tests/{key}")[:1000]
    registry.stack.s3.put_object(Bucket="gate-tests", Key=key, Body=half)


def garble_description(registry: Registry, keys: list[str]) -> None:
    (key,) = (key for key in keys if key.endswith("/MLmodel"))
    registry.stack.s3.put_object(Bucket="gate-tests", Key=key, Body=b"]")


@pytest.mark.parametrize("damage", [remove_all, remove_model_file, cut_off_model_file, garble_description])
def test_a_champion_whose_files_are_gone_or_damaged_gives_way_with_a_warning(
    registry: Registry, judged, caplog: pytest.LogCaptureFixture, damage
):
    old = registry.add_version(noise=0)
    judged(old)
    prefix = registry.client.get_model_version(registry.name, old).source.removeprefix("s3://gate-tests/")
    damage(registry, list(registry.stack.keys("gate-tests", prefix)))
    newcomer = registry.add_version(noise=1)

    decision = judged(newcomer)

    assert decision.outcome == "champion_unusable"
    assert decision.reason.endswith(f"the champion (version {old}) cannot be loaded")
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(words.startswith(f"The champion, version {old}, cannot be loaded: ") for words in warnings)
    assert registry.champion() == newcomer


def test_a_champion_whose_store_is_away_is_no_broken_one(registry: Registry, judged, monkeypatch: pytest.MonkeyPatch):
    old = registry.add_version(noise=0)
    judged(old)
    newcomer = registry.add_version(noise=0)
    before = registry.tags(newcomer)
    score_champion = champion.score_champion
    (closed,) = free_ports(1)

    def score_with_the_store_away(*arguments: Any) -> Any:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{closed}")
        return score_champion(*arguments)

    monkeypatch.setattr(champion, "score_champion", score_with_the_store_away)
    with pytest.raises(BotoCoreError, match=f"127.0.0.1:{closed}") as caught:
        champion.judge(registry.reference, newcomer)

    assert hopeless(caught.value) is None  # so the task is tried again
    assert registry.champion() == old
    assert registry.tags(newcomer) == before


def test_a_champion_of_another_signature_gives_way(registry: Registry, judged):
    old = registry.add_version(noise=0, columns=["belly", "chest", "totlngth"])
    judged(old)
    newcomer = registry.add_version(noise=0)

    decision = judged(newcomer)

    assert decision.outcome == "champion_unusable"
    assert decision.reason.endswith(f"the champion (version {old}) has another signature")
    assert registry.champion() == newcomer


def test_a_champion_that_is_not_of_this_project_is_refused_at_once(registry: Registry):
    foreign, newcomer = registry.add_version(noise=3), registry.add_version(noise=0)
    registry.client.set_registered_model_alias(registry.name, champion.CHAMPION, foreign)

    for refused in (lambda: champion.judge(registry.reference, newcomer), champion.describe_champion):
        with pytest.raises(
            InputError, match=f"Version {foreign} of {registry.name}, .* was not made by this DAG"
        ) as error:
            refused()
        assert hopeless(error.value)  # so the task is not tried again

    assert registry.champion() == foreign
    assert not [tag for tag in registry.tags(newcomer) if tag.startswith("gate.")]


def test_a_holdout_that_is_too_small_keeps_the_champion(registry: Registry, judged):
    good = registry.add_version(noise=0)
    judged(good)
    held_out = tracking.holdout_rows(registry.animals)
    few = pd.concat([registry.animals[~held_out], registry.animals[held_out].head(3)])
    uri = f"s3://gate-tests/{registry.name}/few.csv"
    reference = {"animals_uri": uri, "animals_sha256": write_object(uri, few.to_csv(index=False).encode())}
    newcomer = registry.add_version(noise=0)

    decision = judged(newcomer, reference)

    assert decision.outcome == "holdout_too_small"
    assert decision.reason.startswith("rejected: 3 holdout rows cannot tell models apart")
    assert registry.champion() == good


def test_without_a_champion_there_is_nothing_to_predict_with(registry: Registry):
    assert champion.describe_champion() == {}
