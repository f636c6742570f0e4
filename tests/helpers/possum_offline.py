"""The possum pipeline's steps without Airflow: MLflow's client on a database and a folder, objects on the file system."""

import itertools
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import mlflow.sklearn
import pandas as pd
import pytest

from include.object_store import write_object
from include.possum import baseline, champion, model_card, tracking
from include.settings import PossumSettings, Settings, settings


class OfflinePossums:
    """One experiment and one registered model of their own, and the steps that fill them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        self.client = mlflow.MlflowClient()
        self._runs = (f"run-{number}" for number in itertools.count())
        self.begin_afresh()

    def begin_afresh(self) -> None:
        """Another experiment, another registered model."""
        self.name = f"model-{uuid.uuid4().hex[:8]}"
        self.experiment = self.client.create_experiment(self.name, artifact_location=f"{self.folder}/{self.name}")
        own = Settings(possum=PossumSettings(registered_model_name=self.name))
        for module in (baseline, champion, model_card):
            self._patch.setattr(module, "settings", own)

    def feature_eng(self, animals: pd.DataFrame, run: str | None = None) -> dict[str, Any]:
        """What the DAG hands over; of another DAG run each time unless it is named."""
        run = run or next(self._runs)
        features, scaler = tracking.build_features(
            context("feature_eng", run, "build_features"), self.experiment, animals
        )
        reference = dict(scaler)
        for kind, rows in (("features", features), ("animals", animals)):
            uri = f"file://{self.folder}/{self.name}-{run}-{kind}.csv"
            sha256 = write_object(uri, rows.to_csv(index=False).encode())
            reference |= {f"{kind}_uri": uri, f"{kind}_sha256": sha256}
        return reference

    def train(self, reference: dict[str, Any], run: str | None = None, **hyper_parameters: Any) -> dict[str, Any]:
        """What train_model returns."""
        features = tracking.read_features(reference)
        try:
            return tracking.train_model(
                context("train", run or next(self._runs), "train_model"),
                self.experiment,
                features,
                reference,
                hyper_parameters,
            )
        finally:
            mlflow.sklearn.autolog(disable=True)  # a killed process would have ended here

    def register(self, trained: dict[str, Any]) -> str:
        """The run's version, made unless it is there."""
        if not self.client.search_registered_models(f"name = '{self.name}'"):
            self.client.create_registered_model(self.name)
        found = self.client.search_model_versions(f"name = '{self.name}' and run_id = '{trained['run_id']}'")
        if found:
            return str(found[-1].version)
        return str(self.client.create_model_version(self.name, trained["source"], trained["run_id"]).version)

    def judge(self, reference: dict[str, Any], version: str) -> Any:
        """As compare_with_champion does."""
        return champion.judge(reference, version, before_alias=model_card.write_model_card)

    def hand_over(self, reference: dict[str, Any]) -> dict[str, Any]:
        """As end of train does."""
        found = champion.describe_champion()
        return reference | found | baseline.compare_with_baseline(found, reference)

    def whole_round(self, animals: pd.DataFrame, **hyper_parameters: Any) -> dict[str, Any]:
        """feature_eng and train; what predict is told."""
        reference = self.feature_eng(animals)
        version = self.register(self.train(reference, **hyper_parameters))
        self.judge(reference, version)
        return self.hand_over(reference)

    def champion(self) -> str | None:
        found = champion.find_champion(self.client)
        return found.version if found else None

    def tags(self, version: str) -> dict[str, str]:
        return self.client.get_model_version(self.name, version).tags


def context(dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
    """Of a task."""
    return {
        "ti": SimpleNamespace(dag_id=dag_id, run_id=run_id, task_id=task_id),
        "params": {"source": settings.possum.file_path},
    }
