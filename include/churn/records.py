"""What is noted of a model, as JSON in the object store: what it was made from, and how it became the champion."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from include.errors import InputError
from include.object_store import read_object, write_object
from include.settings import settings
from include.wandb_tracking.models import ModelReference

Record = TypeVar("Record", bound=BaseModel)


def churn_folder() -> str:
    """Where everything about the churn models lies."""
    return f"s3://{settings.churn.model_bucket}/{settings.churn.artifact_name}"


class StoredObject(BaseModel):
    """An object's address and the SHA-256 (hex) of what was written there."""

    model_config = ConfigDict(frozen=True)

    uri: str
    sha256: str

    @classmethod
    def write(cls, uri: str, data: bytes) -> "StoredObject":
        """Write an object."""
        return cls(uri=uri, sha256=write_object(uri, data))

    def read(self) -> bytes:
        """The very bytes; raises InputError where they are missing or others."""
        return read_object(self.uri, sha256=self.sha256)


class TrainedModel(BaseModel):
    """A model and what belongs to it, about.json in its folder; a folder without that file is not complete."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    model: StoredObject
    columns: list[str]
    training_customers: StoredObject
    """Parquet, column customer_id: whom the model was trained on."""
    drift_reference: StoredObject
    """Parquet, the feature columns of training rows: what batches to be scored are compared with."""
    dag_run: str
    digests: dict[str, str]
    config: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    plots: dict[str, StoredObject] = {}

    @property
    def folder(self) -> str:
        """Where model and all else about it lies."""
        return self.model.uri.rpartition("/")[0]


class Champion(BaseModel):
    """The model that scores, and how it came to that; champion.json."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    trained: TrainedModel
    reference: ModelReference
    server: str | None
    """W&B server that has the artifact; None where it was published offline."""
    wandb_run: str
    """Link of the run that published it, or folder when offline."""
    outcome: str
    reason: str
    figures: dict[str, float] = {}
    dag_run: str
    """The DAG run that made it the champion."""

    @property
    def version(self) -> str:
        """Its name for people: W&B's version, or the digest where there is none."""
        known = f":{self.reference.version}" if self.reference.version else f"@sha256:{self.reference.sha256[:12]}"
        return f"{self.reference.name}{known}"

    def handed_over(self) -> dict[str, Any]:
        """What later tasks need of it, small enough for Airflow's database."""
        return self.model_dump(exclude={"trained": {"config", "metrics", "plots"}})


def parse_record(kind: type[Record], content: bytes | str, name: str) -> Record:
    """The record that is written as JSON; raises InputError where it is none."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise InputError(f"{name} is not what this project has written: {where} {problem['msg']}") from error
