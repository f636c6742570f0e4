"""The promotion gate and the model card on a real MLflow: each outcome, with what it leaves at the version."""

import os
import uuid
from collections.abc import Iterator
from typing import Any

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from include.mlflow_tracking import connect_mlflow
from include.object_store import write_object
from include.possum import champion, tracking
from include.possum.schema import read_animals
from include.settings import INCLUDE, settings
from tests.support.local_stack import RunningStack

TARGET = settings.target_column


class Registry:
    """A registered model of its own for one test, and versions of chosen quality."""

    def __init__(self, stack: RunningStack, name: str) -> None:
        self.stack, self.name = stack, name
        self.client = stack.mlflow
        self.client.create_registered_model(name)
        experiment = self.client.create_experiment(f"gate-{name}", artifact_location="s3://gate-tests/")
        mlflow.set_experiment(experiment_id=experiment)
        self.animals, _ = tracking.keep_complete(read_animals(INCLUDE / settings.file_path, settings.file_path))
        uri = f"s3://gate-tests/{name}/animals.csv"
        sha256 = write_object(uri, self.animals.to_csv(index=False).encode())
        self.reference = {"animals_uri": uri, "animals_sha256": sha256}

    def add_version(self, noise: float, columns: list[str] | None = None) -> str:
        """Register a linear model of the training animals whose lengths were blurred by so many cm."""
        training = self.animals[~tracking.holdout_rows(self.animals)]
        inputs = training[columns or tracking.input_columns()]
        numeric = [column for column in inputs if column in settings.numeric_columns]
        lengths = training[TARGET] + np.random.default_rng(3).normal(0, noise, len(training))
        model: BaseEstimator = Pipeline(
            [
                ("take", ColumnTransformer([("numeric", "passthrough", numeric)], force_int_remainder_cols=False)),
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
    monkeypatch.setattr(champion, "settings", settings.model_copy(update={"registered_model_name": name}))
    yield Registry(stack_connections, name)
    os.environ.clear()
    os.environ.update(before)


def test_the_first_model_becomes_champion_and_its_tags_say_why(registry: Registry):
    version = registry.add_version(noise=0)

    decision = champion.judge(registry.reference, version)

    assert decision.outcome == "first_model"
    assert registry.champion() == version
    tags = registry.tags(version)
    assert (tags["gate.decision"], tags["gate.outcome"]) == ("promoted", "first_model")
    assert float(tags["gate.newcomer_loss"]) < float(tags["gate.baseline_loss"])
    assert int(tags["gate.holdout_rows"]) == int(tracking.holdout_rows(registry.animals).sum())


def test_a_better_model_takes_the_champions_place(registry: Registry):
    champion.judge(registry.reference, registry.add_version(noise=1.5))
    better = registry.add_version(noise=0)

    decision = champion.judge(registry.reference, better)

    assert decision.outcome in ("better", "not_worse")
    assert registry.champion() == better
    assert registry.tags(better)["gate.champion_before"] == "1"


def test_a_worse_model_is_tagged_as_rejected_and_the_champion_stays(registry: Registry):
    good = registry.add_version(noise=0)
    champion.judge(registry.reference, good)
    bad = registry.add_version(noise=40)

    decision = champion.judge(registry.reference, bad)

    assert decision.outcome in ("worse", "worse_than_baseline")
    assert registry.champion() == good
    assert registry.tags(bad)["gate.decision"] == "rejected"


def test_an_equal_model_takes_the_champions_place(registry: Registry):
    champion.judge(registry.reference, registry.add_version(noise=0))
    twin = registry.add_version(noise=0)

    assert champion.judge(registry.reference, twin).outcome == "equal"
    assert registry.champion() == twin


def test_the_champion_itself_judged_again_stays_and_keeps_its_tags(registry: Registry):
    version = registry.add_version(noise=0)
    champion.judge(registry.reference, version)
    before = registry.tags(version)

    assert champion.judge(registry.reference, version).outcome == "champion_already"
    assert registry.champion() == version
    assert registry.tags(version) == before


def test_a_champion_whose_files_are_gone_gives_way_with_a_warning(registry: Registry, caplog: pytest.LogCaptureFixture):
    gone = registry.add_version(noise=0)
    champion.judge(registry.reference, gone)
    prefix = registry.client.get_model_version(registry.name, gone).source.removeprefix("s3://gate-tests/")
    for key in registry.stack.keys("gate-tests", prefix):
        registry.stack.s3.delete_object(Bucket="gate-tests", Key=key)
    newcomer = registry.add_version(noise=1)

    decision = champion.judge(registry.reference, newcomer)

    assert decision.outcome == "champion_unusable"
    assert "cannot be loaded" in decision.reason
    assert f"version {gone}, cannot be loaded" in caplog.text
    assert registry.champion() == newcomer


def test_a_champion_of_another_signature_gives_way(registry: Registry):
    old = registry.add_version(noise=0, columns=["belly", "chest", "totlngth"])
    client = registry.client
    client.set_registered_model_alias(registry.name, champion.CHAMPION, old)
    newcomer = registry.add_version(noise=0)

    decision = champion.judge(registry.reference, newcomer)

    assert "another signature" in decision.reason
    assert registry.champion() == newcomer


def test_a_holdout_that_is_too_small_keeps_the_champion(registry: Registry):
    good = registry.add_version(noise=0)
    champion.judge(registry.reference, good)
    held_out = tracking.holdout_rows(registry.animals)
    few = pd.concat([registry.animals[~held_out], registry.animals[held_out].head(3)])
    uri = f"s3://gate-tests/{registry.name}/few.csv"
    reference = {"animals_uri": uri, "animals_sha256": write_object(uri, few.to_csv(index=False).encode())}
    newcomer = registry.add_version(noise=0)

    assert champion.judge(reference, newcomer).outcome == "holdout_too_small"
    assert registry.champion() == good


def test_without_a_champion_there_is_nothing_to_predict_with(registry: Registry):
    assert champion.describe_champion() == {}
