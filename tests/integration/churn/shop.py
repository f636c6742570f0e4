"""A shop of its own for each test: customers, and the models that are made of them below one folder of the object store."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from include.churn import champion as gate
from include.churn import model as churn_model
from include.churn import tracking
from include.churn.records import HandOver, StoredObject, TrainedModel
from include.churn.training_rows import dump_training_rows
from include.drift import reference_rows
from include.object_store import object_path, write_object
from include.promotion import Decision
from include.wandb_tracking.models import ModelReference
from include.wandb_tracking.target import run_id_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

DAG, RUN = "customer_analytics", "manual__2026-01-01"


def make_customers(count: int, seed: int = 5) -> pd.DataFrame:
    """Customers of whom those with fewer orders leave more often."""
    rng = np.random.default_rng(seed)
    orders = rng.poisson(3, count)
    return pd.DataFrame(
        {
            "customer_id": np.arange(1, count + 1),
            "number_of_orders": orders,
            "customer_lifetime_value": (orders * rng.uniform(5, 30, count)).round(2),
            "churned": (rng.random(count) < 1 / (1 + np.exp(1.5 * (orders - 3)))).astype(int),
        }
    )


def of_another_shop(features: pd.DataFrame) -> pd.DataFrame:
    """Customers with the same ids who leave or stay by chance, so that no model is better than the baseline."""
    rng = np.random.default_rng(3)
    return features.assign(churned=rng.integers(0, 2, len(features)))


@dataclass
class Shop:
    """Customers, and the models that were made of them below one folder."""

    s3: "S3Client"
    features: pd.DataFrame
    folder: str

    def objects(self) -> dict[str, bytes]:
        """All that is below the folder, by the rest of its key."""
        bucket, prefix = self._place()
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [each["Key"] for page in pages for each in page.get("Contents", [])]
        return {
            key.removeprefix(prefix): self.s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in sorted(keys)
        }

    def put_back(self, objects: dict[str, bytes]) -> None:
        """Make the folder what ``objects`` has once said of it."""
        bucket, prefix = self._place()
        for key in self.objects().keys() - objects.keys():
            self.s3.delete_object(Bucket=bucket, Key=f"{prefix}{key}")
        for key, content in objects.items():
            self.s3.put_object(Bucket=bucket, Key=f"{prefix}{key}", Body=content)

    def _place(self) -> tuple[str, str]:
        bucket, _, prefix = self.folder.removeprefix("s3://").partition("/")
        return bucket, f"{prefix}/"

    def publish(
        self,
        hyper_parameters: dict[str, Any],
        features: pd.DataFrame | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """Lay down a model as the task ``train`` does, without what takes long; return what it hands over."""
        training, holdout = churn_model.split(self.features if features is None else features)
        model = churn_model.train(training, hyper_parameters, seed=1)
        config = churn_model.make_classifier(hyper_parameters, seed=1).get_params() | {"holdout_salt": "churn-v1"}
        digests = tracking.digest_inputs(training, config)
        folder = f"{self.folder}/models/{digests['inputs_sha256'][:16]}"
        metrics = {"cv_roc_auc_mean": 0.5, "cv_roc_auc_std": 0.1, "cv_parts": 5.0}
        metrics |= churn_model.evaluate(model, training, prefix="training_")
        metrics |= churn_model.evaluate(model, holdout, prefix="holdout_")
        stored = StoredObject.write(f"{folder}/model.skops", churn_model.dump_model(model))
        rows = dump_training_rows(training, churn_model.FEATURE_COLUMNS)
        compared = reference_rows(training)[churn_model.FEATURE_COLUMNS]
        about = TrainedModel(
            model=stored,
            columns=churn_model.FEATURE_COLUMNS,
            training_customers=StoredObject.write(f"{folder}/training_customers.parquet", rows),
            drift_reference=StoredObject.write(f"{folder}/drift_reference.parquet", compared.to_parquet(index=False)),
            dag_run=RUN,
            digests=digests,
            config=config,
            metrics=metrics,
        ).model_copy(update=changes)
        data = about.model_dump_json().encode()
        reference = ModelReference("churn_classifier", "model.skops", "d", stored.sha256)
        return {
            "about": {"uri": f"{folder}/about.json", "sha256": write_object(f"{folder}/about.json", data)},
            "sha256": stored.sha256,
            "reference": asdict(reference),
            "server": None,
            "wandb_run_id": run_id_for(DAG, RUN),
            "wandb_run": "/somewhere",
        }

    def judge(
        self, trained: dict[str, Any], features: pd.DataFrame | None = None, dag_run: str = RUN
    ) -> tuple[Decision, HandOver | None]:
        return gate.judge(self.features if features is None else features, trained, dag_run)

    def champion(self) -> dict[str, Any]:
        return json.loads(object_path(gate.champion_uri()).read_bytes())

    def edit_champion(self, **changes: Any) -> None:
        """Change what champion.json says of the model, as by hand."""
        edited = self.champion()
        edited["trained"] |= changes
        edited["reference"]["sha256"] = edited["trained"]["model"]["sha256"]
        write_object(gate.champion_uri(), json.dumps(edited).encode())

    def record(self, trained: dict[str, Any], dag_run: str = RUN) -> dict[str, Any]:
        return json.loads(object_path(f"{folder_of(trained)}/gate/{dag_run}.json").read_bytes())

    def card(self, trained: dict[str, Any]) -> str:
        return object_path(f"{folder_of(trained)}/model_card.md").read_bytes().decode()


def folder_of(trained: dict[str, Any]) -> str:
    return trained["about"]["uri"].rpartition("/")[0]
